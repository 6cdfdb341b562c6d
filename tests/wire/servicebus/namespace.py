"""A namespace: the entities, and what all connections to it share. Everything here belongs to the broker's thread."""

from typing import Protocol

from tests.wire.servicebus.clock import Clock
from tests.wire.servicebus.config import NamespaceConfig
from tests.wire.servicebus.entities import Entity, Settings
from tests.wire.servicebus.errors import NOT_FOUND, BrokerError, ConfigError, RefusedError
from tests.wire.servicebus.faults import Faults, Wire
from tests.wire.servicebus.filters import Rule
from tests.wire.servicebus.management import RequestNode, authorization_node, management_node
from tests.wire.servicebus.meter import Meter
from tests.wire.servicebus.queues import Queue
from tests.wire.servicebus.session_queues import SessionQueue
from tests.wire.servicebus.topics import Subscription, Topic

_MANAGEMENT = "/$management"


class OpenLink(Protocol):
    """A client's link, as tests reach for it."""

    path: str
    is_open: bool

    def detach(self, condition: str, description: str) -> None:
        """Ends the link."""
        ...


class OpenConnection(Wire, Protocol):
    """A client's connection."""

    def links(self) -> list[OpenLink]:
        """Its links."""
        ...


class Namespace:
    """Entities by lower-case path, and the clock, faults, meter and connections around them.

    Attributes:
        failures: exceptions inside the broker, which are defects of the broker or of a client's frames.
    """

    def __init__(self, config: NamespaceConfig, clock: Clock) -> None:
        self.clock = clock
        self.faults = Faults(clock)
        self.meter = Meter()
        self.connections: set[OpenConnection] = set()
        self.failures: list[Exception] = []
        self.entities: dict[str, Entity] = {}
        for queue in config.queues:
            self.add_queue(queue.name, queue.settings)
        for topic in config.topics:
            added = self.add_topic(topic.name, topic.settings)
            for each in topic.subscriptions:
                self.add_subscription(added, each.name, each.settings, each.rules)

    def entity(self, path: str) -> Entity:
        """The entity a test names.

        Raises:
            BrokerError: there is none.
        """
        try:
            return self.entities[path.lower()]
        except KeyError:
            raise BrokerError(f"no entity {path!r}; there are {', '.join(sorted(self.entities))}") from None

    def queue(self, path: str) -> Queue:
        """The queue, subscription or dead-letter queue a test names.

        Raises:
            BrokerError: there is none, or it is a topic.
        """
        entity = self.entity(path)
        if not isinstance(entity, Queue):
            raise BrokerError(f"{path!r} is a topic, which keeps no messages; name a subscription")
        return entity

    def resolve(self, path: str) -> Entity | RequestNode:
        """What a client's link address stands for.

        Raises:
            RefusedError: there is nothing of that name.
        """
        if path == "$cbs":
            return authorization_node()
        entity = self.entities.get(path.removesuffix(_MANAGEMENT))
        if entity is None:
            raise RefusedError(NOT_FOUND, f"The messaging entity '{path}' could not be found.")
        return management_node(entity) if path.endswith(_MANAGEMENT) else entity

    def add_queue(self, name: str, settings: Settings) -> Queue:
        """Create a queue."""
        return self._add_queue(name.lower(), settings, is_subscription=False)

    def add_topic(self, name: str, settings: Settings) -> Topic:
        """Create a topic without subscriptions."""
        topic = Topic(name.lower(), settings, self.clock)
        self._add(topic)
        return topic

    def add_subscription(self, topic: Topic, name: str, settings: Settings, rules: tuple[Rule, ...]) -> Queue:
        """Create a subscription of a topic."""
        queue = self._add_queue(f"{topic.path}/subscriptions/{name.lower()}", settings, is_subscription=True)
        topic.subscriptions.append(Subscription(queue, rules))
        return queue

    def remove(self, path: str) -> None:
        """Forget a topic or queue and everything below it."""
        for found in [each for each in self.entities if each == path or each.startswith(f"{path}/")]:
            del self.entities[found]

    def _add_queue(self, path: str, settings: Settings, *, is_subscription: bool) -> Queue:
        if settings.requires_session:
            queue: Queue = SessionQueue(path, settings, self.clock, is_subscription=is_subscription)
        else:
            queue = Queue(path, settings, self.clock)
        self._add(queue)
        if queue.dead_letters is not None:
            self._add(queue.dead_letters)
        return queue

    def _add(self, entity: Entity) -> None:
        if entity.path in self.entities:
            raise ConfigError(f"there are two entities named {entity.path!r}; case does not make a difference")
        self.entities[entity.path] = entity
