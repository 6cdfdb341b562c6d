"""Config.json: what is read, what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.wire.servicebus import Broker, ConfigError, UnsupportedFilterError
from tests.wire.servicebus.config import load_config, seconds
from tests.wire.servicebus.entities import STANDARD_MESSAGE_SIZE, Settings

pytestmark = pytest.mark.servicebus_wire


def rule(**properties: Any) -> dict[str, Any]:
    """A configuration whose only subscription has this rule."""
    return entity(
        Topics=[{"Name": "t", "Subscriptions": [{"Name": "s", "Rules": [{"Name": "r", "Properties": properties}]}]}]
    )


def entity(**namespace: Any) -> dict[str, Any]:
    """A configuration with these entities."""
    return {"UserConfig": {"Namespaces": [{"Name": "sbemulatorns", **namespace}]}}


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    """All properties of the emulator's file are understood; the emulator's defaults fill the rest."""
    path = tmp_path / "Config.json"
    properties = {
        "DeadLetteringOnMessageExpiration": True,
        "DefaultMessageTimeToLive": "P1DT2H",
        "DuplicateDetectionHistoryTimeWindow": "PT1M30S",
        "ForwardDeadLetteredMessagesTo": "",
        "ForwardTo": "",
        "LockDuration": "PT0.5S",
        "MaxDeliveryCount": 7,
        "RequiresDuplicateDetection": True,
        "RequiresSession": True,
    }
    path.write_text(json.dumps(entity(Queues=[{"Name": "q", "Properties": properties}, {"Name": "plain"}])), "utf-8")
    config = load_config(path, max_message_size=1000)
    assert [queue.name for queue in config.queues] == ["q", "plain"]
    assert config.queues[0].settings == Settings(
        lock_duration=0.5,
        max_delivery_count=7,
        requires_session=True,
        duplicate_window=90,
        time_to_live=93_600,
        dead_letter_expired=True,
        max_message_size=1000,
    )
    assert config.queues[1].settings == Settings(max_message_size=1000)
    with Broker(path) as broker:
        assert broker.messages("q/$deadletterqueue") == []


def test_a_subscription_without_rules_gets_the_default_rule() -> None:
    """No rules, or an empty list, means $Default, which lets everything pass."""
    config = load_config(
        entity(Topics=[{"Name": "t", "Subscriptions": [{"Name": "a"}, {"Name": "b", "Rules": []}]}]),
        max_message_size=STANDARD_MESSAGE_SIZE,
    )
    [topic] = config.topics
    names = [[rule.name for rule in subscription.rules] for subscription in topic.subscriptions]
    assert names == [["$Default"], ["$Default"]]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "exactly one entry in UserConfig.Namespaces, found 0"),
        (entity(Queues=[{"Properties": {}}]), "expected a queue with a Name, found None"),
        (entity(Queues=[{"Name": "q"}, {"Name": "Q"}]), "two entities named 'q'"),
        (entity(Queues=[{"Name": "q"}], Topics=[{"Name": "q"}]), "two entities named 'q'"),
        (entity(Queue=[]), "namespace: unknown or unsupported Queue"),
        (entity(Queues=[{"Name": "q", "Properties": {"LockTime": "PT1M"}}]), "q: unknown or unsupported LockTime"),
        (entity(Queues=[{"Name": "q", "Properties": {"ForwardTo": "other"}}]), "ForwardTo is not supported"),
        (entity(Queues=[{"Name": "q", "Properties": {"LockDuration": "1M"}}]), "expected a duration .* found '1M'"),
        (rule(FilterType="Magic"), "expected FilterType 'Correlation' or 'Sql', found 'Magic'"),
        (rule(FilterType="Sql", SqlFilter={"SqlExpression": "a > 1"}), "cannot use the filter 'a > 1'"),
        (rule(FilterType="Correlation", CorrelationFilter={}), "at least one property"),
        (rule(FilterType="Correlation", CorrelationFilter={"Subject": "x"}), "unknown or unsupported Subject"),
        (rule(FilterType="Sql", Action={"SqlExpression": "SET a = 1"}), "unknown or unsupported Action"),
    ],
)
def test_what_is_not_supported_is_refused(config: dict[str, Any], reason: str) -> None:
    """A configuration that asks for more than the broker does never starts."""
    with pytest.raises(ConfigError, match=reason):
        Broker(copy.deepcopy(config))


def test_a_refused_filter_says_which() -> None:
    """The error carries the expression."""
    with pytest.raises(UnsupportedFilterError) as refused:
        Broker(rule(FilterType="Sql", SqlFilter={"SqlExpression": "sys.Label = 'x'"}))
    assert refused.value.expression == "sys.Label = 'x'"


@pytest.mark.parametrize(("text", "expected"), [("P2D", 172_800), ("PT1H1M1S", 3661), ("PT0.25S", 0.25)])
def test_durations(text: str, expected: float) -> None:
    """Days, hours, minutes and seconds count; seconds may be broken."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "P", "PT", "P1M", "P1Y", "PT1H30", "-PT1M", "pt1m", "P1DT"])
def test_durations_that_are_none(text: str) -> None:
    """Anything else is refused, months and years too."""
    with pytest.raises(ConfigError, match="expected a duration"):
        seconds(text)
