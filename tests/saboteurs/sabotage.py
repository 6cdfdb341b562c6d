"""Saboteurs: each takes one safeguard away, by standing between the application and one of its ports.

Where a safeguard matters only when two processes meet, the saboteur also brings the other one about: a rival that was
asleep and wakes up late, or comes in the middle. Such a rival also exists as `..., guarded`, with the safeguard in place,
and is then harmless.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from eventstore import Appended, ChangeFeed, CheckpointStore, EventData, ExpectedVersion, FeedPage, RecordedEvent
from eventstore.events import record_events
from functions_app import Runtime, Settings
from functions_app.backend import Backend, Deliveries, Projections
from integrations import DeliveryState, HeldState, LogEntry
from projections import Assertion, Commit, Loaded, OutboxEntry
from tests.crash.flow_domain import clients, flow_domain
from tests.support.kill import KillPoints


class Scene(NamedTuple):
    """Where a saboteur works.

    Attributes:
        kill: the kill points of the process.
        url: where the targets are.
        seed: which work is done.
        clock: the process's time.
    """

    kill: KillPoints
    url: str
    seed: int
    clock: Callable[[], datetime]


Saboteur = Callable[[Backend, Scene], Backend]


class Between:
    """Stands before a port and passes on what it has no method for."""

    def __init__(self, port: Any) -> None:
        self.port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self.port, name)


# --- append ----------------------------------------------------------------------------------------------------------


class NoReadBack(Between):
    """Appends without a look whether an event is there already."""

    def append(self, client_id: str, events: Sequence[EventData], *, expected_version: ExpectedVersion) -> Appended:
        recorded = record_events(client_id, self.port.head(client_id), events, self.port._clock())
        columns, marks = ", ".join(RecordedEvent._fields), ", ".join("?" * len(RecordedEvent._fields))
        rows = [
            tuple({**event._asdict(), "data": data.json.decode()}.values())
            for event, data in zip(recorded, events, strict=True)
        ]
        self.port._database.write(
            lambda connection: connection.executemany(f"INSERT INTO events ({columns}) VALUES ({marks})", rows)
        )
        return Appended(tuple(recorded), frozenset())


def no_idempotence(backend: Backend, _: Scene) -> Backend:
    """Neither the store nor the database knows an event again."""
    store: Any = backend.events
    for safeguard in ("TRIGGER IF EXISTS events_only_continue", "INDEX IF EXISTS events_by_id"):
        store._database.write(lambda connection, what=safeguard: connection.execute(f"DROP {what}"))
    return backend._replace(events=NoReadBack(backend.events))


# --- project ---------------------------------------------------------------------------------------------------------


class EarlyCursor(Between):
    """Saves the cursor of the sweep when a page is read, before anything is done with it."""

    def __init__(self, feed: ChangeFeed, checkpoints: CheckpointStore) -> None:
        super().__init__(feed)
        self.checkpoints = checkpoints

    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
        page: FeedPage = self.port.feed(partition, after=after, limit=limit)
        self.checkpoints.save(f"{clients.generation}:{partition}", page.cursor)
        return page


class EarlyPullCursor(Between):
    """Saves that everything was taken before it is."""

    def load(self, name: str) -> str | None:
        found: str | None = self.port.load(name)
        self.port.save(name, "3")
        return found


class SleepyProjector(Between):
    """A rival projector works out what the first commit holds, falls asleep, and commits it after the fifth."""

    def __init__(self, port: Projections, *, guarded: bool) -> None:
        super().__init__(port)
        self.guarded = guarded
        self.dreamt: list[Sequence[Commit]] = []

    def commit(self, commits: Sequence[Commit]) -> Sequence[Loaded | None]:
        done: Sequence[Loaded | None] = self.port.commit(commits)
        self.dreamt.append(commits)
        if len(self.dreamt) == 5:
            rival = self.dreamt[0]
            self.port.commit(rival if self.guarded else [self._regardless(each) for each in rival])
        return done

    def _regardless(self, commit: Commit) -> Commit:
        client_id = commit.record.client_id
        now = self.port.load([client_id])[client_id]
        tags = {"record_tag": now.record_tag, "announced_tag": now.announced_tag}
        return commit._replace(loaded=commit.loaded._replace(**tags))


class TornCommit(Between):
    """Makes the record visible before the audit and the announcement."""

    def __init__(self, port: Projections, kill: KillPoints) -> None:
        super().__init__(port)
        self.kill = kill

    def commit(self, commits: Sequence[Commit]) -> Sequence[Loaded | None]:
        first = self.port.commit([each._replace(audit=(), announced=None, outbox=None) for each in commits])
        self.kill.cross("project.torn")
        rest = [
            commit._replace(loaded=loaded) for commit, loaded in zip(commits, first, strict=True) if loaded is not None
        ]
        done = iter(self.port.commit(rest))
        return [None if loaded is None else next(done) for loaded in first]


class ForgottenProvenance(Between):
    """Does not know who said when what a field is."""

    def load(self, client_ids: Sequence[str]) -> Mapping[str, Loaded]:
        return {client_id: self._forget(loaded) for client_id, loaded in self.port.load(client_ids).items()}

    def commit(self, commits: Sequence[Commit]) -> Sequence[Loaded | None]:
        return [loaded and self._forget(loaded) for loaded in self.port.commit(commits)]

    def _forget(self, loaded: Loaded) -> Loaded:
        if loaded.record is None:
            return loaded
        provenance = {
            name: dict.fromkeys(fields, Assertion("", 0)) for name, fields in loaded.record.provenance.items()
        }
        return loaded._replace(record=loaded.record._replace(provenance=provenance))


class NotAnnounced(Between):
    """Keeps no account of what was announced."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Loaded | None]:
        done: Sequence[Loaded | None] = self.port.commit([each._replace(announced=None) for each in commits])
        return done


# --- publish ---------------------------------------------------------------------------------------------------------


class DeletedBeforeSend(Between):
    """Empties the outbox when it is read."""

    def pending(self, client_id: str) -> Sequence[OutboxEntry]:
        entries: Sequence[OutboxEntry] = self.port.pending(client_id)
        self.port.delete(entries)
        return entries


class NotWanted(Between):
    """Does not tell the integrations what they owe."""

    def raise_wanted(self, client_id: str, wanted: Mapping[str, int], *, at: str) -> None:
        pass


class SleepyPublisher(Between):
    """A rival publisher has read the first announcement of a client, and raises `wanted` for it after each later one."""

    def __init__(self, port: Deliveries, *, guarded: bool) -> None:
        super().__init__(port)
        self.guarded = guarded
        self.dreamt: dict[str, Mapping[str, int]] = {}

    def raise_wanted(self, client_id: str, wanted: Mapping[str, int], *, at: str) -> None:
        self.port.raise_wanted(client_id, wanted, at=at)
        late = self.dreamt.setdefault(client_id, wanted)
        if self.guarded:
            self.port.raise_wanted(client_id, late, at=at)
            return
        for integration, seq in late.items():
            held: HeldState = self.port.load(client_id, integration)
            self.port.save(held.state._replace(wanted=seq, due_at=at), held.tag)


# --- deliver ---------------------------------------------------------------------------------------------------------


class Unclaimed(Between):
    """Shows no state as claimed."""

    def load(self, client_id: str, integration: str) -> HeldState | None:
        held: HeldState | None = self.port.load(client_id, integration)
        if held is None or held.state.claimed_until is None:
            return held
        return held._replace(state=held.state._replace(claimed_until=None, due_at=""))


class SecondDeliverer(Between):
    """When somebody has claimed a delivery for the first time and is about to call, a rival comes to deliver the same."""

    def __init__(self, backend: Backend, scene: Scene, *, guarded: bool) -> None:
        super().__init__(backend.deliveries)
        seen: Any = backend.deliveries if guarded else Unclaimed(backend.deliveries)
        theirs = backend._replace(deliveries=seen)
        self.rival = Runtime(flow_domain(scene.url, scene.seed), Settings({}), theirs, clock=scene.clock).deliverer
        self.came: set[str] = set()

    def save(self, state: DeliveryState, tag: str | None, *, entry: LogEntry | None = None) -> str | None:
        saved: str | None = self.port.save(state, tag, entry=entry)
        claimed = saved is not None and entry is None and state.claimed_until is not None
        if claimed and state.integration not in self.came:
            self.came.add(state.integration)
            self.rival.deliver(state.client_id, state.integration)
        return saved


class SleepyDeliverer(Between):
    """A rival wants to write down how the first call for a client ended, and wakes up after the second one."""

    def __init__(self, port: Deliveries, *, guarded: bool) -> None:
        super().__init__(port)
        self.guarded = guarded
        self.dreamt: dict[tuple[str, str], list[tuple[DeliveryState, str | None]]] = defaultdict(list)

    def save(self, state: DeliveryState, tag: str | None, *, entry: LogEntry | None = None) -> str | None:
        saved: str | None = self.port.save(state, tag, entry=entry)
        if saved is not None and entry is not None:
            calls = self.dreamt[state.client_id, state.integration]
            calls.append((state, tag))
            if len(calls) == 2:
                late, condition = calls[0]
                # Without an entry of its own, which would trip over the numbers of the log.
                self.port.save(late._replace(entries=state.entries), condition if self.guarded else saved)
        return saved


SABOTAGES: Mapping[str, Saboteur] = {
    # The database itself still refuses an event id that it has.
    "read-back removed": lambda backend, _: backend._replace(events=NoReadBack(backend.events)),
    "idempotence removed": no_idempotence,
    "cursor saved before work": lambda backend, _: backend._replace(
        feed=EarlyCursor(backend.feed, backend.checkpoints)
    ),
    "pull cursor saved before work": lambda backend, _: backend._replace(pulled=EarlyPullCursor(backend.pulled)),
    "record condition ignored": lambda backend, _: backend._replace(
        projections=SleepyProjector(backend.projections, guarded=False)
    ),
    "record condition ignored, guarded": lambda backend, _: backend._replace(
        projections=SleepyProjector(backend.projections, guarded=True)
    ),
    "commit torn": lambda backend, scene: backend._replace(projections=TornCommit(backend.projections, scene.kill)),
    "provenance ignored": lambda backend, _: backend._replace(projections=ForgottenProvenance(backend.projections)),
    "announced not written": lambda backend, _: backend._replace(projections=NotAnnounced(backend.projections)),
    "outbox deleted before send": lambda backend, _: backend._replace(
        projections=DeletedBeforeSend(backend.projections)
    ),
    "wanted not raised": lambda backend, _: backend._replace(deliveries=NotWanted(backend.deliveries)),
    "wanted lowered": lambda backend, _: backend._replace(
        deliveries=SleepyPublisher(backend.deliveries, guarded=False)
    ),
    "wanted lowered, guarded": lambda backend, _: backend._replace(
        deliveries=SleepyPublisher(backend.deliveries, guarded=True)
    ),
    "claim ignored": lambda backend, scene: backend._replace(deliveries=SecondDeliverer(backend, scene, guarded=False)),
    "claim ignored, guarded": lambda backend, scene: backend._replace(
        deliveries=SecondDeliverer(backend, scene, guarded=True)
    ),
    "delivery condition ignored": lambda backend, _: backend._replace(
        deliveries=SleepyDeliverer(backend.deliveries, guarded=False)
    ),
    "delivery condition ignored, guarded": lambda backend, _: backend._replace(
        deliveries=SleepyDeliverer(backend.deliveries, guarded=True)
    ),
}
"""All saboteurs by name."""
