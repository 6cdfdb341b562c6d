"""A client with a long history on Cosmos DB: peak memory of the process that folds it, and what a kill costs.

The server and the history are in this process; what is measured runs in one of its own.
"""

import subprocess
import sys
from collections.abc import Iterator
from itertools import count

from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import CosmosClient

from eventstore import ANY, EVENTS_CONTAINER, CosmosEventStore
from projections import PROJECTIONS_CONTAINER, CosmosProjectionStore, Projector, RecordReader, Target
from tests.support.cosmos import Containers
from tests.wire.cosmos import CosmosServer
from tests.wire.cosmos.messages import Request

from .harness import Figure, in_portions, limited
from .memory import peak_memory
from .workload import event_data, projection

_LIMIT = 200.0  # MB
_PER_CALL = 100
_PORTION = 90  # events of one commit


def figures(events: int) -> Iterator[Figure]:
    """Peak of an early state and of folding again, and the commits after a kill in the middle beside those of all."""
    with CosmosServer() as server, Containers(server) as containers:
        containers.open(PROJECTIONS_CONTAINER)
        store = CosmosEventStore(containers.open(EVENTS_CONTAINER))
        for places in in_portions(events, _PER_CALL):
            store.append("1", [event_data(0, place) for place in places], expected_version=ANY)
        name = f"cosmos, one client, {events:,} events"
        yield limited(f"{name}, as of the last, peak memory", _run(server, "as-of", events), "MB", _LIMIT)
        yield limited(f"{name}, refold, peak memory", _run(server, "refold", events), "MB", _LIMIT)

        commits = count()
        with _started(server, "refold", events) as process:

            def kill_in_the_middle(request: Request) -> None:
                if request.kind == "batch" and next(commits) == events // _PORTION // 2:
                    process.kill()

            server.listen(kill_in_the_middle)
            process.wait()
        with server.meter.measure() as rest:
            _run(server, "catch-up", events)
    yield limited(f"{name}, commits after a kill in the middle", rest.requests["batch"], "", events / _PORTION / 2 + 2)


def _started(server: CosmosServer, stage: str, events: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.cosmos_history", stage, server.url, server.key, str(events)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _run(server: CosmosServer, stage: str, events: int) -> float:
    with _started(server, stage, events) as process:
        output, _ = process.communicate()
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    return float(output)


def main(stage: str, url: str, key: str, events: int) -> None:
    """One stage; writes the peak of its memory."""
    people = projection(3)
    with CosmosClient(url, key, transport=RequestsTransport(use_env_settings=False)) as client:
        database = client.get_database_client("flow")
        store = CosmosEventStore(database.get_container_client("events"))
        records = CosmosProjectionStore(database.get_container_client("projections"), people)
        projector = Projector(people, store, records, budget=3600)
        if stage == "as-of":
            record = RecordReader(people, store, records, records).as_of_version("1", events).record
        else:
            record = projector.catch_up("1", Target(0, refold=stage == "refold"))
    if record.version != events or record.parked is not None:
        raise RuntimeError(f"The record is at {record.version}, it should be at {events}.")
    sys.stdout.write(str(peak_memory()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
