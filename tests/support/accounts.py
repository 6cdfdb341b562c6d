"""A small domain with what the sample does not have: other event keys and signatures, free-form data, an id of texts."""

from collections.abc import Iterator
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from eventstore import ClientId, Event, EventRegistry
from functions_app import Domain, Fact, HeaderKey, HmacSignature, NoKey, PayloadKey, Receiver, SignedTimestamp
from projections import Projection, SubSchema, UnifiedSchema

events = EventRegistry()


class AccountId(ClientId):
    """Where an account is, and which."""

    country: str
    number: str


@events.register("account.noted")
class Noted(Event):
    """Somebody noted something about the account."""

    note: Any = None


class Notes(SubSchema):
    """What is noted."""

    last: Any = None


class Account(UnifiedSchema):
    """The record of an account."""

    id: AccountId
    notes: Notes | None = None


accounts = Projection("accounts", Account, events, version=1)


@accounts.on(Noted)
def take_note(record: Account, event: Noted) -> Account:
    """The last note counts."""
    return record.evolve(notes={"last": event.note})


class Meta(BaseModel):
    """Who says so."""

    model_config = ConfigDict(extra="forbid")

    id: str | int | None = None
    revision: int | None = None


class Note(BaseModel):
    """What the sources send."""

    model_config = ConfigDict(extra="forbid")

    country: str = "ES"
    number: str
    note: Any = None
    at: AwareDatetime | None = None
    meta: Meta | None = None


def facts(note: Note) -> Iterator[Fact]:
    """One fact; a note `raise` stands for a mistake in the processor."""
    if note.note == "raise":
        raise RuntimeError(f"cannot process {note.number}")
    yield Fact(AccountId(country=note.country, number=note.number), Noted(note=note.note), note.at)


SECRET, OLD_SECRET = "secret-of-the-sender", "secret-until-last-week"


def _receiver(name: str, key: Any, **more: Any) -> Receiver:
    return Receiver(name=name, payload=Note, process=facts, key=key, **more)


domain = Domain(
    events=events,
    projection=accounts,
    receivers=[
        _receiver("nested", PayloadKey("meta.id", "meta.revision")),
        _receiver("by_header", HeaderKey("X-Delivery")),
        _receiver("keyless", NoKey(), max_bytes=2048),
        _receiver(
            "hexed",
            PayloadKey("meta.id"),
            signature=lambda settings: HmacSignature(
                settings.secret("HEXED_SECRET"),
                settings.secret("HEXED_OLD_SECRET"),
                header="X-Hub-Signature-256",
                encoding="hex",
                prefix="sha256=",
            ),
        ),
        _receiver(
            "stamped",
            PayloadKey("meta.id"),
            signature=lambda settings: HmacSignature(
                settings.secret("HEXED_SECRET"),
                header="X-Signature",
                encoding="hex",
                timestamp=SignedTimestamp("X-Timestamp"),
            ),
        ),
        _receiver("unset", NoKey(), signature=lambda settings: HmacSignature(settings.secret("A_SETTING_NOBODY_SET"))),
    ],
)

SECRETS = {"HEXED_SECRET": SECRET, "HEXED_OLD_SECRET": OLD_SECRET}
