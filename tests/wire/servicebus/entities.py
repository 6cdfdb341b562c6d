"""What queues and topics have in common: settings, sequence numbers, duplicate detection."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.wire.servicebus.clock import Clock
from tests.wire.servicebus.message import Message

STANDARD_MESSAGE_SIZE = 256 * 1024  # bytes, Standard tier


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a queue, topic or subscription; the defaults are those of Microsoft's emulator.

    Attributes:
        lock_duration: seconds a message or session stays locked.
        max_delivery_count: deliveries after which a message is dead-lettered.
        requires_session: whether receivers take whole sessions.
        duplicate_window: seconds for which message ids are remembered; None switches duplicate detection off.
        time_to_live: seconds a message lives at most; None is forever.
        dead_letter_expired: whether expired messages are dead-lettered instead of dropped.
        max_message_size: bytes of a message or batch.
    """

    lock_duration: float = 60.0
    max_delivery_count: int = 3
    requires_session: bool = False
    duplicate_window: float | None = None
    time_to_live: float | None = 3600.0
    dead_letter_expired: bool = False
    max_message_size: int = STANDARD_MESSAGE_SIZE


class Entity:
    """Something with a name that messages can be sent to.

    Args:
        path: lower case; names are case-insensitive.
        settings: see `Settings`.
        clock: the broker's time.
    """

    def __init__(self, path: str, settings: Settings, clock: Clock) -> None:
        self.path = path
        self.settings = settings
        self.clock = clock
        self._last_sequence_number = 0
        self._seen: OrderedDict[Any, float] = OrderedDict()  # message id to the end of its duplicate window

    def send(self, messages: Iterable[Message]) -> list[int]:
        """Stores a send, all or nothing; returns the sequence numbers of what was no duplicate.

        Raises:
            RefusedError: a message may not be sent here.
        """
        messages = list(messages)
        for message in messages:
            self.check(message)
        return [self.store(message) for message in messages if not self._is_duplicate(message)]

    def check(self, message: Message) -> None:
        """Raises RefusedError where the message may not be sent here."""

    def store(self, message: Message) -> int:
        """Takes the message and returns its sequence number."""
        raise NotImplementedError

    def clear(self) -> None:
        """Forgets all messages and the ids seen."""
        self._seen.clear()

    def next_sequence_number(self) -> int:
        """Counts one up."""
        self._last_sequence_number += 1
        return self._last_sequence_number

    def _is_duplicate(self, message: Message) -> bool:
        if self.settings.duplicate_window is None:
            return False
        now = self.clock.time()
        while self._seen and next(iter(self._seen.values())) <= now:
            self._seen.popitem(last=False)
        if message.message_id in self._seen:
            return True
        self._seen[message.message_id] = now + self.settings.duplicate_window
        return False
