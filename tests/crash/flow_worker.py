"""The process that does the work and is killed: `python -m tests.crash.flow_worker` reads jobs from standard input.

It imports everything once and forks for each job, so that a job costs no start of an interpreter. Databases are opened
after the fork. What a source would know of its deliveries (which ones were acknowledged, and how) is written to a
journal beside the data, which outlives the process.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import orjson

from eventstore import SqliteCheckpointStore, SqliteEventStore, SqliteRejectionStore, open_events
from functions_app import Delivered, Runtime, Settings
from functions_app.backend import Backend
from functions_app.lag import measure_lag
from functions_app.loops import data_loops
from integrations import DeliveryState, SqliteDeliveryStore, SqliteTopic, Strategy, open_deliveries
from projections import SqliteProjectionStore, open_projections
from tests.crash.flow_domain import START, clients, flow_domain, work
from tests.saboteurs.sabotage import SABOTAGES, Scene
from tests.support.kill import KillPoints

OUTSIDE = "outside"
"""A subscription that gets everything and that nobody empties: what the world was told."""

POINTS = (
    "append.before",
    "append.after",
    "generation.before_fingerprint",
    "generation.after_fingerprint",
    "project.before_commit",
    "project.after_commit",
    "sweep.before_checkpoint",
    "sweep.after_checkpoint",
    "publish.before_wanted",
    "publish.after_wanted",
    "publish.after_send",
    "publish.after_delete",
    "topic.after_receive",
    "topic.after_complete",
    "deliver.before_claim",
    "deliver.after_claim",
    "deliver.before_call",
    "deliver.after_call",
    "deliver.after_save",
    "pause.before_save",
    "pause.after_save",
    "pull.after_append",
    "pull.after_rejections",
    "pull.after_cursor",
)

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
    """

    directory: str
    url: str
    seed: int
    run: int
    at: str | None = None
    crossing: int = 0
    sabotage: str | None = None


class Clock:
    """Time that moves by a millisecond with each look at it, and when told."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._looks = count()

    def __call__(self) -> datetime:
        return self._start + timedelta(milliseconds=next(self._looks))

    def advance(self, by: timedelta) -> None:
        self._start += by


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


class Impatient:
    """Subscriptions whose receiver does not wait for messages."""

    def __init__(self, topic: SqliteTopic) -> None:
        self.complete, self.abandon, self.dead_letters = topic.complete, topic.abandon, topic.dead_letters
        self._topic = topic

    def receive(self, subscription: str, *, limit: int, wait: float = 0.0) -> Any:
        return self._topic.receive(subscription, limit=limit)


def open_backend(directory: Path, clock: Callable[[], datetime]) -> Backend:
    """The embedded backend, on another clock."""
    events_file, projections_file = open_events(directory), open_projections(directory)
    deliveries_file = open_deliveries(directory)
    events = SqliteEventStore(events_file, clock=clock)
    topic = SqliteTopic(deliveries_file, clock=clock)
    topic.subscribe(OUTSIDE, clients.layout.names)
    topic.subscribe("crm", ["identity", "contact"])
    topic.subscribe("mailing", ["contact"])
    return Backend(
        events=events,
        feed=events,
        pulled=SqliteCheckpointStore(events_file),
        rejections=SqliteRejectionStore(events_file),
        projections=SqliteProjectionStore(projections_file, clients, clock=clock),
        checkpoints=SqliteCheckpointStore(projections_file),
        deliveries=SqliteDeliveryStore(deliveries_file),
        topic=topic,
        subscriptions=Impatient(topic),
    )


def with_kill_points(backend: Backend, kill: KillPoints) -> Backend:
    """The backend with a point in each gap between two durable writes."""
    appends = {"append": ("append.before", "append.after")}
    return backend._replace(
        events=kill.around(backend.events, appends),
        projections=kill.around(
            backend.projections,
            {
                "commit": ("project.before_commit", "project.after_commit"),
                "delete": ("publish.after_send", "publish.after_delete"),
            },
        ),
        checkpoints=kill.around(
            backend.checkpoints,
            {"save": (lambda name, _: _checkpoint("before", name), lambda name, _: _checkpoint("after", name))},
        ),
        deliveries=kill.around(
            backend.deliveries,
            {
                "raise_wanted": ("publish.before_wanted", "publish.after_wanted"),
                "save": (_before_save, _after_save),
                "save_pause": ("pause.before_save", "pause.after_save"),
            },
        ),
        subscriptions=kill.around(
            backend.subscriptions,
            {"receive": (None, "topic.after_receive"), "complete": (None, "topic.after_complete")},
        ),
        rejections=kill.around(backend.rejections, {"add": ("pull.after_append", "pull.after_rejections")}),
        pulled=kill.around(backend.pulled, {"save": (None, "pull.after_cursor")}),
    )


def _checkpoint(when: str, name: str) -> str:
    return f"generation.{when}_fingerprint" if name.endswith(":fingerprint") else f"sweep.{when}_checkpoint"


def _before_save(state: DeliveryState, tag: str | None, **kept: Any) -> str | None:
    return None if kept.get("entry") else "deliver.before_claim"


def _after_save(state: DeliveryState, tag: str | None, **kept: Any) -> str:
    return "deliver.after_claim" if state.claimed_until and not kept.get("entry") else "deliver.after_save"


def perform(runtime: Runtime, clock: Clock, journal: Journal, seed: int) -> None:
    """Post what was not acknowledged yet, let the stages work in between, and go on until all is quiet."""
    delivered = journal.delivered()
    source = runtime.domain.source("feed")
    place = count()
    for batch in work(seed).batches:
        for payload in batch:
            if (number := next(place)) in delivered:
                continue
            accepted = runtime.intake.accept(source, Delivered(payload))
            versions = {each.event.event_id: each.event.version for each in accepted}
            journal.write(delivery=number, client=payload["client"], versions=versions)
        _turn(runtime)
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
    if job.sabotage is not None:
        backend = SABOTAGES[job.sabotage](backend, Scene(kill, job.url, job.seed, clock))
    backend = with_kill_points(backend, kill)

    def around(strategy: Strategy) -> Strategy:
        call = ("deliver.before_call", "deliver.after_call")
        return kill.around(strategy, {"send": call, "retract": call})

    runtime = Runtime(flow_domain(job.url, job.seed, around), Settings({}), backend, clock=clock)
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
        print(_fork(Job(*orjson.loads(line))), flush=True)


if __name__ == "__main__":
    main()
