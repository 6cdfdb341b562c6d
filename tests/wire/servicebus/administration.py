"""Managing entities over HTTP: the Atom documents that the SDK's administration client reads and writes.

Known are queues, topics, subscriptions and rules: to read, create and change them, and to delete rules and topics. Of
their properties those of `Settings`; what is fixed at creation is refused as by the service.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

from tests.wire.servicebus.config import seconds
from tests.wire.servicebus.entities import Entity, Settings
from tests.wire.servicebus.errors import ConfigError
from tests.wire.servicebus.filters import DEFAULT_RULE, CorrelationFilter, Filter, Rule, SqlFilter, TrueFilter
from tests.wire.servicebus.namespace import Namespace
from tests.wire.servicebus.session_queues import SessionQueue
from tests.wire.servicebus.topics import Topic

_ATOM = "{http://www.w3.org/2005/Atom}"
_BUS = "{http://schemas.microsoft.com/netservices/2010/10/servicebus/connect}"
_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_FOREVER = 864_000_000.0
_SUBSCRIPTION = re.compile(r"([^/]+/subscriptions/[^/]+)", re.IGNORECASE)
_RULES = re.compile(r"([^/]+/subscriptions/[^/]+)/rules(?:/([^/]+))?", re.IGNORECASE)


class HttpAnswer(NamedTuple):
    """Status and, if any, an XML document."""

    status: HTTPStatus
    document: ET.Element | None = None


class _Refused(Exception):  # noqa: N818 - an answer rather than an error
    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class Administration:
    """Answers management requests on a namespace; belongs to the broker's thread.

    Attributes:
        refuses: whether every caller lacks the right to manage.
        requests: how many came.
        changes: method and path of those that changed something.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.reset()

    def reset(self) -> None:
        """Refuse nobody, and count from zero."""
        self.refuses, self.requests = False, 0
        self.changes: list[str] = []

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        """Carry out a request."""
        self.requests += 1
        if self.refuses or "authorization" not in headers:
            return HttpAnswer(HTTPStatus.UNAUTHORIZED)
        parts = urlsplit(target)
        path = unquote(parts.path).strip("/")
        try:
            answer = self._route(method, path, parse_qs(parts.query), "if-match" in headers, body)
        except _Refused as refused:
            return HttpAnswer(refused.status)
        except ConfigError:
            return HttpAnswer(HTTPStatus.BAD_REQUEST)
        if method != "GET":
            self.changes.append(f"{method} {path}")
        return answer

    def _route(
        self,
        method: str,
        path: str,
        query: Mapping[str, list[str]],
        is_update: bool,  # noqa: FBT001 - a fact about the request
        body: bytes,
    ) -> HttpAnswer:
        if match := _RULES.fullmatch(path):
            return self._rules(method, match[1].lower(), match[2], query, body)
        entity = self._namespace.entities.get(path.lower())
        if method == "GET":
            if entity is not None:
                return HttpAnswer(HTTPStatus.OK, _entry(path, _description(entity)))
            if _SUBSCRIPTION.fullmatch(path):
                raise _Refused(HTTPStatus.NOT_FOUND)
            return HttpAnswer(HTTPStatus.OK, ET.Element(f"{_ATOM}feed"))  # the service lists nothing
        if method == "DELETE" and isinstance(entity, (Topic, SessionQueue)):
            self._namespace.remove(path.lower())
            return HttpAnswer(HTTPStatus.OK)
        if method != "PUT":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if is_update != (entity is not None):
            raise _Refused(HTTPStatus.NOT_FOUND if is_update else HTTPStatus.CONFLICT)
        description = _content(body)
        if entity is None:
            entity = self._create(path, description)
        else:
            entity.settings = _changed(entity.settings, description)
        return HttpAnswer(HTTPStatus.OK if is_update else HTTPStatus.CREATED, _entry(path, _description(entity)))

    def _create(self, path: str, description: ET.Element) -> Entity:
        settings = _settings(Settings(max_delivery_count=10, time_to_live=None), description)
        if _SUBSCRIPTION.fullmatch(path):
            topic = self._namespace.entities.get(path.lower().partition("/")[0])
            if not isinstance(topic, Topic):
                raise _Refused(HTTPStatus.NOT_FOUND)
            return self._namespace.add_subscription(topic, path.rpartition("/")[2], settings, (DEFAULT_RULE,))
        if description.tag == f"{_BUS}TopicDescription":
            return self._namespace.add_topic(path, settings)
        return self._namespace.add_queue(path, settings)

    def _rules(
        self, method: str, path: str, name: str | None, query: Mapping[str, list[str]], body: bytes
    ) -> HttpAnswer:
        topic = self._namespace.entities.get(path.partition("/")[0])
        places = topic.subscriptions if isinstance(topic, Topic) else []
        index = next((n for n, each in enumerate(places) if each.queue.path == path), None)
        if index is None:
            raise _Refused(HTTPStatus.NOT_FOUND)
        rules = {rule.name: rule for rule in places[index].rules}
        if method == "GET":
            skip, top = (int(query.get(key, [default])[0]) for key, default in (("$skip", "0"), ("$top", "100")))
            feed = ET.Element(f"{_ATOM}feed")
            feed.extend(_entry(rule.name, _rule_description(rule)) for rule in [*rules.values()][skip : skip + top])
            return HttpAnswer(HTTPStatus.OK, feed)
        if name is None or (method == "DELETE" and name not in rules):
            raise _Refused(HTTPStatus.NOT_FOUND)
        if method == "DELETE":
            del rules[name]
        elif name in rules:
            raise _Refused(HTTPStatus.CONFLICT)
        else:
            rules[name] = Rule(name, _filter(_content(body)))
        places[index] = places[index]._replace(rules=tuple(rules.values()))
        document = None if method == "DELETE" else _entry(name, _rule_description(rules[name]))
        return HttpAnswer(HTTPStatus.OK if method == "DELETE" else HTTPStatus.CREATED, document)


def _content(body: bytes) -> ET.Element:
    """The description in an entry; the prefix-free form that the service insists on."""
    content = ET.fromstring(body).find(f"{_ATOM}content")
    if content is None or not len(content):
        raise _Refused(HTTPStatus.BAD_REQUEST)
    return content[0]


def _duration(value: str) -> float:
    return seconds(value)


_PROPERTIES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "LockDuration": ("lock_duration", _duration),
    "MaxDeliveryCount": ("max_delivery_count", int),
    "RequiresSession": ("requires_session", lambda value: value == "true"),
    "DefaultMessageTimeToLive": ("time_to_live", _duration),
    "DeadLetteringOnMessageExpiration": ("dead_letter_expired", lambda value: value == "true"),
}


def _settings(settings: Settings, description: ET.Element) -> Settings:
    found = {each.tag.removeprefix(_BUS): each.text or "" for each in description}
    changes = {attribute: convert(found[name]) for name, (attribute, convert) in _PROPERTIES.items() if name in found}
    if found.get("RequiresDuplicateDetection", "false") == "true":
        changes["duplicate_window"] = seconds(found.get("DuplicateDetectionHistoryTimeWindow", "PT10M"))
    return replace(settings, **changes)  # type: ignore[arg-type]


def _changed(settings: Settings, description: ET.Element) -> Settings:
    new = _settings(settings, description)
    detects = description.findtext(f"{_BUS}RequiresDuplicateDetection", "false") == "true"
    if new.requires_session != settings.requires_session or detects != (settings.duplicate_window is not None):
        raise _Refused(HTTPStatus.BAD_REQUEST)  # fixed at creation
    return new


def _description(entity: Entity) -> ET.Element:
    settings = entity.settings
    values: dict[str, object] = {"DefaultMessageTimeToLive": _iso(settings.time_to_live or _FOREVER)}
    if isinstance(entity, Topic):
        kind = "TopicDescription"
    else:
        kind = "SubscriptionDescription" if "/subscriptions/" in entity.path else "QueueDescription"
        values |= {
            "LockDuration": _iso(settings.lock_duration),
            "MaxDeliveryCount": settings.max_delivery_count,
            "RequiresSession": _text(settings.requires_session),
            "DeadLetteringOnMessageExpiration": _text(settings.dead_letter_expired),
        }
    if kind != "SubscriptionDescription":
        values["RequiresDuplicateDetection"] = _text(settings.duplicate_window is not None)
        values["DuplicateDetectionHistoryTimeWindow"] = _iso(settings.duplicate_window or 600.0)
    description = ET.Element(_BUS + kind)
    for name, value in values.items():
        ET.SubElement(description, _BUS + name).text = str(value)
    return description


def _rule_description(rule: Rule) -> ET.Element:
    description = ET.Element(f"{_BUS}RuleDescription")
    match rule.filter:
        case CorrelationFilter() as correlation:
            element = _filter_element(description, "CorrelationFilter")
            properties = ET.SubElement(element, f"{_BUS}Properties")
            for key, value in correlation.application.items():
                pair = ET.SubElement(properties, f"{_BUS}KeyValueOfstringanyType")
                ET.SubElement(pair, f"{_BUS}Key").text = key
                kind = "boolean" if isinstance(value, bool) else "int" if isinstance(value, int) else "string"
                text = _text(value) if isinstance(value, bool) else str(value)
                ET.SubElement(pair, f"{_BUS}Value", {f"{_XSI}type": f"d6p1:{kind}"}).text = text
        case SqlFilter() as sql:
            ET.SubElement(_filter_element(description, "SqlFilter"), f"{_BUS}SqlExpression").text = sql.expression
        case _:
            ET.SubElement(_filter_element(description, "TrueFilter"), f"{_BUS}SqlExpression").text = "1=1"
    ET.SubElement(description, f"{_BUS}Action", {f"{_XSI}type": "EmptyRuleAction"})
    ET.SubElement(description, f"{_BUS}Name").text = rule.name
    return description


def _filter_element(description: ET.Element, kind: str) -> ET.Element:
    return ET.SubElement(description, f"{_BUS}Filter", {f"{_XSI}type": kind})


def _filter(description: ET.Element) -> Filter:
    element = description.find(f"{_BUS}Filter")
    kind = "TrueFilter" if element is None else element.get(f"{_XSI}type")
    if element is None or kind == "TrueFilter":
        return TrueFilter()
    if kind == "SqlFilter":
        return SqlFilter(element.findtext(f"{_BUS}SqlExpression", ""))
    application: dict[str, bool | int | str] = {}
    for pair in element.iter(f"{_BUS}KeyValueOfstringanyType"):
        value = pair.find(f"{_BUS}Value")
        text = "" if value is None else value.text or ""
        kind = "string" if value is None else value.get(f"{_XSI}type", "").rpartition(":")[2]
        application[pair.findtext(f"{_BUS}Key", "")] = (
            text == "true" if kind == "boolean" else int(text) if kind in {"int", "long"} else text
        )
    return CorrelationFilter({}, application)


def _entry(name: str, description: ET.Element) -> ET.Element:
    entry = ET.Element(f"{_ATOM}entry")
    ET.SubElement(entry, f"{_ATOM}title", {"type": "text"}).text = name
    ET.SubElement(entry, f"{_ATOM}content", {"type": "application/xml"}).append(description)
    return entry


def _iso(amount: float) -> str:
    return f"PT{int(amount)}S"


def _text(value: object) -> str:
    return str(value).lower()
