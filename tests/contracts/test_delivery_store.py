"""What every database must do for states, log and pauses of the deliveries."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from integrations import (
    DeliveryLog,
    DeliveryState,
    DeliveryStore,
    InvalidLogCursorError,
    LogEntry,
    Pause,
    PauseStore,
    SqliteDeliveryStore,
    open_deliveries,
)

pytestmark = pytest.mark.contract

NOON = "2026-01-31T12:00:00.000000Z"
LATER = "2026-01-31T12:00:01.000000Z"
LATEST = "2026-01-31T12:00:02.000000Z"


class AllStores(DeliveryStore, DeliveryLog, PauseStore, Protocol):
    """The three ports in one object."""


def entry(client_id: str, number: int, *, integration: str = "crm", code: str = "ok") -> LogEntry:
    return LogEntry(
        client_id, integration, number, NOON, 1, "send", "delivered", code, 200, 0.25, "h", "POST /c", "{}", "a"
    )


def held(store: DeliveryStore, client_id: str, integration: str = "crm") -> DeliveryState:
    found = store.load(client_id, integration)
    assert found is not None
    return found.state


class DeliveryStoreContract:
    @pytest.fixture
    def store(self) -> AllStores:
        raise NotImplementedError

    def test_nothing_is_known_at_first(self, store: AllStores) -> None:
        """A client nobody announced has no state, no log and nothing due."""
        assert store.load("c1", "crm") is None
        assert list(store.of_client("c1")) == []
        assert list(store.due("crm")) == []
        assert store.entries("c1") == ([], None)

    def test_raising_wanted_creates_states_that_are_due(self, store: AllStores) -> None:
        """The first announcement makes one state for each integration, due at once."""
        store.raise_wanted("c1", {"crm": 3, "mailing": 2}, at=NOON)
        assert list(store.of_client("c1")) == [
            DeliveryState("c1", "crm", wanted=3, due_at=NOON),
            DeliveryState("c1", "mailing", wanted=2, due_at=NOON),
        ]

    def test_what_is_wanted_is_told_of_many_clients(self, store: AllStores) -> None:
        """The highest number among a client's integrations; who was never announced is left out."""
        store.raise_wanted("c1", {"crm": 3, "mailing": 2}, at=NOON)
        store.raise_wanted("c2", {"mailing": 1}, at=NOON)
        store.raise_wanted("c3", {"crm": 9}, at=NOON)
        assert store.wanted(["c2", "c1", "nobody"]) == {"c1": 3, "c2": 1}
        assert store.wanted([]) == {}

    def test_wanted_is_never_lowered(self, store: AllStores) -> None:
        """An older or repeated announcement changes nothing, not even the tag."""
        store.raise_wanted("c1", {"crm": 3}, at=NOON)
        before = store.load("c1", "crm")
        store.raise_wanted("c1", {"crm": 2}, at=LATER)
        store.raise_wanted("c1", {"crm": 3}, at=LATER)
        assert store.load("c1", "crm") == before

    def test_what_waits_keeps_its_time(self, store: AllStores) -> None:
        """A newer announcement raises wanted, but does not hasten a state that waits."""
        store.raise_wanted("c1", {"crm": 1}, at=NOON)
        found = store.load("c1", "crm")
        assert found is not None
        store.save(found.state._replace(due_at=LATEST), found.tag)
        store.raise_wanted("c1", {"crm": 2}, at=LATER)
        assert held(store, "c1") == DeliveryState("c1", "crm", wanted=2, due_at=LATEST)

    def test_every_field_comes_back(self, store: AllStores) -> None:
        """A saved state is loaded as it was saved."""
        full = DeliveryState("c1", "crm", 9, 8, "hash", "remote", True, 2, 3, "http_400", "bad", NOON, LATER, 5)
        assert store.save(full, None) is not None
        assert held(store, "c1") == full

    def test_a_save_needs_the_present_tag(self, store: AllStores) -> None:
        """Of two who loaded the same state the second one stores nothing, neither state nor log."""
        store.raise_wanted("c1", {"crm": 1}, at=NOON)
        found = store.load("c1", "crm")
        assert found is not None
        first = found.state._replace(entries=1, remote="first")
        assert store.save(first, found.tag, entry=entry("c1", 1, code="first")) is not None
        second = found.state._replace(entries=1, remote="second")
        assert store.save(second, found.tag, entry=entry("c1", 1, code="second")) is None
        assert held(store, "c1").remote == "first"
        assert [each.code for each in store.entries("c1").entries] == ["first"]

    def test_a_save_returns_the_tag_of_what_it_stored(self, store: AllStores) -> None:
        """Writer after writer can go on from the tag of the own write without loading."""
        tag = store.save(DeliveryState("c1", "crm", wanted=1), None)
        for attempts in (1, 2, 3):
            tag = store.save(DeliveryState("c1", "crm", wanted=1, attempts=attempts), tag)
            assert tag is not None
        assert held(store, "c1").attempts == 3

    def test_a_state_is_created_once(self, store: AllStores) -> None:
        """Creating what is there already is refused, and so is replacing what is not there."""
        assert store.save(DeliveryState("c1", "crm"), None) is not None
        assert store.save(DeliveryState("c1", "crm", wanted=1), None) is None
        assert held(store, "c1").wanted == 0

    def test_raising_wanted_invalidates_tags(self, store: AllStores) -> None:
        """Who loaded before an announcement notices it when saving."""
        store.raise_wanted("c1", {"crm": 1}, at=NOON)
        found = store.load("c1", "crm")
        assert found is not None
        store.raise_wanted("c1", {"crm": 2}, at=NOON)
        assert store.save(found.state._replace(delivered=1), found.tag) is None

    def test_one_of_many_claims_wins(self, store: AllStores) -> None:
        """Of eight writers with the same tag exactly one succeeds."""
        store.raise_wanted("c1", {"crm": 1}, at=NOON)
        found = store.load("c1", "crm")
        assert found is not None
        with ThreadPoolExecutor(8) as pool:
            tags = list(pool.map(lambda n: store.save(found.state._replace(attempts=n), found.tag), range(8)))
        assert sum(tag is not None for tag in tags) == 1

    def test_concurrent_raises_keep_the_highest(self, store: AllStores) -> None:
        """However announcements race, the highest seq stays."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda seq: store.raise_wanted("c1", {"crm": seq}, at=NOON), [5, 1, 8, 3, 7, 2, 6, 4]))
        assert held(store, "c1").wanted == 8

    def test_due_lists_what_is_due_longest_first(self, store: AllStores) -> None:
        """Only states of that integration that are due by then, in order, as many as asked for."""
        store.raise_wanted("c3", {"crm": 1}, at=LATER)
        store.raise_wanted("c1", {"crm": 1}, at=NOON)
        store.raise_wanted("c2", {"crm": 1}, at=LATEST)
        store.raise_wanted("c4", {"mailing": 1}, at=NOON)
        store.save(DeliveryState("c5", "crm", wanted=1, delivered=1), None)
        assert [state.client_id for state in store.due("crm", before=LATER)] == ["c1", "c3"]
        assert [state.client_id for state in store.due("crm")] == ["c1", "c3", "c2"]
        assert [state.client_id for state in store.due("crm", limit=1)] == ["c1"]

    def test_failed_lists_by_client_in_pages(self, store: AllStores) -> None:
        """Refused states by ascending client id, continued after the last one seen."""
        for client_id in ("c2", "c1", "c3"):
            store.save(DeliveryState(client_id, "crm", failed_code="http_400", failed_hash="h"), None)
        store.save(DeliveryState("c0", "crm"), None)
        assert [state.client_id for state in store.failed("crm", limit=2)] == ["c1", "c2"]
        assert [state.client_id for state in store.failed("crm", after="c2")] == ["c3"]
        assert list(store.failed("mailing")) == []

    def test_the_log_is_read_newest_first_in_pages(self, store: AllStores) -> None:
        """A client's entries of all integrations, page by page without repeats or gaps."""
        tags: dict[str, str | None] = {"crm": None, "mailing": None}
        for number in (1, 2):
            for name in ("crm", "mailing"):
                state = DeliveryState("c1", name, entries=number)
                at = f"2026-01-31T12:00:0{number}.{'1' if name == 'crm' else '2'}00000Z"
                logged = entry("c1", number, integration=name)._replace(at=at)
                tags[name] = store.save(state, tags[name], entry=logged)
        store.save(DeliveryState("c2", "crm", entries=1), None, entry=entry("c2", 1))
        first = store.entries("c1", limit=3)
        assert [(each.integration, each.number) for each in first.entries] == [
            ("mailing", 2),
            ("crm", 2),
            ("mailing", 1),
        ]
        rest = store.entries("c1", cursor=first.cursor, limit=3)
        assert [(each.integration, each.number) for each in rest.entries] == [("crm", 1)]
        assert rest.cursor is None
        assert [each.number for each in store.entries("c1", integration="crm").entries] == [2, 1]

    def test_a_log_entry_comes_back_whole(self, store: AllStores) -> None:
        """What is logged is read as it was written."""
        logged = entry("c1", 1)
        store.save(DeliveryState("c1", "crm", entries=1), None, entry=logged)
        assert list(store.entries("c1").entries) == [logged]

    @pytest.mark.parametrize("cursor", ["", "x", "-1", "9" * 30])
    def test_a_foreign_cursor_is_refused(self, store: AllStores, cursor: str) -> None:
        """A cursor that no page handed out is an error, not an empty page."""
        with pytest.raises(InvalidLogCursorError):
            store.entries("c1", cursor=cursor)

    def test_an_integration_is_not_paused_at_first(self, store: AllStores) -> None:
        """What was never stored is no pause."""
        assert store.load_pause("crm") == (Pause("crm"), None)

    def test_a_pause_is_stored_under_its_tag(self, store: AllStores) -> None:
        """Of two who change the same pause the second one stores nothing."""
        tag = store.save_pause(Pause("crm", NOON, "http_429"), None)
        assert tag is not None
        assert store.save_pause(Pause("crm", LATER, "late"), None) is None
        newer = store.save_pause(Pause("crm"), tag)
        assert newer is not None
        assert store.save_pause(Pause("crm", LATER, "late"), tag) is None
        assert store.load_pause("crm") == (Pause("crm"), newer)
        assert store.load_pause("mailing").pause == Pause("mailing")


class TestSqliteDeliveryStore(DeliveryStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[AllStores]:
        database = open_deliveries(tmp_path)
        yield SqliteDeliveryStore(database)
        database.close()


@pytest.mark.parametrize("statement", ["UPDATE delivery_log SET code = 'x'", "DELETE FROM delivery_log"])
def test_sqlite_refuses_to_change_the_log(tmp_path: Path, statement: str) -> None:
    """A log entry can be neither changed nor removed, whoever opens the file."""
    database = open_deliveries(tmp_path)
    SqliteDeliveryStore(database).save(DeliveryState("c1", "crm", entries=1), None, entry=entry("c1", 1))
    database.close()
    connection = sqlite3.connect(database.path)
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        connection.execute(statement)
    connection.close()


def test_states_survive_reopening(tmp_path: Path) -> None:
    """What was saved is there after the process ended."""
    database = open_deliveries(tmp_path)
    SqliteDeliveryStore(database).raise_wanted("c1", {"crm": 4}, at=NOON)
    database.close()
    database = open_deliveries(tmp_path)
    assert held(SqliteDeliveryStore(database), "c1").wanted == 4
    database.close()
