"""What a database keeps, read without the product: from the files of the embedded one, or from the documents of a server."""

import sqlite3
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import orjson

OUTSIDE = "outside"
"""A subscription that gets everything and that nobody empties: what the world was told."""

Document = dict[str, Any]
DeliveryStates = dict[tuple[str, str], tuple[int, int]]
"""Wanted and delivered by client and integration."""


class Kept(NamedTuple):
    """Everything that is kept, as JSON.

    Attributes:
        events: in the order of each stream.
        rejections: deliveries that could not become events.
        records: one for each client.
        audit: entries by version.
        announced: number of the last announcement by client.
        outbox: client and number of what was not published yet.
        states: of the deliveries.
        log: attempts of the deliveries, in the order of each delivery.
        told: what the world was told.
        doorbells: how many messages are left for the integrations.
    """

    events: Sequence[Document]
    rejections: Sequence[Document]
    records: Sequence[Document]
    audit: Sequence[Document]
    announced: Mapping[str, int]
    outbox: Sequence[tuple[str, int]]
    states: Sequence[Document]
    log: Sequence[Document]
    told: Sequence[Document]
    doorbells: int

    @property
    def delivery_states(self) -> DeliveryStates:
        """How far the deliveries are."""
        return {
            (state["client_id"], state["integration"]): (state["wanted"], state["delivered"]) for state in self.states
        }


def in_files(directory: Path) -> Kept:
    """What the files of the embedded database hold; whatever was not made yet is empty."""

    def bodies(file: str, statement: str) -> list[Any]:
        return [orjson.loads(row["body"]) for row in _rows(directory / file, statement)]

    events = _rows(directory / "events.db", "SELECT * FROM events ORDER BY position")
    announced = _rows(directory / "projections.db", "SELECT client_id, body ->> '$.seq' AS seq FROM announced")
    outbox = _rows(directory / "projections.db", "SELECT client_id, seq FROM outbox")
    told, doorbells = _messages(directory)
    return Kept(
        events=[{**event, "data": orjson.loads(event["data"])} for event in events],
        rejections=bodies("events.db", "SELECT payload AS body FROM rejections WHERE payload IS NOT NULL"),
        records=bodies("projections.db", "SELECT body FROM records"),
        audit=bodies("projections.db", "SELECT body FROM audit ORDER BY version"),
        announced={each["client_id"]: each["seq"] for each in announced},
        outbox=[(each["client_id"], each["seq"]) for each in outbox],
        states=_rows(directory / "deliveries.db", "SELECT * FROM deliveries"),
        log=_rows(directory / "deliveries.db", "SELECT * FROM delivery_log ORDER BY position"),
        told=told,
        doorbells=doorbells,
    )


def in_documents(documents: Callable[[str], list[Document]], directory: Path) -> Kept:
    """What a server holds, by container; the topic is a file in the directory."""
    projected = documents("projections")

    def of_kind(kind: str) -> list[Document]:
        return [document for document in projected if document["kind"] == kind]

    deliveries, rejections = documents("deliveries"), documents("intake")
    told, doorbells = _messages(directory)
    return Kept(
        events=sorted(documents("events"), key=itemgetter("id")),
        rejections=[orjson.loads(b64decode(each["payload"])) for each in rejections if each["kind"] == "rejection"],
        records=[document["body"] for document in of_kind("record")],
        audit=[document["body"] for document in sorted(of_kind("audit"), key=itemgetter("version"))],
        announced={document["client_id"]: document["body"]["seq"] for document in of_kind("announced")},
        outbox=[(document["client_id"], document["seq"]) for document in of_kind("outbox")],
        states=[document for document in deliveries if document["kind"] == "state"],
        log=sorted((document for document in deliveries if document["kind"] == "log"), key=itemgetter("number")),
        told=told,
        doorbells=doorbells,
    )


def _messages(directory: Path) -> tuple[list[Document], int]:
    found = _rows(directory / "deliveries.db", "SELECT subscription, body FROM messages ORDER BY position")
    told = [orjson.loads(each["body"])["data"] for each in found if each["subscription"] == OUTSIDE]
    return told, len(found) - len(told)


def _rows(path: Path, statement: str) -> list[Document]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(statement)]
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []
