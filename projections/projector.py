"""The projector: bring clients up to date. Doorbell, sweep, rebuild, retry and heal all call the one primitive here.

A doorbell may ring twice, out of order, or never. So what has been done is only ever read from the records: a client is
up to date when its record has reached the version asked for, or is parked. Two projectors may work on one client; the
record's tag lets one of them win, and the other starts again from what the winner left.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from pydantic import ValidationError

from eventstore import (
    EventStore,
    HistoryForkedError,
    InvalidClientIdError,
    RecordedEvent,
    StoreUnavailableError,
    field_problems,
)

from .announcing import announce
from .annulment import annulled_versions
from .errors import CommitConflictError, StreamBehindError
from .fingerprint import code_fingerprint
from .fold import Failure, Folded
from .ports import Commit, Loaded, ProjectionStore
from .record import Parked, Record, empty_record
from .refold import fold_portions
from .rules import Projection
from .schema import UnifiedSchema

_ROUNDS = 20  # lost commits before giving up; each means that another projector made progress
_WORKERS = 8


class Target(NamedTuple):
    """How far a client has to come.

    Attributes:
        at_least: the version its record must reach; 0 stands for all there is.
        known: events that came with the doorbell, in any order; used if they continue the record without a gap.
        retry: fold again even if the client is parked by the same code.
        refold: start again from the first event, in place.
    """

    at_least: int
    known: Sequence[RecordedEvent] = ()
    retry: bool = False
    refold: bool = False


class Outcome(NamedTuple):
    """What became of a client.

    Attributes:
        record: as committed last.
        announced: whether something was written to the outbox.
        error: what kept it from its target, None if it got there or is parked.
    """

    record: Record
    announced: bool
    error: Exception | None = None


class _Step(NamedTuple):
    record: Record
    folded: Folded | None = None


class Projector:
    """Folds clients up to their targets and commits record, audit, announcement state and outbox together.

    Args:
        projection: schema and rules.
        events: the truth.
        store: where records live.
        on_announced: called with the ids of clients that got an outbox entry, after the commit: the doorbell of the
            publisher. What it misses, the outbox sweep finds.
        announcing: False for a rebuild, which tells the world nothing.
        workers: clients worked on side by side, where a store commits them one by one.
    """

    def __init__(
        self,
        projection: Projection[Any],
        events: EventStore,
        store: ProjectionStore,
        *,
        on_announced: Callable[[Sequence[str]], None] | None = None,
        announcing: bool = True,
        workers: int = _WORKERS,
    ) -> None:
        self.projection = projection
        self._events = events
        self._store = store
        self._on_announced = on_announced
        self._announcing = announcing
        self._workers = workers
        self.fingerprint = code_fingerprint(projection)

    def catch_up(self, client_id: str, target: Target) -> Record:
        """Bring one client to its target, or park it.

        Returns:
            The record; its `parked` says whether the target is still ahead.

        Raises:
            StreamBehindError: the stream ends before the target.
            CommitConflictError: other projectors won every round.
            StoreUnavailableError: a database is out of reach.
        """
        outcome = self.catch_up_all({client_id: target})[client_id]
        if outcome.error is not None:
            raise outcome.error
        return outcome.record

    def catch_up_all(self, targets: Mapping[str, Target]) -> dict[str, Outcome]:
        """Bring many clients to their targets, side by side.

        Trouble with one client is in its outcome and touches no other.

        Raises:
            StoreUnavailableError: a database is out of reach.
        """
        groups = list(_groups(targets.items(), self._store.group))
        outcomes: dict[str, Outcome] = {}
        if self._store.group > 1 or len(groups) <= 1:
            for group in groups:
                outcomes |= self._catch_up_group(group)
        else:
            with ThreadPoolExecutor(min(self._workers, len(groups))) as pool:
                for done in pool.map(self._catch_up_group, groups):
                    outcomes |= done
        announced = [client_id for client_id, outcome in outcomes.items() if outcome.announced]
        if announced and self._on_announced is not None:
            self._on_announced(announced)
        return outcomes

    def _catch_up_group(self, targets: Mapping[str, Target]) -> dict[str, Outcome]:
        """Walk clients that share transactions side by side: one load, then the next commit of each in one write."""
        loaded = self._store.load(list(targets))
        walks = {client_id: self._walk(client_id, target, loaded[client_id]) for client_id, target in targets.items()}
        outcomes: dict[str, Outcome] = {}
        stored: dict[str, Loaded | None] = {}
        while walks:
            commits: dict[str, Commit] = {}
            for client_id, walk in list(walks.items()):
                try:
                    commits[client_id] = walk.send(stored.get(client_id))
                except StopIteration as end:
                    outcomes[client_id] = end.value
                    del walks[client_id]
                except StoreUnavailableError:
                    raise
                except Exception as error:  # noqa: BLE001 - one client's trouble must not touch the others
                    outcomes[client_id] = Outcome(empty_record(client_id), announced=False, error=error)
                    del walks[client_id]
            if commits:
                stored = dict(zip(commits, self._store.commit(list(commits.values())), strict=True))
        return outcomes

    def _walk(self, client_id: str, target: Target, loaded: Loaded) -> Generator[Commit, Loaded | None, Outcome]:
        """One client's way to its target: yields commits; is sent what was stored, None if the commit was lost."""
        announced = False
        for _ in range(_ROUNDS):
            record = loaded.record or empty_record(client_id)
            at_least = max(target.at_least, record.parked.waiting_for if record.parked else 0)
            if 0 < at_least <= record.version and not (record.parked or target.refold):
                return Outcome(record, announced)
            if target.refold:
                record = empty_record(client_id)
            stored: Loaded | None = loaded
            for step in self._steps(record, target, at_least):
                commit = self._commit(loaded, step)
                stored = yield commit
                if stored is None:
                    break
                loaded = stored
                announced = announced or commit.outbox is not None
            if stored is not None:
                record = loaded.record or record
                behind = record.version < at_least and record.parked is None
                error = StreamBehindError(client_id, at_least, record.version) if behind else None
                return Outcome(record, announced, error)
            loaded = self._store.load([client_id])[client_id]
        return Outcome(empty_record(client_id), announced, CommitConflictError(client_id, _ROUNDS))

    def _steps(self, record: Record, target: Target, at_least: int) -> Iterator[_Step]:
        """What has to be committed, one after the other."""
        parked = record.parked
        if parked is not None and not self._is_worth_a_try(parked, target):
            if parked.waiting_for < at_least:
                yield _Step(record._replace(parked=parked._replace(waiting_for=at_least)))
            return
        went_on = False
        try:
            model = _model(self.projection, record)
            if isinstance(model, Failure):
                yield _Step(self._park(record, model, at_least))
                return
            events = self._events_after(record, target, at_least)
            for folded in fold_portions(self.projection, self._events, record, events, model=model):
                went_on = True
                if folded.failure is None:
                    yield _Step(folded.record, folded)
                else:
                    yield _Step(self._park(folded.record, folded.failure, at_least), folded)
        except HistoryForkedError as error:
            yield _Step(self._park(record, Failure(error.version, "history_forked", ()), at_least))
        else:
            if parked is not None and not went_on:
                yield _Step(record._replace(parked=None))

    def _park(self, record: Record, failure: Failure, at_least: int) -> Record:
        waiting_for = max(at_least, failure.version)
        parked = Parked(failure.version, waiting_for, failure.code, failure.problems, self.fingerprint)
        return record._replace(parked=parked)

    def _is_worth_a_try(self, parked: Parked, target: Target) -> bool:
        return (
            target.retry or parked.fingerprint != self.fingerprint or parked.version in annulled_versions(target.known)
        )

    def _events_after(self, record: Record, target: Target, at_least: int) -> Iterator[RecordedEvent]:
        known = sorted(
            {e.version: e for e in target.known if e.version > record.version}.values(), key=attrgetter("version")
        )
        if (
            known
            and known[-1].version >= at_least
            and [event.version for event in known] == list(range(record.version + 1, known[-1].version + 1))
            and known[0].follows(record.event_hash)
        ):
            yield from known
            return
        stream = self._events.read(record.client_id, after=max(record.version - 1, 0))
        if record.version > 0:
            # Reading one event again is what tells a history that was restored to an older state.
            last = next(stream, None)
            if last is None or last.hash != record.event_hash:
                raise HistoryForkedError(record.client_id, record.version)
        yield from stream

    def _commit(self, loaded: Loaded, step: _Step) -> Commit:
        if step.folded is None:
            return Commit(loaded, step.record)
        announcement = announce(self.projection, step.folded, loaded.announced) if self._announcing else None
        return Commit(loaded, step.record, step.folded.audit, *(announcement or ()))


def _groups(targets: Iterable[tuple[str, Target]], size: int) -> Iterator[dict[str, Target]]:
    source = iter(targets)
    while group := dict(islice(source, size)):
        yield group


def _model(projection: Projection[Any], record: Record) -> UnifiedSchema | Failure:
    """The record as model, or why the running schema cannot read it."""
    try:
        model: UnifiedSchema = projection.build(record.client_id, record.values)
    except InvalidClientIdError:
        return Failure(record.version + 1, "invalid_client_id", ())
    except ValidationError as error:
        problems = tuple(f"{path}: {problem}" for path, problem in field_problems(error))
        return Failure(record.version + 1, "unreadable_record", problems)
    return model
