"""A small domain for the crash tests, and the work that is done with it: the same for the same seed.

The source retries whatever was not acknowledged, as a webhook's sender does; some of it comes twice, some of it late.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel

from eventstore import ClientId, Event, EventRegistry
from functions_app import Domain, Fact, PayloadKey, Pull, Pulled, Receiver, Settings
from integrations import Integration, RESTIntegration, Strategy
from projections import ONE_VALUE, Projection, SubSchema, UnifiedSchema

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
"""Before this nothing happens; facts became true in the month before."""
CLIENTS = ("ada", "bob", "cyd", "dee", "eve")
PARKED = "eve"
"""The client with an event that its rule cannot digest."""

events = EventRegistry()


class Number(ClientId):
    name: str


@events.register("client.named")
class Named(Event):
    value: str


@events.register("client.mailed")
class Mailed(Event):
    value: str


@events.register("client.moved")
class Moved(Event):
    value: str


@events.register("client.unlisted")
class Unlisted(Event):
    """The client is not to be written to any more."""


@events.register("client.poisoned")
class Poisoned(Event):
    """What no rule can digest."""


class Identity(SubSchema):
    name: str | None = None


class Contact(SubSchema):
    email: str | None = None


class Address(SubSchema):
    city: str | None = None


class Client(UnifiedSchema):
    id: Number
    identity: Identity | None = None
    contact: Contact | None = None
    address: Annotated[Address | None, ONE_VALUE] = None


clients = Projection("clients", Client, events, version=1)


@clients.on(Named)
def name(record: Client, event: Named) -> Client:
    return record.evolve(identity={"name": event.value})


@clients.on(Mailed)
def mail(record: Client, event: Mailed) -> Client:
    return record.evolve(contact={"email": event.value})


@clients.on(Moved)
def move(record: Client, event: Moved) -> Client:
    return record.evolve(address=Address(city=event.value))


@clients.on(Unlisted)
def unlist(record: Client, event: Unlisted) -> Client:
    return record.evolve(contact=None)


@clients.on(Poisoned)
def digest(record: Client, event: Poisoned) -> Client:
    raise ArithmeticError


class Told(BaseModel):
    kind: Literal["named", "mailed", "moved", "unlisted", "poisoned"]
    value: str = ""
    at: AwareDatetime


class Change(BaseModel):
    """What the source sends: one delivery, one or more facts about a client."""

    key: str
    client: str
    facts: list[Told]


_MODELS: dict[str, Callable[[str], Event]] = {
    "named": lambda value: Named(value=value),
    "mailed": lambda value: Mailed(value=value),
    "moved": lambda value: Moved(value=value),
    "unlisted": lambda _: Unlisted(),
    "poisoned": lambda _: Poisoned(),
}


def facts(change: Change) -> Iterator[Fact]:
    for told in change.facts:
        yield Fact(Number(name=change.client), _MODELS[told.kind](told.value), told.at)


class Person(BaseModel):
    """What the CRM gets."""

    number: str
    name: str | None
    email: str | None


class Subscriber(BaseModel):
    """What the mailing system gets."""

    email: str


def to_crm(client: Client) -> Person:
    return Person(
        number=client.id.name,
        name=client.identity.name if client.identity else None,
        email=client.contact.email if client.contact else None,
    )


def to_mailing(client: Client) -> Subscriber | None:
    return Subscriber(email=client.contact.email) if client.contact and client.contact.email else None


class Work(NamedTuple):
    """Everything that is to be done.

    Attributes:
        batches: deliveries that are posted one by one; after each batch the stages get a turn.
        portions: what the registry has to be asked for, a portion at a time; some of it is no valid delivery.
    """

    batches: list[list[dict[str, Any]]]
    portions: list[list[dict[str, Any]]]


def work(seed: int) -> Work:
    """Deliveries of five clients, some late and some of them twice; the parked client goes on sending."""
    random = Random(seed)
    posts = [_delivery(random, client, number, f"{client}-{number}") for number in range(4) for client in CLIENTS]
    for client, post in zip(CLIENTS, posts[: len(CLIENTS)], strict=True):
        post["facts"].insert(0, _told(random, client, 0, "named"))
    poison = len(CLIENTS) * 2 - 1
    posts.insert(poison, {"key": "poison", "client": PARKED, "facts": [_told(random, PARKED, 1, "poisoned")]})
    for repeated in random.sample(posts[:12], 3):
        posts.insert(random.randrange(posts.index(repeated) + 1, len(posts)), repeated)
    portions: list[list[dict[str, Any]]] = [
        [_delivery(random, random.choice(CLIENTS), number, f"row-{number}-{each}") for each in range(3)]
        for number in range(3)
    ]
    for number, portion in enumerate(portions):
        portion.insert(random.randrange(4), {"key": f"broken-{number}", "client": CLIENTS[number], "facts": "none"})
    return Work([posts[at : at + 5] for at in range(0, len(posts), 5)], portions)


def _delivery(random: Random, client: str, number: int, key: str) -> dict[str, Any]:
    kinds = random.choices(["named", "mailed", "moved", "unlisted"], [3, 6, 2, 2], k=random.choice([1, 1, 2]))
    return {"key": key, "client": client, "facts": [_told(random, client, number, kind) for kind in kinds]}


def _told(random: Random, client: str, number: int, kind: str) -> dict[str, Any]:
    """A fact of a kind: one of two values, so that values come back; one in four is days late."""
    late = timedelta(days=random.randrange(1, 4) if random.random() < 0.25 else 0)
    at = START - timedelta(days=10 - number, seconds=random.randrange(86_400)) - late
    value = "" if kind in {"unlisted", "poisoned"} else f"{kind} {client} {random.choice('AB')}"
    return {"kind": kind, "value": value, "at": at.isoformat()}


def flow_domain(url: str, seed: int, around: Callable[[Strategy], Strategy] = lambda strategy: strategy) -> Domain:
    """The domain with its targets.

    Args:
        url: where the targets are.
        seed: of the work; decides what the registry has.
        around: wraps the strategies.
    """
    portions = work(seed).portions

    def get_data(settings: Settings, cursor: str | None) -> Iterator[Pulled]:
        for number in range(int(cursor or 0), len(portions)):
            yield Pulled(portions[number], str(number + 1))

    crm = RESTIntegration(
        url,
        create="POST /people",
        update="PUT /people/{remote}",
        lookup="GET /people?number={number}",
        sleep=lambda _: None,
    )
    mailing = RESTIntegration(
        url, update="PUT /subscribers/{client_id}", retract="DELETE /subscribers/{client_id}", sleep=lambda _: None
    )
    return Domain(
        events=events,
        projection=clients,
        receivers=[Receiver(name="feed", payload=Change, process=facts, key=PayloadKey("key"))],
        pulls=[
            Pull(
                name="registry",
                payload=Change,
                process=facts,
                key=PayloadKey("key"),
                schedule="0 * * * * *",
                get_data=get_data,
            )
        ],
        integrations=[
            Integration(name="crm", cares_about=("identity", "contact"), mapping=to_crm, strategy=around(crm)),
            Integration(
                name="mailing", cares_about=("contact",), mapping=to_mailing, strategy=around(mailing), max_in_flight=2
            ),
        ],
    )
