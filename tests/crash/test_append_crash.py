"""The process may be killed in the middle of an append: what was acknowledged is there once, and streams are whole.

Invariants: an accepted event is never lost or changed and has exactly one version, versions are 1 to n without gaps;
the same event appended again changes nothing.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from eventstore import SqliteEventStore, open_events
from tests.crash.append_worker import CLIENTS, EVENTS, POINTS, THREADS, client_of, key
from tests.support.events import email, is_intact

pytestmark = pytest.mark.crash

ROUNDS = 5
KILLED = -9


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
    lines = [f"{'kill point':<16} {'hits':>4}  crossing (acknowledged + durable without an answer)"]
    for point, found in died.items():
        each = ", ".join(f"{d.crossing} ({d.acknowledged}+{d.unacknowledged})" for d in found)
        lines.append(f"{point:<16} {len(found):>4}  {each}")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


def run(directory: Path, point: str, crossing: int, starts: list[int]) -> tuple[int, set[tuple[int, int]]]:
    """How the worker ended, and the (thread, number) it acknowledged."""
    command = [sys.executable, "-m", "tests.crash.append_worker", str(directory), point, str(crossing)]
    done = subprocess.run(
        [*command, *map(str, starts)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, KILLED}, done.stderr
    told = (line.split() for line in done.stdout.splitlines())
    return done.returncode, {(int(thread), int(number)) for thread, number in told}


def check(directory: Path, acknowledged: set[tuple[int, int]]) -> int:
    """Hold the streams against what was acknowledged; the number of events nobody had been told of."""
    with closing(open_events(directory)) as database:
        store = SqliteEventStore(database)
        streams = {f"c{number}": list(store.read(f"c{number}")) for number in range(CLIENTS)}
        fed = store.feed("all", after=None, limit=THREADS * EVENTS + 1).events
    assert all(is_intact(stream) for stream in streams.values())
    stored = {event.event_id: event for stream in streams.values() for event in stream}
    assert len(stored) == sum(map(len, streams.values())) == len(fed)
    for thread, number in acknowledged:
        asked = email(key(thread, number))
        found = stored[asked.event_id]
        assert (found.client_id, found.data) == (client_of(number), asked.data)
    return len(stored) - len(acknowledged)


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_append_loses_and_doubles_nothing(tmp_path: Path, point: str, deaths: dict[str, list[Death]]) -> None:
    """Killed five times at each point, at another crossing each time; the next worker repeats what has no answer."""
    random = Random(point)
    for attempt in range(ROUNDS):
        directory = tmp_path / str(attempt)
        # Three threads share commits, so a commit point is crossed at least once for each three events.
        crossing = random.randint(1, EVENTS - 5)
        ended, acknowledged = run(directory, point, crossing, [0] * THREADS)
        assert ended == KILLED
        unacknowledged = check(directory, acknowledged)
        starts = [1 + max((n for t, n in acknowledged if t == thread), default=-1) for thread in range(THREADS)]
        ended, more = run(directory, point, 0, starts)
        assert ended == 0
        acknowledged |= more
        assert len(acknowledged) == THREADS * EVENTS
        assert check(directory, acknowledged) == 0
        deaths.setdefault(point, []).append(Death(crossing, len(acknowledged - more), unacknowledged))
