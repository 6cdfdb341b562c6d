"""The workload: clients whose identity, address, contact and consent change, as the sample's do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from eventstore import ANY, Event, EventData, EventRegistry, SqliteEventStore
from functions_app.sample.events import ConsentGiven, ContactChanged, PersonIdentified, PersonMoved
from functions_app.sample.events import events as sample_events
from functions_app.sample.person import Person, change_contact, give_consent, identify, move
from projections import Projection

START = datetime(2026, 1, 1, tzinfo=UTC)
PER_CLIENT = 20


def change(client: int, place: int) -> Event:
    """The event at a place of a client's history."""
    match place % 4:
        case 0:
            return PersonIdentified(given_name=f"Ana {place}", surname=f"Díaz {client}")
        case 1:
            return ContactChanged(email=f"a{place}@mail{client}.example", phone=f"+34 600 {client} {place}")
        case 2:
            return PersonMoved(street=f"Calle Mayor {place}", city="Madrid", postcode="28013")
        case _:
            return ConsentGiven(channel="email" if place % 8 > 3 else "phone")


def encoded(fact: Event, client: int, place: int) -> EventData:
    """A fact, ready to be appended."""
    when = START + timedelta(minutes=place)
    return sample_events.event_data(fact, source="crm", key=f"{client}-{place}", occurred_at=when)


def event_data(client: int, place: int) -> EventData:
    """The event at a place of a client's history, ready to be appended."""
    return encoded(change(client, place), client, place)


def projection(rules: int) -> Projection[Person]:
    """The sample's rules, among so many registered ones."""
    events = EventRegistry()
    for event_type in sample_events:
        events.register(event_type.name, version=event_type.version)(event_type.model)
        for version, step in event_type.upcasters.items():
            events.upcast(event_type.name, from_version=version)(step)
    people = Projection("people", Person, events, version=1)
    for model, rule in (
        (PersonIdentified, identify),
        (ContactChanged, change_contact),
        (PersonMoved, move),
        (ConsentGiven, give_consent),
    ):
        people.on(model)(rule)
    for number in range(rules - len(people.rules)):
        model = events.register(f"bench.unused_{number}")(type(f"Unused{number}", (Event,), {}))
        people.on(model)(identify)
    return people


def fill(store: SqliteEventStore, clients: int) -> int:
    """Append 20 events for each client, interleaved as they come from outside; returns how many."""
    for first in range(0, PER_CLIENT, 5):
        for client in range(clients):
            events = [event_data(client, place) for place in range(first, first + 5)]
            store.append(str(client + 1), events, expected_version=ANY)
    return clients * PER_CLIENT


def client_ids(clients: int) -> Iterator[str]:
    """Ids of the clients that `fill` makes."""
    return (str(client + 1) for client in range(clients))
