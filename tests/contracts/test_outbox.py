"""What every database must do for announcements that wait to be published."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eventstore import utc_text
from projections import SqliteProjectionStore, open_projections
from tests.support.clients import NOON, clients
from tests.support.commits import SettableClock, Store, outbox_at, put, record_at

pytestmark = pytest.mark.contract


class OutboxContract:
    """Subclasses supply `store`, which writes at the time of `clock`."""

    @pytest.fixture
    def clock(self) -> SettableClock:
        return SettableClock()

    @pytest.fixture
    def store(self, clock: SettableClock) -> Store:
        raise NotImplementedError

    def test_entries_are_pending_in_order(self, store: Store) -> None:
        """By number, not by text, each as it was committed, those of one client only."""
        for seq in range(1, 12):
            put(store, record_at(seq), outbox=outbox_at(seq, version=seq))
        put(store, record_at(1, "2"), outbox=outbox_at(1, "2"))
        assert store.pending("1") == [outbox_at(seq, version=seq) for seq in range(1, 12)]

    def test_what_was_published_is_forgotten(self, store: Store) -> None:
        """The rest stays."""
        for seq in (1, 2, 3):
            put(store, record_at(seq), outbox=outbox_at(seq))
        store.delete([outbox_at(1), outbox_at(3)])
        assert store.pending("1") == [outbox_at(2)]

    def test_forgetting_twice_does_not_matter(self, store: Store) -> None:
        """Another publisher may have been faster."""
        put(store, record_at(1), outbox=outbox_at(1))
        store.delete([outbox_at(1)])
        store.delete([outbox_at(1), outbox_at(2), outbox_at(1, "nobody")])
        store.delete([])
        assert store.pending("1") == []

    def test_deleting_leaves_what_was_announced(self, store: Store) -> None:
        """The state that the next announcement compares with stays."""
        put(store, record_at(1), outbox=outbox_at(1))
        store.delete(store.pending("1"))
        announced = store.load(["1"])["1"].announced
        assert announced is not None
        assert announced.seq == 1

    def test_nobody_waits_at_first(self, store: Store) -> None:
        """A record that was never announced has nothing waiting."""
        put(store, record_at(1))
        assert store.waiting() == []

    def test_who_waits_longest_comes_first(self, store: Store, clock: SettableClock) -> None:
        """Each client once, by its oldest entry."""
        for client_id, seq in (("b", 1), ("a", 1), ("b", 2), ("c", 1)):
            clock.forward(minutes=1)
            put(store, record_at(seq, client_id), outbox=outbox_at(seq, client_id))
        assert store.waiting() == ["b", "a", "c"]
        assert store.waiting(limit=2) == ["b", "a"]
        store.delete([outbox_at(1, "b")])
        assert store.waiting() == ["a", "b", "c"]

    def test_only_what_is_old_enough_is_overdue(self, store: Store, clock: SettableClock) -> None:
        """An entry written at that time or later is its projector's business."""
        put(store, record_at(1, "old"), outbox=outbox_at(1, "old"))
        then = clock.forward(minutes=1)
        put(store, record_at(1, "new"), outbox=outbox_at(1, "new"))
        assert store.waiting(older_than=utc_text(NOON)) == []
        assert store.waiting(older_than=then) == ["old"]
        assert store.waiting(older_than=clock.forward(minutes=1)) == ["old", "new"]


class TestSqliteOutbox(OutboxContract):
    @pytest.fixture
    def store(self, tmp_path: Path, clock: SettableClock) -> Iterator[Store]:
        with closing(open_projections(tmp_path)) as database:
            yield SqliteProjectionStore(database, clients, clock=clock)
