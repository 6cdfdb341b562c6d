"""The event registry: stable names and schema versions for event models, and the upcasters between versions."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import datetime
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from .canonical import Json
from .errors import (
    InvalidEventError,
    InvalidPayloadError,
    RegistrationError,
    UnknownEventTypeError,
    UnknownSchemaVersionError,
    UpcastError,
)
from .events import Event, EventData
from .problems import WHOLE, FieldProblem, field_problems

_RESERVED = "flow"  # first word of the event types and the source of the events this software appends itself
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+")

EventModel = TypeVar("EventModel", bound=Event)
Upcaster = Callable[[dict[str, Json]], dict[str, Json]]


class EventType(NamedTuple):
    """A registered event: its stable name, newest schema version, model, and upcasters by the version they start at."""

    name: str
    version: int
    model: type[Event]
    upcasters: dict[int, Upcaster]


class EventRegistry:
    """Maps stored event types to models.

        events = EventRegistry()

        @events.register("client.email_changed", version=2)
        class EmailChanged(Event):
            email: str

        @events.upcast("client.email_changed", from_version=1)
        def _(data):
            return {"email": data["mail"]}

    The name is what is stored, so classes can move and be renamed freely. Stored events are never rewritten: a payload
    of an older version is turned into the newest, one version at a time, whenever it is read.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, EventType] = {}
        self._by_model: dict[type[Event], EventType] = {}

    def __iter__(self) -> Iterator[EventType]:
        """The registered event types, in the order of registration."""
        return iter(self._by_name.values())

    def register(self, name: str, *, version: int = 1) -> Callable[[type[EventModel]], type[EventModel]]:
        """Class decorator that gives an event model its stored name and newest schema version.

        Raises:
            RegistrationError: the name is malformed, reserved or taken, or the version is below 1.
        """
        if _EVENT_TYPE.fullmatch(name) is None:
            raise RegistrationError(f"Event name {name!r}: expected lower-case words joined by dots, as client.moved.")
        if name.startswith(f"{_RESERVED}."):
            raise RegistrationError(f"Event name {name!r}: names that start with '{_RESERVED}.' are reserved.")
        if name in self._by_name:
            raise RegistrationError(f"Event name {name!r} is registered twice.")
        if version < 1:
            raise RegistrationError(f"Event {name!r}: schema versions start at 1, not {version}.")

        def decorate(model: type[EventModel]) -> type[EventModel]:
            if model in self._by_model:
                raise RegistrationError(f"{model.__name__} is registered under two names.")
            self._by_name[name] = self._by_model[model] = EventType(name, version, model, {})
            return model

        return decorate

    def upcast(self, name: str, *, from_version: int) -> Callable[[Upcaster], Upcaster]:
        """Decorator for a pure function that turns the data of `from_version` into that of the next version.

        Raises:
            RegistrationError: the event is not registered, or the step is taken or leads past the newest version.
        """
        entry = self._by_name.get(name)
        if entry is None:
            raise RegistrationError(f"Upcaster for {name!r}: register the event first.")
        if not 1 <= from_version < entry.version or from_version in entry.upcasters:
            raise RegistrationError(
                f"Upcaster for {name!r} from version {from_version}: no such step, or declared twice."
            )

        def decorate(step: Upcaster) -> Upcaster:
            entry.upcasters[from_version] = step
            return step

        return decorate

    def check(self) -> None:
        """Refuse a registry in which a stored version could not be read.

        Raises:
            RegistrationError: an upcaster is missing.
        """
        for entry in self:
            missing = sorted(set(range(1, entry.version)) - set(entry.upcasters))
            if missing:
                raise RegistrationError(f"Event {entry.name!r} lacks the upcaster from version {missing[0]}.")

    def type_of(self, model: type[Event]) -> EventType:
        """The registration of an event model.

        Raises:
            RegistrationError: the model is not registered here.
        """
        try:
            return self._by_model[model]
        except KeyError:
            raise RegistrationError(f"{model.__name__} is not registered; decorate it with @events.register.") from None

    def event_data(
        self,
        event: Event,
        *,
        source: str,
        key: str,
        occurred_at: datetime,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> EventData:
        """An event ready to be appended.

        Args:
            event: the fact, of a registered model.
            source: system it came from: lower-case letters, digits, `-`, `_`, at most 32 characters, not `flow`.
            key: what makes the event unique within its source, at most 200 printable characters. A repeat of the same
                key with the same content is recognised; with other content it is refused.
            occurred_at: when the fact became true; with an offset.
            correlation_id: identifies the request that caused the event.
            traceparent: W3C trace context of that request.

        Raises:
            InvalidEventError: something in it cannot be stored; names the fields.
            RegistrationError: the model is not registered.
        """
        entry = self.type_of(type(event))
        if source == _RESERVED:
            raise InvalidEventError(FieldProblem("source", f"'{_RESERVED}' is reserved"))
        return EventData(
            event_id=f"{source}:{key}",
            event_type=entry.name,
            schema_version=entry.version,
            source=source,
            occurred_at=occurred_at,
            data=_payload(event),
            correlation_id=correlation_id,
            traceparent=traceparent,
        )

    def decode(self, event_type: str, schema_version: int, data: dict[str, Json]) -> Event:
        """The stored data as its registered model, upcast to the newest version.

        Raises:
            UndecodableEventError: type or version is unknown, an upcaster failed, or the data does not validate.
        """
        entry = self._by_name.get(event_type)
        if entry is None:
            raise UnknownEventTypeError(event_type, schema_version, "no event is registered under this name")
        if schema_version != entry.version:
            data = self._upcast(entry, schema_version, data)
        try:
            # `model_validate` without its wrapper; not strict, since JSON has fewer types than Python.
            event: Event = entry.model.__pydantic_validator__.validate_python(
                data, strict=False, by_alias=False, by_name=True
            )
        except ValidationError as error:
            advice = "the data does not fit its model"
            raise InvalidPayloadError(event_type, schema_version, advice, field_problems(error)) from None
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a validator is the user's code and may raise anything
            advice = f"a validator of its model raised {type(error).__name__}"
            raise InvalidPayloadError(event_type, schema_version, advice) from None
        return event

    @staticmethod
    def _upcast(entry: EventType, schema_version: int, data: dict[str, Json]) -> dict[str, Json]:
        if schema_version > entry.version:
            advice = f"the newest registered version is {entry.version}; deploy the code that wrote it"
            raise UnknownSchemaVersionError(entry.name, schema_version, advice)
        data = deepcopy(data)  # an upcaster may work in place
        for version in range(schema_version, entry.version):
            try:
                data = _step(entry, version, data)
            except _StepError as error:
                advice = f"the upcaster from version {version} {error}"
                raise UpcastError(entry.name, schema_version, advice) from None
        return data


class _StepError(Exception):
    """Why an upcaster gave nothing; says nothing of the payload."""


def _step(entry: EventType, version: int, data: dict[str, Json]) -> dict[str, Json]:
    step: Callable[[dict[str, Json]], object] | None = entry.upcasters.get(version)
    if step is None:
        raise _StepError("is missing")
    try:
        stepped = step(data)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - an upcaster is the user's code and may raise anything
        raise _StepError(f"raised {type(error).__name__}") from None
    if not isinstance(stepped, dict):
        raise _StepError(f"returned {type(stepped).__name__}, not a dict")
    return stepped


def _payload(event: Event) -> dict[str, Json]:
    """The fields as JSON, under their own names and without computed ones, so that `decode` reads them back."""
    try:
        return _dump(event)
    except ValueError:  # pydantic's message quotes the value
        wrong = next((name for name in type(event).model_fields if not _can_dump(event, name)), WHOLE)
        raise InvalidEventError(FieldProblem(wrong, "the value cannot be written as JSON")) from None


def _can_dump(event: Event, name: str) -> bool:
    try:
        _dump(event, include={name})
    except ValueError:
        return False
    return True


def _dump(event: Event, *, include: set[str] | None = None) -> dict[str, Json]:
    # `model_dump` without its wrapper.
    dumped: dict[str, Json] = event.__pydantic_serializer__.to_python(
        event, mode="json", include=include, round_trip=True, by_alias=False, warnings="error"
    )
    return dumped
