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
APPENDS = 200


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


def test_a_crowd_of_processes_shares_one_client() -> None:
    """200 appends at once to one client by 8 processes take at most 4 requests each."""
    with CosmosServer(ranges=3) as server, Containers(server) as containers:
        store = CosmosEventStore(containers.open(EVENTS_CONTAINER))
        command = [sys.executable, "-m", "tests.eventstore.cosmos_crowd", server.url, server.key]
        crowd = [
            subprocess.Popen(
                [*command, str(number), str(APPENDS // PROCESSES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        for process in crowd:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        with server.meter.measure() as used:
            for process in crowd:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            for process in crowd:
                process.communicate(timeout=120)
                assert process.returncode == 0
        stream = list(store.read("c0"))
    assert [event.version for event in stream] == list(range(1, APPENDS + 1))
    assert is_intact(stream)
    assert used.data_requests.total() <= 4 * APPENDS
