"""Values of clients appear in no error, parked reason or log line, whatever goes wrong."""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, field_validator

from eventstore import SAFE_INTEGER, Event, EventRegistry, HistoryForkedError
from projections import (
    MAX_RECORD_BYTES,
    AuditFilter,
    Commit,
    Parked,
    Projection,
    ProjectionError,
    Projector,
    SubSchema,
    Target,
    UnifiedSchema,
    annul,
)
from tests.support.clients import NOON, PersonId
from tests.support.interposing import Interposed
from tests.support.projecting import World

CANARY = "canary7f3a"
CLIENT = f"{CANARY}-client"


class Note(SubSchema):
    text: str | None = None
    short: str = Field(default="", max_length=3)
    counts: dict[str, int] = Field(default_factory=dict)
    anything: Any = None

    @field_validator("text")
    @classmethod
    def _picky(cls, value: str | None) -> str | None:
        if value == f"{CANARY}-refused":
            raise ValueError(f"{value} is refused")
        if value == f"{CANARY}-bug":
            raise KeyError(value)
        return value


class Holder(UnifiedSchema):
    id: PersonId
    note: Note | None = None


registry = EventRegistry()


@registry.register("note.told")
class Told(Event):
    how: str
    text: str


holders = Projection("holders", Holder, registry, version=1)

WAYS: dict[str, tuple[str, Any]] = {
    "raises": ("rule_raised", lambda record, text: {}[text]),
    "returns other": ("rule_returned_other", lambda record, text: text),
    "other id": ("client_id_changed", lambda record, text: Holder(id=PersonId(number=text))),
    "unknown field": ("invalid_evolution", lambda record, text: record.evolve(note={"nowhere": text})),
    "wrong type": ("invalid_record", lambda record, text: record.evolve(note={"text": [text]})),
    "too long": ("invalid_record", lambda record, text: record.evolve(note={"short": text})),
    "wrong inside": ("invalid_record", lambda record, text: record.evolve(note={"counts": {text: text}})),
    "refused": ("invalid_record", lambda record, text: record.evolve(note={"text": f"{CANARY}-refused"})),
    "validator with a bug": ("rule_raised", lambda record, text: record.evolve(note={"text": f"{CANARY}-bug"})),
    "copied wrongly": ("invalid_record", lambda record, text: record.model_copy(update={"note": {"text": [text]}})),
    "copied beyond": ("invalid_record", lambda record, text: record.model_copy(update={text: text})),
    "huge number": ("invalid_value", lambda record, text: record.evolve(note={"anything": {text: SAFE_INTEGER + 1}})),
    "no JSON": ("invalid_value", lambda record, text: record.evolve(note={"anything": {text: object()}})),
    "surrogate": ("invalid_value", lambda record, text: record.evolve(note={"anything": {text: "\ud800"}})),
    "too large": ("record_too_large", lambda record, text: record.evolve(note={"anything": text * MAX_RECORD_BYTES})),
}


@holders.on(Told)
def tell(record: Holder, event: Told) -> Any:
    """Go wrong in the way that the event says."""
    return WAYS[event.how][1](record, event.text) if event.how in WAYS else record.evolve(note={"text": event.text})


def told(how: str = "well", number: int = 1) -> Any:
    return registry.event_data(Told(how=how, text=CANARY), source="crm", key=f"{CANARY}-{number}", occurred_at=NOON)


def is_clean(text: str) -> bool:
    return "canary" not in text.lower() and "\ud800" not in text


def is_silent(parked: Parked | None, code: str) -> bool:
    assert parked is not None
    assert parked.code == code
    return is_clean(repr(parked))


@pytest.fixture
def holding(tmp_path: Path) -> Any:
    with closing(World(tmp_path, holders)) as world:
        yield world


@pytest.fixture(autouse=True)
def _silent_logs(caplog: pytest.LogCaptureFixture) -> Any:
    with caplog.at_level(logging.DEBUG):
        yield
    assert is_clean(caplog.text)


@pytest.mark.parametrize("how", WAYS)
def test_what_a_rule_does_wrong(holding: World, how: str) -> None:
    """Codes and paths of the schema only, also where keys of a mapping are data."""
    holding.tell(CLIENT, told(), told(how, 2))
    assert is_silent(holding.catch_up(CLIENT).parked, WAYS[how][0])


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("unknown_event_type", {"event_type": "note.unheard_of"}),
        ("unknown_schema_version", {"schema_version": 9}),
        ("invalid_payload", {"data": {"how": CANARY, "text": [CANARY]}}),
        ("invalid_payload", {"data": {"how": CANARY, "text": CANARY, CANARY: CANARY}}),
    ],
)
def test_what_is_wrong_with_an_event(holding: World, code: str, changes: dict[str, Any]) -> None:
    """Neither the payload nor keys that came with it."""
    holding.tell(CLIENT, replace(told(), **changes))
    assert is_silent(holding.catch_up(CLIENT).parked, code)


def test_what_is_wrong_with_a_record(holding: World) -> None:
    """Neither parking nor reading quotes it; nor does a client id that is none."""
    holding.tell(CLIENT, told())
    record = holding.catch_up(CLIENT)
    loaded = holding.store.load([CLIENT])[CLIENT]
    broken = record._replace(values={"note": {"counts": {CANARY: CANARY}, CANARY: CANARY}})
    holding.store.commit([Commit(loaded, broken)])
    with pytest.raises(ProjectionError) as caught:
        holding.reader.current(CLIENT)
    assert is_clean(str(caught.value))
    holding.tell(CLIENT, told(number=2))
    assert is_silent(holding.catch_up(CLIENT).parked, "unreadable_record")
    holding.tell(f"{CLIENT}.2", told())
    assert is_silent(holding.catch_up(f"{CLIENT}.2").parked, "invalid_client_id")


def test_a_forked_history(holding: World, tmp_path: Path) -> None:
    """The record is parked without the hashes' events being quoted."""
    holding.tell(CLIENT, told())
    holding.catch_up(CLIENT)
    with closing(World(tmp_path / "other", holders)) as other:
        other.tell(CLIENT, told("other"), told(number=2))
        record = Projector(holders, other.events, holding.store).catch_up(CLIENT, Target(2))
    assert is_silent(record.parked, "history_forked")


def mistakes(world: World) -> list[Callable[[], object]]:
    """Calls that go wrong, each with another error."""

    def overtaken() -> None:
        world.catch_up(CLIENT)
        world.tell(CLIENT, told(number=world.events.head(CLIENT).version + 1000))

    racing = Projector(holders, world.events, Interposed(world.store, before_commit=overtaken))
    ticks = iter(range(1000))
    slow = world.projector(budget=0, clock=lambda: next(ticks))
    return [
        lambda: racing.catch_up(CLIENT, Target(9999)),
        lambda: world.projector().catch_up(CLIENT, Target(9999)),
        lambda: slow.catch_up(CLIENT, Target(0, refold=True)),
        lambda: world.reader.audit(CLIENT, AuditFilter(field=CANARY), cursor=CANARY),
        lambda: world.reader.current(f"{CANARY}-nobody"),
        lambda: annul(world.events, CLIENT, 9999, reason=CANARY, by=CANARY, now=NOON + timedelta(hours=1)),
    ]


def test_what_is_raised(holding: World) -> None:
    """Messages of all errors of the package name versions and rounds, and never a client."""
    for number in range(100):
        holding.tell(CLIENT, told(number=number))
    raised: list[Exception] = []
    for mistake in mistakes(holding):
        with pytest.raises(ProjectionError) as caught:
            mistake()
        raised.append(caught.value)
    assert {type(error).__name__ for error in raised} == {
        "StreamBehindError",
        "CommitConflictError",
        "OutOfTimeError",
        "InvalidCursorError",
        "UnknownClientError",
        "AnnulmentError",
    }
    assert all(is_clean(str(error)) for error in [*raised, HistoryForkedError(CLIENT, 1)])


def test_a_publisher_that_fails(holding: World) -> None:
    """The log line names the kind of error only."""

    def fail(client_ids: object) -> None:
        raise ConnectionError(f"{CANARY} {client_ids}")

    holding.tell(CLIENT, told())
    holding.projector(on_announced=fail).catch_up(CLIENT, Target(1))
