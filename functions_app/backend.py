"""What an application stands on: the ports of one database and one topic."""

from typing import NamedTuple, Protocol

from eventstore import ChangeFeed, CheckpointStore, ClientDirectory, EventStore, RejectionStore
from integrations import DeliveryLog, DeliveryStore, PauseStore, Subscriptions, Topic
from projections import AuditLog, DocumentStore, Outbox, ProjectionStore


class Feed(ChangeFeed, ClientDirectory, Protocol):
    """All events, and all clients that have some, in the same partitions."""


class Projections(ProjectionStore, AuditLog, Outbox, Protocol):
    """Records, audit and outbox, which are committed together and so live together."""


class Deliveries(DeliveryStore, DeliveryLog, PauseStore, Protocol):
    """States, log and pauses of the integrations."""


class Backend(NamedTuple):
    """The ports of one application.

    Attributes:
        events: the streams.
        feed: all events of all clients.
        pulled: cursors of the timers.
        rejections: what could not be accepted.
        projections: records, audit and outbox.
        documents: the same as they lie, for checking and mending.
        checkpoints: cursors of the projector's sweep.
        deliveries: states, log and pauses of the integrations.
        topic: where announcements go.
        subscriptions: where they are received.
    """

    events: EventStore
    feed: Feed
    pulled: CheckpointStore
    rejections: RejectionStore
    projections: Projections
    documents: DocumentStore
    checkpoints: CheckpointStore
    deliveries: Deliveries
    topic: Topic
    subscriptions: Subscriptions
