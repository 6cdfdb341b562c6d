"""Topics and their subscriptions."""

from typing import NamedTuple

from tests.wire.servicebus.clock import Clock
from tests.wire.servicebus.entities import Entity, Settings
from tests.wire.servicebus.filters import Rule
from tests.wire.servicebus.message import Message
from tests.wire.servicebus.queues import Queue


class Subscription(NamedTuple):
    """A queue that takes a copy of what its rules select."""

    queue: Queue
    rules: tuple[Rule, ...]

    def selects(self, message: Message) -> bool:
        """Whether any rule matches; a message is delivered once however many do."""
        return any(rule.filter.matches(message) for rule in self.rules)


class Topic(Entity):
    """Copies each message to the subscriptions that select it."""

    def __init__(self, path: str, settings: Settings, clock: Clock) -> None:
        super().__init__(path, settings, clock)
        self.subscriptions: list[Subscription] = []

    def store(self, message: Message) -> int:
        """Hands copies on; a topic itself keeps nothing."""
        sequence_number = self.next_sequence_number()
        for subscription in self.subscriptions:
            if subscription.selects(message):
                twin = message.copy()
                twin.enqueue_sequence_number = sequence_number
                subscription.queue.store(twin)
        return sequence_number

    def cancel_scheduled(self, numbers: list[int]) -> None:
        """Removes scheduled messages by the number the sender got."""
        for subscription in self.subscriptions:
            subscription.queue.cancel_scheduled(numbers)
