"""A small registry of events and factories that make them, for tests that need some."""

from datetime import UTC, datetime, timedelta
from typing import Any

from eventstore import ClientId, Event, EventData, EventRegistry, RecordedEvent

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

events = EventRegistry()


class PersonId(ClientId):
    """Document type and number, as a company would name a person."""

    document_type: str
    number: str


@events.register("client.registered")
class Registered(Event):
    """A client signed up."""

    name: str


@events.register("client.email_changed", version=2)
class EmailChanged(Event):
    """A client has another address."""

    email: str


@events.upcast("client.email_changed", from_version=1)
def _rename(data: dict[str, Any]) -> dict[str, Any]:
    return {"email": data["mail"]}


def email(number: int = 1, *, address: str | None = None, minutes: int = 0, source: str = "crm") -> EventData:
    """The e-mail event with key `number`; content follows from the number unless an address is given."""
    return events.event_data(
        EmailChanged(email=address or f"a{number}@x.example"),
        source=source,
        key=str(number),
        occurred_at=NOON + timedelta(minutes=minutes),
    )


def emails(*numbers: int) -> list[EventData]:
    """The e-mail events with these keys."""
    return [email(number) for number in numbers]


def is_intact(stream: list[RecordedEvent]) -> bool:
    """Whether a whole stream counts 1 to n, holds each event id once and is chained by its hashes."""
    previous = ""
    for number, event in enumerate(stream, start=1):
        if event.version != number or not event.follows(previous):
            return False
        previous = event.hash
    return len({event.event_id for event in stream}) == len(stream)
