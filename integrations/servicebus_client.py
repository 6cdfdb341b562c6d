"""Service Bus through azure-servicebus: clients that open late, links that are kept, SDK errors in our own words."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any, TypeVar

from azure.core.exceptions import AzureError
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusReceivedMessage, ServiceBusReceiver
from azure.servicebus import exceptions as sdk
from azure.servicebus.amqp import AmqpMessageBodyType

from .errors import BusUnavailableError, IntegrationDefinitionError
from .messages import TopicMessage

_T = TypeVar("_T")

SEND_RETRIES = 3
"""How often a send is repeated: what arrived twice is dropped by duplicate detection."""

_TRY_SECONDS = 5  # without it, one attempt at opening a link lasts as long as the network likes
_BACKOFF_SECONDS = 0.1  # doubled with each retry; the SDK's 0.8 turn one lost connection into a pause of 2.6 s
_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"  # structured mode of the CloudEvents AMQP binding

_SOON, _LATER = 1.0, 60.0  # seconds
_PROBLEMS: tuple[tuple[type[AzureError], str, float], ...] = (
    (sdk.ServiceBusServerBusyError, "it is busy", 10.0),
    (sdk.OperationTimeoutError, "no answer came in time, so it may have been done or not", _SOON),
    (sdk.MessagingEntityNotFoundError, "there is none of that name; provision it", _LATER),
    (sdk.MessagingEntityDisabledError, "it is disabled; enable it", _LATER),
    (sdk.ServiceBusQuotaExceededError, "it is full, or the namespace has too many connections", _LATER),
    (sdk.ServiceBusAuthenticationError, "the credentials are refused", _LATER),
    (sdk.ServiceBusAuthorizationError, "access is refused; it takes the rights to send, or to listen", _LATER),
)


def open_bus(connection: str, *, retries: int) -> ServiceBusClient:
    """A client for a connection string or, by managed identity, for the host name of a namespace; connects to nothing.

    Args:
        connection: `Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=...`, or `name.servicebus.windows.net`.
        retries: how often the SDK repeats a failed operation by itself.

    Raises:
        IntegrationDefinitionError: it looks like a connection string but is none.
    """
    # The SDK logs what it also raises, with addresses and stack traces; what is raised here says it without them.
    logging.getLogger("azure.servicebus").setLevel(logging.CRITICAL)
    logging.getLogger("azure.identity").setLevel(logging.WARNING)
    options: dict[str, Any] = {
        "retry_total": retries,
        "retry_backoff_factor": _BACKOFF_SECONDS,
        "try_timeout": _TRY_SECONDS,
    }
    if "=" not in connection:
        from azure.identity import DefaultAzureCredential

        return ServiceBusClient(connection, DefaultAzureCredential(), **options)
    try:
        return ServiceBusClient.from_connection_string(connection, **options)
    except ValueError:
        # Not chained: the SDK's message may quote the string, and with it the key.
        raise IntegrationDefinitionError(
            "The connection string of the Service Bus namespace cannot be read; expected "
            "Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=..."
        ) from None


@contextmanager
def bus_errors(unavailable: type[BusUnavailableError]) -> Iterator[None]:
    """Raise what the SDK raises in the words of this package.

    Raises:
        BusUnavailableError: of the class given, whatever the SDK could not do.
    """
    try:
        yield
    except AzureError as error:
        for kind, problem, retry_after in _PROBLEMS:
            if isinstance(error, kind):
                raise unavailable(problem, retry_after=retry_after) from error
        raise unavailable(f"the connection failed ({type(error).__name__})", retry_after=_SOON) from error


def to_bus(message: TopicMessage) -> ServiceBusMessage:
    """A message as the SDK sends it."""
    return ServiceBusMessage(
        message.body,
        message_id=message.message_id,
        session_id=message.session_id,
        correlation_id=message.correlation_id,
        content_type=_CONTENT_TYPE,
        application_properties=dict(message.properties.items()),
    )


def from_bus(message: ServiceBusReceivedMessage) -> TopicMessage:
    """What was sent; of a message that somebody else sent, as much as `TopicMessage` has a place for."""
    properties = {
        name.decode() if isinstance(name, bytes) else name: value
        for name, value in (message.application_properties or {}).items()
        if isinstance(value, bool)
    }
    body = b"".join(message.body) if message.body_type is AmqpMessageBodyType.DATA else b""
    return TopicMessage(message.message_id or "", message.session_id or "", message.correlation_id, properties, body)


class ReceiverLink:
    """The receiver of one subscription: opened when first used, opened again after a failure.

    Receivers may not be shared between threads, so one thread uses it at a time, in the order in which they came:
    whoever receives again and again must not keep out those who want to settle.

    Args:
        new_receiver: makes one that is not open yet.
    """

    def __init__(self, new_receiver: Callable[[], ServiceBusReceiver]) -> None:
        self._new_receiver = new_receiver
        self._receiver: ServiceBusReceiver | None = None
        self._queue: deque[object] = deque()  # the first one has its turn
        self._moved = Condition()

    def use(self, action: Callable[[ServiceBusReceiver], _T]) -> _T:
        """Do something with the receiver; if the link fails, once more over a new one.

        Raises:
            AzureError: the new one failed, too.
        """
        with self._turn():
            try:
                return self._try(action)
            except AzureError:
                # The service closes idle links and moves its queues about; that alone is no trouble.
                return self._try(action)

    def close(self) -> None:
        """Close the link; using it again opens a new one."""
        with self._turn():
            self._close()

    def _try(self, action: Callable[[ServiceBusReceiver], _T]) -> _T:
        if self._receiver is None:
            self._receiver = self._new_receiver()
        try:
            # A receiver that opens while it receives would take the time for that out of the wait.
            self._receiver.__enter__()
            return action(self._receiver)
        except AzureError:
            self._close()
            raise

    def _close(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        mine = object()
        with self._moved:
            self._queue.append(mine)
        try:
            with self._moved:
                self._moved.wait_for(lambda: self._queue[0] is mine)
            yield
        finally:
            with self._moved:
                self._queue.remove(mine)
                self._moved.notify_all()
