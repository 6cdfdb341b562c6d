"""What can happen to a person."""

from datetime import date
from typing import Any

from eventstore import Event, EventRegistry

events = EventRegistry()


@events.register("person.identified", version=2)
class PersonIdentified(Event):
    """A system told who the person is; what it did not tell is None."""

    given_name: str | None = None
    surname: str | None = None
    date_of_birth: date | None = None
    social_security_id: str | None = None


@events.upcast("person.identified", from_version=1)
def split_name(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had one name; the last word of it is the surname."""
    given_name, _, surname = data.pop("name").rpartition(" ")
    return {**data, "given_name": given_name or None, "surname": surname}


@events.register("person.moved")
class PersonMoved(Event):
    """The person lives somewhere else."""

    street: str | None = None
    district: str | None = None
    city: str | None = None
    postcode: str | None = None
    state: str | None = None


@events.register("person.contact_changed")
class ContactChanged(Event):
    """The person is reached another way; what did not change is None."""

    email: str | None = None
    phone: str | None = None


@events.register("person.consent_given")
class ConsentGiven(Event):
    """The person agreed to get advertising by this channel."""

    channel: str


@events.register("person.consent_withdrawn")
class ConsentWithdrawn(Event):
    """The person does not want advertising by this channel any more."""

    channel: str
