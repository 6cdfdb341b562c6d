"""The registry: names, versions, and payloads that read back."""

import enum
import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from pydantic import Field, ValidationError, computed_field

from eventstore import (
    Event,
    EventRegistry,
    InvalidEventError,
    RegistrationError,
)
from tests.support.events import NOON, Registered, events

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


class Free(Event):
    value: Any = None
    other: str = "x"


def payload(event: Event) -> dict[str, Any]:
    registry = EventRegistry()
    registry.register("test.event")(type(event))
    return registry.event_data(event, source="crm", key="1", occurred_at=NOON).data


def round_trip(event: Event) -> Event:
    registry = EventRegistry()
    registry.register("test.event")(type(event))
    data = registry.event_data(event, source="crm", key="1", occurred_at=NOON)
    return registry.decode(data.event_type, data.schema_version, data.data)


@pytest.mark.parametrize("name", ["", "moved", "Client.moved", "client.", ".moved", "client..moved", "client.mo ved"])
def test_a_malformed_name_is_refused(name: str) -> None:
    """Names are lower-case words joined by dots."""
    with pytest.raises(RegistrationError, match="expected lower-case words"):
        EventRegistry().register(name)


def test_the_names_of_this_software_are_reserved() -> None:
    """Nobody registers what the system appends itself."""
    with pytest.raises(RegistrationError, match="reserved"):
        EventRegistry().register("flow.event_annulled")


def test_a_name_and_a_model_are_registered_once() -> None:
    """Neither two models under one name nor one model under two."""
    registry = EventRegistry()
    registry.register("client.moved")(Registered)
    with pytest.raises(RegistrationError, match="registered twice"):
        registry.register("client.moved")
    with pytest.raises(RegistrationError, match="under two names"):
        registry.register("client.left")(Registered)
    assert [entry.name for entry in registry] == ["client.moved"]


def test_versions_start_at_one() -> None:
    """There is no schema version zero."""
    with pytest.raises(RegistrationError, match="start at 1"):
        EventRegistry().register("client.moved", version=0)


def test_an_unregistered_model_cannot_be_stored() -> None:
    """The error says what to do."""
    with pytest.raises(RegistrationError, match=r"decorate it with @events\.register"):
        EventRegistry().event_data(Registered(name="n"), source="crm", key="1", occurred_at=NOON)


@pytest.mark.parametrize("from_version", [-1, 0, 2, 3])
def test_an_upcaster_has_to_lead_to_a_version_there_is(from_version: int) -> None:
    """Steps exist from version 1 up to the last but one."""
    registry = EventRegistry()
    registry.register("client.moved", version=2)(Registered)
    with pytest.raises(RegistrationError, match="no such step"):
        registry.upcast("client.moved", from_version=from_version)


def test_upcasters_are_declared_once_and_for_registered_events() -> None:
    """A second one for the same step, or one for nobody, is a mistake."""
    registry = EventRegistry()
    with pytest.raises(RegistrationError, match="register the event first"):
        registry.upcast("client.moved", from_version=1)
    registry.register("client.moved", version=2)(Registered)
    registry.upcast("client.moved", from_version=1)(dict)
    with pytest.raises(RegistrationError, match="declared twice"):
        registry.upcast("client.moved", from_version=1)


def test_a_missing_upcaster_is_found_at_start() -> None:
    """`check` names the event and the version that could not be read."""
    registry = EventRegistry()
    registry.register("client.moved", version=3)(Registered)
    registry.upcast("client.moved", from_version=1)(dict)
    with pytest.raises(RegistrationError, match=r"'client\.moved' lacks the upcaster from version 2"):
        registry.check()
    events.check()


class Colour(enum.Enum):
    RED = "red"


class Rich(Event, strict=True):
    when: datetime
    day: date
    price: Decimal
    tracking: UUID
    colour: Colour
    pair: tuple[int, float]
    tags: frozenset[str]
    mail: str = Field(alias="correo")
    inner: Registered | None = None

    @computed_field
    def shout(self) -> str:
        return self.mail.upper()


def test_what_is_stored_reads_back() -> None:
    """Types JSON lacks, aliases, computed fields and strict models survive being stored."""
    rich = Rich(
        when=NOON,
        day=NOON.date(),
        price=Decimal("9.90"),
        tracking=UUID(int=7),
        colour=Colour.RED,
        pair=(1, 2.0),
        tags=frozenset({"a"}),
        correo="a@x.example",
        inner=Registered(name="n"),
    )
    assert round_trip(rich) == rich
    stored = payload(rich)
    assert stored["mail"] == "a@x.example"
    assert stored["price"] == "9.90"
    assert "shout" not in stored


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "value"),
        ({"a": [math.inf]}, "value.a.0"),
        (2**53, "value"),
        ("a\0", "value"),
        ("\ud800", "value"),
        ({"\ud800": 1}, "value"),
        (deep(40), "value" + ".0" * 31),
        (deep(2000), "value"),
        (b"\xff", "value"),
        (object(), "value"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_by_name(value: Any, path: str) -> None:
    """Also inside a field that takes anything; nothing is silently turned into null or text."""
    with pytest.raises(InvalidEventError) as caught:
        payload(Free(value=value))
    assert [problem.path for problem in caught.value.problems] == [path]


def test_an_event_that_was_not_validated_is_refused() -> None:
    """A model filled past its validation would be stored and never read again."""
    with pytest.raises(InvalidEventError, match="other: the value cannot be written as JSON"):
        payload(Free.model_construct(value=1, other=7))  # type: ignore[arg-type]  # the point of the test


def test_a_payload_names_no_field_it_does_not_have() -> None:
    """A misspelt field is refused when the event is made."""
    with pytest.raises(ValidationError):
        Registered.model_validate({"name": "n", "nmae": "m"})
