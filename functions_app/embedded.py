"""The embedded default: everything in one directory of SQLite files."""

from pathlib import Path
from typing import NamedTuple

from eventstore import (
    ChangeFeed,
    CheckpointStore,
    EventStore,
    RejectionStore,
    SqliteCheckpointStore,
    SqliteEventStore,
    SqliteRejectionStore,
    open_events,
)
from integrations import SqliteDeliveryStore, SqliteTopic, open_deliveries
from projections import SqliteProjectionStore, open_projections

from .domain import Domain


class Backend(NamedTuple):
    """The ports of one application on one kind of database and topic.

    Attributes:
        events: the streams.
        feed: all events of all clients.
        pulled: cursors of the timers.
        rejections: what could not be accepted.
        projections: records, audit and outbox.
        checkpoints: cursors of the projector's sweep.
        deliveries: states, log and pauses of the integrations.
        topic: where announcements go, and where subscriptions are received.
    """

    events: EventStore
    feed: ChangeFeed
    pulled: CheckpointStore
    rejections: RejectionStore
    projections: SqliteProjectionStore
    checkpoints: CheckpointStore
    deliveries: SqliteDeliveryStore
    topic: SqliteTopic


def open_embedded(directory: Path, domain: Domain) -> Backend:
    """Open the files `events.db`, `projections.db` and `deliveries.db` of a data directory, making what is missing.

    Raises:
        StoreVersionError: a newer version of this software wrote one of them.
        StoreUnavailableError: one of them cannot be opened.
    """
    events_file, projections_file = open_events(directory), open_projections(directory)
    deliveries_file = open_deliveries(directory)
    events = SqliteEventStore(events_file)
    return Backend(
        events=events,
        feed=events,
        pulled=SqliteCheckpointStore(events_file),
        rejections=SqliteRejectionStore(events_file),
        projections=SqliteProjectionStore(projections_file, domain.projection),
        checkpoints=SqliteCheckpointStore(projections_file),
        deliveries=SqliteDeliveryStore(deliveries_file),
        topic=SqliteTopic(deliveries_file),
    )
