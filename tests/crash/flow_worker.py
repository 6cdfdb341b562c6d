"""The process that does the work and is killed: `python -m tests.crash.flow_worker` reads jobs from standard input.

It imports everything once and forks for each job, so that a job costs no start of an interpreter. Databases are opened
after the fork. What a source would know of its deliveries (which ones were acknowledged, and how) is written to a
journal beside the data, which outlives the process.
"""

import faulthandler
import os
import signal
import sys
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import orjson

from functions_app import Delivered, Runtime, Settings
from functions_app.lag import measure_lag
from functions_app.loops import data_loops
from tests.crash.flow_backend import Clock, open_backend, with_call_points, with_kill_points
from tests.crash.flow_cosmos import move_to_cosmos
from tests.crash.flow_domain import START, flow_domain, work
from tests.saboteurs.sabotage import SABOTAGES, Scene
from tests.saboteurs.sabotage_cosmos import COSMOS_SABOTAGES
from tests.support.kill import KillPoints

_PATIENCE = 30  # seconds of a job, after which it is ended by an alarm
_ROUNDS = 15  # turns of all stages until nothing must be left to do


class Job(NamedTuple):
    """One run of the work.

    Attributes:
        directory: holds data and journal.
        url: where the targets are.
        seed: which work.
        run: counts the runs of one directory from 0; each starts an hour after the one before.
        at: kill point, None for any.
        crossing: at which crossing of it the process dies; 0 is never.
        sabotage: which safeguard is removed, None for none.
        cosmos: connection string of the account where data is kept, None for files in the directory.
    """

    directory: str
    url: str
    seed: int
    run: int
    at: str | None = None
    crossing: int = 0
    sabotage: str | None = None
    cosmos: str | None = None


class Journal:
    """What has to outlive the process; each line is written before the process goes on."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal"
        self._file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR)

    def write(self, **entry: Any) -> None:
        os.write(self._file, orjson.dumps(entry) + b"\n")

    def delivered(self) -> set[int]:
        """The deliveries that were acknowledged, by their place in the work."""
        entries = map(orjson.loads, self.path.read_bytes().splitlines())
        return {entry["delivery"] for entry in entries if "delivery" in entry}


class AtOnce(Event):
    """Tells a loop to go on, and never waits."""

    def wait(self, timeout: float | None = None) -> bool:
        return False


def perform(runtime: Runtime, clock: Clock, journal: Journal, seed: int) -> None:
    """Post what was not acknowledged yet, let the stages work in between, and go on until all is quiet."""
    delivered = journal.delivered()
    source = runtime.domain.source("feed")
    place = count()
    for batch in work(seed).batches:
        numbered = [(next(place), payload) for payload in batch]
        missing = [(number, payload) for number, payload in numbered if number not in delivered]
        for number, payload in missing:
            accepted = runtime.intake.accept(source, Delivered(payload))
            versions = {each.event.event_id: each.event.version for each in accepted}
            journal.write(delivery=number, client=payload["client"], versions=versions)
        if missing:  # a process that starts again finds new events before it finds what the dead one left undone
            _turn(runtime)
            runtime.pull(runtime.domain.pulls[0])
    runtime.pull(runtime.domain.pulls[0])
    for _ in range(_ROUNDS):
        clock.advance(timedelta(minutes=20))  # claims, locks, pauses and backoffs end
        runtime.sweep()
        _turn(runtime)
        if _is_quiet(runtime):
            return
    raise TimeoutError(f"not quiet after {_ROUNDS} rounds: {measure_lag(runtime)}")


def _turn(runtime: Runtime) -> None:
    """One turn of each loop of the local host."""
    runtime.new_events.set()
    for loop in data_loops(runtime):
        loop._step(AtOnce())


def _is_quiet(runtime: Runtime) -> bool:
    lag = measure_lag(runtime)
    if lag.events or lag.unpublished or any(each["waiting"] for each in lag.deliveries.values()):
        return False
    subscriptions = runtime.backend.subscriptions
    doorbells = [each for name in lag.deliveries for each in subscriptions.receive(name, limit=1)]
    for doorbell in doorbells:
        subscriptions.abandon(doorbell)
    return not doorbells


def run(job: Job) -> None:
    """Do one job in this process."""
    directory = Path(job.directory)
    journal = Journal(directory)
    kill = KillPoints(job.at, job.crossing, epitaph=lambda point: journal.write(died=point))
    clock = Clock(START + timedelta(hours=job.run))
    backend = open_backend(directory / "data", clock)
    if job.cosmos is not None:
        backend = move_to_cosmos(backend, job.cosmos, kill, clock)
    if job.sabotage is not None:
        sabotages = SABOTAGES if job.cosmos is None else {**SABOTAGES, **COSMOS_SABOTAGES}
        backend = sabotages[job.sabotage](backend, Scene(kill, job.url, job.seed, clock))
    backend = with_kill_points(backend, kill)

    domain = flow_domain(job.url, job.seed, lambda strategy: with_call_points(strategy, kill))
    runtime = Runtime(domain, Settings({}), backend, clock=clock)
    perform(runtime, clock, journal, job.seed)
    journal.write(crossings=kill.crossings)


def _fork(job: Job) -> int:
    """Do a job in a child; returns how that ended: 0, an exit code, or the negative number of a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        trouble = os.open(Path(job.directory) / "stderr", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(trouble, 2)
        faulthandler.enable()
        signal.alarm(_PATIENCE)
        run(job)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        os._exit(status)  # no end of the interpreter: it belongs to the parent


def main() -> None:
    """Do the jobs that come in, one JSON array a line; answer each with how it ended."""
    for line in sys.stdin:
        sys.stdout.write(f"{_fork(Job(*orjson.loads(line)))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
