"""The embedded default: everything in one directory of SQLite files."""

from pathlib import Path

from eventstore import SqliteCheckpointStore, SqliteEventStore, SqliteRejectionStore, open_events
from integrations import SqliteDeliveryStore, SqliteTopic, open_deliveries
from projections import SqliteDocumentStore, SqliteProjectionStore, open_projections

from .backend import Backend
from .domain import Domain


def open_embedded(directory: Path, domain: Domain) -> Backend:
    """Open the files `events.db`, `projections.db` and `deliveries.db` of a data directory, making what is missing.

    Raises:
        StoreVersionError: a newer version of this software wrote one of them.
        StoreUnavailableError: one of them cannot be opened.
    """
    events_file, projections_file = open_events(directory), open_projections(directory)
    deliveries_file = open_deliveries(directory)
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
        checkpoints=SqliteCheckpointStore(projections_file),
        deliveries=SqliteDeliveryStore(deliveries_file),
        topic=topic,
        subscriptions=topic,
    )
