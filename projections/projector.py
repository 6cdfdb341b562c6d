"""The projector: bring clients up to date. Doorbell, sweep, rebuild, retry and heal all call the one primitive here.

A doorbell may ring twice, out of order, or never. So what has been done is only ever read from the records: a client is
up to date when its record has reached the version asked for, or is parked. Two projectors may work on one client; the
record's tag lets one of them win, and the other starts again from what the winner left.
"""

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import FORBIDDEN
from operator import attrgetter
from time import monotonic
from typing import Any, NamedTuple

from eventstore import EventStore, HistoryForkedError, RecordedEvent, StoreRefusedError, StoreUnavailableError

from .announcing import announce
from .annulment import annulled_versions
from .errors import CommitConflictError, OutOfTimeError, StreamBehindError
from .fingerprint import code_fingerprint
from .fold import Failure, Folded, model_of
from .parking import commit_refused, may_be_passed, on_its_way, park
from .ports import Commit, Committed, Loaded, ProjectionStore
from .record import Parked, Record, empty_record
from .refold import PORTION, fold_portions, is_annulled
from .rules import Projection
from .target import Outcome, Target

_log = logging.getLogger(__name__)

_ROUNDS = 20  # lost commits before giving up; each means that another projector made progress
_WORKERS = 8


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
            publisher. What it misses, the outbox sweep finds; so an error it raises is logged and ends there.
        workers: clients worked on side by side, where a store commits them one by one.
        budget: seconds after which a call leaves what is not done to the next one.
        clock: seconds that pass, wherever they start.
    """

    def __init__(
        self,
        projection: Projection[Any],
        events: EventStore,
        store: ProjectionStore,
        *,
        on_announced: Callable[[Sequence[str]], None] | None = None,
        workers: int = _WORKERS,
        budget: float = 60.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.projection = projection
        self._events = events
        self._store = store
        self._on_announced = on_announced
        self._workers = workers
        self._budget = budget
        self._clock = clock
        self.fingerprint = code_fingerprint(projection)

    def catch_up(self, client_id: str, target: Target) -> Record:
        """Bring one client to its target, or park it.

        Returns:
            The record; its `parked` says whether the target is still ahead.

        Raises:
            StreamBehindError: the stream ends before the target.
            OutOfTimeError: the budget was used up on the way; what was committed stays.
            CommitConflictError: other projectors won every round.
            StoreRefusedError: the database refuses even to mark the client as parked, or refuses the caller.
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
            StoreRefusedError: a database refuses the caller, whoever the client is.
            StoreUnavailableError: a database is out of reach.
        """
        items, size = list(targets.items()), self._store.group
        groups = [dict(items[start : start + size]) for start in range(0, len(items), size)]
        outcomes: dict[str, Outcome] = {}
        if size > 1 or len(groups) <= 1:
            for group in groups:
                outcomes |= self._catch_up_group(group)
        else:
            with ThreadPoolExecutor(min(self._workers, len(groups))) as pool:
                for done in pool.map(self._catch_up_group, groups):
                    outcomes |= done
        self._ring([client_id for client_id, outcome in outcomes.items() if outcome.announced])
        return outcomes

    def _ring(self, announced: Sequence[str]) -> None:
        if not announced or self._on_announced is None:
            return
        try:
            self._on_announced(announced)
        except Exception as error:  # noqa: BLE001 - a topic that is down must not hold up the projections
            _log.warning("The doorbell of the publisher failed: %s", type(error).__name__)

    def _catch_up_group(self, targets: Mapping[str, Target]) -> dict[str, Outcome]:
        """Walk clients that share transactions side by side: one load, then the next commit of each in one write."""
        loaded = dict(self._store.load(list(targets)))
        walks = {client_id: self._walk(client_id, target, loaded) for client_id, target in targets.items()}
        errors: dict[str, Exception | None] = {}
        announced: set[str] = set()
        made: dict[str, Committed] = {}
        while walks:
            commits: dict[str, Commit] = {}
            for client_id, walk in list(walks.items()):
                try:
                    commits[client_id] = walk.send(made.get(client_id))
                except StopIteration as end:
                    errors[client_id] = end.value
                    del walks[client_id]
                except (StoreUnavailableError, StoreRefusedError):
                    raise
                except Exception as error:  # noqa: BLE001 - one client's trouble must not touch the others
                    errors[client_id] = error
                    del walks[client_id]
            if commits:
                made = dict(zip(commits, self._store.commit(list(commits.values())), strict=True))
                stored = {client_id: found for client_id, found in made.items() if isinstance(found, Loaded)}
                announced.update(client_id for client_id in stored if commits[client_id].outbox)
                loaded.update(stored)
                if lost := [client_id for client_id, found in made.items() if found is None]:
                    loaded.update(self._store.load(lost))
        return {
            client_id: Outcome(loaded[client_id].record or empty_record(client_id), client_id in announced, error)
            for client_id, error in errors.items()
        }

    def _walk(
        self, client_id: str, target: Target, loaded: Mapping[str, Loaded]
    ) -> Generator[Commit, Committed, Exception | None]:
        """One client's way to its target: yields commits, and is sent what became of them.

        Finds in `loaded` what is there after that; returns what kept the client from its target.
        """
        deadline, progressed = self._clock() + self._budget, False
        for _ in range(_ROUNDS):
            record = loaded[client_id].record or empty_record(client_id)
            if self._speaks_for(loaded[client_id]):
                target = target._replace(silent_until=None)
            if target.refold:
                record = empty_record(client_id)
                at_least = max(target.at_least, self._events.head(client_id).version)
            else:
                at_least = max(target.at_least, record.parked.waiting_for if record.parked else 0)
                reached = 0 < at_least <= record.version and record.parked is None
                if reached and not _contradicts(record, target.known):
                    return None
            steps = self._steps(record, target, at_least)
            while step := next(steps, None):
                if progressed and self._clock() > deadline:
                    return OutOfTimeError(client_id, at_least, record.version)
                made = yield self._commit(loaded[client_id], step, silent=target.silent_until is not None)
                if made is None:
                    break
                if isinstance(made, StoreRefusedError):
                    if step.folded is None or not step.folded.audit:
                        return made  # not even the mark that the client is parked was taken
                    steps = self._instead(record, target, at_least, step.folded, made)
                else:
                    record, progressed = step.record, True
            else:
                goal = at_least if target.silent_until is None else target.silent_until
                return None if may_be_passed(record, goal) else StreamBehindError(client_id, goal, record.version)
        return CommitConflictError(client_id, _ROUNDS)

    def _instead(
        self, record: Record, target: Target, at_least: int, folded: Folded, refusal: StoreRefusedError
    ) -> Iterator[_Step]:
        """What to commit in place of what was refused: fewer events at once, or that the client is parked at the first."""
        first, *others = folded.audit
        if others and refusal.status != FORBIDDEN:  # a partition that is full takes no smaller commit either
            return self._steps(record, target, at_least, size=len(folded.audit) // 2)
        if first.note != "annulled" and is_annulled(self._events, record, first.version):
            return self._steps(record, target, at_least, annulled=[first.version])
        return iter([_Step(self._park(record, commit_refused(first.version, refusal), at_least))])

    def _steps(
        self, record: Record, target: Target, at_least: int, *, annulled: Collection[int] = (), size: int = PORTION
    ) -> Iterator[_Step]:
        """What has to be committed, one after the other."""
        parked = record.parked
        if parked is not None and not self._is_worth_a_try(parked, target):
            waiting_for = self._within_stream(record, at_least) if parked.waiting_for < at_least else 0
            if parked.waiting_for < waiting_for:
                yield _Step(record._replace(parked=parked._replace(waiting_for=waiting_for)))
            return
        waits = target.silent_until is not None and at_least > target.silent_until
        goal = at_least if parked is not None or target.refold or waits else 0
        went_on = False
        try:
            model = model_of(self.projection, record)
            if isinstance(model, Failure):
                yield from self._unreadable(record, model, at_least)
                return
            events = self._events_after(record, target, at_least)
            for folded in fold_portions(
                self.projection, self._events, record, events, model=model, annulled=annulled, size=size
            ):
                went_on = True
                if folded.failure is None:
                    yield _Step(on_its_way(folded.record, goal), folded)
                else:
                    yield _Step(self._park(folded.record, folded.failure, at_least), folded)
        except HistoryForkedError as error:
            yield _Step(self._park(record, Failure(error.version, "history_forked", ()), at_least))
        else:
            if parked is not None and not went_on and record.version >= parked.waiting_for:
                yield _Step(record._replace(parked=None))
            elif waits and parked is None and not went_on and record.version < goal:
                yield _Step(on_its_way(record, goal))

    def _unreadable(self, record: Record, failure: Failure, at_least: int) -> Iterator[_Step]:
        """Park a record that no model can be made of; for a client without events none is made, whoever asks for it."""
        if self._events.head(record.client_id).version:
            yield _Step(self._park(record, failure, at_least))

    def _park(self, record: Record, failure: Failure, at_least: int) -> Record:
        return park(record, failure, self._within_stream(record, at_least), self.fingerprint)

    def _within_stream(self, record: Record, at_least: int) -> int:
        """A version to wait for: who asks for one that does not exist must not make the record wait for ever."""
        return min(at_least, self._events.head(record.client_id).version)

    def _is_worth_a_try(self, parked: Parked, target: Target) -> bool:
        return target.retry or parked.fingerprint != self.fingerprint or bool(annulled_versions(target.known))

    def _events_after(self, record: Record, target: Target, at_least: int) -> Iterator[RecordedEvent]:
        known = sorted(
            {e.version: e for e in target.known if e.version > record.version}.values(), key=attrgetter("version")
        )
        if (
            known
            and 0 < at_least <= known[-1].version
            and [event.version for event in known] == list(range(record.version + 1, known[-1].version + 1))
            and known[0].follows(record.event_hash)
        ):
            yield from known
            return
        if target.silent_until is not None and target.silent_until <= record.version:
            return
        stream = self._events.read(record.client_id, after=max(record.version - 1, 0), until=target.silent_until)
        if record.version > 0:
            # Reading one event again is what tells a history that was restored to an older state.
            last = next(stream, None)
            if last is None or last.hash != record.event_hash:
                raise HistoryForkedError(record.client_id, record.version)
        yield from stream

    def _speaks_for(self, loaded: Loaded) -> bool:
        """Whether this version announced last: then it owes the world whatever it folds."""
        return loaded.announced is not None and loaded.announced.projection_version == self.projection.version

    def _commit(self, loaded: Loaded, step: _Step, *, silent: bool) -> Commit:
        if step.folded is None:
            return Commit(loaded, step.record)
        announcement = None if silent else announce(self.projection, step.folded, loaded.announced)
        return Commit(loaded, step.record, step.folded.audit, *(announcement or ()))


def _contradicts(record: Record, events: Iterable[RecordedEvent]) -> bool:
    """Whether another event stands where the record's last one did, as after a restore to an older state."""
    return any(event.version == record.version and event.hash != record.event_hash for event in events)
