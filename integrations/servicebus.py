"""A topic with filtered subscriptions on Service Bus."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from time import monotonic

from azure.servicebus import (
    ServiceBusReceivedMessage,
    ServiceBusReceiver,
    ServiceBusSubQueue,
)
from azure.servicebus import exceptions as sdk

from .errors import MessageLockLostError, TopicUnavailableError, UnknownSubscriptionError
from .messages import TopicMessage
from .ports import ReceivedMessage
from .servicebus_admin import DuplicateDetection
from .servicebus_client import SEND_RETRIES, ReceiverLink, bus_errors, from_bus, open_bus, to_bus
from .servicebus_senders import SenderPool

_LOOK_SECONDS = 0.5  # least wait, since an answer takes its time; and how long settling may have to wait for receiving

_Settlement = Callable[[ServiceBusReceiver, ServiceBusReceivedMessage], None]


class ServiceBusTopic:
    """`Topic` on a Service Bus topic; one object serves all threads of a process.

    The topic must have duplicate detection: a send whose answer was lost is sent again under the same message id. The
    first send looks whether it has; where the rights are not enough to see it, a warning says so once.

    Nothing is opened before the first send. Links are kept, at most four.

    Args:
        connection: connection string, or host name of the namespace for managed identity.
        topic: its name.

    Raises:
        IntegrationDefinitionError: the connection string cannot be read.
    """

    def __init__(self, connection: str, topic: str) -> None:
        client = open_bus(connection, retries=SEND_RETRIES)
        self._duplicates = DuplicateDetection(connection, topic)
        self._senders = SenderPool(lambda: client.get_topic_sender(topic), TopicUnavailableError)

    def send(self, messages: Sequence[TopicMessage]) -> None:
        """See `Topic.send`: as few batches as hold the messages, one after the other.

        Raises:
            TopicUnavailableError: the topic is out of reach, or has no duplicate detection.
            MessageTooLargeError: a message is larger than the topic takes; those before it may have arrived.
        """
        if messages:
            self._duplicates.check()
            self._senders.send([to_bus(message) for message in messages])

    def close(self) -> None:
        """Close the links that are not in use; a later send opens new ones."""
        self._senders.close()


class ServiceBusSubscriptions:
    """`Subscriptions` on the subscriptions of a Service Bus topic that do without sessions.

    A message can be settled by the object that received it, from any thread, while its lock lasts. Nothing is opened
    before the first receipt; each subscription then keeps one link.

    Args:
        connection: connection string, or host name of the namespace for managed identity.
        topic: its name.
        clock: present time, to forget messages whose lock has ended.

    Raises:
        IntegrationDefinitionError: the connection string cannot be read.
    """

    def __init__(
        self, connection: str, topic: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._client = open_bus(connection, retries=0)
        self._topic = topic
        self._clock = clock
        self._choosing = Lock()
        self._links: dict[str, ReceiverLink] = {}
        self._locked: dict[str, ServiceBusReceivedMessage] = {}

    def receive(self, subscription: str, *, limit: int, wait: float = 0.0) -> Sequence[ReceivedMessage]:
        """See `Subscriptions.receive`: it waits in steps of half a second, and one step even without a wait."""
        give_up = monotonic() + wait
        while True:
            with _subscription_errors(subscription):
                messages = self._link(subscription).use(
                    lambda receiver: receiver.receive_messages(limit, max_wait_time=_LOOK_SECONDS)
                )
            if messages or monotonic() >= give_up:
                return self._keep(subscription, messages)

    def complete(self, received: ReceivedMessage) -> None:
        """See `Subscriptions.complete`; also raises `MessageLockLostError` if it was done but the answer got lost.

        Raises:
            MessageLockLostError: its lock has ended.
            TopicUnavailableError: the topic is out of reach; another try may succeed while the lock holds.
        """
        self._settle(received, ServiceBusReceiver.complete_message)

    def abandon(self, received: ReceivedMessage) -> None:
        """See `Subscriptions.abandon`; also raises `MessageLockLostError` if it was done but the answer got lost.

        Raises:
            MessageLockLostError: its lock has ended.
            TopicUnavailableError: the topic is out of reach; another try may succeed while the lock holds.
        """
        self._settle(received, ServiceBusReceiver.abandon_message)

    def dead_letters(self, subscription: str, *, limit: int = 100) -> Sequence[TopicMessage]:
        """See `Subscriptions.dead_letters`: looks without locking, over a link of its own.

        Raises:
            UnknownSubscriptionError: there is no such subscription.
            TopicUnavailableError: the topic is out of reach.
        """
        found: list[ServiceBusReceivedMessage] = []
        with (
            _subscription_errors(subscription),
            self._receiver(subscription, ServiceBusSubQueue.DEAD_LETTER) as receiver,
        ):
            after = 0
            while len(found) < limit and (
                page := receiver.peek_messages(limit - len(found), sequence_number=after + 1)
            ):
                found.extend(page)
                after = page[-1].sequence_number or 0
        return [from_bus(message) for message in found]

    def close(self) -> None:
        """Close all links; what was received comes again when its lock ends."""
        for link in list(self._links.values()):
            link.close()

    def _settle(self, received: ReceivedMessage, how: _Settlement) -> None:
        message = self._locked.get(received.lock)
        if message is None:
            raise MessageLockLostError(received.subscription)

        def settle(receiver: ServiceBusReceiver) -> None:
            try:
                how(receiver, message)
            except (sdk.MessageLockLostError, sdk.MessageAlreadySettled) as error:
                self._locked.pop(received.lock, None)
                raise MessageLockLostError(received.subscription) from error

        with _subscription_errors(received.subscription):
            self._link(received.subscription).use(settle)
        self._locked.pop(received.lock, None)

    def _keep(self, subscription: str, messages: Sequence[ServiceBusReceivedMessage]) -> list[ReceivedMessage]:
        """Remember what is needed to settle the messages, and forget what cannot be settled any more."""
        now = self._clock()
        for lock, message in list(self._locked.items()):
            if message.locked_until_utc is not None and message.locked_until_utc <= now:
                self._locked.pop(lock, None)
        received = []
        for message in messages:
            lock = str(message.lock_token)
            self._locked[lock] = message
            count = (message.delivery_count or 0) + 1  # the service counts the receipts before this one
            received.append(ReceivedMessage(subscription, lock, count, from_bus(message)))
        return received

    def _link(self, subscription: str) -> ReceiverLink:
        with self._choosing:
            if subscription not in self._links:
                self._links[subscription] = ReceiverLink(lambda: self._receiver(subscription))
            return self._links[subscription]

    def _receiver(self, subscription: str, sub_queue: ServiceBusSubQueue | None = None) -> ServiceBusReceiver:
        with self._choosing:  # the client may not be shared between threads
            return self._client.get_subscription_receiver(self._topic, subscription, sub_queue=sub_queue)


@contextmanager
def _subscription_errors(subscription: str) -> Iterator[None]:
    with bus_errors(TopicUnavailableError):
        try:
            yield
        except sdk.MessagingEntityNotFoundError as error:
            raise UnknownSubscriptionError(subscription) from error
