"""What a round leaves behind, and how a check says that something about it is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tests.crash.kept import DeliveryStates, Kept

Values = dict[str, dict[str, Any]]
"""A record: values by sub-schema and field."""


class CheckError(AssertionError):
    """A check that found something wrong.

    Attributes:
        check: its name.
    """

    def __init__(self, check: str, found: str) -> None:
        self.check = check
        super().__init__(f"{check}: {found}")


class Left(NamedTuple):
    """What is left of a round.

    Attributes:
        kept: what the database holds.
        sent: the events that the sources were to deliver, by id: client, type, data.
        acknowledged: what the sources were told: client, event id and version.
        broken: keys of deliveries that are no valid ones.
        people: what the CRM holds, by its own ids.
        subscribers: what the mailing system holds, by client.
        overlaps: calls for one object that were under way at the same time.
        before: the delivery states that were seen after each kill, in order.
    """

    kept: Kept
    sent: Mapping[str, tuple[str, str, dict[str, Any]]]
    acknowledged: Sequence[tuple[str, str, int]]
    broken: Sequence[str]
    people: Mapping[str, dict[str, Any]]
    subscribers: Mapping[str, dict[str, Any]]
    overlaps: Sequence[str]
    before: Sequence[DeliveryStates]


def require(condition: object, check: str, found: str) -> None:
    """Raise the error of a check unless its condition holds."""
    if not condition:
        raise CheckError(check, found)
