"""Reading stored payloads: upcasters, and what the running code cannot read."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import field_validator

from eventstore import (
    Event,
    EventRegistry,
    InvalidPayloadError,
    UndecodableEventError,
    UnknownEventTypeError,
    UnknownSchemaVersionError,
    UpcastError,
)
from tests.support.events import EmailChanged, Registered, events

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


def test_an_older_payload_is_upcast() -> None:
    """Version 1 called the field `mail`."""
    assert events.decode("client.email_changed", 1, {"mail": "a@x.example"}) == EmailChanged(email="a@x.example")


def chain(length: int, step: Callable[[int, dict[str, Any]], dict[str, Any]]) -> EventRegistry:
    class Trail(Event):
        seen: list[int]

    registry = EventRegistry()
    registry.register("test.trail", version=length)(Trail)
    for version in range(1, length):
        registry.upcast("test.trail", from_version=version)(partial(step, version))
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
