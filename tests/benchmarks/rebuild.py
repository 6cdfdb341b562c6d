"""A rebuild by the rules of a new version: how fast, with how much memory, and what those notice who work meanwhile."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copytree
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

from eventstore import ANY
from functions_app.embedded import open_embedded
from functions_app.rebuild_status import shares_of
from functions_app.rebuilding import walk_side_by_side
from functions_app.runtime import Runtime
from functions_app.sample import domain as sample
from functions_app.settings import Settings
from projections import Progress, Projector, Purpose, Share, Target
from tests.support.newer import domain as newer

from .harness import Figure, compared, in_portions, limited
from .workload import PER_CLIENT, event_data, fill

_MEMORY = 200.0  # MB of a process
_APPEND = 25.0  # ms, p99 during a rebuild
_LONGEST = 250.0
_QUIET = 5.0  # seconds of traffic without a rebuild
_PACE = 0.01  # seconds between two events that come in meanwhile
_TOGETHER = 1000  # clients held in memory while the old version projects and publishes


def figures(projected: Path, clients: int, rounds: int) -> Iterator[Figure]:
    """One worker, two, and one beside live traffic; each on a copy of data that the old version projected."""
    one: list[float] = []
    two: list[float] = []
    peaks: list[float] = []
    quiet: list[tuple[list[float], list[float]]] = []
    busy: list[tuple[list[float], list[float]]] = []
    for number in range(rounds):
        for workers, rates in ((1, one), (2, two)):
            with copied(projected) as data:
                rate, peak = _rebuild(data, workers, clients)
                rates.append(rate)
                peaks.append(peak)
        with copied(projected) as data, ThreadPoolExecutor(1) as beside:
            quiet.append(_traffic(data, clients, beside.submit(time.sleep, _QUIET), round_=2 * number))
            rebuilding = beside.submit(_rebuild, data, 1, clients)
            busy.append(_traffic(data, clients, rebuilding, round_=2 * number + 1))
            rebuilding.result()
    events = f"{clients * PER_CLIENT:,} events"
    yield compared(f"rebuild, 2 workers, {events}", two, "events/s", ("1 worker", one), 1.3)
    yield limited("peak memory of a rebuilding process", max(peaks), "MB", _MEMORY)
    appends, publishes = [max(map(_p99, [each[place] for each in busy])) for place in (0, 1)]
    yield limited("append beside a rebuild, p99", appends, "ms", _APPEND)
    yield limited("append beside a rebuild, longest", max(max(each[0]) for each in busy), "ms", _LONGEST)
    yield compared(
        "publish lag without a rebuild, p99",
        [_p99(each[1]) for each in quiet],
        "ms",
        ("beside a rebuild", [_p99(each[1]) for each in busy]),
        0.5,
    )
    yield Figure("publish lag beside a rebuild, p99", publishes, "ms")


@contextmanager
def old_data(clients: int) -> Iterator[Path]:
    """A data directory with so many clients, projected by the old version, and published."""
    with TemporaryDirectory() as name:
        data = Path(name)
        with closing(_old_version(data)) as runtime:
            backend = runtime.backend
            fill(backend.events, clients)  # type: ignore[arg-type]  # the SQLite one
            projector = Projector(sample.projection, backend.events, backend.projections)
            for portion in in_portions(clients, _TOGETHER):
                ids = [str(client + 1) for client in portion]
                projector.catch_up_all(dict.fromkeys(ids, Target(0)))
                runtime.publisher.publish(ids)
        yield data


@contextmanager
def copied(source: Path) -> Iterator[Path]:
    """A copy of a data directory, to be changed."""
    with TemporaryDirectory() as name:
        yield Path(copytree(source, name, dirs_exist_ok=True))


def _old_version(data: Path) -> Runtime:
    return Runtime(sample, Settings({"CRM_URL": "", "MAILING_URL": ""}), open_embedded(data, sample))


def _rebuild(data: Path, workers: int, clients: int) -> tuple[float, float]:
    """Events a second, and the most memory that a worker had."""
    os.environ |= {"CLIENT_FLOW_DATA": str(data), "CLIENT_FLOW_DOMAIN": "tests.support.newer:domain"}
    with closing(Runtime(newer, Settings(), open_embedded(data, newer))) as runtime:
        started, peak, done = time.perf_counter(), 0.0, Progress()
        for progress in walk_side_by_side(runtime, Purpose.FOLD, shares_of(Share(1, 1), workers)):
            done, peak = progress, max([peak, *map(_peak_memory, _children())])
        seconds = time.perf_counter() - started
    if (done.clients, done.done, done.parked) != (clients, True, 0):
        raise RuntimeError(f"the rebuild is not complete: {done}")
    return clients * PER_CLIENT / seconds, peak


def _traffic(data: Path, clients: int, beside: Future[Any], *, round_: int) -> tuple[list[float], list[float]]:
    """How long appending an event takes, and until it is published by the old version, in milliseconds."""
    appends, publishes = [], []
    with closing(_old_version(data)) as runtime:
        number = 0
        while not beside.done():
            client = str(1 + number % clients)
            event = event_data(clients + round_ * 1_000_000 + number, PER_CLIENT)
            started = time.perf_counter()
            appended = runtime.backend.events.append(client, [event], expected_version=ANY)
            stored = time.perf_counter()
            runtime.projector.catch_up(client, Target(appended.version, appended.events))
            published = time.perf_counter()
            appends.append((stored - started) * 1000)
            publishes.append((published - started) * 1000)
            number += 1
            time.sleep(_PACE)
    return appends, publishes


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[-1] if len(values) > 1 else values[0]


def _children() -> Iterator[int]:
    """Processes that this one started."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text("ascii", "replace").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            yield int(status.parent.name)


def _peak_memory(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)
