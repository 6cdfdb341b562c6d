"""How much memory the stages take at their peak, each in a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from eventstore import SqliteCheckpointStore, SqliteEventStore, open_events
from projections import FeedFollower, Projector, SqliteProjectionStore, Target, open_projections

from .harness import Figure, compared, limited
from .workload import PER_CLIENT, client_ids, fill, projection

_LIMIT = 150.0  # MB
_GROUP = 256


def figures(sizes: tuple[int, int]) -> Iterator[Figure]:
    """Peak of appending, projecting and folding again, at a small and at a large size."""
    peaks: dict[str, list[float]] = {stage: [] for stage in _STAGES}
    for clients in sizes:
        with TemporaryDirectory() as directory:
            for stage in _STAGES:
                peaks[stage].append(_peak(stage, Path(directory), clients))
    small, large = (f"{size * PER_CLIENT:,} events" for size in sizes)
    for stage, (few, many) in peaks.items():
        yield limited(f"peak memory, {stage}, {large}", many, "MB", _LIMIT)
        yield compared(f"peak memory, {stage}, {small}", [few], "MB", (large, [many]), 0.8)


def _peak(stage: str, directory: Path, clients: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.memory", stage, str(directory), str(clients)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _append(directory: Path, clients: int) -> None:
    fill(SqliteEventStore(open_events(directory)), clients)


def _project(directory: Path, clients: int) -> None:
    _follower(directory)[1].sweep()


def _refold(directory: Path, clients: int) -> None:
    projector, _ = _follower(directory)
    ids = list(client_ids(clients))
    for start in range(0, clients, _GROUP):
        projector.catch_up_all({each: Target(0, refold=True) for each in ids[start : start + _GROUP]})


def _follower(directory: Path) -> tuple[Projector, FeedFollower]:
    people, database = projection(3), open_projections(directory)
    events = SqliteEventStore(open_events(directory))
    projector = Projector(people, events, SqliteProjectionStore(database, people))
    return projector, FeedFollower(projector, events, SqliteCheckpointStore(database))


def peak_memory() -> float:
    """The most memory that this process had at once, in MB; getrusage would count that of the process it was forked from."""
    status = Path("/proc/self/status").read_text("ascii")
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak) / 1024


_STAGES: dict[str, Callable[[Path, int], None]] = {"append": _append, "project": _project, "refold": _refold}


if __name__ == "__main__":
    _STAGES[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(str(peak_memory()))
