"""What is known of a person, and how events change it."""

from datetime import date
from typing import Annotated, Any

from eventstore import ClientId, Event
from projections import ONE_VALUE, Projection, SubSchema, UnifiedSchema, UpdateProcessor

from .events import ConsentGiven, ConsentWithdrawn, ContactChanged, PersonIdentified, PersonMoved, events


class PersonId(ClientId):
    """The number under which the group of companies knows the person."""

    number: int


class Identity(SubSchema):
    """Who the person is."""

    given_name: str | None = None
    surname: str | None = None
    date_of_birth: date | None = None
    social_security_id: str | None = None


class Address(SubSchema):
    """Where the person lives: one value, since half of an old address and half of a new one is none."""

    street: str | None = None
    district: str | None = None
    city: str | None = None
    postcode: str | None = None
    state: str | None = None


class Contact(SubSchema):
    """How the person is reached."""

    email: str | None = None
    phone: str | None = None


class Consent(SubSchema):
    """By which channels the person wants advertising; None if never asked."""

    email: bool | None = None
    phone: bool | None = None


class Person(UnifiedSchema):
    """The one record of a person."""

    id: PersonId
    identity: Identity | None = None
    address: Annotated[Address | None, ONE_VALUE] = None
    contact: Contact | None = None
    consent: Consent | None = None


people = Projection("people", Person, events, version=1)


def told(event: Event) -> dict[str, Any]:
    """The fields that an event has something to say about."""
    return {name: value for name, value in event if value is not None}


@people.on(PersonIdentified)
def identify(record: Person, event: PersonIdentified) -> Person:
    """Take over what is told, keep the rest."""
    return record.evolve(identity=told(event))


@people.on(PersonMoved)
def move(record: Person, event: PersonMoved) -> Person:
    """Replace the address."""
    return record.evolve(address=Address(**told(event)))


@people.on(ContactChanged)
def change_contact(record: Person, event: ContactChanged) -> Person:
    """Take over what is told, keep the rest."""
    return record.evolve(contact=told(event))


@people.on(ConsentGiven)
def give_consent(record: Person, event: ConsentGiven) -> Person:
    """Note the consent; a channel that the schema does not have parks the person."""
    return record.evolve(consent={event.channel: True})


class WithdrawConsent(UpdateProcessor[ConsentWithdrawn, Person]):
    """A rule as an object, as rules with settings or shared code are written."""

    def process_message(self, event: ConsentWithdrawn, current: Person) -> Person:
        """Note the withdrawal."""
        return current.evolve(consent={event.channel: False})


people.on(ConsentWithdrawn)(WithdrawConsent())
