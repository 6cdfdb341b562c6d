"""The systems that are told: a CRM that knows every person, and a mailing system for those who agreed to mail."""

from datetime import date

from pydantic import BaseModel

from functions_app import FromSettings, Settings
from integrations import ApiKey, Integration, OAuth2ClientCredentials, RESTIntegration

from .person import Person


class CrmPerson(BaseModel):
    """A person as the CRM wants it."""

    number: int
    given_name: str | None
    surname: str | None
    born: date | None
    email: str | None
    phone: str | None
    street: str | None
    city: str | None
    postcode: str | None


def to_crm(person: Person) -> CrmPerson:
    """Everything but the consent."""
    identity, contact, address = person.identity, person.contact, person.address
    return CrmPerson(
        number=person.id.number,
        given_name=identity.given_name if identity else None,
        surname=identity.surname if identity else None,
        born=identity.date_of_birth if identity else None,
        email=contact.email if contact else None,
        phone=contact.phone if contact else None,
        street=address.street if address else None,
        city=address.city if address else None,
        postcode=address.postcode if address else None,
    )


def crm_api(settings: Settings) -> RESTIntegration:
    """The CRM gives each person an id of its own when it is created, and wants an access token."""
    base_url = settings.text("CRM_URL")
    return RESTIntegration(
        base_url,
        create="POST /people",
        update="PUT /people/{remote}",
        lookup="GET /people?number={number}",
        auth=OAuth2ClientCredentials(
            f"{base_url}/token", settings.text("CRM_CLIENT_ID"), settings.secret("CRM_CLIENT_SECRET")
        ),
    )


class Subscriber(BaseModel):
    """A person as the mailing system wants it."""

    email: str


def to_mailing(person: Person) -> Subscriber | None:
    """Only who agreed to mail; None takes the person off the list again."""
    if person.contact is None or person.contact.email is None or person.consent is None or not person.consent.email:
        return None
    return Subscriber(email=person.contact.email)


def mailing_api(settings: Settings) -> RESTIntegration:
    """The mailing system goes by our client id and wants a key."""
    return RESTIntegration(
        settings.text("MAILING_URL"),
        update="PUT /subscribers/{client_id}",
        retract="DELETE /subscribers/{client_id}",
        auth=ApiKey(settings.secret("MAILING_KEY")),
    )


crm = Integration(
    name="crm", cares_about=("identity", "contact", "address"), mapping=to_crm, strategy=FromSettings(crm_api)
)
mailing = Integration(
    name="mailing", cares_about=("contact", "consent"), mapping=to_mailing, strategy=FromSettings(mailing_api)
)
