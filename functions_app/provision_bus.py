"""Provisioning on Service Bus: which entities there have to be, which there are, and what has to be done."""

from collections.abc import Sequence
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.servicebus.management import (
    CorrelationRuleFilter,
    RuleProperties,
    ServiceBusAdministrationClient,
    SqlRuleFilter,
    TrueRuleFilter,
)

from integrations import administration_errors

from .bus_entities import BusEntity, sql_of
from .provision import Finding, difference, state_of

_DEFAULT_RULE = "$Default"  # made by the service with each subscription; admits everything


def inspect_bus(client: ServiceBusAdministrationClient, entities: Sequence[BusEntity]) -> list[Finding]:
    """Compare what is there with what has to be there; changes nothing.

    Raises:
        TopicUnavailableError: the namespace is out of reach, or managing it is refused.
    """
    with administration_errors():
        return [_inspect(client, each) for each in entities]


def provision_bus(client: ServiceBusAdministrationClient, entities: Sequence[BusEntity]) -> list[Finding]:
    """Create what is missing and change what differs; gives the findings before that.

    No entity and no rule of somebody's own is deleted. Of the rules only `$Default` gives way, as long as it is the one
    the service makes with each subscription, and only after those that take its place are there.

    Raises:
        TopicUnavailableError: the namespace is out of reach, or managing it is refused.
    """
    findings = inspect_bus(client, entities)
    with administration_errors():
        for finding, entity in zip(findings, entities, strict=True):
            if finding.state == "missing":
                _create(client, entity)
            elif finding.state == "differs":
                _change(client, entity)
            if finding.state in {"missing", "differs"} and entity.admits:
                _set_rules(client, entity)
    return findings


def _inspect(client: ServiceBusAdministrationClient, entity: BusEntity) -> Finding:
    try:
        there = _get(client, entity)
    except ResourceNotFoundError:
        return Finding(entity.path, "missing")
    fixed = [_compare(there, name, expected) for name, expected in entity.fixed.items()]
    changeable = [_compare(there, name, expected) for name, expected in entity.changeable.items()]
    rules = _rule_problems(client, entity) if entity.admits else []
    return state_of(entity.path, fixed, [*changeable, *rules])


def _get(client: ServiceBusAdministrationClient, entity: BusEntity) -> Any:
    if entity.kind == "subscription":
        return client.get_subscription(entity.topic, entity.name)
    return client.get_topic(entity.name) if entity.kind == "topic" else client.get_queue(entity.name)


def _compare(there: Any, name: str, expected: object) -> str | None:
    return difference(name.replace("_", " "), getattr(there, name), expected)


def _rule_problems(client: ServiceBusAdministrationClient, entity: BusEntity) -> list[str]:
    rules = list(client.list_rules(entity.topic, entity.name))
    missing = [f"rule {name}: is missing" for name in _missing_rules(rules, entity)]
    besides = [rule.name for rule in rules if not is_wanted(rule, entity)]
    return missing + [
        f"rule {name}: admits everything" if name == _DEFAULT_RULE else f"rule {name}: is not ours; remove it yourself"
        for name in besides
    ]


def _create(client: ServiceBusAdministrationClient, entity: BusEntity) -> None:
    properties = {**entity.fixed, **entity.changeable}
    if entity.kind == "subscription":
        client.create_subscription(entity.topic, entity.name, **properties)
    elif entity.kind == "topic":
        client.create_topic(entity.name, **properties)
    else:
        client.create_queue(entity.name, **properties)


def _change(client: ServiceBusAdministrationClient, entity: BusEntity) -> None:
    there = _get(client, entity)
    if all(getattr(there, name) == expected for name, expected in entity.changeable.items()):
        return
    for name, expected in entity.changeable.items():
        setattr(there, name, expected)
    if entity.kind == "subscription":
        client.update_subscription(entity.topic, there)
    elif entity.kind == "topic":
        client.update_topic(there)
    else:
        client.update_queue(there)


def _set_rules(client: ServiceBusAdministrationClient, entity: BusEntity) -> None:
    rules = list(client.list_rules(entity.topic, entity.name))
    for name in _missing_rules(rules, entity):
        client.create_rule(entity.topic, entity.name, name, filter=CorrelationRuleFilter(properties={name: True}))
    if any(rule.name == _DEFAULT_RULE and isinstance(rule.filter, TrueRuleFilter) for rule in rules):
        client.delete_rule(entity.topic, entity.name, _DEFAULT_RULE)


def _missing_rules(rules: Sequence[RuleProperties], entity: BusEntity) -> list[str]:
    names = {rule.name for rule in rules}
    return [name for name in entity.admits if name not in names]


def is_wanted(rule: RuleProperties, entity: BusEntity) -> bool:
    """Whether it is one of ours: a correlation filter as made here, or the SQL filter that Bicep makes."""
    if rule.name not in entity.admits:
        return False
    if isinstance(rule.filter, CorrelationRuleFilter):
        return dict(rule.filter.properties or {}) == {rule.name: True}
    return isinstance(rule.filter, SqlRuleFilter) and rule.filter.sql_expression == sql_of(rule.name)
