"""Rebuild: bring every client into the running generation, a share of them at a time, to go on after a kill.

Walking says nothing to the world: the next event of a client announces what the new rules made different. Who wants that
at once asks for it; and who goes back to older code has to take announcing back, since newer code spoke last.

A walk folds a client up to where earlier generations are. What comes after, the world was not told yet; it is left to the
sweep, which starts where theirs was and announces it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from eventstore import CheckpointStore, ClientDirectory, ClientPage, StoreRefusedError

from .announcing import announce
from .errors import OutOfTimeError
from .fold import Failure, Folded, model_of
from .generation import inherit_cursor
from .parking import is_stuck
from .ports import Commit, Loaded, Predecessors, ProjectionStore
from .projector import Projector
from .refold import PORTION
from .rules import Projection
from .share import Part, Share
from .target import Outcome, Target

_PAGE = 100  # clients of one stored progress
_LISTED = 10_000  # clients listed at most to find so many
_LEFT_BEHIND = 1000  # clients that may fail before a walk stops; their ids are in the stored progress
_TOGETHER = 250  # events of one transaction: what somebody else's commit may have to wait for
_TRIES = 3


class Purpose(StrEnum):
    """What a walk over all clients is for."""

    FOLD = "rebuild"
    PUBLISH_DIFFERENCES = "publish-differences"
    TAKE_OVER = "take-over"


class Progress(NamedTuple):
    """How far a walk got.

    Attributes:
        clients: how many it brought there, or found there.
        events: how many events these have.
        announced: clients of which something was announced.
        parked: clients that do not go on.
        failed: clients that something kept from getting there; the next walk begins with them.
        cursors: by partition of the directory, where to go on; None at its end.
        done: whether it is at the end, and nobody failed.
    """

    clients: int = 0
    events: int = 0
    announced: int = 0
    parked: int = 0
    failed: tuple[str, ...] = ()
    cursors: Mapping[str, str | None] = {}
    done: bool = False


def load_progress(
    checkpoints: CheckpointStore, projection: Projection[Any], purpose: Purpose, share: Share
) -> Progress | None:
    """How far a walk got, None if it never began."""
    stored = checkpoints.load(_name(projection, purpose, share))
    if stored is None:
        return None
    progress = Progress(**json.loads(stored))
    return progress._replace(failed=tuple(progress.failed))


class Rebuild:
    """Walks over the clients of a share.

    What it does is stored page by page, so that a walk that was killed goes on with the page it was at, whose clients go
    on with the commit they were at. One that is done begins again. Clients that fail are left behind and taken up first by
    the next walk; one that leaves a thousand behind stops, since what keeps them will keep others.

    Args:
        projector: of the running generation.
        store: its records.
        predecessors: what earlier generations left.
        directory: all clients.
        checkpoints: where progress is kept.
        purpose: what to do with each client.
        on_announced: called with the ids of clients that got an outbox entry.
    """

    def __init__(
        self,
        projector: Projector,
        store: ProjectionStore,
        predecessors: Predecessors,
        directory: ClientDirectory,
        checkpoints: CheckpointStore,
        purpose: Purpose = Purpose.FOLD,
        *,
        on_announced: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        self._projector = projector
        self._store = store
        self._predecessors = predecessors
        self._directory = directory
        self._checkpoints = checkpoints
        self._purpose = purpose
        self._on_announced = on_announced

    def walk(self, share: Share = Share(1, 1)) -> Iterator[Progress]:  # noqa: B008 - immutable
        """Work through a share; gives the progress after each page, once it is stored.

        Raises:
            StoreUnavailableError: a database is out of reach; walk again.
        """
        projection = self._projector.projection
        progress = load_progress(self._checkpoints, projection, self._purpose, share)
        if progress is None or progress.done:
            progress = Progress()
        parts = list(share.parts(self._directory.partitions()))
        for part in parts:
            # Before any client is folded: what earlier generations pass from here on, the sweep of this one passes, too.
            inherit_cursor(projection, self._checkpoints, part.partition)
        name = _name(projection, self._purpose, share)
        for reached in self._steps(parts, progress):
            self._checkpoints.save(name, json.dumps(reached._asdict()))
            yield reached

    def _steps(self, parts: Sequence[Part], progress: Progress) -> Iterator[Progress]:
        """The progress after each page: first the clients that failed before, then the others."""
        before = progress.failed
        for start in range(0, len(before), _PAGE):
            again = before[start : start + _PAGE]
            progress = self._take(again, progress._replace(failed=progress.failed[len(again) :]))
            yield progress
        for part in parts:
            cursor = progress.cursors.get(part.partition)
            while cursor is not None or part.partition not in progress.cursors:
                if len(progress.failed) >= _LEFT_BEHIND:
                    return
                page = self._page(part, cursor)
                cursor = page.cursor
                progress = self._take([each for each in page.client_ids if part.holds(each)], progress)
                progress = progress._replace(cursors={**progress.cursors, part.partition: cursor})
                yield progress
        if not progress.failed:
            yield progress._replace(done=True)

    def _page(self, part: Part, cursor: str | None) -> ClientPage:
        return self._directory.clients(part.partition, after=cursor, limit=min(part.listed_for(_PAGE), _LISTED))

    def _take(self, client_ids: Sequence[str], progress: Progress) -> Progress:
        """Bring a page of clients to where they have to be, then announce what has to be."""
        targets = self._targets(client_ids)
        progress = progress._replace(clients=progress.clients + len(client_ids) - len(targets))
        for _ in range(_TRIES):
            outcomes: dict[str, Outcome] = {}
            for batch in self._batches(targets):
                outcomes |= self._projector.catch_up_all(batch)
            while late := [each for each, outcome in outcomes.items() if isinstance(outcome.error, OutOfTimeError)]:
                outcomes |= self._projector.catch_up_all({client_id: targets[client_id] for client_id in late})
            for client_id, outcome in outcomes.items():
                if outcome.error is None:
                    del targets[client_id]
                    progress = progress._replace(
                        clients=progress.clients + 1,
                        events=progress.events + outcome.record.version,
                        parked=progress.parked + is_stuck(outcome.record),
                    )
            if not targets:
                break
        there = [each for each in client_ids if each not in targets]
        announced = [] if self._purpose is Purpose.FOLD else self._announce(there)
        if announced:
            self._on_announced(announced)
        return progress._replace(announced=progress.announced + len(announced), failed=(*progress.failed, *targets))

    def _batches(self, targets: Mapping[str, Target]) -> Iterator[dict[str, Target]]:
        """Targets to be committed together: where clients share a transaction, everybody else waits while it is written."""
        batch: dict[str, Target] = {}
        size = 0
        for client_id, target in targets.items():
            events = min(target.silent_until or PORTION, PORTION)
            if batch and self._store.group > 1 and size + events > _TOGETHER:
                yield batch
                batch, size = {}, 0
            batch[client_id] = target
            size += events
        yield batch

    def _targets(self, client_ids: Sequence[str]) -> dict[str, Target]:
        """How far each client has to come; those that no earlier generation folded are the sweep's alone."""
        if self._purpose is Purpose.TAKE_OVER:
            return dict.fromkeys(client_ids, Target(0))
        passed = self._predecessors.passed(client_ids)
        return {
            client_id: Target(so_far.waiting_for, silent_until=so_far.version) for client_id, so_far in passed.items()
        }

    def _announce(self, client_ids: Sequence[str]) -> list[str]:
        announced = []
        waiting = list(client_ids)
        while waiting:
            loaded = self._store.load(waiting)
            commits = {each: commit for each in waiting if (commit := self._announcement(loaded[each])) is not None}
            results = dict(zip(commits, self._store.commit(list(commits.values())), strict=True))
            waiting = [client_id for client_id, result in results.items() if result is None]  # somebody was faster
            announced += [
                client_id
                for client_id, result in results.items()
                if commits[client_id].outbox is not None and result is not None
                if not isinstance(result, StoreRefusedError)
            ]
        return announced

    def _announcement(self, loaded: Loaded) -> Commit | None:
        """The commit that tells the world what differs; None if there is nothing to write."""
        projection, record, before = self._projector.projection, loaded.record, loaded.announced
        if record is None:
            return None
        if self._purpose is Purpose.TAKE_OVER and before is not None and before.projection_version > projection.version:
            before = before._replace(projection_version=projection.version)
        model = model_of(projection, record)
        announcement = (
            None if isinstance(model, Failure) else announce(projection, Folded(record, model, (), None), before)
        )
        if announcement is not None:
            return Commit(loaded, record, (), *announcement)
        return None if before == loaded.announced else Commit(loaded, record, announced=before)


def _name(projection: Projection[Any], purpose: Purpose, share: Share) -> str:
    return f"{projection.generation}:{purpose}:{share.number}of{share.of}"
