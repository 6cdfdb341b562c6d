"""Many processes append to the same clients on Cosmos DB while the service misbehaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore import EVENTS_CONTAINER, CosmosEventStore
from tests.support.cosmos import Containers
from tests.support.events import is_intact
from tests.wire.cosmos import CosmosServer, faults

pytestmark = pytest.mark.cosmos_wire

PROCESSES, CLIENTS, EACH = 8, 50, 1


def test_eight_processes_keep_fifty_streams_whole() -> None:
    """Under lost answers, throttling and outages versions are 1..n, each event is there once, and nobody was lied to."""
    with CosmosServer(ranges=3) as server, Containers(server) as containers:
        store = CosmosEventStore(containers.open(EVENTS_CONTAINER))
        for fault, times in (
            (faults.dropped(stored=True), 20),
            (faults.dropped(stored=False), 20),
            (faults.request_timeout(stored=True), 10),
            (faults.unavailable(stored=True), 5),
            (faults.retry_with(), 20),
            (faults.throttled(), 20),
        ):
            server.inject(fault, kind="create", times=times, skip=times)
        program = Path(__file__).parent / "cosmos_appender.py"
        command = [sys.executable, str(program), server.url, server.key]
        workers = [
            subprocess.Popen([*command, str(number), str(CLIENTS), str(EACH)], stdout=subprocess.PIPE)
            for number in range(PROCESSES)
        ]
        told: dict[str, int] = {}
        for worker in workers:
            output, _ = worker.communicate(timeout=120)
            assert worker.returncode == 0
            told |= json.loads(output)
        stored: dict[str, int] = {}
        for number in range(CLIENTS):
            stream = list(store.read(f"c{number}"))
            assert [event.version for event in stream] == list(range(1, len(stream) + 1))
            assert is_intact(stream)
            stored |= {f"{event.client_id}/{event.event_id}": event.version for event in stream}
    assert len(stored) == PROCESSES * CLIENTS * EACH
    assert told == stored
