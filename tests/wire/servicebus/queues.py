"""Queues: where messages lie, are locked by receivers and settled.

A queue is a queue of the namespace, a subscription of a topic, or the dead-letter queue of either.
"""

import heapq
import uuid
from collections import deque
from dataclasses import replace
from enum import StrEnum
from typing import Protocol

from tests.wire.servicebus.clock import Clock
from tests.wire.servicebus.entities import Entity, Settings
from tests.wire.servicebus.errors import LOCK_LOST, RefusedError
from tests.wire.servicebus.message import Message, State

_NEVER = 2**31


class Outcome(StrEnum):
    """How a receiver can settle a message."""

    COMPLETE = "complete"
    ABANDON = "abandon"
    RELEASE = "release"  # like abandon, but it does not count as a delivery
    DEFER = "defer"
    DEAD_LETTER = "dead-letter"


class Consumer(Protocol):
    """A receiver's link, as a queue sees it."""

    receives_and_deletes: bool

    def can_send(self) -> bool:
        """Whether it takes a message now."""
        ...

    def deliver(self, queue: "Queue", message: Message) -> None:
        """Sends the message to the receiver."""
        ...


class Queue(Entity):
    """Messages in order of arrival, for any number of competing receivers.

    Attributes:
        messages: everything stored, by sequence number.
        dead_letters: its dead-letter queue; None where this is one.
    """

    def __init__(self, path: str, settings: Settings, clock: Clock, *, is_dead_letter: bool = False) -> None:
        super().__init__(path, settings, clock)
        self.messages: dict[int, Message] = {}
        self.locks: dict[uuid.UUID, Message] = {}
        self._ready: dict[str | None, list[int]] = {}  # by group, heaps of sequence numbers; may hold stale ones
        self._consumers: deque[Consumer] = deque()
        self.dead_letters: Queue | None = None
        if not is_dead_letter:
            inherited = replace(
                settings,
                max_delivery_count=_NEVER,
                requires_session=False,
                duplicate_window=None,
                time_to_live=None,
            )
            self.dead_letters = Queue(f"{path}/$deadletterqueue", inherited, clock, is_dead_letter=True)

    # ---- storing

    def store(self, message: Message) -> int:
        """Numbers the message and makes it ready, or schedules it."""
        self.number(message)
        self.messages[message.sequence_number] = message
        if message.scheduled_for is not None and message.scheduled_for > self.clock.milliseconds():
            message.state = State.SCHEDULED
            message.timer = self.clock.call_at(message.scheduled_for / 1000, lambda: self._activate(message))
        else:
            self._make_ready(message)
        return message.sequence_number

    def number(self, message: Message) -> None:
        """Gives the message its place in the queue and the time it expires."""
        message.sequence_number = self.next_sequence_number()
        message.enqueue_sequence_number = message.enqueue_sequence_number or message.sequence_number
        message.enqueued_at = self.clock.milliseconds()
        limit = self.settings.time_to_live
        lifetimes = [message.time_to_live, None if limit is None else int(limit * 1000)]
        shortest = min((lifetime for lifetime in lifetimes if lifetime), default=None)
        message.expires_at = None if shortest is None else message.enqueued_at + shortest

    def dead_letter(self, message: Message, reason: str | None, description: str | None) -> None:
        """Moves the message to the dead-letter queue; from there, out."""
        self.messages.pop(message.sequence_number, None)
        if self.dead_letters is None:
            return
        for key, text in (("DeadLetterReason", reason), ("DeadLetterErrorDescription", description)):
            if text is not None:
                message.application_properties[key] = text
        message.expires_at, message.state = None, State.ACTIVE
        self.dead_letters.messages[message.sequence_number] = message
        self.dead_letters._make_ready(message)

    def cancel_scheduled(self, numbers: list[int]) -> None:
        """Removes scheduled messages by the number the sender got."""
        for message in list(self.messages.values()):
            if message.state is State.SCHEDULED and message.enqueue_sequence_number in numbers:
                _stop_timer(message)
                del self.messages[message.sequence_number]

    def clear(self) -> None:
        """Forgets all messages and locks; receivers stay."""
        super().clear()
        for message in self.messages.values():
            _stop_timer(message)
        self.messages.clear()
        self._ready.clear()
        self.locks.clear()

    def _activate(self, message: Message) -> None:
        message.state, message.timer, message.enqueued_at = State.ACTIVE, None, self.clock.milliseconds()
        self._make_ready(message)

    def _group(self, message: Message) -> str | None:
        return None

    def _make_ready(self, message: Message, *, deliver: bool = True) -> None:
        group = self._group(message)
        heapq.heappush(self._ready.setdefault(group, []), message.sequence_number)
        if deliver:
            self.deliver(group)

    # ---- delivering

    def attach(self, consumer: Consumer) -> None:
        """Adds a receiver."""
        self._consumers.append(consumer)

    def detach(self, consumer: Consumer) -> None:
        """Removes a receiver. What it locked stays locked until the lock runs out, as in the service."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def deliver(self, group: str | None = None) -> None:
        """Hands ready messages to receivers that take them, in turn."""
        while self._ready.get(group):
            consumer = next((one for one in self._consumers if one.can_send()), None)
            if consumer is None or not self._deliver_next(consumer, group):
                return
            self._consumers.remove(consumer)
            self._consumers.append(consumer)

    def _deliver_next(self, consumer: Consumer, group: str | None) -> bool:
        message = self._take(group)
        if message is None:
            return False
        if consumer.receives_and_deletes:
            del self.messages[message.sequence_number]
        else:
            self.lock(message)
        consumer.deliver(self, message)
        return True

    def _first(self, group: str | None) -> Message | None:
        """The next message that can be delivered; removes stale numbers and expired messages before it."""
        heap = self._ready.get(group)
        while heap:
            message = self.messages.get(heap[0])
            if message is None or message.state is not State.ACTIVE or message.lock_token:
                heapq.heappop(heap)
            elif message.expires_at is not None and message.expires_at <= self.clock.milliseconds():
                heapq.heappop(heap)
                self._expire(message)
            else:
                return message
        self._ready.pop(group, None)
        return None

    def _take(self, group: str | None) -> Message | None:
        message = self._first(group)
        if message is not None:
            heapq.heappop(self._ready[group])
        return message

    def _expire(self, message: Message) -> None:
        if self.settings.dead_letter_expired:
            self.dead_letter(message, "TTLExpiredException", "The message expired and was dead lettered.")
        else:
            del self.messages[message.sequence_number]

    # ---- locks

    def lock(self, message: Message) -> None:
        """Locks the message for one receiver."""
        message.lock_token = uuid.uuid4()
        self.locks[message.lock_token] = message
        self._hold(message, message.lock_token)

    def renew(self, token: uuid.UUID) -> int:
        """Starts the lock anew; returns its end in milliseconds since the epoch.

        Raises:
            RefusedError: there is no such lock.
        """
        message = self.locks.get(token)
        if message is None:
            raise self._lost()
        _stop_timer(message)
        self._hold(message, token)
        return message.locked_until

    def settle(
        self,
        token: uuid.UUID,
        outcome: Outcome,
        reason: str | None = None,
        description: str | None = None,
        *,
        deliver: bool = True,
    ) -> None:
        """Settles a locked message.

        Raises:
            RefusedError: there is no such lock.
        """
        message = self.locks.pop(token, None)
        if message is None:
            raise self._lost()
        _stop_timer(message)
        message.lock_token = None
        if outcome is Outcome.COMPLETE:
            del self.messages[message.sequence_number]
        elif outcome is Outcome.DEAD_LETTER:
            self.dead_letter(message, reason, description)
        elif outcome is Outcome.DEFER:
            message.state = State.DEFERRED
            message.delivery_count += 1
        else:
            message.delivery_count += outcome is Outcome.ABANDON
            self._give_back(message, deliver=deliver)

    def expire_locks(self) -> None:
        """Makes every lock run out now."""
        for token in list(self.locks):
            self.settle(token, Outcome.ABANDON)

    def _give_back(self, message: Message, *, deliver: bool) -> None:
        if message.delivery_count >= self.settings.max_delivery_count:
            text = f"Message could not be consumed after {message.delivery_count} delivery attempts."
            self.dead_letter(message, "MaxDeliveryCountExceeded", text)
        elif message.state is State.ACTIVE:
            self._make_ready(message, deliver=deliver)

    def _hold(self, message: Message, token: uuid.UUID) -> None:
        duration = self.settings.lock_duration
        message.locked_until = self.clock.milliseconds() + int(duration * 1000)
        message.timer = self.clock.call_later(duration, lambda: self.settle(token, Outcome.ABANDON))

    def _lost(self) -> RefusedError:
        text = "The lock supplied is invalid. Either the lock expired, or the message has already been removed."
        return RefusedError(LOCK_LOST, text, 410)


def _stop_timer(message: Message) -> None:
    if message.timer is not None:
        message.timer.cancel()
        message.timer = None
