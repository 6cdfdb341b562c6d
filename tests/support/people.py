"""A dozen persons of the sample, and somebody who changes their files behind the back of the application."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from tests.support.command_line import CommandLine
from tests.support.flow import open_flow

PEOPLE = 12
CANARY = "canary7@example.org"


def people(directory: Path, number: int = PEOPLE) -> Path:
    """A data directory with so many persons of three events each, projected."""
    path = directory / "changes.jsonl"
    path.write_bytes(
        b"\n".join(
            orjson.dumps({"change_id": f"{person}-{nth}", "person": person, **change})
            for person in range(1, number + 1)
            for nth, change in enumerate(
                (
                    {"changed_at": "2026-03-01T12:00:00Z", "contact": {"email": "a@example.org", "phone": "1"}},
                    {"changed_at": "2026-03-02T12:00:00Z", "contact": {"email": "b@example.org"}},
                    {"changed_at": "2026-03-03T12:00:00Z", "consent": {"channel": "email", "given": True}},
                )
            )
        )
    )
    data = directory / "data"
    cli = CommandLine(data)
    cli("append", "--source", "crm", "--key", "change_id", path)
    open_flow(data).sweep()
    return data


def spoil(data: Path, client_id: str = "5", value: str = CANARY) -> None:
    """Change an e-mail address in a record."""
    run(
        data / "projections.db",
        "UPDATE records SET body = json_set(body, '$.values.contact.email', ?) WHERE client_id = ?",
        value,
        client_id,
    )


def run(database: Path, statement: str, *parameters: Any) -> list[Any]:
    """Do something to a database, or ask it."""
    with closing(sqlite3.connect(database)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def vandalise(data: Path, statement: str, *parameters: Any) -> None:
    """Change events, which the database refuses until its triggers are gone."""
    for trigger in ("events_never_change", "events_never_vanish", "events_only_continue"):
        run(data / "events.db", f"DROP TRIGGER IF EXISTS {trigger}")
    run(data / "events.db", statement, *parameters)
