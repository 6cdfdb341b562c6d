"""The composition root: opening, the doorbells between the parts, and the sweep that makes up for lost ones."""

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eventstore import ANY, EventData, SqliteDatabase, StoreUnavailableError, StoreVersionError, open_events
from functions_app import Delivered, DomainError, Pulled, Runtime, Settings, lazily, open_runtime
from functions_app.cli import app
from functions_app.sample import domain
from integrations import SqliteDeliveryStore, open_deliveries
from projections import StreamBehindError
from tests.support.flow import Clock, is_quiet, now, open_flow

SOURCE = domain.source("crm")


def change(change_id: str, person: int = 1, **parts: Any) -> Delivered:
    parts = parts or {"contact": {"email": f"{change_id}@example.org"}}
    return Delivered({"change_id": change_id, "person": person, "changed_at": "2026-03-01T12:00:00Z", **parts})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runtime(tmp_path: Path, clock: Clock) -> Runtime:
    return open_flow(tmp_path, clock=clock)


@pytest.fixture
def closed_deliveries(tmp_path: Path) -> SqliteDeliveryStore:
    """A delivery store that is out of reach."""
    database: SqliteDatabase = open_deliveries(tmp_path)
    store = SqliteDeliveryStore(database)
    database.close()
    return store


def test_opening_makes_the_directory_for_its_owner_only(tmp_path: Path) -> None:
    """There is personal data in it."""
    directory = tmp_path / "new" / "data"
    open_runtime(Settings({"CLIENT_FLOW_DATA": str(directory)}))
    assert {path.name for path in directory.glob("*.db")} == {
        "access.db",
        "deliveries.db",
        "events.db",
        "projections.db",
    }
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "references.key").stat().st_mode & 0o777 == 0o600


def left_by_sqlite(directory: Path) -> set[str]:
    """What SQLite keeps beside a database for as long as somebody has it open."""
    return {path.name for path in directory.iterdir() if path.name.endswith(("-wal", "-shm"))}


def test_closing_lets_go_of_the_files(tmp_path: Path) -> None:
    """Nothing may be called afterwards, and what is called says why."""
    runtime = open_runtime(Settings({"CLIENT_FLOW_DATA": str(tmp_path)}))
    runtime.intake.accept(SOURCE, change("c-1"))
    assert left_by_sqlite(tmp_path)
    runtime.close()
    assert left_by_sqlite(tmp_path) == set()
    with pytest.raises(StoreUnavailableError, match="closed"):
        runtime.intake.accept(SOURCE, change("c-2"))


def test_what_cannot_be_opened_as_a_whole_is_closed(tmp_path: Path) -> None:
    """The files opened before the one that fails are let go of."""
    open_deliveries(tmp_path).close()
    (tmp_path / "deliveries.db").write_bytes(b"no database")
    with pytest.raises(StoreUnavailableError):
        open_runtime(Settings({"CLIENT_FLOW_DATA": str(tmp_path)}))
    assert left_by_sqlite(tmp_path) == set()


@pytest.mark.parametrize("arguments", [["lag"], ["view", "nobody"], ["project"]])
def test_a_command_closes_what_it_opened(tmp_path: Path, arguments: list[str]) -> None:
    """Whether it could do its work or not."""
    CliRunner().invoke(app, arguments, env={"CLIENT_FLOW_DATA": str(tmp_path)})
    assert (tmp_path / "events.db").exists()
    assert left_by_sqlite(tmp_path) == set()


def test_a_runtime_is_opened_on_the_first_call_and_once(tmp_path: Path) -> None:
    """Indexing the functions of an app must not open anything."""
    directory = tmp_path / "data"
    runtime = lazily(Settings({"CLIENT_FLOW_DATA": str(directory)}))
    assert not directory.exists()
    assert runtime() is runtime()
    assert directory.exists()


def test_what_cannot_be_opened_says_so_every_time(tmp_path: Path) -> None:
    """A first call that fails does not leave something half open behind."""
    runtime = lazily(Settings({"CLIENT_FLOW_DOMAIN": "nowhere:domain", "CLIENT_FLOW_DATA": str(tmp_path)}))
    for _ in range(2):
        with pytest.raises(DomainError):
            runtime()


def test_data_of_a_newer_version_is_not_opened(tmp_path: Path) -> None:
    """It is left as it is."""
    database = open_events(tmp_path)
    database.write(lambda connection: connection.execute("PRAGMA user_version=99"))
    database.close()
    with pytest.raises(StoreVersionError) as caught:
        open_runtime(Settings({"CLIENT_FLOW_DATA": str(tmp_path)}))
    assert caught.value.found == 99


def test_new_events_ring_the_projector(runtime: Runtime) -> None:
    """Only events that are new."""
    assert not runtime.new_events.is_set()
    runtime.intake.accept(SOURCE, change("a"))
    assert runtime.new_events.is_set()
    runtime.new_events.clear()
    runtime.intake.accept(SOURCE, change("a"))
    assert not runtime.new_events.is_set()


def test_projecting_publishes_at_once(runtime: Runtime) -> None:
    """What was committed is wanted by the integrations before the sweep comes."""
    runtime.intake.accept(SOURCE, change("a"))
    runtime.record_at_least("1", 1)
    assert runtime.backend.projections.waiting() == []
    assert [state.client_id for state in runtime.backend.deliveries.due("crm")] == ["1"]


def test_a_failed_publish_is_made_up_for_by_the_sweep(
    tmp_path: Path, clock: Clock, closed_deliveries: SqliteDeliveryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Defect 2: the record is committed all the same, and the announcement waits in the outbox until it is sent."""
    broken = open_flow(tmp_path, clock=clock, deliveries=closed_deliveries)
    broken.intake.accept(SOURCE, change("a"))
    with caplog.at_level(logging.WARNING):
        assert broken.record_at_least("1", 1).version == 1
    assert "left to the sweep" in caplog.text
    runtime = open_flow(tmp_path, clock=clock)
    runtime.sweep()  # it may be under way: younger than a minute
    assert runtime.backend.projections.waiting() == ["1"]
    clock.ahead += timedelta(minutes=2)
    runtime.sweep()
    assert runtime.backend.projections.waiting() == []
    assert [state.client_id for state in runtime.backend.deliveries.due("crm")] == ["1"]


def test_a_sweep_that_cannot_publish_says_so(
    tmp_path: Path, clock: Clock, closed_deliveries: SqliteDeliveryStore
) -> None:
    """It is the last resort, so whoever started it has to know."""
    broken = open_flow(tmp_path, clock=clock, deliveries=closed_deliveries)
    broken.intake.accept(SOURCE, change("a"))
    with pytest.raises(StoreUnavailableError):
        broken.sweep(overdue=timedelta(0))


def test_a_sweep_stops_when_told_and_goes_on_later(runtime: Runtime) -> None:
    """What it did is kept; nothing is done twice."""
    for number in range(1, 31):
        runtime.intake.accept(SOURCE, change(f"c-{number}", number))
    assert runtime.sweep(stop=lambda: True).done is False
    pages: list[int] = []
    assert runtime.sweep(on_page=pages.append).done is True
    assert sum(pages) == 30
    assert runtime.sweep(on_page=pages.append).events == 0


def test_a_version_that_does_not_exist_is_not_reached(runtime: Runtime) -> None:
    """The error says where the stream ends."""
    runtime.intake.accept(SOURCE, change("a"))
    with pytest.raises(StreamBehindError) as caught:
        runtime.record_at_least("1", 5)
    assert (caught.value.at_least, caught.value.found) == (5, 1)


def test_an_annulled_event_frees_its_client(runtime: Runtime) -> None:
    """And the annulment is an event with a reason and a name."""
    runtime.intake.accept(SOURCE, change("a", consent={"channel": "fax", "given": True}))
    runtime.intake.accept(SOURCE, change("b"))
    runtime.sweep()
    record = runtime.annul("1", 1, reason="no such channel", by="ops")
    assert (record.version, record.parked) == (3, None)
    assert list(runtime.backend.events.read("1"))[-1].data == {"version": 1, "reason": "no such channel", "by": "ops"}


@pytest.mark.parametrize(
    ("event_type", "schema_version", "code"),
    [("person.teleported", 1, "unknown_event_type"), ("person.identified", 99, "unknown_schema_version")],
)
def test_an_event_of_newer_code_parks_its_client(
    runtime: Runtime, event_type: str, schema_version: int, code: str
) -> None:
    """A type nobody knows, or a payload version from the future: the client waits for the code that knows it."""
    event = EventData(
        event_id="crm:new",
        event_type=event_type,
        schema_version=schema_version,
        source="crm",
        occurred_at=now(),
        data={"nickname": "Canary7"},
    )
    runtime.backend.events.append("1", [event], expected_version=ANY)
    runtime.intake.accept_all(SOURCE, [change("a"), change("b", 2)])
    runtime.sweep()
    parked = runtime.reader.current("1").record.parked
    assert parked is not None
    assert (parked.version, parked.waiting_for, parked.code) == (1, 2, code)
    assert "Canary7" not in str(parked)
    assert runtime.reader.current("2").record.version == 1


def test_nothing_wanted_is_quiet(runtime: Runtime) -> None:
    """An application without clients has nothing to do."""
    assert runtime.sweep().done is True
    assert is_quiet(runtime)


def test_a_pull_is_counted(runtime: Runtime) -> None:
    """What was accepted and what was kept as rejections."""
    rows = [
        {"rec_id": "rec-1-org", "changed_at": "2026-01-01T00:00:00Z"},
        {"rec_id": "nobody", "changed_at": "2026-01-01T00:00:00Z"},
    ]
    pull = replace(domain.pulls[0], get_data=lambda _, cursor: iter(() if cursor else [Pulled(rows, "1")]))
    assert runtime.pull(pull) == (1, 1)
    assert runtime.pull(pull) == (0, 0)
