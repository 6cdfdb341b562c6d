"""Senders on Service Bus: few links, kept and shared between threads, a failed one replaced; batches that fit."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import BoundedSemaphore, Lock

from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch, ServiceBusSender
from azure.servicebus import exceptions as sdk

from .errors import BusUnavailableError, MessageTooLargeError
from .servicebus_client import bus_errors

SENDERS = 4
"""Links of one topic or queue; each has a connection of its own, of which a namespace takes a limited number."""

_SEND_SECONDS = 10.0  # for a batch, its retries included
_TURN_SECONDS = 10.0  # until a sender is free


class SenderPool:
    """The senders of one topic or queue, at most four; nothing is opened before the first send.

    The SDK opens those links again that the service closed, which it does after ten idle minutes.

    Args:
        new_sender: makes one that is not open yet; called by one thread at a time.
        unavailable: what is raised when the service is out of reach.
    """

    def __init__(self, new_sender: Callable[[], ServiceBusSender], unavailable: type[BusUnavailableError]) -> None:
        self._new_sender, self._unavailable = new_sender, unavailable
        self._choosing = Lock()
        self._places = BoundedSemaphore(SENDERS)
        self._idle: deque[ServiceBusSender] = deque()

    def send(self, messages: Sequence[ServiceBusMessage]) -> None:
        """Send messages in their order, in as few batches as hold them, one after the other.

        Raises:
            BusUnavailableError: of the class given.
            MessageTooLargeError: a message is too large; those before it may have arrived.
        """
        if not self._places.acquire(timeout=_TURN_SECONDS):
            raise self._unavailable(f"all {SENDERS} senders were busy for {_TURN_SECONDS:.0f} s")
        try:
            with self._choosing:
                sender = self._idle.pop() if self._idle else self._new_sender()
            with bus_errors(self._unavailable):
                try:
                    _send(sender, messages)
                except BaseException:
                    sender.close()  # after a failure its link may be of no more use
                    raise
            self._idle.append(sender)
        finally:
            self._places.release()

    def close(self) -> None:
        """Close the links that are not in use; a later send opens new ones."""
        while self._idle:
            self._idle.pop().close()


def _send(sender: ServiceBusSender, messages: Sequence[ServiceBusMessage]) -> None:
    batch = sender.create_message_batch()
    for message in messages:
        # Measured before it is sent: a sender whose message was refused for its size is stuck.
        try:
            batch.add_message(message)
        except sdk.MessageSizeExceededError:
            if len(batch):
                _send_batch(sender, batch)
            batch = sender.create_message_batch()
            try:
                batch.add_message(message)
            except sdk.MessageSizeExceededError as error:
                raise MessageTooLargeError(batch.max_size_in_bytes) from error
    _send_batch(sender, batch)


def _send_batch(sender: ServiceBusSender, batch: ServiceBusMessageBatch) -> None:
    try:
        sender.send_messages(batch, timeout=_SEND_SECONDS)
    except sdk.MessageSizeExceededError as error:
        raise MessageTooLargeError(batch.max_size_in_bytes) from error
