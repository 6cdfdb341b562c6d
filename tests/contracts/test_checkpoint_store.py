"""What every database must do for durable cursors."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventstore import CheckpointStore, SqliteCheckpointStore, open_events

pytestmark = pytest.mark.contract


class CheckpointStoreContract:
    """Subclasses supply `open_store`: each call gives a store of its own over the same data."""

    @pytest.fixture
    def open_store(self) -> Callable[[], CheckpointStore]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_store: Callable[[], CheckpointStore]) -> CheckpointStore:
        return open_store()

    def test_there_is_no_cursor_at_first(self, store: CheckpointStore) -> None:
        """A name nobody saved has no cursor."""
        assert store.load("sweep") is None

    def test_a_saved_cursor_is_loaded(self, store: CheckpointStore) -> None:
        """A cursor comes back as it was saved, whatever a backend writes into it."""
        cursor = '{"token": "\\"1#42\\"", "ñ": 1}' + "x" * 3000
        store.save("sweep", cursor)
        assert store.load("sweep") == cursor

    def test_the_last_saved_cursor_counts(self, store: CheckpointStore) -> None:
        """Saving replaces; also with a smaller cursor, since only the saver knows the order."""
        for cursor in ("1", "9", "3"):
            store.save("sweep", cursor)
        assert store.load("sweep") == "3"

    def test_a_cursor_is_created_once(self, open_store: Callable[[], CheckpointStore]) -> None:
        """Whoever comes later, from whatever process, is told what is there."""
        first, second = open_store(), open_store()
        assert first.create("sweep", "3") == "3"
        assert second.create("sweep", "7") == "3"
        first.save("sweep", "5")
        assert second.create("sweep", "7") == "5"
        assert second.load("sweep") == "5"

    def test_names_are_apart(self, store: CheckpointStore) -> None:
        """Names that differ a little are different cursors."""
        names = ("clients.v1:all", "clients.v1:ALL", "clients.v2:all", "a/b", "a b", "ñ")
        for number, name in enumerate(names):
            store.save(name, str(number))
        assert [store.load(name) for name in names] == ["0", "1", "2", "3", "4", "5"]

    def test_a_cursor_survives_its_store(self, open_store: Callable[[], CheckpointStore]) -> None:
        """Another process finds the cursor."""
        open_store().save("sweep", "7")
        assert open_store().load("sweep") == "7"


class TestSqliteCheckpointStore(CheckpointStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[Callable[[], CheckpointStore]]:
        databases = []

        def open_store() -> CheckpointStore:
            databases.append(open_events(tmp_path))
            return SqliteCheckpointStore(databases[-1])

        yield open_store
        for database in databases:
            database.close()
