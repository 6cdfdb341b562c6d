"""What every database must do for what earlier generations left."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from eventstore import SqliteDatabase
from projections import (
    Announced,
    AuditFilter,
    Commit,
    Parked,
    Passed,
    Predecessors,
    Projection,
    SqlitePredecessors,
    SqliteProjectionStore,
    open_projections,
)
from tests.support.clients import Client, events
from tests.support.commits import Store, changed, entry_at, put, record_at

pytestmark = pytest.mark.contract

FIRST, SECOND, THIRD, FOURTH = (Projection("clients", Client, events, version=version) for version in (1, 2, 3, 4))
OTHER = Projection("others", Client, events, version=1)
PARKED = Parked(3, 7, "rule_raised", (), "fingerprint")

Open = Callable[[Projection[Any]], tuple[Store, Predecessors]]


class PredecessorsContract:
    """Subclasses supply `open_both`: each call gives stores of their own over the same data."""

    @pytest.fixture
    def open_both(self) -> Open:
        raise NotImplementedError

    @pytest.fixture
    def predecessors(self, open_both: Open) -> Predecessors:
        """As version 3 sees them."""
        for projection, version in ((FIRST, 4), (SECOND, 2), (THIRD, 3), (FOURTH, 9), (OTHER, 9)):
            store, _ = open_both(projection)
            entries = [entry_at(each + 1, changed(), client_id="a") for each in range(version)]
            put(store, record_at(version, "a", email="x"), *entries)
        put(open_both(FIRST)[0], record_at(2, "b", parked=PARKED, email="x"), entry_at(1, client_id="b"))
        put(open_both(THIRD)[0], record_at(1, "c", email="x"), entry_at(1, client_id="c"))
        put(open_both(SECOND)[0], record_at(1, "d", email="x"), entry_at(1, client_id="d"))
        return open_both(THIRD)[1]

    def test_how_far_earlier_generations_are(self, predecessors: Predecessors) -> None:
        """The one that is furthest counts where none announced anything; neither the own generation nor later ones or other projections do."""
        found = predecessors.passed(["a", "b", "c", "nobody"])
        assert found == {"a": Passed(4, 4), "b": Passed(2, 7)}
        assert predecessors.passed([]) == {}

    @pytest.mark.parametrize(
        ("announcer", "told"),
        [(1, 4), (2, 2), (3, 4), (4, 4)],
        ids=["the one that is furthest", "another", "the own one", "a later one"],
    )
    def test_so_far_the_world_was_told(
        self, predecessors: Predecessors, open_both: Open, announcer: int, told: int
    ) -> None:
        """Where one of them announced last, what it folded counts: what others passed meanwhile they did not tell."""
        store, _ = open_both(FIRST)
        loaded = store.load(["a"])["a"]
        assert loaded.record is not None
        announced = Announced(1, announcer, 2, {})
        store.commit([Commit(loaded, loaded.record, (), announced)])
        assert predecessors.passed(["a", "b"]) == {"a": Passed(told, 4), "b": Passed(2, 7)}

    def test_where_the_one_that_announced_was_pruned_those_that_are_left_count(
        self, predecessors: Predecessors, open_both: Open
    ) -> None:
        """They were complete when it was."""
        store, _ = open_both(FIRST)
        loaded = store.load(["a"])["a"]
        assert loaded.record is not None
        store.commit([Commit(loaded, loaded.record, (), Announced(1, 1, 2, {}))])
        open_both(SECOND)[1].remove(["a"], audit=False)
        assert predecessors.passed(["a"]) == {"a": Passed(2, 2)}

    def test_the_first_version_has_none(self, predecessors: Predecessors, open_both: Open) -> None:
        """Nothing was before it."""
        none = open_both(FIRST)[1]
        assert none.passed(["a", "b"]) == {}
        assert none.owners(audit=True) == []
        assert none.remove(["a"], audit=True) == 0
        assert predecessors.owners(audit=False) == ["a", "b", "d"]

    @pytest.mark.parametrize("limit", [1, 2, 1000])
    def test_owners_come_by_the_page(self, predecessors: Predecessors, limit: int) -> None:
        """Ascending, each once."""
        found: list[str] = []
        while page := predecessors.owners(audit=True, after=found[-1] if found else "", limit=limit):
            assert len(page) <= limit
            found += page
        assert found == ["a", "b", "d"]

    def test_removing_takes_records_first_and_audit_when_asked(
        self, predecessors: Predecessors, open_both: Open
    ) -> None:
        """The own generation, later ones and other projections keep what they have; a repeat finds nothing."""
        assert predecessors.remove(["a", "c"], audit=False) == 2
        assert predecessors.owners(audit=False) == ["b", "d"]
        assert predecessors.owners(audit=True) == ["a", "b", "d"]
        assert len(open_both(FIRST)[0].entries("a", AuditFilter())) == 4
        assert predecessors.remove(["a"], audit=True) == 6
        assert predecessors.remove(["a"], audit=True) == 0
        assert predecessors.owners(audit=True) == ["b", "d"]
        for projection, version in ((THIRD, 3), (FOURTH, 9), (OTHER, 9)):
            store, _ = open_both(projection)
            record = store.load(["a"])["a"].record
            assert record is not None
            assert record.version == version

    def test_a_long_trail_is_removed(self, predecessors: Predecessors, open_both: Open) -> None:
        """However many documents one write takes."""
        store, _ = open_both(SECOND)
        for start in range(0, 250, 50):
            entries = [entry_at(start + each + 1, client_id="long") for each in range(50)]
            put(store, record_at(start + 50, "long", email="x"), *entries)
        assert predecessors.remove(["long"], audit=True) == 251
        assert store.entries("long", AuditFilter()) == []


class TestSqlitePredecessors(PredecessorsContract):
    @pytest.fixture
    def open_both(self, tmp_path: Path) -> Iterator[Open]:
        with ExitStack() as opened:

            def open_both(projection: Projection[Any]) -> tuple[Store, Predecessors]:
                database = opened.enter_context(closing(open_projections(tmp_path)))
                return SqliteProjectionStore(database, projection), SqlitePredecessors(database, projection)

            yield open_both

    def test_what_others_wait_for_is_bounded(self, open_both: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """A long trail, or many short ones, go in several transactions; the last entry that tells of a client is its first."""
        store, _ = open_both(SECOND)
        for client_id, versions in (("a", 700), ("b", 50), ("long", 1200)):
            for start in range(0, versions, 50):
                entries = [entry_at(start + each + 1, client_id=client_id) for each in range(50)]
                put(store, record_at(start + 50, client_id, email="x"), *entries)
        left: list[tuple[int, list[str]]] = []
        _, predecessors = open_both(THIRD)
        write = SqliteDatabase.write

        def noting(database: SqliteDatabase, work: Callable[[Any], Any]) -> Any:
            result = write(database, work)
            left.append((result, list(predecessors.owners(audit=True))))
            return result

        monkeypatch.setattr(SqliteDatabase, "write", noting)
        assert predecessors.remove(["a", "b", "long"], audit=True) == 1953
        assert left == [(1000, ["long"]), (953, []), (0, [])]
