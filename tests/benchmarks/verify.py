"""Verifying what a rebuild has just written, beside that rebuild; each as the command does it, in a process of its own."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import orjson

from functions_app.rebuild_status import shares_of
from functions_app.rebuilding import walk, walk_side_by_side
from functions_app.runtime import Runtime, open_runtime
from functions_app.settings import Settings
from functions_app.verifying import all_clients, verify_clients
from projections import Purpose, Share

from .harness import Figure, compared, limited
from .memory import peak_memory
from .rebuild import copied, old_data
from .workload import PER_CLIENT

_MEMORY = 200.0  # MB of a process
_GROWTH = 1.15  # from a tenth of the data to all of it


class Run(NamedTuple):
    """Events a second, and the most memory of the process in MB."""

    rate: float
    peak: float


def figures(projected: Path, clients: int, rounds: int) -> Iterator[Figure]:
    """Rates with one worker and with two, and the peaks with one at a tenth of the data and at all of it."""
    tenth = clients // 10
    with old_data(tenth) as fewer:
        small = _both(fewer, tenth, workers=1)
    events = f"{clients * PER_CLIENT:,} events"
    runs = {workers: [_both(projected, clients, workers=workers) for _ in range(rounds)] for workers in (1, 2)}
    for workers, both in runs.items():
        yield compared(
            f"verify, {workers} worker{'s' * (workers > 1)}, {events}",
            [verified.rate for _, verified in both],
            "events/s",
            ("rebuild", [rebuilt.rate for rebuilt, _ in both]),
            1.0,
        )
    for place, stage in enumerate(("rebuild", "verify")):
        peak = max(both[place].peak for both in runs[1])
        yield limited(f"peak memory, {stage}, {events}", peak, "MB", _MEMORY)
        few = f"{tenth * PER_CLIENT:,} events"
        yield compared(f"peak memory, {stage}, {few}", [small[place].peak], "MB", (events, [peak]), 1 / _GROWTH)


def _both(projected: Path, clients: int, *, workers: int) -> tuple[Run, Run]:
    with copied(projected) as data:
        rebuilt, verified = (_run(stage, data, clients, workers) for stage in ("rebuild", "verify"))
    return rebuilt, verified


def _run(stage: str, data: Path, clients: int, workers: int) -> Run:
    command = [sys.executable, "-m", "tests.benchmarks.verify", stage, str(clients), str(workers)]
    environment = {"CLIENT_FLOW_DATA": str(data), "CLIENT_FLOW_DOMAIN": "tests.support.newer:domain"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **environment})
    return Run(*orjson.loads(done.stdout))


def _stage(stage: str, clients: int, workers: int) -> Run:
    with closing(open_runtime(Settings())) as runtime:
        started = time.perf_counter()
        (_rebuild if stage == "rebuild" else _verify)(runtime, clients, workers)
        seconds = time.perf_counter() - started
    return Run(clients * PER_CLIENT / seconds, peak_memory())


def _rebuild(runtime: Runtime, clients: int, workers: int) -> None:
    shares = shares_of(Share(1, 1), workers)
    walking = walk(runtime, Purpose.FOLD, *shares) if workers == 1 else walk_side_by_side(runtime, Purpose.FOLD, shares)
    (done,) = deque(walking, maxlen=1)
    if (done.clients, done.events, done.done, done.parked) != (clients, clients * PER_CLIENT, True, 0):
        raise RuntimeError(f"the rebuild is not complete: {done}")


def _verify(runtime: Runtime, clients: int, workers: int) -> None:
    seen = events = 0
    for portion in verify_clients(runtime, all_clients(runtime), workers=workers):
        if portion.differing:
            raise RuntimeError(f"verify found {portion.differing[0].found}")
        seen, events = seen + portion.clients, events + portion.events
    if (seen, events) != (clients, clients * PER_CLIENT):
        raise RuntimeError(f"verify saw {seen} clients with {events} events, not {clients} clients")


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps([*_stage(sys.argv[1], *map(int, sys.argv[2:]))]).decode())
