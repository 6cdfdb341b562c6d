"""What a domain needs on Service Bus: a topic, a subscription for each integration, a queue for each that has one."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from integrations import Integration

_WINDOW = timedelta(minutes=10)
_LIFETIME = timedelta(days=14)
_LOCK = timedelta(minutes=1)
_DELIVERIES = 10

# Microsoft's emulator takes no more.
_EMULATOR_WINDOW = timedelta(minutes=5)
_EMULATOR_LIFETIME = timedelta(hours=1)


class BusEntity(NamedTuple):
    """A topic, subscription or queue as it has to be.

    Attributes:
        kind: which of them.
        name: its own name.
        topic: the topic of a subscription.
        fixed: properties that only creation can set, by their name in the SDK.
        changeable: those that can be changed.
        admits: properties of which one must be true for a subscription to take a message.
    """

    kind: Literal["topic", "subscription", "queue"]
    name: str
    fixed: Mapping[str, Any]
    changeable: Mapping[str, Any]
    topic: str = ""
    admits: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """How the service calls it."""
        return f"{self.topic}/subscriptions/{self.name}" if self.topic else self.name


def sql_of(property_name: str) -> str:
    """The SQL filter for messages on which a property is true."""
    return f"[{property_name}] = TRUE"


def bus_entities(
    topic: str, integrations: Iterable[Integration], queues: Iterable[str] = (), *, emulator: bool = False
) -> list[BusEntity]:
    """The entities of a domain, each after the one it belongs to.

    Args:
        topic: name of the topic.
        integrations: each gets a subscription of its name, which takes what concerns one of its sub-schemas.
        queues: names of session queues.
        emulator: keep to the bounds of Microsoft's emulator.
    """
    window = {"duplicate_detection_history_time_window": _EMULATOR_WINDOW if emulator else _WINDOW}
    lifetime = {"default_message_time_to_live": _EMULATOR_LIFETIME if emulator else _LIFETIME}
    receiving = {"lock_duration": _LOCK, "max_delivery_count": _DELIVERIES, **lifetime}
    detecting = {"requires_duplicate_detection": True}
    return [
        BusEntity("topic", topic, detecting, {**window, **lifetime}),
        *(
            # A doorbell that expires is none: the sweep has delivered long since.
            BusEntity("subscription", each.name, {"requires_session": False}, receiving, topic, tuple(each.cares_about))
            for each in integrations
        ),
        *(
            BusEntity(
                "queue",
                name,
                {**detecting, "requires_session": True},
                {**window, **receiving, "dead_lettering_on_message_expiration": True},
            )
            for name in queues
        ),
    ]
