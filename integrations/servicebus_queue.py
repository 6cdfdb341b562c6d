"""Session queues on Service Bus."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusMessage,
    ServiceBusReceivedMessage,
    ServiceBusReceiver,
    ServiceBusSession,
    ServiceBusSubQueue,
)
from azure.servicebus import exceptions as sdk
from azure.servicebus.amqp import AmqpMessageBodyType

from .errors import QueueUnavailableError, SessionLockLostError
from .queues import QueuedMessage, QueueMessage
from .servicebus_client import SEND_RETRIES, bus_errors, open_bus
from .servicebus_senders import SENDERS, SenderPool

_CONTENT_TYPE = "application/json"
_ACCEPT_SECONDS = 4.0  # least wait for a session, since each look at it takes a connection of its own
_FIRST_SECONDS = 5.0  # until the message arrives for whose sake a session was given out
_NEXT_SECONDS = 0.25  # for another one; whatever comes later gives the session out again
_DRAIN_SECONDS = 1.0
_DRAIN_PAGE = 100


class ServiceBusSessionQueues:
    """`SessionQueues` on the queues of a Service Bus namespace; one object serves all threads of a process.

    The queues must have sessions and duplicate detection. Nothing is opened before the first call.

    Args:
        connection: connection string, or host name of the namespace for managed identity.

    Raises:
        IntegrationDefinitionError: the connection string cannot be read.
    """

    def __init__(self, connection: str) -> None:
        self._sending = open_bus(connection, retries=SEND_RETRIES)
        # With the SDK's own retries a look for a session lasts many times the wait it is given.
        self._receiving = open_bus(connection, retries=0)
        self._choosing = Lock()  # a client may not be shared between threads
        self._pools: dict[str, SenderPool] = {}

    def send(self, queue: str, messages: Sequence[QueueMessage]) -> None:
        """See `SessionQueues.send`: a batch holds messages of one session; sessions go side by side."""
        by_session: dict[str, list[ServiceBusMessage]] = {}
        for message in messages:
            by_session.setdefault(message.session_id, []).append(_to_bus(message))
        if by_session:
            pool = self._pool(queue)
            with ThreadPoolExecutor(min(SENDERS, len(by_session)), thread_name_prefix=queue) as threads:
                list(threads.map(pool.send, by_session.values()))

    def next_session(self, queue: str, *, wait: float) -> "ServiceBusQueueSession | None":
        """See `SessionQueues.next_session`; waits four seconds at least."""
        with bus_errors(QueueUnavailableError):
            receiver = self._receiver(
                queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=max(wait, _ACCEPT_SECONDS)
            )
            try:
                receiver.__enter__()
            except sdk.OperationTimeoutError:
                receiver.close()
                return None
            except BaseException:
                receiver.close()
                raise
        return ServiceBusQueueSession(queue, receiver)

    def drain(self, queue: str, take: Callable[[QueuedMessage], bool]) -> None:
        """See `SessionQueues.drain`, over a link of its own."""
        with (
            bus_errors(QueueUnavailableError),
            self._receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver,
        ):
            while page := receiver.receive_messages(_DRAIN_PAGE, max_wait_time=_DRAIN_SECONDS):
                for message in sorted(page, key=lambda each: each.sequence_number or 0):
                    if take(_from_bus(message)):
                        try:
                            receiver.complete_message(message)
                        except (sdk.MessageLockLostError, sdk.MessageAlreadySettled):
                            continue  # it was held too long, or the answer got lost; what comes again is known

    def close(self) -> None:
        """See `SessionQueues.close`: sessions are closed by whoever holds them."""
        for pool in list(self._pools.values()):
            pool.close()

    def _pool(self, queue: str) -> SenderPool:
        def sender() -> Any:
            with self._choosing:
                return self._sending.get_queue_sender(queue)

        with self._choosing:
            if queue not in self._pools:
                self._pools[queue] = SenderPool(sender, QueueUnavailableError)
            return self._pools[queue]

    def _receiver(self, queue: str, **options: Any) -> ServiceBusReceiver:
        with self._choosing:
            return self._receiving.get_queue_receiver(queue, **options)


class ServiceBusQueueSession:
    """`QueueSession` on a link that holds a session.

    Args:
        queue: its name.
        receiver: the link, open.
    """

    def __init__(self, queue: str, receiver: ServiceBusReceiver) -> None:
        self._queue, self._receiver = queue, receiver
        self._wait = _FIRST_SECONDS
        self._held: dict[str, ServiceBusReceivedMessage] = {}

    def receive(self) -> QueuedMessage | None:
        """See `QueueSession.receive`; waits for it as long as an answer may take."""
        with self._errors():
            messages = self._receiver.receive_messages(1, max_wait_time=self._wait)
        self._wait = _NEXT_SECONDS
        if not messages:
            return None
        queued = _from_bus(messages[0])
        self._held = {queued.lock: messages[0]}
        return queued

    def complete(self, queued: QueuedMessage) -> None:
        """See `QueueSession.complete`."""
        with self._errors():
            self._receiver.complete_message(self._held[queued.lock])

    def abandon(self, queued: QueuedMessage) -> None:
        """See `QueueSession.abandon`."""
        with self._errors():
            self._receiver.abandon_message(self._held[queued.lock])

    def renew(self) -> None:
        """See `QueueSession.renew`."""
        session: ServiceBusSession = self._receiver.session
        with self._errors():
            session.renew_lock()

    def close(self) -> None:
        """See `QueueSession.close`."""
        with bus_errors(QueueUnavailableError):
            self._receiver.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with bus_errors(QueueUnavailableError):
            try:
                yield
            except (sdk.SessionLockLostError, sdk.MessageLockLostError, sdk.MessageAlreadySettled) as error:
                raise SessionLockLostError(self._queue) from error


def _to_bus(message: QueueMessage) -> ServiceBusMessage:
    return ServiceBusMessage(
        message.body,
        message_id=message.message_id,
        session_id=message.session_id,
        correlation_id=message.correlation_id,
        content_type=_CONTENT_TYPE,
        application_properties=dict(message.properties.items()),
    )


def _from_bus(message: ServiceBusReceivedMessage) -> QueuedMessage:
    """What was sent; of a message that somebody else sent, as much as `QueueMessage` has a place for."""
    properties = {
        _text(name): _text(value)
        for name, value in (message.application_properties or {}).items()
        if isinstance(value, str | bytes)
    }
    sent = QueueMessage(
        message.message_id or "", message.session_id or "", _body(message), properties, message.correlation_id
    )
    return QueuedMessage(
        sent,
        message.enqueued_time_utc or datetime.now(UTC),
        (message.delivery_count or 0) + 1,  # the service counts the receipts before this one
        str(message.lock_token),
    )


def _body(message: ServiceBusReceivedMessage) -> bytes:
    """The bytes of a body; a text that was sent as an AMQP value is meant as its UTF-8."""
    if message.body_type is AmqpMessageBodyType.DATA:
        return b"".join(message.body)
    if message.body_type is AmqpMessageBodyType.VALUE and isinstance(message.body, str | bytes):
        return message.body.encode() if isinstance(message.body, str) else message.body
    return b""


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
