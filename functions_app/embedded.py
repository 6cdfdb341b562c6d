"""The embedded default: everything in one directory of SQLite files."""

from contextlib import ExitStack, closing
from pathlib import Path

from eventstore import SqliteCheckpointStore, SqliteEventStore, SqliteRejectionStore, open_events
from integrations import SqliteDeliveryStore, SqliteSessionQueues, SqliteTopic, open_deliveries
from projections import SqliteDocumentStore, SqlitePredecessors, SqliteProjectionStore, open_projections

from .backend import Backend
from .domain import Domain
from .sqlite_access import SqliteAccessLog, open_access


def open_embedded(directory: Path, domain: Domain) -> Backend:
    """Open the SQLite files of a data directory, making what is missing.

    Raises:
        StoreVersionError: a newer version of this software wrote one of them.
        StoreUnavailableError: one of them cannot be opened.
    """
    with ExitStack() as opened:
        events_file = opened.enter_context(closing(open_events(directory)))
        projections_file = opened.enter_context(closing(open_projections(directory)))
        deliveries_file = opened.enter_context(closing(open_deliveries(directory)))
        access_file = opened.enter_context(closing(open_access(directory)))
        events = SqliteEventStore(events_file)
        topic = SqliteTopic(deliveries_file)
        for integration in domain.integrations:
            topic.subscribe(integration.name, integration.cares_about)
        return Backend(
            events=events,
            feed=events,
            pulled=SqliteCheckpointStore(events_file),
            rejections=SqliteRejectionStore(events_file),
            projections=SqliteProjectionStore(projections_file, domain.projection),
            documents=SqliteDocumentStore(projections_file, domain.projection),
            predecessors=SqlitePredecessors(projections_file, domain.projection),
            checkpoints=SqliteCheckpointStore(projections_file),
            deliveries=SqliteDeliveryStore(deliveries_file),
            topic=topic,
            subscriptions=topic,
            queues=SqliteSessionQueues(deliveries_file),
            access=SqliteAccessLog(access_file),
            close=opened.pop_all().close,
        )
