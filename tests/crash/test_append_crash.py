"""The process may be killed in the middle of an append: what was acknowledged is there once, and streams are whole.

Invariants: an accepted event is never lost or changed and has exactly one version, versions are 1 to n without gaps;
the same event appended again changes nothing.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

import pytest

from eventstore import EVENTS_CONTAINER, CosmosEventStore, EventStore, SqliteEventStore, open_events
from tests.crash.append_worker import CLIENTS, EVENTS, POINTS, THREADS, client_of, key
from tests.support.cosmos import Containers
from tests.support.events import email, is_intact
from tests.wire.cosmos import CosmosServer, Gate, faults

pytestmark = pytest.mark.crash

KILLED = -9
UNANSWERED = "append.unanswered"
"""Stored by the server, which is about to answer."""
NOWHERE = "nowhere"
COSMOS_POINTS = ("append.before", UNANSWERED, "append.after")
COSMOS_ROUNDS = int(os.environ.get("CLIENT_FLOW_CRASH_SEEDS", "1"))


class Death(NamedTuple):
    """How one worker ended.

    Attributes:
        crossing: of the kill point.
        acknowledged: events the worker had told of.
        unacknowledged: events found in the store that it had not told of.
    """

    crossing: int
    acknowledged: int
    unacknowledged: int


@pytest.fixture(scope="module")
def deaths() -> Iterator[dict[str, list[Death]]]:
    """The deaths at each kill point; printed in the end, see `pytest -s`."""
    died: dict[str, list[Death]] = {}
    yield died
    lines = [f"{'kill point':<26} {'hits':>4}  crossing (acknowledged + durable without an answer)"]
    for point, found in died.items():
        each = ", ".join(f"{d.crossing} ({d.acknowledged}+{d.unacknowledged})" for d in found)
        lines.append(f"{point:<26} {len(found):>4}  {each}")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


class Place(Protocol):
    """Where a round of appends goes, and how its worker is brought to its end there."""

    address: str

    def interrupt(self, worker: subprocess.Popen[str], point: str, crossing: int) -> None:
        """Bring the worker to its end, unless it ends itself."""

    def store(self) -> AbstractContextManager[EventStore]:
        """What another process finds."""

    def fed(self) -> int:
        """How many events there are, whatever their streams."""


class Files:
    """A directory."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory)

    def interrupt(self, worker: subprocess.Popen[str], point: str, crossing: int) -> None:
        pass

    @contextmanager
    def store(self) -> Iterator[EventStore]:
        with closing(open_events(Path(self.address))) as database:
            yield SqliteEventStore(database)

    def fed(self) -> int:
        with closing(open_events(Path(self.address))) as database:
            return len(SqliteEventStore(database).feed("all", after=None, limit=THREADS * EVENTS + 1).events)


class Account:
    """A server in this process."""

    def __init__(self, server: CosmosServer) -> None:
        self.address, self._server = server.connection_string, server
        with Containers(server) as containers:
            containers.open(EVENTS_CONTAINER)

    def interrupt(self, worker: subprocess.Popen[str], point: str, crossing: int) -> None:
        if point != UNANSWERED:
            return
        gate = Gate()
        writes = {"create", "batch"}
        self._server.inject(
            faults.slow(gate, stored=True), skip=crossing // THREADS, match=lambda request: request.kind in writes
        )
        gate.wait_for_request()
        worker.kill()
        worker.wait(30)
        gate.release()

    @contextmanager
    def store(self) -> Iterator[EventStore]:
        with Containers(self._server) as containers:
            yield CosmosEventStore(containers.open(EVENTS_CONTAINER))

    def fed(self) -> int:
        return len(self._server.documents("flow", "events"))


@contextmanager
def on_files(directory: Path) -> Iterator[Place]:
    """A new directory."""
    yield Files(directory)


@contextmanager
def on_cosmos(_: Path) -> Iterator[Place]:
    """A new server."""
    with CosmosServer() as server:
        yield Account(server)


def run(place: Place, point: str, crossing: int, starts: list[int]) -> tuple[int, set[tuple[int, int]]]:
    """How the worker ended, and the (thread, number) it acknowledged."""
    command = [sys.executable, "-m", "tests.crash.append_worker", place.address, point, str(crossing)]
    with subprocess.Popen(
        [*command, *map(str, starts)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        place.interrupt(worker, point, crossing)
        output, errors = worker.communicate(timeout=60)
    assert worker.returncode in {0, KILLED}, errors
    told = (line.split() for line in output.splitlines())
    return worker.returncode, {(int(thread), int(number)) for thread, number in told}


def check(place: Place, acknowledged: set[tuple[int, int]]) -> int:
    """Hold the streams against what was acknowledged; the number of events nobody had been told of."""
    with place.store() as store:
        streams = {f"c{number}": list(store.read(f"c{number}")) for number in range(CLIENTS)}
    assert all(is_intact(stream) for stream in streams.values())
    stored = {event.event_id: event for stream in streams.values() for event in stream}
    assert len(stored) == sum(map(len, streams.values())) == place.fed()
    for thread, number in acknowledged:
        asked = email(key(thread, number))
        found = stored[asked.event_id]
        assert (found.client_id, found.data) == (client_of(number), asked.data)
    return len(stored) - len(acknowledged)


CASES: list[tuple[str, str, Callable[[Path], AbstractContextManager[Place]], int]] = [
    *(("files", point, on_files, 5) for point in POINTS),
    *(("cosmos", point, on_cosmos, COSMOS_ROUNDS) for point in COSMOS_POINTS),
]


@pytest.mark.parametrize(("backend", "point", "new_place", "rounds"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_killed_append_loses_and_doubles_nothing(
    backend: str,
    point: str,
    new_place: Callable[[Path], AbstractContextManager[Place]],
    rounds: int,
    tmp_path: Path,
    deaths: dict[str, list[Death]],
) -> None:
    """Killed at each point, at another crossing each time; the next worker repeats what has no answer."""
    random = Random(point)
    for attempt in range(rounds):
        # Three threads share commits, so a commit point is crossed at least once for each three events.
        crossing = random.randint(1, EVENTS - 5)
        with new_place(tmp_path / str(attempt)) as place:
            ended, acknowledged = run(place, point, crossing, [0] * THREADS)
            assert ended == KILLED
            unacknowledged = check(place, acknowledged)
            assert unacknowledged > 0 or point not in {"append.durable", UNANSWERED}
            starts = [1 + max((n for t, n in acknowledged if t == thread), default=-1) for thread in range(THREADS)]
            ended, more = run(place, NOWHERE, 0, starts)
            assert ended == 0
            acknowledged |= more
            assert len(acknowledged) == THREADS * EVENTS
            assert check(place, acknowledged) == 0
        deaths.setdefault(f"{backend}: {point}", []).append(Death(crossing, len(acknowledged - more), unacknowledged))
