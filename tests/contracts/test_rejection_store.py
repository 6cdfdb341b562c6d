"""What every database must do for deliveries that could not become events."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import Rejection, RejectionNotFoundError, RejectionStore, SqliteRejectionStore, open_events

pytestmark = pytest.mark.contract

NOON = "2026-01-31T12:00:00.000000Z"


def rejection(key: str | None = "k1", *, source: str = "shop", payload: bytes = b'{"email": 7}') -> Rejection:
    return Rejection(0, source, key, NOON, "invalid_event", ("email: string type",), payload)


class RejectionStoreContract:
    @pytest.fixture
    def store(self) -> RejectionStore:
        raise NotImplementedError

    def test_there_are_none_at_first(self, store: RejectionStore) -> None:
        """A fresh store has nothing open."""
        assert list(store.open()) == []

    def test_a_rejection_comes_back_whole(self, store: RejectionStore) -> None:
        """Everything is kept, the payload byte for byte, and the store gives the number."""
        kept = rejection(payload=b"\x00\xff not JSON \xc3")
        store.add([kept])
        (found,) = store.open()
        assert found._replace(number=0) == kept
        assert found.number > 0
        assert store.get(found.number) == found

    def test_keys_may_be_missing_and_payloads_empty(self, store: RejectionStore) -> None:
        """What has no key or no content is kept too."""
        store.add([rejection(None, payload=b"")])
        (found,) = store.open()
        assert (found.key, found.payload) == (None, b"")

    def test_numbers_ascend(self, store: RejectionStore) -> None:
        """Rejections are listed in the order in which they came."""
        store.add([rejection("a"), rejection("b")])
        store.add([rejection("c")])
        found = store.open()
        assert [r.key for r in found] == ["a", "b", "c"]
        assert sorted({r.number for r in found}) == [r.number for r in found]

    def test_one_that_is_open_is_not_kept_twice(self, store: RejectionStore) -> None:
        """The same source, key and payload is one rejection; a difference in any of them makes another."""
        store.add([rejection(), rejection()])
        store.add([rejection()])
        store.add([rejection("k2"), rejection(source="crm"), rejection(payload=b"{}"), rejection(None)])
        assert len(store.open()) == 5

    def test_listing_is_filtered_and_paged(self, store: RejectionStore) -> None:
        """One source, a page after a number, a limit."""
        store.add(rejection(str(n), source="shop" if n % 2 else "crm") for n in range(10))
        shop = store.open(source="shop")
        assert [r.key for r in shop] == ["1", "3", "5", "7", "9"]
        assert [r.key for r in store.open(source="shop", after=shop[1].number, limit=2)] == ["5", "7"]
        assert list(store.open(source="nobody")) == []
        assert list(store.open(after=10**30)) == []

    def test_a_resolved_one_is_gone(self, store: RejectionStore) -> None:
        """It is listed no more, cannot be read, and is not resolved again."""
        store.add([rejection("a"), rejection("b")])
        first, second = store.open()
        store.resolve(first.number)
        assert list(store.open()) == [second]
        with pytest.raises(RejectionNotFoundError) as caught:
            store.get(first.number)
        assert caught.value.number == first.number
        with pytest.raises(RejectionNotFoundError):
            store.resolve(first.number)

    def test_a_resolved_one_that_comes_again_is_kept_again(self, store: RejectionStore) -> None:
        """A number is never used twice."""
        store.add([rejection()])
        (first,) = store.open()
        store.resolve(first.number)
        store.add([rejection()])
        (again,) = store.open()
        assert again.number > first.number

    @pytest.mark.parametrize("number", [-(10**30), -1, 0, 999, 10**30])
    def test_an_unknown_number_is_told(self, store: RejectionStore, number: int) -> None:
        """Whatever number a person types, the answer is that there is none."""
        store.add([rejection()])
        with pytest.raises(RejectionNotFoundError):
            store.get(number)
        with pytest.raises(RejectionNotFoundError):
            store.resolve(number)


class TestSqliteRejectionStore(RejectionStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[RejectionStore]:
        database = open_events(tmp_path)
        yield SqliteRejectionStore(database)
        database.close()
