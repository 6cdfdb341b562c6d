"""Canaries: unmistakable values in every place where a client's data can be; no error may sing them."""

import logging
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError, field_validator

from eventstore import (
    ANY,
    NO_STREAM,
    ClientId,
    Event,
    EventData,
    EventRegistry,
    EventStoreError,
    HistoryForkedError,
    InvalidClientIdError,
    SqliteDatabase,
    SqliteEventStore,
    field_problems,
    open_events,
)
from tests.support.events import NOON

CANARY = "Kanarienvogel"
CLIENT = f"CC.{CANARY}"

registry = EventRegistry()


class PersonId(ClientId):
    kind: str
    number: int


@registry.register("test.described", version=3)
class Described(Event):
    name: str
    note: Any = None
    year: int = 1

    @field_validator("name")
    @classmethod
    def _no_blank(cls, name: str) -> str:
        if name.startswith(" "):
            raise ValueError(f"{name} starts with a blank")
        if name.startswith("!"):
            raise KeyError(name)
        return name


@registry.upcast("test.described", from_version=1)
def _raise(data: dict[str, Any]) -> dict[str, Any]:
    raise LookupError(data)


@registry.upcast("test.described", from_version=2)
def _return_other(data: dict[str, Any]) -> Any:
    return data["name"]


def described(key: str = CANARY, *, source: str = "crm", occurred_at: datetime = NOON, **fields: Any) -> EventData:
    event = Described(**({"name": CANARY} | fields))
    return registry.event_data(event, source=source, key=key, occurred_at=occurred_at)


def by_hand(**changes: Any) -> EventData:
    fields: dict[str, Any] = {"event_id": f"crm:{CANARY}", "event_type": "test.described", "schema_version": 3}
    fields |= {"source": "crm", "occurred_at": NOON, "data": {"name": CANARY}}
    return EventData(**(fields | changes))


NEVER_VALIDATED = Described.model_construct(name=7, note=CANARY)  # type: ignore[arg-type]  # on purpose

MAKING: list[Callable[[], object]] = [
    lambda: described(f"{CANARY}\n"),
    lambda: described(CANARY * 40),
    lambda: described(source=CANARY),
    lambda: described(occurred_at=NOON.replace(tzinfo=None)),
    lambda: described(note={f"{CANARY} 7": [float("nan")]}),
    lambda: described(note=f"{CANARY}\0"),
    lambda: described(note=f"{CANARY}\ud800"),
    lambda: described(note={f"{CANARY}\ud800": 1}),
    lambda: described(note=Described),
    lambda: described(note=CANARY.encode() + b"\xff"),
    lambda: described(name=[CANARY]),
    lambda: described(year=CANARY),
    lambda: described(wrong=CANARY),
    lambda: registry.event_data(NEVER_VALIDATED, source="crm", key=CANARY, occurred_at=NOON),
    lambda: by_hand(event_id=CANARY),
    lambda: by_hand(correlation_id=f"{CANARY}\n"),
    lambda: by_hand(traceparent=f"{CANARY}\n"),
    lambda: by_hand(data={"name": f"{CANARY}\0"}),
    lambda: registry.decode("test.described", 1, {"name": CANARY}),
    lambda: registry.decode("test.described", 2, {"name": CANARY}),
    lambda: registry.decode("test.described", 3, {"name": [CANARY]}),
    lambda: registry.decode("test.described", 3, {"name": f" {CANARY}"}),
    lambda: registry.decode("test.described", 3, {"name": f"!{CANARY}"}),
    lambda: registry.decode("test.described", 3, {"name": "n", "wrong": CANARY}),
    lambda: registry.decode("test.described", 4, {"name": CANARY}),
    lambda: registry.decode("test.unknown", 1, {"name": CANARY}),
    lambda: PersonId.model_validate({"kind": "", "number": CANARY}),
    lambda: PersonId(kind=f"{CANARY}\ud800", number=7),
    lambda: PersonId(kind=CANARY * 9, number=7),
    lambda: PersonId(kind=CANARY, number=7, wrong=CANARY),  # type: ignore[call-arg]  # the point of the test
    lambda: PersonId.parse(CANARY),
    lambda: PersonId.parse(CLIENT),
    lambda: PersonId.parse(f"{CANARY} 7"),
    lambda: PersonId.parse(f"{CANARY}~FF.7"),
    lambda: PersonId.parse(f"{CANARY}.007"),
]
APPENDING: list[Callable[[SqliteEventStore], object]] = [
    lambda store: store.append(f"{CANARY} ", [described("new")], expected_version=ANY),
    lambda store: next(store.read(f"{CANARY}/"), None),
    lambda store: store.head(CANARY * 20),
    lambda store: store.append(CLIENT, [described("n"), described("n")], expected_version=ANY),
    lambda store: store.append(CLIENT, [described(name=CANARY * 2)], expected_version=ANY),
    lambda store: store.append(CLIENT, [described("new")], expected_version=NO_STREAM),
    lambda store: store.append(CLIENT, [described(str(n)) for n in range(101)], expected_version=ANY),
    lambda store: store.append(CLIENT, [described("new", name=CANARY * 90_000)], expected_version=ANY),
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = open_events(tmp_path, busy_timeout=0.01)
    yield opened
    opened.close()


@pytest.fixture
def store(database: SqliteDatabase, caplog: pytest.LogCaptureFixture) -> SqliteEventStore:
    caplog.set_level(logging.DEBUG)
    opened = SqliteEventStore(database)
    opened.append(CLIENT, [described()], expected_version=ANY)
    return opened


def is_silent(error: Exception, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether neither the error, in any form a log would print it, nor a log record holds the canary."""
    shown = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)[-1:]]
    if isinstance(error, ValidationError):
        shown += map(repr, field_problems(error))
    causes, cause = [], error.__cause__
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__
    shown += [text for cause in causes for text in (str(cause), repr(cause.args))]
    shown += [record.getMessage() for record in caplog.records]
    return not any(CANARY in text for text in shown)


@pytest.mark.parametrize("provoke", MAKING)
def test_no_error_of_an_event_or_id_quotes_it(provoke: Callable[[], object], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with an event, a stored payload or an id, the message names fields only."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises((EventStoreError, ValidationError)) as caught:
        provoke()
    assert is_silent(caught.value, caplog)


def test_problems_do_not_quote_a_validator() -> None:
    """What a user's validator says stays in pydantic's error; the problems made of it name the field only."""
    with pytest.raises(ValidationError, match=CANARY) as caught:
        described(name=f" {CANARY}")
    assert field_problems(caught.value) == (("name", "refused by a validator"),)


@pytest.mark.parametrize("provoke", APPENDING)
def test_no_error_of_an_append_quotes_it(
    store: SqliteEventStore, provoke: Callable[[SqliteEventStore], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Client id, event id and payload stay in attributes, and the store is as it was."""
    with pytest.raises(EventStoreError) as caught:
        provoke(store)
    assert is_silent(caught.value, caplog)
    assert store.head(CLIENT).version == 1


def appended_after_close(database: SqliteDatabase, store: SqliteEventStore) -> object:
    database.close()
    return store.append(CLIENT, [described("new")], expected_version=ANY)


def test_no_error_of_the_database_quotes_it(
    database: SqliteDatabase, store: SqliteEventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a constraint nor a closed file shows what was to be written."""
    row = (CLIENT, 1, f"crm:{CANARY}")
    broken: list[Callable[[], object]] = [
        lambda: database.write(
            lambda c: c.execute("INSERT INTO events (client_id, version, event_id) VALUES (?,?,?)", row)
        ),
        lambda: database.write(lambda c: c.execute("UPDATE events SET data = ?", (CANARY,))),
        lambda: appended_after_close(database, store),
        lambda: store.head(CLIENT),
    ]
    for provoke in broken:
        with pytest.raises(EventStoreError) as caught:
            provoke()
        assert is_silent(caught.value, caplog)


def test_a_forked_history_is_told_without_its_client(caplog: pytest.LogCaptureFixture) -> None:
    """The client is an attribute."""
    error = HistoryForkedError(CLIENT, 7)
    assert error.client_id == CLIENT
    assert is_silent(error, caplog)


def test_the_canary_would_be_heard(caplog: pytest.LogCaptureFixture) -> None:
    """The check itself finds a canary in a message, a cause and a log line."""
    assert not is_silent(InvalidClientIdError(CANARY), caplog)
    chained = EventStoreError("quiet")
    chained.__cause__ = ValueError(CANARY)
    assert not is_silent(chained, caplog)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("eventstore").debug("%s", CANARY)
    assert not is_silent(EventStoreError("quiet"), caplog)
