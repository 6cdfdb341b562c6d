"""Event keys: where the identity of a delivery comes from, by which a repeat is recognised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventstore import FieldProblem

from .errors import DomainError, InputRefusedError


@dataclass(frozen=True, slots=True)
class PayloadKey:
    """The event key is made of payload fields, joined by `-`: `PayloadKey("id", "updated_at")`, nested as `a.b`.

    In all but the last field `-` is written as `~-` and `~` as `~~`, so that different fields never give one key.
    """

    fields: tuple[str, ...]

    def __init__(self, *fields: str) -> None:
        if not fields:
            raise DomainError("PayloadKey needs at least one field.")
        object.__setattr__(self, "fields", fields)

    def of(self, payload: Any, headers: Mapping[str, str]) -> str:  # noqa: ARG002 - one signature for all kinds
        """The key of one delivery.

        Raises:
            InputRefusedError: a field is not there, or is neither text nor integer.
        """
        *before, last = (self._value(payload, name) for name in self.fields)
        return "-".join([*(value.replace("~", "~~").replace("-", "~-") for value in before), last])

    @staticmethod
    def _value(payload: Any, name: str) -> str:
        value = payload
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if type(value) not in {str, int} or value == "":
            raise InputRefusedError("event_key_missing", [FieldProblem(name, "the event key: a text or integer")])
        return str(value)


@dataclass(frozen=True, slots=True)
class HeaderKey:
    """The event key comes in a request header; of a batch, each item has its position added: `key-0`, `key-1`."""

    header: str

    def of(self, payload: Any, headers: Mapping[str, str]) -> str:  # noqa: ARG002 - one signature for all kinds
        """The key of one delivery.

        Raises:
            InputRefusedError: the header is not there.
        """
        value = next((value for name, value in headers.items() if name.lower() == self.header.lower()), "")
        if not value:
            problem = FieldProblem(self.header, "the event key was expected in this header")
            raise InputRefusedError("event_key_missing", [problem])
        return value


@dataclass(frozen=True, slots=True)
class NoKey:
    """The source has no key: every delivery is a new event, and a repeat is not recognised."""


EventKey = PayloadKey | HeaderKey | NoKey
