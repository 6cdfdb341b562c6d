"""What every database must do for the audit trail."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from projections import ROOT, WHOLE, AuditFilter, SqliteProjectionStore, open_projections
from tests.support.clients import clients
from tests.support.commits import Store, changed, entry_at, minute, put, record_at

pytestmark = pytest.mark.contract

TRAIL = [
    entry_at(1, changed("email")),
    entry_at(2, event_type="client.visited", source="shop"),
    entry_at(3, changed("phone"), changed(WHOLE, "address")),
    entry_at(4, changed("segment", ROOT), event_type="client.graded", source="shop"),
    entry_at(5, changed("email", superseded=True)),
    entry_at(6, changed("email", ROOT), changed("phone")),
]


class AuditLogContract:
    """Subclasses supply `store`."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def log(self, store: Store) -> Store:
        put(store, record_at(6), *TRAIL)
        put(store, record_at(1, "2"), entry_at(1, changed("email"), client_id="2"))
        return store

    def test_a_trail_is_read_in_order(self, log: Store) -> None:
        """All entries of that client and of no other, exactly as they were committed."""
        assert log.entries("1", AuditFilter()) == TRAIL

    def test_a_client_without_entries_has_an_empty_trail(self, log: Store) -> None:
        """It is no error."""
        assert log.entries("nobody", AuditFilter()) == []

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (AuditFilter(sub_schema="contact"), [1, 3, 5, 6]),
            (AuditFilter(sub_schema="address"), [3]),
            (AuditFilter(sub_schema=ROOT), [4, 6]),
            (AuditFilter(sub_schema="nowhere"), []),
            (AuditFilter(field="email"), [1, 5, 6]),
            (AuditFilter(field=WHOLE), [3]),
            (AuditFilter(sub_schema="contact", field="email"), [1, 5]),
            (AuditFilter(sub_schema="address", field="phone"), []),
            (AuditFilter(event_type="client.graded"), [4]),
            (AuditFilter(event_type="client.visited"), [2]),
            (AuditFilter(source="shop"), [2, 4]),
            (AuditFilter(since=minute(3)), [3, 4, 5, 6]),
            (AuditFilter(until=minute(3)), [1, 2]),
            (AuditFilter(since=minute(2), until=minute(4)), [2, 3]),
            (AuditFilter(since=minute(99)), []),
            (AuditFilter(source="shop", sub_schema=ROOT, since=minute(1), event_type="client.graded"), [4]),
            (AuditFilter(source="crm", event_type="client.graded"), []),
            (AuditFilter(field="' OR '1'='1"), []),
            (AuditFilter(source="%"), []),
        ],
    )
    def test_a_filter_chooses_entries(self, log: Store, where: AuditFilter, expected: list[int]) -> None:
        """Every part of it has to hold; sub-schema and field have to hold for the same change."""
        assert [entry.version for entry in log.entries("1", where)] == expected

    @pytest.mark.parametrize(
        ("after", "until", "limit", "expected"),
        [
            (0, None, 2, [1, 2]),
            (2, None, 2, [3, 4]),
            (4, None, 100, [5, 6]),
            (6, None, 100, []),
            (1, 3, 100, [2, 3]),
            (2, 3, 1, [3]),
            (3, 3, 100, []),
        ],
    )
    def test_a_part_of_the_trail_is_read(
        self, log: Store, after: int, until: int | None, limit: int, expected: list[int]
    ) -> None:
        """After a version, up to a version, at most so many."""
        found = log.entries("1", AuditFilter(), after=after, until=until, limit=limit)
        assert [entry.version for entry in found] == expected

    def test_the_limit_counts_what_matches(self, log: Store) -> None:
        """Entries that the filter leaves out take no place."""
        assert [entry.version for entry in log.entries("1", AuditFilter(field="email"), after=1, limit=2)] == [5, 6]


class TestSqliteAuditLog(AuditLogContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with closing(open_projections(tmp_path)) as database:
            yield SqliteProjectionStore(database, clients)
