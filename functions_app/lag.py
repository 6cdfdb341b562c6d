"""How far each stage is behind, and whether anything is wrong."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from threading import Lock
from typing import Any, NamedTuple

from eventstore import EventStoreError, utc_text
from projections import sweep_cursor

from . import telemetry
from .progress import moved_at
from .runtime import Runtime

_LOOKED_AT = 1000  # events or clients counted at most; more is "at least"
_STALLED = timedelta(minutes=5)
_SLOW = timedelta(minutes=15)
_FRESH = timedelta(seconds=5)

_log = logging.getLogger(__name__)


class Status(StrEnum):
    """What has to be done."""

    OK = "ok"
    """Nothing."""
    YELLOW = "yellow"
    """Some clients need a person; for all others everything goes on."""
    RED = "red"
    """A stage stands still for everybody."""


class Lag(NamedTuple):
    """What waits. A count of 1000 means at least so many.

    Attributes:
        events: events that are not projected yet.
        seconds: age of the oldest of them.
        stalled: whether they wait although no cursor has moved for five minutes.
        parked: parked clients.
        unpublished: clients with announcements to publish.
        overdue: whether one of those has waited for more than five minutes.
        deliveries: by integration: deliveries to make, how long the first of them is due (seconds), refused ones, and
            why it is paused.
        deliveries: by integration: deliveries to make, refused ones, and why it is paused.
        differing: clients whose documents are not what their events come to, as far as verifying found.
    """

    events: int
    seconds: float
    stalled: bool
    parked: int
    unpublished: int
    overdue: bool
    deliveries: dict[str, dict[str, Any]]
    differing: int

    @property
    def standstills(self) -> list[str]:
        """What keeps a whole stage from going on."""
        paused = [f"integration {name} is paused" for name, state in self.deliveries.items() if state["paused"]]
        return [
            *(["projecting is stalled"] if self.stalled else []),
            *(["announcements are not published"] if self.overdue else []),
            *paused,
        ]

    @property
    def problems(self) -> list[str]:
        """What needs a person, the worst first; empty means healthy."""
        found = self.standstills
        if self.seconds > _STALLED.total_seconds() and not self.stalled:
            found.append("projecting is behind")
        if self.parked:
            found.append("clients are parked")
        if self.differing:
            found.append("clients differ from their events")
        for name, state in self.deliveries.items():
            if state["failed"]:
                found.append(f"integration {name} has refused deliveries")
            if state["seconds"] > _SLOW.total_seconds() and not state["paused"]:
                found.append(f"deliveries to {name} are behind")
        return found

    @property
    def status(self) -> Status:
        """The worst of the problems."""
        if self.standstills or self.differing:
            return Status.RED
        return Status.YELLOW if self.problems else Status.OK


def measure_lag(runtime: Runtime) -> Lag:
    """Look at every stage: a few bounded queries.

    Raises:
        StoreUnavailableError: a database is out of reach.
    """
    now = runtime.clock()
    events, oldest, moved = 0, None, []
    for partition in runtime.backend.feed.partitions():
        name, cursor = sweep_cursor(runtime.domain.projection, runtime.backend.checkpoints, partition)
        page = runtime.backend.feed.feed(partition, after=cursor, limit=_LOOKED_AT)
        if page.events:
            events += len(page.events)
            oldest = min([event.recorded_at for event in page.events] + ([oldest] if oldest else []))
            moved.append(moved_at(runtime.backend.checkpoints, name))
    seconds = _age(now, oldest)
    # A cursor that still moves works off a backlog; each has to, since one may stand while others go on.
    still = any(each is None or now - each > _STALLED for each in moved)
    return Lag(
        events=events,
        seconds=seconds,
        stalled=still and seconds > _STALLED.total_seconds(),
        parked=len(runtime.backend.projections.parked(limit=_LOOKED_AT)),
        unpublished=len(runtime.backend.projections.waiting(limit=_LOOKED_AT)),
        overdue=bool(runtime.backend.projections.waiting(older_than=utc_text(now - _STALLED), limit=1)),
        deliveries={
            integration.name: _deliveries(runtime, integration.name, now) for integration in runtime.domain.integrations
        },
        differing=len(runtime.findings.open()),
    )


def lag_json(lag: Lag) -> dict[str, Any]:
    """What waits, with status and problems, as queries and commands show it."""
    return {**lag._asdict(), "status": lag.status, "problems": lag.problems}


def report_lag(runtime: Runtime) -> None:
    """Tell metrics and log how far each stage is behind, if that can be found out: nobody's work depends on it."""
    try:
        lag = measure_lag(runtime)
    except EventStoreError as error:
        _log.warning("How far the stages are behind cannot be told: %s", type(error).__name__)
        return
    telemetry.gauge("lag.events", lag.events)
    telemetry.gauge("lag.seconds", lag.seconds)
    telemetry.gauge("parked", lag.parked)
    telemetry.gauge("unpublished", lag.unpublished)
    for name, state in lag.deliveries.items():
        telemetry.gauge("deliveries.waiting", state["waiting"], {"integration": name})
        telemetry.gauge("deliveries.failed", state["failed"], {"integration": name})
    if lag.problems:
        _log.warning("Status %s: %s", lag.status, "; ".join(lag.problems))


class Health:
    """The status, measured again only when the last measurement is some seconds old: anybody may ask, and often.

    Args:
        runtime: gives the composed application.
    """

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._mutex = Lock()
        self._measured: tuple[datetime, Status] | None = None

    def status(self) -> Status:
        """The present status, at most five seconds old.

        Raises:
            StoreUnavailableError: a database is out of reach.
        """
        runtime = self._runtime()
        with self._mutex:
            now = runtime.clock()
            if self._measured is None or now - self._measured[0] >= _FRESH:
                self._measured = now, measure_lag(runtime).status
            return self._measured[1]


def _deliveries(runtime: Runtime, integration: str, now: datetime) -> dict[str, Any]:
    pause = runtime.backend.deliveries.load_pause(integration).pause
    due = runtime.backend.deliveries.due(integration, limit=_LOOKED_AT)
    return {
        "waiting": len(due),
        "seconds": _age(now, due[0].due_at if due else None),
        "failed": len(runtime.backend.deliveries.failed(integration, limit=_LOOKED_AT)),
        "paused": pause.reason if pause.until is not None else None,
    }


def _age(now: datetime, since: str | None) -> float:
    return 0.0 if since is None else round(max((now - datetime.fromisoformat(since)).total_seconds(), 0.0), 3)
