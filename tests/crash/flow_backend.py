"""The embedded backend of the crash tests: on a clock of its own, with a kill point in each gap between durable writes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from eventstore import SqliteCheckpointStore, SqliteEventStore, SqliteRejectionStore, open_events
from functions_app.backend import Backend
from functions_app.sqlite_access import SqliteAccessLog, open_access
from integrations import DeliveryState, SqliteDeliveryStore, SqliteSessionQueues, SqliteTopic, Strategy, open_deliveries
from projections import SqliteDocumentStore, SqlitePredecessors, SqliteProjectionStore, open_projections
from tests.crash.flow_domain import clients
from tests.crash.kept import OUTSIDE
from tests.support.kill import KillPoints

POINTS = (
    "append.before",
    "append.after",
    "generation.before_fingerprint",
    "generation.after_fingerprint",
    "generation.before_turn",
    "generation.after_turn",
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


class Clock:
    """Time that moves by a millisecond with each look at it, and when told."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._looks = count()

    def __call__(self) -> datetime:
        return self._start + timedelta(milliseconds=next(self._looks))

    def advance(self, by: timedelta) -> None:
        self._start += by


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
        documents=SqliteDocumentStore(projections_file, clients, clock=clock),
        predecessors=SqlitePredecessors(projections_file, clients),
        checkpoints=SqliteCheckpointStore(projections_file),
        deliveries=SqliteDeliveryStore(deliveries_file),
        topic=topic,
        subscriptions=Impatient(topic),
        queues=SqliteSessionQueues(deliveries_file, clock=clock),
        access=SqliteAccessLog(open_access(directory)),
        close=lambda: None,  # the process is killed
    )


def with_kill_points(backend: Backend, kill: KillPoints) -> Backend:
    """The backend with a point in each gap between two durable writes."""
    appends = {"append": ("append.before", "append.after")}
    checkpoint = (lambda name, _: _checkpoint("before", name), lambda name, _: _checkpoint("after", name))
    return backend._replace(
        events=kill.around(backend.events, appends),
        projections=kill.around(
            backend.projections,
            {
                "commit": ("project.before_commit", "project.after_commit"),
                "delete": ("publish.after_send", "publish.after_delete"),
            },
        ),
        checkpoints=kill.around(backend.checkpoints, {"create": checkpoint, "save": checkpoint}),
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
    kept = name.rpartition(":")[2]
    return f"generation.{when}_{kept}" if kept in {"fingerprint", "turn"} else f"sweep.{when}_checkpoint"


def _before_save(state: DeliveryState, tag: str | None, **kept: Any) -> str | None:
    return None if kept.get("entry") else "deliver.before_claim"


def _after_save(state: DeliveryState, tag: str | None, **kept: Any) -> str:
    return "deliver.after_claim" if state.claimed_until and not kept.get("entry") else "deliver.after_save"


def with_call_points(strategy: Strategy, kill: KillPoints) -> Strategy:
    """The strategy with a point before and after each call of its target."""
    call = ("deliver.before_call", "deliver.after_call")
    return kill.around(strategy, {"send": call, "retract": call})
