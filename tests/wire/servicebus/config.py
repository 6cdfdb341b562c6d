"""Reads the `Config.json` of Microsoft's Service Bus emulator.

Names and defaults are those of the emulator's JSON schema; its bounds on values are not enforced. Whatever this broker
does not do (forwarding, rule actions, unknown keys) is refused.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.wire.servicebus.entities import Settings
from tests.wire.servicebus.errors import ConfigError
from tests.wire.servicebus.filters import DEFAULT_RULE, CorrelationFilter, Filter, Rule, SqlFilter

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?=[\d])(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)
_DURATION_UNITS = (86400, 3600, 60, 1)
_QUEUE_PROPERTIES = {
    "DeadLetteringOnMessageExpiration",
    "DefaultMessageTimeToLive",
    "DuplicateDetectionHistoryTimeWindow",
    "ForwardDeadLetteredMessagesTo",
    "ForwardTo",
    "LockDuration",
    "MaxDeliveryCount",
    "RequiresDuplicateDetection",
    "RequiresSession",
}
_TOPIC_PROPERTIES = {
    "DefaultMessageTimeToLive",
    "DuplicateDetectionHistoryTimeWindow",
    "RequiresDuplicateDetection",
}
_SUBSCRIPTION_PROPERTIES = _QUEUE_PROPERTIES - {"DuplicateDetectionHistoryTimeWindow", "RequiresDuplicateDetection"}
_SYSTEM_PROPERTIES = {
    "ContentType",
    "CorrelationId",
    "Label",
    "MessageId",
    "ReplyTo",
    "ReplyToSessionId",
    "SessionId",
    "To",
}


class QueueConfig(NamedTuple):
    """A queue to create."""

    name: str
    settings: Settings


class SubscriptionConfig(NamedTuple):
    """A subscription to create."""

    name: str
    settings: Settings
    rules: tuple[Rule, ...]


class TopicConfig(NamedTuple):
    """A topic to create."""

    name: str
    settings: Settings
    subscriptions: list[SubscriptionConfig]


class NamespaceConfig(NamedTuple):
    """A namespace to create."""

    queues: list[QueueConfig]
    topics: list[TopicConfig]


def load_config(config: Mapping[str, Any] | Path, *, max_message_size: int) -> NamespaceConfig:
    """Reads a configuration, given as a file or as its content.

    Args:
        config: a path, or what `json.load` gave for it.
        max_message_size: bytes of a message or batch, for all entities; in Azure the tier decides it.

    Raises:
        ConfigError: something in it is unknown or unsupported.
    """
    content = json.loads(config.read_text(encoding="utf-8")) if isinstance(config, Path) else config
    namespaces = content.get("UserConfig", {}).get("Namespaces", [])
    if len(namespaces) != 1:
        raise ConfigError(f"expected exactly one entry in UserConfig.Namespaces, found {len(namespaces)}")
    [namespace] = namespaces
    _only(namespace, {"Name", "Queues", "Topics"}, "namespace")
    return NamespaceConfig(
        [_queue(item, max_message_size) for item in namespace.get("Queues", [])],
        [_topic(item, max_message_size) for item in namespace.get("Topics", [])],
    )


def seconds(duration: str) -> float:
    """Seconds of an ISO 8601 duration of days, hours, minutes and seconds.

    Raises:
        ConfigError: it is something else; years and months have no fixed length.
    """
    match = _DURATION.fullmatch(duration)
    if match is None or not any(match.groups()):
        raise ConfigError(f"expected a duration such as P1D, PT1M30S or PT0.5S, found {duration!r}")
    return sum(float(amount or 0) * unit for amount, unit in zip(match.groups(), _DURATION_UNITS, strict=True))


def _queue(item: Mapping[str, Any], max_message_size: int) -> QueueConfig:
    name = _name(item, "queue")
    _only(item, {"Name", "Properties"}, name)
    properties = item.get("Properties", {})
    _only(properties, _QUEUE_PROPERTIES, name)
    return QueueConfig(name, _settings(properties, max_message_size))


def _topic(item: Mapping[str, Any], max_message_size: int) -> TopicConfig:
    name = _name(item, "topic")
    _only(item, {"Name", "Properties", "Subscriptions"}, name)
    properties = item.get("Properties", {})
    _only(properties, _TOPIC_PROPERTIES, name)
    subscriptions = [
        _subscription(subscription, properties, max_message_size) for subscription in item.get("Subscriptions", [])
    ]
    return TopicConfig(name, _settings(properties, max_message_size), subscriptions)


def _subscription(item: Mapping[str, Any], topic: Mapping[str, Any], max_message_size: int) -> SubscriptionConfig:
    name = _name(item, "subscription")
    _only(item, {"Name", "Properties", "Rules"}, name)
    properties = item.get("Properties", {})
    _only(properties, _SUBSCRIPTION_PROPERTIES, name)
    lifetimes = [each["DefaultMessageTimeToLive"] for each in (topic, properties) if "DefaultMessageTimeToLive" in each]
    if lifetimes:  # the shorter one holds
        properties = {**properties, "DefaultMessageTimeToLive": min(lifetimes, key=seconds)}
    rules = tuple(_rule(rule) for rule in item.get("Rules", []))
    return SubscriptionConfig(name, _settings(properties, max_message_size), rules or (DEFAULT_RULE,))


def _settings(properties: Mapping[str, Any], max_message_size: int) -> Settings:
    for forward in ("ForwardTo", "ForwardDeadLetteredMessagesTo"):
        if properties.get(forward):
            raise ConfigError(f"{forward} is not supported; leave it out or empty")
    window = properties.get("DuplicateDetectionHistoryTimeWindow", "PT20S")
    return Settings(
        lock_duration=seconds(properties.get("LockDuration", "PT1M")),
        max_delivery_count=properties.get("MaxDeliveryCount", 3),
        requires_session=properties.get("RequiresSession", False),
        duplicate_window=seconds(window) if properties.get("RequiresDuplicateDetection") else None,
        time_to_live=seconds(properties.get("DefaultMessageTimeToLive", "PT1H")),
        dead_letter_expired=properties.get("DeadLetteringOnMessageExpiration", False),
        max_message_size=max_message_size,
    )


def _rule(item: Mapping[str, Any]) -> Rule:
    name = _name(item, "rule")
    _only(item, {"Name", "Properties"}, name)
    properties = item.get("Properties", {})
    _only(properties, {"FilterType", "CorrelationFilter", "SqlFilter"}, name)
    return Rule(name, _filter(properties))


def _filter(properties: Mapping[str, Any]) -> Filter:
    kind = properties.get("FilterType")
    if kind == "Sql":
        sql = properties.get("SqlFilter", {})
        _only(sql, {"SqlExpression"}, "SqlFilter")
        return SqlFilter(sql.get("SqlExpression", ""))
    if kind == "Correlation":
        correlation = properties.get("CorrelationFilter", {})
        _only(correlation, _SYSTEM_PROPERTIES | {"Properties"}, "CorrelationFilter")
        system = {name: value for name, value in correlation.items() if name in _SYSTEM_PROPERTIES}
        return CorrelationFilter(system, correlation.get("Properties", {}))
    raise ConfigError(f"expected FilterType 'Correlation' or 'Sql', found {kind!r}")


def _name(item: Mapping[str, Any], kind: str) -> str:
    name = item.get("Name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"expected a {kind} with a Name, found {name!r}")
    return name


def _only(item: Iterable[str], known: set[str], where: str) -> None:
    unknown = set(item) - known
    if unknown:
        raise ConfigError(f"{where}: unknown or unsupported {', '.join(sorted(unknown))}; known are {sorted(known)}")
