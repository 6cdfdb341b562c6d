"""Provisioning on Service Bus: what is missing is said and made, what differs is said and changed, nothing is deleted."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from azure.servicebus.management import RuleProperties, ServiceBusAdministrationClient, SqlRuleFilter, TrueRuleFilter

from functions_app.bus_bicep import bus_bicep
from functions_app.bus_entities import BusEntity, bus_entities
from functions_app.provision_bus import inspect_bus, is_wanted, provision_bus
from functions_app.sample import domain
from integrations import TopicUnavailableError, open_administration
from tests.support.command_line import CommandLine
from tests.wire.servicebus import Broker

pytestmark = pytest.mark.servicebus_wire

EMPTY = {"UserConfig": {"Namespaces": [{"Name": "sbemulatorns", "Queues": [], "Topics": []}]}}
TOPIC = domain.projection.name
CRM = f"{TOPIC}/subscriptions/crm"
QUEUE = "shop-events"
ENTITIES = bus_entities(TOPIC, domain.integrations, [QUEUE])


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(EMPTY) as broker:
        yield broker


@pytest.fixture
def client(broker: Broker) -> Iterator[ServiceBusAdministrationClient]:
    with open_administration(broker.connection_string) as client:
        yield client


def findings(client: ServiceBusAdministrationClient) -> Mapping[str, tuple[str, tuple[str, ...]]]:
    return {each.name: (each.state, each.details) for each in inspect_bus(client, ENTITIES)}


def states(client: ServiceBusAdministrationClient) -> set[str]:
    return {state for state, _ in findings(client).values()}


def test_looking_makes_nothing(broker: Broker, client: ServiceBusAdministrationClient) -> None:
    """In an empty namespace everything is missing, and still is after looking."""
    assert states(client) == {"missing"}
    assert set(findings(client)) == {TOPIC, CRM, f"{TOPIC}/subscriptions/mailing", QUEUE}
    assert broker.administration.changes == []


def test_what_is_missing_is_made(broker: Broker, client: ServiceBusAdministrationClient) -> None:
    """After provisioning everything is as it should be, and doing it again changes nothing."""
    assert {each.state for each in provision_bus(client, ENTITIES)} == {"missing"}
    assert states(client) == {"as it should be"}
    topic, queue = client.get_topic(TOPIC), client.get_queue(QUEUE)
    assert topic.requires_duplicate_detection
    assert topic.duplicate_detection_history_time_window == timedelta(minutes=10)
    assert (queue.requires_session, queue.requires_duplicate_detection) == (True, True)
    assert (queue.lock_duration, queue.max_delivery_count) == (timedelta(minutes=1), 10)
    made = list(broker.administration.changes)
    provision_bus(client, ENTITIES)
    assert broker.administration.changes == made


def test_a_subscription_takes_what_its_integration_cares_about(client: ServiceBusAdministrationClient) -> None:
    """One rule for each sub-schema, in place of the one that admits everything."""
    provision_bus(client, ENTITIES)
    for entity in ENTITIES:
        if entity.kind == "subscription":
            assert {rule.name for rule in client.list_rules(TOPIC, entity.name)} == set(entity.admits)


def test_what_differs_is_said_and_changed(broker: Broker, client: ServiceBusAdministrationClient) -> None:
    """Lock duration, window and a missing rule: each is told with what was there, and mended only when asked to."""
    provision_bus(client, ENTITIES)
    subscription, topic = client.get_subscription(TOPIC, "crm"), client.get_topic(TOPIC)
    client.update_subscription(TOPIC, subscription, lock_duration=timedelta(minutes=5))
    client.update_topic(topic, duplicate_detection_history_time_window=timedelta(minutes=1))
    rule = next(iter(client.list_rules(TOPIC, "crm"))).name
    client.delete_rule(TOPIC, "crm", rule)
    state, details = findings(client)[CRM]
    assert state == "differs"
    assert details == ("lock duration: 0:05:00 is there, 0:01:00 was expected", f"rule {rule}: is missing")
    assert findings(client)[TOPIC][0] == "differs"
    provision_bus(client, ENTITIES)
    assert states(client) == {"as it should be"}


def test_an_interrupted_run_is_finished_by_the_next(client: ServiceBusAdministrationClient) -> None:
    """A subscription left with the rule that the service makes is found and mended."""
    provision_bus(client, ENTITIES[:1])
    client.create_subscription(TOPIC, "crm")
    assert "rule $Default: admits everything" in findings(client)[CRM][1]
    provision_bus(client, ENTITIES)
    assert states(client) == {"as it should be"}


def test_a_rule_of_somebody_else_stays(client: ServiceBusAdministrationClient) -> None:
    """It is told, and left to those who made it."""
    provision_bus(client, ENTITIES)
    client.create_rule(TOPIC, "crm", "theirs", filter=SqlRuleFilter("vip = TRUE"))
    for _ in range(2):
        assert "rule theirs: is not ours; remove it yourself" in findings(client)[CRM][1]
        provision_bus(client, ENTITIES)
    assert "theirs" in {rule.name for rule in client.list_rules(TOPIC, "crm")}


def test_a_rule_that_bicep_made_is_ours() -> None:
    """Bicep says the same in SQL."""

    def rule(expression: str) -> RuleProperties:
        return RuleProperties("contact", filter=SqlRuleFilter(expression), action=None, created_at_utc=None)

    entity = BusEntity("subscription", "crm", {}, {}, TOPIC, ("contact",))
    assert is_wanted(rule("[contact] = TRUE"), entity)
    assert not is_wanted(rule("[contact] = FALSE"), entity)


def test_a_rule_of_our_name_with_another_filter_is_told(client: ServiceBusAdministrationClient) -> None:
    """A name alone makes no rule ours."""
    provision_bus(client, ENTITIES)
    name = next(iter(client.list_rules(TOPIC, "crm"))).name
    client.delete_rule(TOPIC, "crm", name)
    client.create_rule(TOPIC, "crm", name, filter=TrueRuleFilter())
    assert f"rule {name}: is not ours; remove it yourself" in findings(client)[CRM][1]


@pytest.mark.parametrize("make", ["topic", "queue"])
def test_what_would_have_to_be_made_anew_is_left_alone(
    broker: Broker, client: ServiceBusAdministrationClient, make: str
) -> None:
    """Duplicate detection and sessions are fixed for life: it is said, and nothing of the entity is touched."""
    if make == "topic":
        client.create_topic(TOPIC)
    else:
        client.create_queue(QUEUE)
    name = TOPIC if make == "topic" else QUEUE
    found = {each.name: each for each in provision_bus(client, ENTITIES)}[name]
    assert found.state == "cannot be used"
    assert "requires duplicate detection: False is there, True was expected" in found.details
    assert broker.administration.changes.count(f"PUT {name}") == 1


def test_without_the_right_to_manage(broker: Broker, client: ServiceBusAdministrationClient) -> None:
    """The error says which right it takes and what else one can do."""
    broker.administration.refuses = True
    with pytest.raises(TopicUnavailableError, match=r"right to manage, or Bicep"):
        inspect_bus(client, ENTITIES)


def test_a_namespace_out_of_reach(broker: Broker, client: ServiceBusAdministrationClient) -> None:
    """It is told as such, without the key."""
    broker.stop()
    with pytest.raises(TopicUnavailableError, match="cannot be reached") as caught:
        inspect_bus(client, ENTITIES[:1])
    assert "SAS_KEY_VALUE" not in str(caught.value)


def test_the_emulator_has_narrower_limits() -> None:
    """No window over five minutes and no lifetime over an hour, which it would refuse."""
    for entity in bus_entities(TOPIC, domain.integrations, [QUEUE], emulator=True):
        assert entity.changeable.get("duplicate_detection_history_time_window", timedelta()) <= timedelta(minutes=5)
        assert entity.changeable["default_message_time_to_live"] <= timedelta(hours=1)


def test_the_command(broker: Broker, tmp_path: Path) -> None:
    """Without --yes it shows and ends with 3; with it everything is made; then there is nothing left to do."""
    command = CommandLine(tmp_path, {"BUS_CONN": broker.connection_string})
    shown = command.run("provision")
    assert shown.returncode == 3, shown.stderr
    assert "Nothing was done" in shown.stdout
    assert broker.administration.changes == []
    assert command.run("provision", "--yes").returncode == 0
    told = command.json("provision")
    assert {each["state"] for each in told["entities"]} == {"as it should be"}
    assert "containers" not in told


def test_rules_in_bicep_compare_booleans() -> None:
    """Its correlation filters know texts only, so it says it in SQL."""
    text = bus_bicep([BusEntity("subscription", "crm", {}, {}, "clients", ("contact",))])
    assert properties(text, "subscription_crm_contact") == {
        "filterType: 'SqlFilter'",
        "sqlFilter: { sqlExpression: '[contact] = TRUE' }",
    }


def properties(text: str, symbol: str) -> set[str]:
    """The property lines of a resource."""
    block = text.partition(f"resource {symbol} ")[2].partition("\n}\n")[0]
    return {line.strip() for line in block.partition("properties: {\n")[2].splitlines()} - {"}"}


def test_bicep_says_the_same() -> None:
    """Every entity with its parent, properties and rules, every symbol declared once, every brace closed."""
    text = bus_bicep(ENTITIES)
    declared = [line.split()[1] for line in text.splitlines() if line.startswith("resource ")]
    assert len(declared) == len(set(declared))
    parents = {line.split()[1] for line in text.splitlines() if line.startswith("  parent: ")}
    assert parents <= set(declared)
    assert len(declared) == 1 + len(ENTITIES) + sum(len(each.admits) for each in ENTITIES)
    assert text.count("{") == text.count("}")
    assert properties(text, f"topic_{TOPIC}") == {
        "requiresDuplicateDetection: true",
        "duplicateDetectionHistoryTimeWindow: 'PT10M'",
        "defaultMessageTimeToLive: 'P14D'",
    }
    assert properties(text, "queue_shop_events") >= {
        "requiresSession: true",
        "lockDuration: 'PT1M'",
        "maxDeliveryCount: 10",
        "deadLetteringOnMessageExpiration: true",
    }


def test_names_in_bicep_cannot_break_out() -> None:
    """A quote in a name stays inside its literal, and its symbol has letters, digits and underscores only."""
    text = bus_bicep([BusEntity("queue", "a'b-c", {}, {})])
    assert "resource queue_a_b_c " in text
    assert r"name: 'a\'b-c'" in text
