"""The sweep: follows the change feed with a durable cursor of its own and finds what the doorbell missed."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from eventstore import ChangeFeed, CheckpointStore, ForeignDocument, RecordedEvent, StoreRefusedError

from .annulment import annulled_versions
from .generation import inherit_cursor
from .ports import ProjectionStore
from .projector import Projector
from .target import Target

PAGE = 1000
_REMEMBERED = 100_000  # clients whose version a sweep keeps in mind


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        events: events passed.
        errors: what kept pages from being passed; they are read again next time.
        done: whether the end of the feed was reached.
    """

    events: int
    errors: tuple[Exception, ...]
    done: bool

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(self.events + other.events, self.errors + other.errors, self.done and other.done)


class FeedFollower:
    """Passes the change feed page by page; a page is passed when every client in it has reached it or is parked.

    A client whose partition does not even take the mark that it is parked keeps the cursor where it is, so that nothing of
    it is lost; the others are brought up to date beyond it.

    Behind a backlog, a client is brought to the end of its stream when it first appears, so that its events cost one
    commit for many rather than one each.

    Args:
        projector: brings clients up to date.
        feed: the events of all clients.
        checkpoints: where the cursors are kept, one for each partition and generation.
        page: events read at once.
        on_foreign: told of what lies among the events and is none, before it is passed.
    """

    def __init__(
        self,
        projector: Projector,
        feed: ChangeFeed,
        checkpoints: CheckpointStore,
        *,
        page: int = PAGE,
        on_foreign: Callable[[Sequence[ForeignDocument]], None] = lambda _: None,
    ) -> None:
        self._projector = projector
        self._feed = feed
        self._checkpoints = checkpoints
        self._page = page
        self._on_foreign = on_foreign

    def sweep(self, *, stop: Callable[[], bool] = lambda: False, on_page: Callable[[int], None] | None = None) -> Swept:
        """Pass what is new in each partition.

        Args:
            stop: asked before each page; a sweep that stops goes on where it was next time.
            on_page: told the number of events of each page passed.

        Raises:
            StoreUnavailableError: a database is out of reach; the cursor stays where the last page was passed.
        """
        swept = Swept(0, (), done=True)
        for partition in self._feed.partitions():
            swept += self._sweep(partition, stop, on_page or (lambda _: None))
        return swept

    def _sweep(self, partition: str, stop: Callable[[], bool], on_page: Callable[[int], None]) -> Swept:
        name = f"{self._projector.projection.generation}:{partition}"
        cursor = inherit_cursor(self._projector.projection, self._checkpoints, partition)
        reached: dict[str, int] = {}
        events = 0
        failed: tuple[Exception, ...] = ()
        while not stop():
            page = self._feed.feed(partition, after=cursor, limit=self._page)
            if page.foreign:
                self._on_foreign(page.foreign)
            if not page.events:
                if page.foreign and not failed:
                    self._checkpoints.save(name, page.cursor)
                return Swept(events, failed, done=not failed)
            targets = targets_of(page.events, reached, backlog=len(page.events) >= self._page)
            outcomes = self._projector.catch_up_all(targets)
            failed += tuple(outcome.error for outcome in outcomes.values() if outcome.error is not None)
            if not all(isinstance(error, StoreRefusedError) for error in failed):
                break
            if not failed:
                self._checkpoints.save(name, page.cursor)
            cursor = page.cursor
            if len(reached) > _REMEMBERED:
                reached.clear()
            reached.update((client_id, outcome.record.version) for client_id, outcome in outcomes.items())
            if not failed:
                events += len(page.events)
                on_page(len(page.events))
        return Swept(events, failed, done=False)


def retry_parked(projector: Projector, store: ProjectionStore, *, every: bool = False) -> tuple[int, int]:
    """Fold parked clients again: those that other code parked, or every one.

    Returns:
        How many were tried, and how many of them go on.
    """
    tried = freed = 0
    after = ""
    while page := store.parked(after=after):
        after = page[-1].client_id
        targets = {
            record.client_id: Target(record.parked.waiting_for, retry=True)
            for record in page
            if record.parked is not None and (every or record.parked.fingerprint != projector.fingerprint)
        }
        outcomes = projector.catch_up_all(targets)
        tried += len(targets)
        freed += sum(outcome.error is None and outcome.record.parked is None for outcome in outcomes.values())
    return tried, freed


def targets_of(
    events: Iterable[RecordedEvent], reached: Mapping[str, int] | None = None, *, backlog: bool = False
) -> dict[str, Target]:
    """The clients of events that came by the change feed, each to be brought to its highest version among them.

    Args:
        events: in any order.
        reached: versions that clients are known to have reached; what they cover is left out.
        backlog: bring each client to the end of its stream rather than fold just these events.
    """
    reached = reached or {}
    by_client: dict[str, list[RecordedEvent]] = defaultdict(list)
    for event in events:
        if event.version > reached.get(event.client_id, 0):
            by_client[event.client_id].append(event)
    return {
        client_id: Target(
            max(event.version for event in known),
            () if backlog else known,
            retry=bool(annulled_versions(known)),
        )
        for client_id, known in by_client.items()
    }
