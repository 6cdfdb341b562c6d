"""A domain whose every part fails with a message full of what it was given, as careless code does."""

from collections.abc import Iterator
from typing import Any

from pydantic import AwareDatetime, BaseModel, Field, field_validator

from eventstore import ClientId, Event, EventRegistry
from functions_app import Domain, Fact, FromSettings, HmacSignature, PayloadKey, Pull, Pulled, Receiver, Settings
from integrations import ApiKey, Body, Delivery, Integration, OAuth2ClientCredentials, Outcome, RESTIntegration
from projections import Projection, SubSchema, UnifiedSchema

SILENT = "canaryname"
"""Prefix of every canary, so that tests notice one that they did not list."""
PASSWORD = f"{SILENT}-password"

events = EventRegistry()


class Number(ClientId):
    text: str


@events.register("client.told")
class Told(Event):
    email: str
    note: str
    trouble: str = ""
    free: dict[str, Any] = Field(default_factory=dict)


class Contact(SubSchema):
    email: str | None = None
    note: str | None = None
    trouble: str = ""

    @field_validator("email")
    @classmethod
    def no_comma(cls, value: str | None) -> str | None:
        if value and "," in value:
            raise ValueError(f"{value} has a comma")
        return value


class Client(UnifiedSchema):
    id: Number
    contact: Contact | None = None


clients = Projection("canaries", Client, events, version=1)


@clients.on(Told)
def tell(record: Client, event: Told) -> Client:
    if event.trouble == "rule":
        raise ValueError(f"cannot digest {event!r} for {record!r}")
    return record.evolve(contact={"email": event.email, "note": event.note, "trouble": event.trouble})


class Message(BaseModel):
    """What sources send; unlike our own models it shows its input in errors."""

    key: str
    client: str
    email: str
    note: str = ""
    trouble: str = ""
    at: AwareDatetime | None = None
    free: dict[str, Any] = Field(default_factory=dict)

    @field_validator("note")
    @classmethod
    def no_comma(cls, value: str) -> str:
        if "," in value:
            raise ValueError(f"{value} has a comma")
        return value


def facts(message: Message) -> Iterator[Fact]:
    if message.trouble == "processor":
        raise ValueError(f"cannot process {message!r}")
    told = Told(email=message.email, note=message.note, trouble=message.trouble, free=message.free)
    yield Fact(Number(text=message.client), told, message.at)


class Row(BaseModel):
    """What targets get: a secret among it."""

    email: str
    note: str | None = None
    password: str = PASSWORD


def mapping(client: Client) -> Row | None:
    contact = client.contact
    if contact is None or contact.email is None:
        return None
    if contact.trouble == "mapping":
        raise ValueError(f"cannot map {client!r}")
    return Row(email=contact.email, note=contact.note)


class Careless:
    """A strategy that raises."""

    def send(self, body: Body, delivery: Delivery) -> Outcome:
        raise ValueError(f"cannot send {body} for {delivery}")

    def retract(self, delivery: Delivery) -> Outcome:
        raise ValueError(f"cannot retract {delivery}")


def pulled(settings: Settings, cursor: str | None) -> Iterator[Pulled]:
    """Two portions, then trouble that quotes what was last seen."""
    at = "2026-01-31T12:00:00Z"
    canaries = [f"{SILENT}-pulled-{number}" for number in range(3)]
    good = {"key": canaries[0], "client": canaries[1], "email": canaries[2], "at": at}
    if cursor is None:
        yield Pulled([good, {**good, "email": [canaries[0]]}, canaries[1], {**good, "note": f"{canaries[2]},"}], "1")
    raise ValueError(f"cannot go on after {good} with {settings.text('PULL_KEY')}")


def crm(settings: Settings) -> RESTIntegration:
    url = settings.text("TARGET_URL")
    auth = OAuth2ClientCredentials(f"{url}/token", settings.text("CRM_CLIENT"), settings.secret("CRM_SECRET"))
    return RESTIntegration(
        url,
        create="POST /people",
        update="PUT /people/{remote}",
        lookup="GET /people?email={email}",
        auth=auth,
        sleep=lambda _: None,
    )


def mailing(settings: Settings) -> RESTIntegration:
    return RESTIntegration(
        settings.text("TARGET_URL"),
        update="PUT /subscribers/{client_id}",
        auth=ApiKey(settings.secret("MAILING_KEY")),
        sleep=lambda _: None,
    )


domain = Domain(
    events=events,
    projection=clients,
    receivers=[
        Receiver(name="open", payload=Message, process=facts, key=PayloadKey("key")),
        Receiver(
            name="signed",
            payload=Message,
            process=facts,
            key=PayloadKey("key"),
            signature=lambda settings: HmacSignature(settings.secret("SIGNING_SECRET")),
        ),
    ],
    pulls=[
        Pull(
            name="registry",
            payload=Message,
            process=facts,
            key=PayloadKey("key"),
            schedule="0 0 0 1 1 *",
            get_data=pulled,
        )
    ],
    integrations=[
        Integration(name="crm", cares_about=["contact"], mapping=mapping, strategy=FromSettings(crm)),
        Integration(name="mailing", cares_about=["contact"], mapping=mapping, strategy=FromSettings(mailing)),
        Integration(name="careless", cares_about=["contact"], mapping=mapping, strategy=Careless()),
    ],
)
