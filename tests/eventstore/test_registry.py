"""The registry: names, versions, payloads that read back, and upcasters."""

import enum
import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, computed_field, field_validator

from eventstore import (
    Event,
    EventRegistry,
    InvalidEventError,
    InvalidPayloadError,
    RegistrationError,
    UndecodableEventError,
    UnknownEventTypeError,
    UnknownSchemaVersionError,
    UpcastError,
)
from tests.support.events import NOON, EmailChanged, Registered, events

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
        payload(Free.model_construct(value=1, other=7))


def test_a_payload_names_no_field_it_does_not_have() -> None:
    """A misspelt field is refused when the event is made."""
    with pytest.raises(ValidationError):
        Registered.model_validate({"name": "n", "nmae": "m"})


def test_an_older_payload_is_upcast() -> None:
    """Version 1 called the field `mail`."""
    assert events.decode("client.email_changed", 1, {"mail": "a@x.example"}) == EmailChanged(email="a@x.example")


def chain(length: int, step: Callable[[int, dict[str, Any]], dict[str, Any]]) -> EventRegistry:
    class Trail(Event):
        seen: list[int]

    registry = EventRegistry()
    registry.register("test.trail", version=length)(Trail)
    for version in range(1, length):
        registry.upcast("test.trail", from_version=version)(lambda data, version=version: step(version, data))
    return registry


@PROPERTY
@given(st.integers(1, 8), st.data())
def test_every_version_takes_the_steps_after_it(newest: int, data: st.DataObject) -> None:
    """Each upcaster from the stored version on runs once, in order, and the stored data stays as it is."""
    stored = data.draw(st.integers(1, newest))

    def in_place(version: int, payload: dict[str, Any]) -> dict[str, Any]:
        payload["seen"].append(version)
        return payload

    original: dict[str, Any] = {"seen": [0]}
    decoded = chain(newest, in_place).decode("test.trail", stored, original)
    assert decoded.model_dump() == {"seen": [0, *range(stored, newest)]}
    assert original == {"seen": [0]}


def test_an_unknown_type_is_told() -> None:
    """The running code does not know the name."""
    with pytest.raises(UnknownEventTypeError) as caught:
        events.decode("client.teleported", 1, {})
    assert (caught.value.code, caught.value.event_type) == ("unknown_event_type", "client.teleported")


def test_a_payload_from_the_future_is_told() -> None:
    """The running code is older than the event."""
    with pytest.raises(UnknownSchemaVersionError, match="newest registered version is 2") as caught:
        events.decode("client.email_changed", 3, {})
    assert (caught.value.code, caught.value.schema_version) == ("unknown_schema_version", 3)


def raising(version: int, data: dict[str, Any]) -> Any:
    raise KeyError(data["seen"])


def returning_none(version: int, data: dict[str, Any]) -> Any:
    return None


@pytest.mark.parametrize(
    ("step", "message"),
    [(raising, "from version 1 raised KeyError"), (returning_none, "returned NoneType, not a dict")],
)
def test_an_upcaster_that_fails_is_told(step: Callable[..., Any], message: str) -> None:
    """The error says which step and how, without the payload."""
    with pytest.raises(UpcastError, match=message) as caught:
        chain(3, step).decode("test.trail", 1, {"seen": []})
    assert caught.value.code == "upcast_failed"


@pytest.mark.parametrize("version", [0, 1])
def test_a_missing_upcaster_is_told(version: int) -> None:
    """A registry that nobody checked still fails clearly."""
    registry = EventRegistry()
    registry.register("client.moved", version=2)(Registered)
    with pytest.raises(UpcastError, match=f"from version {version} is missing"):
        registry.decode("client.moved", version, {"name": "n"})


def test_running_out_of_memory_is_not_the_payloads_fault() -> None:
    """Trouble of the machine is not blamed on an event."""

    def starving(version: int, data: dict[str, Any]) -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        chain(2, starving).decode("test.trail", 1, {"seen": []})


def test_a_payload_that_no_longer_validates_is_told() -> None:
    """The error names the field."""
    with pytest.raises(InvalidPayloadError, match="email: missing") as caught:
        events.decode("client.email_changed", 2, {})
    assert caught.value.problems == (("email", "missing"),)
    assert isinstance(caught.value, UndecodableEventError)


def test_a_validator_may_fail_in_any_way() -> None:
    """A validator that raises something else than it should makes an undecodable event, not an unknown error."""

    class Picky(Event):
        name: str

        @field_validator("name")
        @classmethod
        def _look_up(cls, name: str) -> str:
            return {"a": "b"}[name]

    registry = EventRegistry()
    registry.register("test.picky")(Picky)
    with pytest.raises(InvalidPayloadError, match="raised KeyError"):
        registry.decode("test.picky", 1, {"name": "secret"})
