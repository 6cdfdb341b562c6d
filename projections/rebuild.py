"""Rebuild: bring every client into the running generation, a share of them at a time, to go on after a kill.

Walking says nothing to the world: the next event of a client announces what the new rules made different. Who wants that
at once asks for it; and who goes back to older code has to take announcing back, since newer code spoke last.

A walk folds a client up to where the world was told of it. What comes after is left to the sweep, which starts where that
of earlier generations was and announces it. Only for clients that the running generation speaks for already nobody else
would tell what it missed: these are brought to where the others are, aloud.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from eventstore import CheckpointStore, ClientDirectory, ClientPage, EventStoreError, StoreRefusedError

from .announcing import announce
from .errors import CommitConflictError, OutOfTimeError, OvertakenError, ProjectionError
from .fold import Failure, Folded, model_of
from .generation import inherit_cursor
from .parking import is_stuck
from .ports import Commit, Loaded, Predecessors, ProjectionStore
from .progress import Progress, Purpose, load_progress, save_progress
from .projector import Projector
from .refold import PORTION
from .share import Part, Share
from .target import Outcome, Target
from .turns import present_turn, take_turn

_PAGE = 100  # clients of one stored progress
_LISTED = 10_000  # clients listed at most to find so many
_LEFT_BEHIND = 1000  # clients that may fail before a walk stops; their ids are in the stored progress
_TOGETHER = 250  # events of one transaction: what somebody else's commit may have to wait for
_TRIES = 3
_ROUNDS = 20  # lost commits before giving up; each means that somebody else made progress
_WHY = 200  # characters of a reason that is kept


class Rebuild:
    """Walks over the clients of a share.

    What it does is stored page by page, so that a walk that was killed goes on with the page it was at, whose clients go
    on with the commit they were at. One that is done begins again, and so does one that another generation came in between
    of. Clients that fail are left behind and taken up first by the next walk; one that leaves a thousand behind stops,
    since what keeps them will keep others.

    Args:
        projector: of the running generation.
        store: its records.
        predecessors: what earlier generations left.
        directory: all clients.
        checkpoints: where progress is kept.
        purpose: what to do with each client.
        on_announced: called with the ids of clients of which the walk itself announced something.
        on_failed: called with what kept clients from getting there, by their ids, when they are left behind.
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
        on_failed: Callable[[Mapping[str, Exception]], None] = lambda _: None,
    ) -> None:
        self._projector = projector
        self._store = store
        self._predecessors = predecessors
        self._directory = directory
        self._checkpoints = checkpoints
        self._purpose = purpose
        self._on_announced = on_announced
        self._on_failed = on_failed

    def walk(self, share: Share = Share(1, 1)) -> Iterator[Progress]:  # noqa: B008 - immutable
        """Work through a share; gives the progress after each page, once it is stored.

        Raises:
            OvertakenError: another version of the projection came in between; walk again without it.
            StoreUnavailableError: a database is out of reach; walk again.
        """
        projection = self._projector.projection
        turn = take_turn(projection, self._checkpoints, from_newer=True)
        progress = load_progress(self._checkpoints, projection, self._purpose, share)
        if progress is None or progress.done:
            progress = Progress()
        parts = list(share.parts(self._directory.partitions()))
        for part in parts:
            # Before any client is folded: what earlier generations pass from here on, the sweep of this one passes, too.
            inherit_cursor(projection, self._checkpoints, part.partition)
        for reached in self._steps(parts, progress):
            if present_turn(projection, self._checkpoints) != turn:
                raise OvertakenError(projection.generation)
            save_progress(self._checkpoints, projection, self._purpose, share, reached, turn)
            yield reached

    def _steps(self, parts: Sequence[Part], progress: Progress) -> Iterator[Progress]:
        """The progress after each page: first the clients that failed before, then the others."""
        before = list(progress.failed)
        for start in range(0, len(before), _PAGE):
            again = before[start : start + _PAGE]
            others = {client_id: why for client_id, why in progress.failed.items() if client_id not in again}
            progress = self._take(again, progress._replace(failed=others))
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
        outcomes, announced = self._catch_up(self._targets(client_ids))
        failed = {each: outcome.error for each, outcome in outcomes.items() if outcome.error is not None}
        if self._purpose is not Purpose.FOLD:
            told, untold = self._announce([each for each in client_ids if each not in failed])
            failed |= untold
            announced |= set(told)
            if told:
                self._on_announced(told)
        if failed:
            self._on_failed(failed)
        there = [outcome.record for client_id, outcome in outcomes.items() if client_id not in failed]
        return progress._replace(
            clients=progress.clients + len(client_ids) - len(failed),
            events=progress.events + sum(record.version for record in there),
            announced=progress.announced + len(announced),
            parked=progress.parked + sum(map(is_stuck, there)),
            failed={**progress.failed, **{client_id: _why(error) for client_id, error in failed.items()}},
        )

    def _catch_up(self, targets: Mapping[str, Target]) -> tuple[dict[str, Outcome], set[str]]:
        """Bring clients to their targets, some of them aloud: what became of each, and of whom something was announced."""
        outcomes: dict[str, Outcome] = {}
        announced: set[str] = set()
        left = dict(targets)
        for _ in range(_TRIES):
            batches = deque(self._batches(left))
            while batches:
                batch = batches.popleft()
                done = self._projector.catch_up_all(batch)
                outcomes |= done
                announced |= {client_id for client_id, outcome in done.items() if outcome.announced}
                if late := {each: batch[each] for each in batch if isinstance(done[each].error, OutOfTimeError)}:
                    batches.append(late)  # they got further; no try is used up
            left = {client_id: left[client_id] for client_id in left if outcomes[client_id].error is not None}
            if not left:
                break
        return outcomes, announced

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

    def _announce(self, client_ids: Sequence[str]) -> tuple[list[str], dict[str, Exception]]:
        """Tell what differs: of whom something was announced, and what kept others from it."""
        announced: list[str] = []
        failed: dict[str, Exception] = {}
        waiting = list(client_ids)
        for _ in range(_ROUNDS):
            if not waiting:
                break
            loaded = self._store.load(waiting)
            commits = {each: commit for each in waiting if (commit := self._announcement(loaded[each])) is not None}
            waiting = []
            for client_id, made in zip(commits, self._store.commit(list(commits.values())), strict=True):
                if made is None:
                    waiting.append(client_id)  # somebody was faster
                elif isinstance(made, StoreRefusedError):
                    failed[client_id] = made
                elif commits[client_id].outbox is not None:
                    announced.append(client_id)
        return announced, failed | {each: CommitConflictError(each, _ROUNDS) for each in waiting}

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


def _why(error: Exception) -> str:
    """What kept a client from getting there; of what nobody foresaw only the kind, since its text may quote values."""
    kind = type(error).__name__
    return f"{kind}: {error}"[:_WHY] if isinstance(error, EventStoreError | ProjectionError) else kind
