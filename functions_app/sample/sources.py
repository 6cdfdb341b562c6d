"""The systems that tell about persons: a CRM and a shop that post to us, and a registry that we ask."""

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any

import requests
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from functions_app import Fact, HmacSignature, PayloadKey, Pull, Pulled, Receiver, Settings

from .events import ConsentGiven, ConsentWithdrawn, ContactChanged, PersonIdentified, PersonMoved
from .person import PersonId

# --- the CRM sends its own JSON, only with what changed -------------------------------------------------------------


class CrmName(BaseModel):
    """Who the person is, as the CRM says it."""

    model_config = ConfigDict(extra="forbid")

    given: str
    family: str
    born: date | None = None


class CrmContact(BaseModel):
    """How the person is reached, as the CRM says it."""

    model_config = ConfigDict(extra="forbid")

    email: str | None = None
    phone: str | None = None


class CrmConsent(BaseModel):
    """A decision about advertising."""

    model_config = ConfigDict(extra="forbid")

    channel: str
    given: bool


class CrmChange(BaseModel):
    """One change in the CRM."""

    model_config = ConfigDict(extra="forbid")

    change_id: str
    person: int = Field(gt=0)
    changed_at: AwareDatetime
    name: CrmName | None = None
    contact: CrmContact | None = None
    consent: CrmConsent | None = None


def crm_facts(change: CrmChange) -> Iterator[Fact]:
    """One fact for each part that changed."""
    person, when = PersonId(number=change.person), change.changed_at
    if change.name is not None:
        name = change.name
        identified = PersonIdentified(given_name=name.given, surname=name.family, date_of_birth=name.born)
        yield Fact(person, identified, when)
    if change.contact is not None:
        yield Fact(person, ContactChanged(email=change.contact.email, phone=change.contact.phone), when)
    if change.consent is not None:
        decision = ConsentGiven if change.consent.given else ConsentWithdrawn
        yield Fact(person, decision(channel=change.consent.channel), when)


crm = Receiver(
    name="crm",
    payload=CrmChange,
    process=crm_facts,
    key=PayloadKey("change_id"),
    queue="also",  # the CRM may put its changes into the session queue crm-events instead of posting them
)

# --- the shop posts webhooks in the public shape of Shopify's customers/update ---------------------------------------


class ShopAddress(BaseModel):
    """The parts of a Shopify address that we use."""

    address1: str | None = None
    address2: str | None = None
    city: str | None = None
    zip: str | None = None
    province_code: str | None = None


class ShopMarketingConsent(BaseModel):
    """Shopify's e-mail marketing consent."""

    state: str
    consent_updated_at: AwareDatetime | None = None


def _person_tag(tags: Any) -> Any:
    """The number in the tag `person-N`, by which the shop's customers are linked to persons."""
    numbers = [tag.strip().removeprefix("person-") for tag in str(tags).split(",") if tag.strip().startswith("person-")]
    return numbers[0] if len(numbers) == 1 else None


class ShopCustomer(BaseModel):
    """A customer as Shopify's webhooks send it; what we do not use is ignored."""

    id: int
    updated_at: AwareDatetime
    person: Annotated[int, BeforeValidator(_person_tag), Field(alias="tags", gt=0)]
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None
    default_address: ShopAddress | None = None
    email_marketing_consent: ShopMarketingConsent | None = None


def shop_facts(customer: ShopCustomer) -> Iterator[Fact]:
    """A webhook holds the whole customer: everything it knows is asserted anew."""
    person, when = PersonId(number=customer.person), customer.updated_at
    yield Fact(person, PersonIdentified(given_name=customer.first_name, surname=customer.last_name), when)
    yield Fact(person, ContactChanged(email=customer.email, phone=customer.phone), when)
    if customer.default_address is not None:
        home = customer.default_address
        moved = PersonMoved(
            street=home.address1, district=home.address2, city=home.city, postcode=home.zip, state=home.province_code
        )
        yield Fact(person, moved, when)
    consent = customer.email_marketing_consent
    if consent is not None and consent.state == "subscribed":
        yield Fact(person, ConsentGiven(channel="email"), consent.consent_updated_at or when)
    if consent is not None and consent.state == "unsubscribed":
        yield Fact(person, ConsentWithdrawn(channel="email"), consent.consent_updated_at or when)


shop = Receiver(
    name="shop",
    payload=ShopCustomer,
    process=shop_facts,
    key=PayloadKey("id", "updated_at"),
    signature=lambda settings: HmacSignature(settings.secret("SHOP_SECRET")),
)

# --- the registry is asked every five minutes; its rows also come as files -------------------------------------------


def _compact_date(value: Any) -> Any:
    """Dates come as YYYYMMDD."""
    if isinstance(value, str) and len(value) == 8 and value.isdigit():  # noqa: PLR2004 - the eight digits
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    return value


class RegistryRow(BaseModel):
    """A row of the registry of persons. `rec-N-org` and `rec-N-dup-K` are entries about person number N."""

    model_config = ConfigDict(extra="forbid")

    rec_id: str = Field(pattern=r"^rec-\d{1,9}-(org|dup-\d{1,3})$")
    given_name: str | None = None
    surname: str | None = None
    street_number: str | None = None
    address_1: str | None = None
    address_2: str | None = None
    suburb: str | None = None
    postcode: str | None = Field(default=None, pattern=r"^\d{4}$")
    state: str | None = None
    date_of_birth: Annotated[date | None, BeforeValidator(_compact_date)] = None
    soc_sec_id: str | None = Field(default=None, pattern=r"^\d{7}$")
    changed_at: AwareDatetime | None = None


def registry_facts(row: RegistryRow) -> Iterator[Fact]:
    """Who the person is, and where it lives if the row says so."""
    person = PersonId(number=int(row.rec_id.split("-")[1]))
    identified = PersonIdentified(
        given_name=row.given_name,
        surname=row.surname,
        date_of_birth=row.date_of_birth,
        social_security_id=row.soc_sec_id,
    )
    yield Fact(person, identified, row.changed_at)
    street = " ".join(part for part in (row.street_number, row.address_1) if part) or None
    if street or row.suburb or row.postcode:
        moved = PersonMoved(
            street=street, district=row.address_2, city=row.suburb, postcode=row.postcode, state=row.state
        )
        yield Fact(person, moved, row.changed_at)


def registry_data(settings: Settings, cursor: str | None) -> Iterator[Pulled]:
    """Ask the registry page by page for what changed since the cursor."""
    with requests.Session() as session:
        while True:
            answer = session.get(
                settings.text("REGISTRY_URL"), params={"after": cursor or ""}, timeout=10, allow_redirects=False
            )
            answer.raise_for_status()
            page = answer.json()
            if not page["items"]:
                return
            cursor = str(page["cursor"])
            yield Pulled(page["items"], cursor)


registry = Pull(
    name="registry",
    payload=RegistryRow,
    process=registry_facts,
    key=PayloadKey("rec_id", "changed_at"),
    schedule="0 */5 * * * *",
    get_data=registry_data,
)
