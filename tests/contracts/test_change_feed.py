"""What every database must do for the feed of all events."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import (
    ANY,
    ChangeFeed,
    EventStore,
    RecordedEvent,
    SqliteEventStore,
    open_events,
)
from tests.support.events import emails, is_intact

pytestmark = pytest.mark.contract

PLACE = attrgetter("client_id", "version")
CLIENTS = ("c1", "c2", "CC.10~2020", "c4", "c5")


class FeedingStore(EventStore, ChangeFeed, Protocol):
    """Both ports in one object."""


def pages(feed: ChangeFeed, partition: str, limit: int, *, after: str | None = None) -> Iterator[list[RecordedEvent]]:
    """The pages of a partition after a cursor, or from the first event ever, until there is nothing new."""
    cursor = after
    while True:
        page = feed.feed(partition, after=cursor, limit=limit)
        if not page.events:
            return
        yield list(page.events)
        cursor = page.cursor


def read_all(feed: ChangeFeed, limit: int) -> list[RecordedEvent]:
    """Every event of every partition, one partition after the other."""
    return [event for partition in feed.partitions() for page in pages(feed, partition, limit) for event in page]


class ChangeFeedContract:
    @pytest.fixture
    def store(self) -> FeedingStore:
        raise NotImplementedError

    @pytest.fixture
    def filled(self, store: FeedingStore) -> FeedingStore:
        """Sixty events of five clients, in calls of one to three."""
        for number in range(30):
            keys = range(number * 10, number * 10 + 1 + number % 3)
            store.append(CLIENTS[number % len(CLIENTS)], emails(*keys), expected_version=ANY)
        return store

    def test_an_empty_feed_has_partitions_and_a_cursor(self, store: FeedingStore) -> None:
        """Reading may start before the first event, and the cursor of an empty page finds it."""
        (first, *_) = store.partitions()
        page = store.feed(first, after=None, limit=10)
        assert list(page.events) == []
        cursors = {name: store.feed(name, after=None, limit=10).cursor for name in store.partitions()}
        store.append("c1", emails(1), expected_version=ANY)
        found = [event for name, cursor in cursors.items() for event in store.feed(name, after=cursor, limit=10).events]
        assert [event.event_id for event in found] == ["crm:1"]

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(limit=st.integers(1, 80))
    def test_any_page_size_gives_every_event_once(self, filled: FeedingStore, limit: int) -> None:
        """Whatever the page size, all clients' streams come complete; within a client later calls come later."""
        found = read_all(filled, limit)
        by_client = {
            client_id: list(group)
            for client_id, group in groupby(sorted(found, key=attrgetter("client_id")), attrgetter("client_id"))
        }
        assert set(by_client) == set(CLIENTS)
        for client_id, delivered in by_client.items():
            stream = list(filled.read(client_id))
            assert sorted(delivered, key=attrgetter("version")) == stream
            assert is_intact(stream)

    def test_a_cursor_continues_where_its_page_ended(self, filled: FeedingStore) -> None:
        """The same cursor gives the same page again, and the pages that follow give the rest, once."""
        for partition in filled.partitions():
            whole = [event for page in pages(filled, partition, 1000) for event in page]
            first = filled.feed(partition, after=None, limit=7)
            second = filled.feed(partition, after=first.cursor, limit=7)
            assert filled.feed(partition, after=first.cursor, limit=7) == second
            rest = [event for page in pages(filled, partition, 1000, after=second.cursor) for event in page]
            assert sorted([*first.events, *second.events, *rest], key=PLACE) == sorted(whole, key=PLACE)

    def test_a_cursor_at_the_end_finds_what_comes_later(self, filled: FeedingStore) -> None:
        """A follower that has caught up sees new events, and only those."""
        ends = {}
        for partition in filled.partitions():
            page = filled.feed(partition, after=None, limit=1000)
            while page.events:
                page = filled.feed(partition, after=page.cursor, limit=1000)
            ends[partition] = page.cursor
        appended = filled.append("c2", emails(900, 901), expected_version=ANY).events
        found = [event for name, cursor in ends.items() for event in filled.feed(name, after=cursor, limit=10).events]
        assert sorted(found, key=attrgetter("version")) == list(appended)

    def test_a_repeat_does_not_show_in_the_feed(self, filled: FeedingStore) -> None:
        """An append that changed nothing feeds nothing."""
        before = read_all(filled, 1000)
        filled.append("c1", [emails(0)[0]], expected_version=ANY)
        assert read_all(filled, 1000) == before


class TestSqliteChangeFeed(ChangeFeedContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[FeedingStore]:
        database = open_events(tmp_path)
        yield SqliteEventStore(database)
        database.close()
