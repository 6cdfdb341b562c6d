"""A small unified schema with its events and rules, for tests that need some."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Annotated, Any

from pydantic import Field

from eventstore import ClientId, Event, EventData, EventRegistry
from projections import ONE_VALUE, Projection, SubSchema, UnifiedSchema

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

events = EventRegistry()


class PersonId(ClientId):
    """A number."""

    number: str


class Contact(SubSchema):
    """How the client is reached, field by field."""

    email: str | None = None
    phone: str | None = None


class Address(SubSchema):
    """Where the client lives, as one value."""

    street: str
    city: str


class Profile(SubSchema):
    """What is known besides; never None."""

    language: str = "en"
    tags: list[str] = Field(default_factory=list)


class Client(UnifiedSchema):
    """The record."""

    id: PersonId
    contact: Contact | None = None
    address: Annotated[Address | None, ONE_VALUE] = None
    profile: Profile = Profile()
    segment: str = "standard"
    score: int | float | None = None


@events.register("client.contacted")
class Contacted(Event):
    """Some of the contact fields are told."""

    email: str | None = None
    phone: str | None = None


@events.register("client.contact_replaced")
class ContactReplaced(Event):
    """All contact fields are told; what is missing is gone."""

    email: str | None = None


@events.register("client.contact_removed")
class ContactRemoved(Event):
    """There is no contact any more."""


@events.register("client.moved")
class Moved(Event):
    """There is another address."""

    street: str
    city: str


@events.register("client.address_removed")
class AddressRemoved(Event):
    """There is no address any more."""


@events.register("client.tagged")
class Tagged(Event):
    """The tags are these."""

    tags: list[str]


@events.register("client.graded")
class Graded(Event):
    """A plain value at the top is told."""

    segment: str


@events.register("client.scored")
class Scored(Event):
    """A number is told; below zero no rule can digest it."""

    score: float


@events.register("client.corrected")
class Corrected(Event):
    """The e-mail address, whatever was said by later facts."""

    email: str


@events.register("client.visited")
class Visited(Event):
    """Something no rule cares about."""


clients = Projection("clients", Client, events, version=1)


def told(event: Event) -> dict[str, Any]:
    """The fields that an event says something about."""
    return {name: value for name, value in event if value is not None}


def add_rules(projection: Projection[Client], *, but: type[Event] | None = None) -> None:
    """Give another projection the same rules, without that of one event if that is to get another."""
    rules: dict[type[Event], Any] = {
        Contacted: contacted,
        ContactReplaced: contact_replaced,
        ContactRemoved: contact_removed,
        Moved: moved,
        AddressRemoved: address_removed,
        Tagged: tagged,
        Graded: graded,
        Scored: scored,
        Corrected: corrected,
    }
    for event, rule in rules.items():
        if event is not but:
            projection.on(event, late="apply" if event is Corrected else "supersede")(rule)


def contacted(record: Client, event: Contacted) -> Client:
    """Take over what is told."""
    return record.evolve(contact=told(event))


def contact_replaced(record: Client, event: ContactReplaced) -> Client:
    """Take over all of it."""
    return record.evolve(contact=Contact(**told(event)))


def contact_removed(record: Client, event: ContactRemoved) -> Client:
    """Forget it."""
    return record.evolve(contact=None)


def moved(record: Client, event: Moved) -> Client:
    """Take over the address as a whole."""
    return record.evolve(address=event.model_dump())


def address_removed(record: Client, event: AddressRemoved) -> Client:
    """Forget it."""
    return record.evolve(address=None)


def tagged(record: Client, event: Tagged) -> Client:
    """Take over the list as one value."""
    return record.evolve(profile={"tags": event.tags})


def graded(record: Client, event: Graded) -> Client:
    """Take over the plain value."""
    return record.evolve(segment=event.segment)


def scored(record: Client, event: Scored) -> Client:
    """Take over the number, unless it is negative."""
    if event.score < 0:
        raise ValueError(f"{event.score} is negative")
    return record.evolve(score=event.score)


def corrected(record: Client, event: Corrected) -> Client:
    """Take over the address, late or not."""
    return record.evolve(contact={"email": event.email})


add_rules(clients)

_keys = count(1)


def fact(event: Event, *, minute: float = 0, key: str | None = None, source: str = "crm") -> EventData:
    """An event that became true some minutes after noon; with a key of its own if none is given."""
    return events.event_data(
        event, source=source, key=key or f"key-{next(_keys)}", occurred_at=NOON + timedelta(minutes=minute)
    )
