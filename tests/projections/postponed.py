"""A schema in a module with postponed annotations, as Python code of the last years often has them."""

from __future__ import annotations

from typing import Optional

from eventstore import ClientId
from projections import SubSchema, UnifiedSchema


class NumberId(ClientId):
    """A number."""

    number: int


class Contact(SubSchema):
    """How the client is reached."""

    email: str | None = None


class Client(UnifiedSchema):
    """The record, declared before one of its parts is."""

    id: NumberId
    contact: Optional[Contact] = None  # noqa: UP045 - this spelling is what is tested
    visits: Optional[Visits] = None  # noqa: UP045 - this spelling is what is tested


class Visits(SubSchema):
    """How often the client came."""

    count: int = 0
