"""What every database must do for the list of all clients."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from eventstore import ANY, ClientDirectory, EventStore, SqliteEventStore, open_events
from tests.support.events import emails

pytestmark = pytest.mark.contract

CLIENTS = sorted({"a", "a.b", "CC.10~2020", "Z", "~C3~A9", *(f"c{number}" for number in range(40))})


class ListingStore(EventStore, ClientDirectory, Protocol):
    """Both ports in one object."""


def walk(directory: ClientDirectory, partition: str, limit: int) -> Iterator[list[str]]:
    """The pages of a partition."""
    cursor = None
    while True:
        page = directory.clients(partition, after=cursor, limit=limit)
        assert len(page.client_ids) <= limit
        yield list(page.client_ids)
        cursor = page.cursor
        if cursor is None:
            return


def found(directory: ClientDirectory, limit: int = 1000) -> list[str]:
    """Every client of every partition."""
    return [
        client_id
        for partition in directory.partitions()
        for page in walk(directory, partition, limit)
        for client_id in page
    ]


class ClientDirectoryContract:
    @pytest.fixture
    def store(self) -> ListingStore:
        raise NotImplementedError

    @pytest.fixture
    def filled(self, store: ListingStore) -> ListingStore:
        """Each client has one event, some have more."""
        for number, client_id in enumerate(CLIENTS):
            store.append(client_id, emails(*range(1 + number % 3)), expected_version=ANY)
        store.append(CLIENTS[3], emails(7, 8), expected_version=ANY)
        return store

    def test_an_empty_store_has_no_clients(self, store: ListingStore) -> None:
        """Nothing to find and nothing to count."""
        assert found(store) == []
        assert [store.count_clients(partition) for partition in store.partitions()] == [0] * len(store.partitions())

    @pytest.mark.parametrize("limit", [1, 2, 7, 1000])
    def test_any_page_size_gives_every_client_once(self, filled: ListingStore, limit: int) -> None:
        """However many events a client has and wherever pages end."""
        assert sorted(found(filled, limit)) == CLIENTS

    def test_the_count_is_that_of_the_clients(self, filled: ListingStore) -> None:
        """Partition by partition."""
        for partition in filled.partitions():
            clients = [client_id for page in walk(filled, partition, 1000) for client_id in page]
            assert filled.count_clients(partition) == len(clients)

    def test_clients_without_events_are_not_known(self, filled: ListingStore) -> None:
        """Asked for some at once, whatever partitions they are in."""
        assert set(filled.known([*CLIENTS, "nobody", "c"])) == set(CLIENTS)
        assert not filled.known([])

    def test_a_cursor_continues_where_its_page_ended(self, filled: ListingStore) -> None:
        """The same cursor gives the same clients again, also after events of clients that are listed."""
        for partition in filled.partitions():
            whole = [client_id for page in walk(filled, partition, 1000) for client_id in page]
            first = filled.clients(partition, after=None, limit=3)
            filled.append(whole[0], emails(100), expected_version=ANY)
            rest = list(first.client_ids)
            cursor = first.cursor
            while cursor is not None:
                page = filled.clients(partition, after=cursor, limit=2)
                rest += page.client_ids
                cursor = page.cursor
            assert rest == whole

    def test_clients_that_appear_during_a_walk_disturb_nobody(self, filled: ListingStore) -> None:
        """Those that were there at the start are each found once, whatever comes between two pages."""
        listed: list[str] = []
        for partition in filled.partitions():
            for number, page in enumerate(walk(filled, partition, 2)):
                listed += page
                for name in (f"0{number}", f"zz{number}"):
                    filled.append(name, emails(number), expected_version=ANY)
        assert sorted(client_id for client_id in listed if client_id in CLIENTS) == CLIENTS
        assert len(set(listed)) == len(listed)


class TestSqliteClientDirectory(ClientDirectoryContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ListingStore]:
        database = open_events(tmp_path)
        yield SqliteEventStore(database)
        database.close()
