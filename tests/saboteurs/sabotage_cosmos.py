"""Saboteurs of what makes Cosmos DB safe to use: each takes away one safeguard of an adapter or of a container."""

from collections.abc import Mapping, Sequence
from typing import Any

from azure.cosmos import ContainerProxy

from eventstore import CosmosChangeFeed, CosmosEventStore, FeedPage, RecordedEvent, event_in
from eventstore.cosmos_feed import _packed
from functions_app.backend import Backend, Projections
from integrations import CosmosDeliveryStore
from projections import Commit, CosmosProjectionStore, Loaded, Projector, Target
from tests.saboteurs.sabotage import Between, Saboteur, Scene


class Unconditional(Between):
    """A container that takes documents of a kind whatever is there."""

    def __init__(self, container: ContainerProxy, kind: str) -> None:
        super().__init__(container)
        self.kind = kind

    def execute_item_batch(self, operations: Sequence[Any], partition_key: str) -> Any:
        return self.port.execute_item_batch([self._freed(each) for each in operations], partition_key)

    def _freed(self, operation: Any) -> Any:
        document = operation[1][-1]
        return ("upsert", (document,)) if document["kind"] == self.kind else operation


def unconditional(store: Any, kind: str) -> Any:
    """The store, on such a container."""
    store._container = Unconditional(store._container, kind)
    return store


class NoReadBack(CosmosEventStore):
    """Takes every event for new that it could not store at once."""

    def _stored(self, client_id: str, event_ids: Sequence[str]) -> dict[str, RecordedEvent]:
        return {}


class AnnouncedLeft(CosmosProjectionStore):
    """Only looks at the announcement state when a commit announces nothing."""

    def _operations(self, commit: Commit) -> list[Any]:
        operations = super()._operations(commit)
        if commit.announced is None and commit.loaded.announced is not None:
            operations[1] = ("read", (self._announced_id,))
        return operations


class NoMark(CosmosDeliveryStore):
    """Does not know its own writes again."""

    def _find(self, client_id: str, document_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        found = super()._find(client_id, document_ids)
        return {name: {**document, "mark": "another"} for name, document in found.items()}


class OnePage(CosmosChangeFeed):
    """Takes an empty page for the end, also in the round that finds a split out."""

    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
        documents, cursor = self._page(partition, after, limit)
        return FeedPage([event for each in documents if (event := event_in(each)) is not None], cursor)


class PresentRanges(CosmosChangeFeed):
    """Goes by the ranges that there are now; what was stored of the old ones means nothing to it."""

    def partitions(self) -> Sequence[str]:
        return [_packed(found) for found in self._container.read_feed_ranges(force_refresh=True)]


class Trusting(Projector):
    """Folds the events that came with the doorbell as they came."""

    def _events_after(self, record: Any, target: Target, at_least: int) -> Any:
        return iter(target.known)


def no_read_back(backend: Backend, _: Scene) -> Backend:
    """The backend, with such an event store."""
    store: Any = backend.events
    return backend._replace(events=NoReadBack(store._container, clock=store._clock, sleep=lambda _: None))


class LateProjector(Between):
    """A rival worked out the first commit of each client, announces nothing, and makes it after each later one."""

    def __init__(self, port: Projections) -> None:
        super().__init__(port)
        self.dreamt: dict[str, Commit] = {}

    def commit(self, commits: Sequence[Commit]) -> Sequence[Loaded | None]:
        done: Sequence[Loaded | None] = self.port.commit(commits)
        for commit in commits:
            late = self.dreamt.setdefault(commit.record.client_id, commit)
            if late is not commit:
                self.port.commit([late._replace(announced=None, outbox=None)])
        return done


def late_projector(backend: Backend, _: Scene) -> Backend:
    """The backend, with such a rival."""
    return backend._replace(projections=LateProjector(backend.projections))


def no_record_etag(backend: Backend, _: Scene) -> Backend:
    """The backend, with such a rival and nothing that stops it."""
    return backend._replace(projections=LateProjector(unconditional(backend.projections, "record")))


COSMOS_SABOTAGES: Mapping[str, Saboteur] = {
    "read-back removed": no_read_back,
    "record condition ignored": no_record_etag,
    "record condition ignored, guarded": late_projector,
}
"""Those that work in another way here than on files, by name."""
