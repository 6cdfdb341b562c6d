"""What an application stands on: the ports of its databases, topic and queues."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from eventstore import ChangeFeed, CheckpointStore, ClientDirectory, EventStore, RejectionStore
from integrations import DeliveryLog, DeliveryStore, PauseStore, SessionQueues, Subscriptions, Topic
from projections import AuditLog, DocumentStore, Outbox, Predecessors, ProjectionStore

from .access import AccessLog


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
        predecessors: what earlier generations left.
        checkpoints: cursors of the projector's sweep.
        deliveries: states, log and pauses of the integrations.
        topic: where announcements go.
        subscriptions: where they are received.
        queues: session queues of the receivers.
        access: who looked at whom and who did what.
        close: lets go of files, links and connections; nothing else may be used after it.
    """

    events: EventStore
    feed: Feed
    pulled: CheckpointStore
    rejections: RejectionStore
    projections: Projections
    documents: DocumentStore
    predecessors: Predecessors
    checkpoints: CheckpointStore
    deliveries: Deliveries
    topic: Topic
    subscriptions: Subscriptions
    queues: SessionQueues
    access: AccessLog
    close: Callable[[], None]
