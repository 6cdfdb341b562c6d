"""What every database must do for records, announcement state and their commits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from projections import (
    AuditFilter,
    Commit,
    Loaded,
    Parked,
    Projection,
    Served,
    SqliteProjectionStore,
    open_projections,
)
from tests.support.clients import Client, clients, events
from tests.support.commits import Store, announced_at, changed, entry_at, outbox_at, put, record_at

pytestmark = pytest.mark.contract

NEWER = Projection("clients", Client, events, version=2)
OTHER = Projection("others", Client, events, version=1)
PARKED = Parked(2, 7, "rule_raised", ("contact.email: string type",), "fingerprint")
NOTHING = Loaded(None, None, None, None)

OpenStore = Callable[[Projection[Any]], Store]


class ProjectionStoreContract:
    """Subclasses supply `open_store`: each call gives a store of its own over the same data."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_store: OpenStore) -> Store:
        return open_store(clients)

    def test_nothing_is_there_at_first(self, store: Store) -> None:
        """A client nobody projected has neither record nor announcement state, and no tags."""
        assert store.load(["1"]) == {"1": NOTHING}
        assert store.load([]) == {}
        assert store.client_ids() == []
        assert store.parked() == []

    def test_a_commit_is_visible_as_a_whole(self, store: Store) -> None:
        """Record, audit, announcement state and outbox, each as it was given."""
        record = record_at(2, email="ñ", phone=None)._replace(annulled=(1,), parked=PARKED)
        entries = [entry_at(1), entry_at(2, changed(), changed("phone", superseded=True))]
        commit = Commit(store.load(["1"])["1"], record, entries, announced_at(1), outbox_at(1))
        (stored,) = store.commit([commit])
        assert stored == store.load(["1"])["1"]
        assert stored is not None
        assert (stored.record, stored.announced) == (record, announced_at(1))
        assert store.entries("1", AuditFilter()) == entries
        assert store.pending("1") == [outbox_at(1)]

    def test_json_values_come_back_as_they_were(self, store: Store) -> None:
        """Null, numbers, nested objects and lists, and the difference between absent and null."""
        values: dict[str, Any] = {"a": None, "b": 2.5, "c": 2**53 - 1, "d": {"e": [1, {"f": False}]}, "g": "", "h": "𝄞"}
        put(store, record_at(1, **values))
        record = store.load(["1"])["1"].record
        assert record is not None
        assert record.values == {"contact": values}

    def test_the_next_commit_builds_on_what_the_last_returned(self, store: Store) -> None:
        """No need to load again."""
        loaded = store.load(["1"])["1"]
        for version in (1, 2, 3):
            (stored,) = store.commit([Commit(loaded, record_at(version), [entry_at(version)])])
            assert isinstance(stored, Loaded)
            loaded = stored
        assert loaded == store.load(["1"])["1"]

    def test_a_commit_on_a_changed_record_is_lost(self, store: Store) -> None:
        """Nothing of it is visible: not the record, not the audit, not the announcement."""
        before = store.load(["1"])["1"]
        put(store, record_at(1, email="winner"), entry_at(1))
        lost = Commit(before, record_at(1, email="loser"), [entry_at(1), entry_at(2)], announced_at(1), outbox_at(1))
        assert store.commit([lost]) == [None]
        loaded = store.load(["1"])["1"]
        assert (loaded.record, loaded.announced) == (record_at(1, email="winner"), None)
        assert len(store.entries("1", AuditFilter())) == 1
        assert store.pending("1") == []

    def test_a_commit_of_the_same_record_counts_as_a_change(self, store: Store) -> None:
        """Who loaded before it loses, even if the record looks the same."""
        put(store, record_at(1))
        before = store.load(["1"])["1"]
        put(store, record_at(1))
        assert store.commit([Commit(before, record_at(2))]) == [None]

    def test_a_commit_on_changed_announcement_state_is_lost(self, open_store: OpenStore) -> None:
        """Another generation announced in between, so what this one would announce compares with the wrong state."""
        store, newer = open_store(clients), open_store(NEWER)
        put(store, record_at(1), entry_at(1))
        before = store.load(["1"])["1"]
        put(newer, record_at(1), entry_at(1), outbox=outbox_at(1))
        lost = Commit(before, record_at(2), [entry_at(2)], announced_at(1, 2), outbox_at(1, version=2))
        assert store.commit([lost]) == [None]
        assert store.pending("1") == [outbox_at(1)]

    def test_that_nothing_is_to_be_announced_depends_on_it_as_well(self, open_store: OpenStore) -> None:
        """A commit without announcement rests on what the world was told when it was loaded."""
        store, newer = open_store(clients), open_store(NEWER)
        put(store, record_at(1), outbox=outbox_at(1))
        before = store.load(["1"])["1"]
        put(newer, record_at(1), outbox=outbox_at(2))
        assert store.commit([Commit(before, record_at(2))]) == [None]

    def test_two_first_commits_exclude_each_other(self, open_store: OpenStore) -> None:
        """That there was no record is a condition like any other."""
        one, two = open_store(clients), open_store(clients)
        before = [store.load(["1"])["1"] for store in (one, two)]
        assert one.commit([Commit(before[0], record_at(1))]) != [None]
        assert two.commit([Commit(before[1], record_at(1))]) == [None]

    def test_clients_of_one_call_are_independent(self, store: Store) -> None:
        """One loses, the others are visible."""
        before = store.load(["1", "2"])
        put(store, record_at(1, "1"))
        results = store.commit([Commit(before["1"], record_at(2, "1")), Commit(before["2"], record_at(1, "2"))])
        assert results[0] is None
        assert results[1] is not None
        assert store.load(["2"])["2"].record == record_at(1, "2")

    def test_announcement_state_is_left_if_none_is_given(self, store: Store) -> None:
        """A commit that announces nothing keeps what was announced."""
        put(store, record_at(1), outbox=outbox_at(1))
        put(store, record_at(2))
        assert store.load(["1"])["1"].announced == announced_at(1)

    def test_audit_entries_of_a_second_fold_replace_the_first(self, store: Store) -> None:
        """A client that is folded again does not have its history twice."""
        put(store, record_at(1), entry_at(1))
        put(store, record_at(1), entry_at(1, changed()))
        assert store.entries("1", AuditFilter()) == [entry_at(1, changed())]

    def test_generations_are_apart_but_share_what_was_announced(self, open_store: OpenStore) -> None:
        """Records and audit are kept by version; the world was told things by the projection."""
        old, new = open_store(clients), open_store(NEWER)
        put(old, record_at(1), entry_at(1), outbox=outbox_at(1))
        loaded = new.load(["1"])["1"]
        assert (loaded.record, loaded.record_tag, loaded.announced) == (None, None, announced_at(1))
        assert new.entries("1", AuditFilter()) == []
        assert new.pending("1") == [outbox_at(1)]
        assert new.client_ids() == []

    def test_the_generation_that_got_further_is_served(self, open_store: OpenStore) -> None:
        """The newer one on a tie; old code knows nothing of newer records; each trail can be read."""
        old, new = open_store(clients), open_store(NEWER)
        assert (old.newest("1"), new.newest("1")) == (None, None)
        put(old, record_at(2), entry_at(1), entry_at(2))
        assert new.newest("1") == Served(1, record_at(2))
        put(new, record_at(1), entry_at(1, changed()))
        assert new.newest("1") == Served(1, record_at(2))
        put(new, record_at(2), entry_at(2))
        assert (old.newest("1"), new.newest("1")) == (Served(1, record_at(2)), Served(2, record_at(2)))
        assert new.entries("1", AuditFilter(), projection_version=1) == [entry_at(1), entry_at(2)]
        assert new.entries("1", AuditFilter()) == [entry_at(1, changed()), entry_at(2)]

    def test_projections_are_apart(self, open_store: OpenStore) -> None:
        """Another name shares nothing."""
        put(open_store(clients), record_at(1), entry_at(1), outbox=outbox_at(1))
        other = open_store(OTHER)
        assert other.load(["1"]) == {"1": NOTHING}
        assert other.pending("1") == []
        assert other.waiting() == []

    def test_client_ids_are_listed_in_order(self, store: Store) -> None:
        """In pages, each continued after the last id of the one before."""
        ids = ["a", "B", "10", "9", "x.~2E", "_"]
        for client_id in ids:
            put(store, record_at(1, client_id))
        pages = [store.client_ids(limit=4), store.client_ids(after=store.client_ids(limit=4)[-1], limit=4)]
        assert [*pages[0], *pages[1]] == sorted(ids)
        assert len(pages[0]) == 4

    def test_parked_clients_are_listed_in_order(self, store: Store) -> None:
        """Those that are parked now, in pages."""
        for client_id in "cabd":
            put(store, record_at(1, client_id, parked=PARKED))
        put(store, record_at(1, "b"))
        assert [record.client_id for record in store.parked()] == ["a", "c", "d"]
        assert [record.client_id for record in store.parked(limit=2)] == ["a", "c"]
        assert store.parked(after="c") == [record_at(1, "d", parked=PARKED)]

    def test_another_store_sees_what_was_committed(self, open_store: OpenStore) -> None:
        """It is durable."""
        put(open_store(clients), record_at(1), entry_at(1), outbox=outbox_at(1))
        again = open_store(clients)
        assert again.load(["1"])["1"].record == record_at(1)
        assert again.pending("1") == [outbox_at(1)]

    def test_many_clients_are_loaded_at_once(self, store: Store) -> None:
        """Some with and some without a record."""
        for number in range(0, 30, 3):
            put(store, record_at(1, str(number)))
        loaded = store.load([str(number) for number in range(30)])
        assert {client_id for client_id, each in loaded.items() if each.record} == {str(n) for n in range(0, 30, 3)}
        assert len(loaded) == 30

    def test_an_id_is_never_part_of_a_query(self, store: Store) -> None:
        """Defect 7: quotes, wildcards and JSON in an id neither break a query nor widen it to other clients."""
        put(store, record_at(1, "1"), entry_at(1), outbox=outbox_at(1))
        for hostile in ("' OR '1'='1", '" OR 1=1 --', "%", "1' --", '["1"]', "\\"):
            assert store.load([hostile]) == {hostile: NOTHING}
            assert store.entries(hostile, AuditFilter()) == []
            assert store.pending(hostile) == []


class TestSqliteProjectionStore(ProjectionStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        with ExitStack() as stack:
            yield lambda projection: SqliteProjectionStore(
                stack.enter_context(closing(open_projections(tmp_path))), projection
            )
