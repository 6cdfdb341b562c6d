"""What receivers need from session queues: a queue holds deliveries, a session those of one client in their order."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol


class QueueMessage(NamedTuple):
    """One delivery of a source, on its way through a queue.

    Attributes:
        message_id: the queue drops a message whose id it has seen within its duplicate-detection window.
        session_id: the client id; the messages of a session are received one after the other.
        body: what was delivered.
        properties: what goes with the body.
        correlation_id: of the request that brought it.
    """

    message_id: str
    session_id: str
    body: bytes
    properties: Mapping[str, str] = {}
    correlation_id: str | None = None


class QueuedMessage(NamedTuple):
    """A message as it was received.

    Attributes:
        message: what was sent.
        enqueued_at: when the queue took it, in UTC.
        delivery_count: how often it was received, this time included.
        lock: names this receipt of it.
    """

    message: QueueMessage
    enqueued_at: datetime
    delivery_count: int
    lock: str


class QueueSession(Protocol):
    """A session that nobody else receives from while its lock lasts; for one thread at a time.

    All methods but `close` raise `SessionLockLostError` when the lock has ended, and `QueueUnavailableError`.
    """

    def receive(self) -> QueuedMessage | None:
        """The first message, None if there is none just now."""

    def complete(self, queued: QueuedMessage) -> None:
        """Forget a message that was dealt with; if the answer gets lost, it may be gone although this raises."""

    def abandon(self, queued: QueuedMessage) -> None:
        """Hand a message back: it is the first again, and one handed back too often is dead-lettered."""

    def renew(self) -> None:
        """Start the time of the lock anew."""

    def close(self) -> None:
        """Let others receive from the session; what was received and not settled counts as not received."""


class SessionQueues(Protocol):
    """The session queues of an application, by name."""

    def send(self, queue: str, messages: Sequence[QueueMessage]) -> None:
        """Send messages, those of a session in their order; when it returns, the queue has them all.

        If it raises, some may have arrived: sending all again is safe, since ids are remembered.

        Raises:
            QueueUnavailableError: the queue is out of reach.
            MessageTooLargeError: a message does not fit.
        """

    def next_session(self, queue: str, *, wait: float) -> QueueSession | None:
        """Lock the session with the oldest message among those that nobody holds.

        Args:
            queue: its name.
            wait: about how many seconds to wait for one.

        Raises:
            QueueUnavailableError: the queue is out of reach.
        """

    def drain(self, queue: str, take: Callable[[QueuedMessage], bool]) -> None:
        """Hand over the dead-lettered messages, oldest first; those that were taken are forgotten, the others stay.

        Args:
            queue: its name.
            take: deals with a message and says whether it did.

        Raises:
            QueueUnavailableError: the queue is out of reach.
        """

    def close(self) -> None:
        """Let go of links; what is held comes again."""
