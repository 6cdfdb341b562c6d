"""The event registry: stable names and schema versions for event models, and the upcasters between versions."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from .canonical import Json, normalize
from .errors import (
    FieldProblem,
    InvalidEventError,
    InvalidPayloadError,
    RegistrationError,
    UnknownEventTypeError,
    UnknownSchemaVersionError,
    UpcastError,
    field_problems,
)
from .events import Event, EventData

RESERVED_PREFIX = "flow."
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+")
_SOURCE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
MAX_KEY = 200

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
        if name.startswith(RESERVED_PREFIX):
            raise RegistrationError(f"Event name {name!r}: names that start with {RESERVED_PREFIX!r} are reserved.")
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
            source: system it came from: lower-case letters, digits, `-`, `_`, at most 32 characters.
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
        if _SOURCE.fullmatch(source) is None:
            raise InvalidEventError(FieldProblem("source", "1 to 32 of a-z, 0-9, '-', '_' were expected"))
        if not 0 < len(key) <= MAX_KEY or not key.isprintable():
            raise InvalidEventError(FieldProblem("key", f"1 to {MAX_KEY} printable characters were expected"))
        if occurred_at.utcoffset() is None:
            raise InvalidEventError(FieldProblem("occurred_at", "a time needs an offset, as 2026-01-31T12:00:00+01:00"))
        return EventData(
            event_id=f"{source}:{key}",
            event_type=entry.name,
            schema_version=entry.version,
            source=source,
            occurred_at=occurred_at.astimezone(UTC),
            data=normalize(event.model_dump(mode="json")),
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
            event: Event = entry.model.__pydantic_validator__.validate_python(
                data
            )  # model_validate without its wrapper
        except ValidationError as error:
            raise InvalidPayloadError(
                event_type, schema_version, "the data does not fit its model", field_problems(error)
            ) from None
        return event

    @staticmethod
    def _upcast(entry: EventType, schema_version: int, data: dict[str, Json]) -> dict[str, Json]:
        if schema_version > entry.version:
            advice = f"the newest registered version is {entry.version}; deploy the code that wrote it"
            raise UnknownSchemaVersionError(entry.name, schema_version, advice)
        data = deepcopy(data)
        for version in range(schema_version, entry.version):
            step: Any = entry.upcasters.get(version)
            if step is None:
                raise UpcastError(entry.name, schema_version, f"the upcaster from version {version} is missing")
            try:
                data = step(data)
            except Exception as error:
                advice = f"the upcaster from version {version} raised {type(error).__name__}"
                raise UpcastError(entry.name, schema_version, advice) from error
        return data
