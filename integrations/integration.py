"""What a team writes for each target: which changes matter, what the target gets, and how it is called."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel

from projections import UnifiedSchema

from .errors import IntegrationDefinitionError
from .outcome import Outcome

Body = Mapping[str, Any]
"""What is sent: a JSON object."""
ReadRecord = Callable[[str], UnifiedSchema | None]
"""Gives the present record of a client, None if there is none; never an older one than any announcement of it."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # a Service Bus subscription name has at most 50 characters


class Delivery(NamedTuple):
    """What a strategy is told besides the body.

    Attributes:
        client_id: text of the client id.
        seq: of the announcement; a target that saw a higher one should refuse.
        remote: the target's own reference of the client, None if it has not told one.
        idempotency_key: the same whenever the same call is made again.
        uncertain: whether an earlier call ended without telling if it took effect.
    """

    client_id: str
    seq: int
    remote: str | None
    idempotency_key: str
    uncertain: bool


class Strategy(Protocol):
    """How a target is called. One object serves many threads at once; it must not keep anything of a call."""

    def send(self, body: Body, delivery: Delivery) -> Outcome:
        """Bring the target to this body, whatever it has. Must end within 20 s."""

    def retract(self, delivery: Delivery) -> Outcome:
        """Take away what the target has of the client. Must end within 20 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """A target and what it gets.

        crm = Integration(
            name="crm",
            cares_about=("contact",),
            mapping=lambda client: Contact(email=client.contact.email) if client.contact else None,
            strategy=RESTIntegration("https://crm.example/api", create="POST /contacts", update="PUT /contacts/{remote}"),
        )

    Attributes:
        name: lower-case letters, digits, `-`, `_`, at most 40 characters; names its state, log and subscription.
        cares_about: sub-schemas whose changes matter; `root` is the plain values at the top.
        mapping: pure function from the record to what the target gets; None if it shall have nothing.
        strategy: how the target is called.
        max_in_flight: calls at once from one process.

    Raises:
        IntegrationDefinitionError: something in it cannot work.
    """

    name: str
    cares_about: Sequence[str]
    mapping: Callable[[Any], BaseModel | None]
    strategy: Strategy
    max_in_flight: int = 8

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise IntegrationDefinitionError(
                f"Integration name {self.name!r}: a letter, then letters, digits, '-' or '_', all lower case, were "
                "expected, at most 40 characters."
            )
        if isinstance(self.cares_about, str) or not self.cares_about:
            raise IntegrationDefinitionError(
                f"Integration {self.name!r}: cares_about must name at least one sub-schema."
            )
        if self.max_in_flight < 1:
            raise IntegrationDefinitionError(f"Integration {self.name!r}: max_in_flight must be at least 1.")
