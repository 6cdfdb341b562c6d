"""What a round leaves behind, and how a check says that something about it is wrong."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

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
        directory: the data.
        sent: the events that the sources were to deliver, by id: client, type, data.
        acknowledged: what the sources were told: client, event id and version.
        broken: keys of deliveries that are no valid ones.
        people: what the CRM holds, by its own ids.
        subscribers: what the mailing system holds, by client.
        overlaps: calls for one object that were under way at the same time.
        before: the delivery states that were seen after each kill, in order.
    """

    directory: Path
    sent: Mapping[str, tuple[str, str, dict[str, Any]]]
    acknowledged: Sequence[tuple[str, str, int]]
    broken: Sequence[str]
    people: Mapping[str, dict[str, Any]]
    subscribers: Mapping[str, dict[str, Any]]
    overlaps: Sequence[str]
    before: Sequence[Mapping[tuple[str, str], tuple[int, int]]]


def rows(directory: Path, file: str, statement: str) -> list[Any]:
    """What a statement finds in a file, which is opened for reading only."""
    with closing(sqlite3.connect(f"file:{directory / file}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def delivery_states(directory: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Wanted and delivered by client and integration; none if the file is not there yet."""
    if not (directory / "deliveries.db").exists():
        return {}
    if not rows(directory, "deliveries.db", "SELECT 1 FROM sqlite_master WHERE name = 'deliveries'"):
        return {}
    found = rows(directory, "deliveries.db", "SELECT client_id, integration, wanted, delivered FROM deliveries")
    return {(client, integration): (wanted, delivered) for client, integration, wanted, delivered in found}


def require(condition: object, check: str, found: str) -> None:
    """Raise the error of a check unless its condition holds."""
    if not condition:
        raise CheckError(check, found)
