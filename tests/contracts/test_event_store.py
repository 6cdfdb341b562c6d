"""What every database must do for streams of events."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from eventstore import (
    ANY,
    EMPTY_STREAM,
    NO_STREAM,
    AppendTooLargeError,
    DuplicateEventIdError,
    EventData,
    EventIdReusedError,
    EventStore,
    InvalidClientIdError,
    InvalidEventError,
    SqliteEventStore,
    WrongExpectedVersionError,
    open_events,
    utc_text,
)
from tests.support.events import NOON, Registered, email, emails, events, is_intact

pytestmark = pytest.mark.contract


NOT_IDS = ["", ".", "..", "a.", ".a", "a..b", "a/b", "a b", "a'b", 'a"b', "é", "a%20", "~g1", "a\n", "\ud800", "a" * 97]
NOT_IDS += ["~41", "~C3", "e~CC~81"]  # escapes that are needless, cut off, or of a text that is not composed


class SettableClock:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class EventStoreContract:
    """Subclasses supply `open_store`: each call gives a store of its own over the same data, as another process would."""

    @pytest.fixture
    def open_store(self, clock: SettableClock) -> Callable[[], EventStore]:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> SettableClock:
        return SettableClock()

    @pytest.fixture
    def store(self, open_store: Callable[[], EventStore]) -> EventStore:
        return open_store()

    def test_a_client_without_events_is_an_empty_stream(self, store: EventStore) -> None:
        """Nobody has to create a stream before reading it."""
        assert list(store.read("c1")) == []
        assert store.head("c1") == EMPTY_STREAM

    def test_append_gives_versions_from_one_without_gaps(self, store: EventStore) -> None:
        """Several calls of several events count on from each other."""
        first = store.append("c1", emails(1, 2), expected_version=NO_STREAM)
        second = store.append("c1", emails(3), expected_version=2)
        assert [event.version for event in first.events] == [1, 2]
        assert (first.version, second.version) == (2, 3)
        assert [event.version for event in store.read("c1")] == [1, 2, 3]

    def test_everything_stored_comes_back(self, store: EventStore) -> None:
        """What is read is what `append` returned, envelope and payload included."""
        asked = EventData(
            "shop:order:7",
            "client.bought",
            3,
            "shop",
            NOON - timedelta(hours=5),
            {"lines": [{"sku": "ñ", "n": 2, "price": "9.90", "rate": 0.5}], "gift": None, "paid": True},
            correlation_id="r-1",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        stored = store.append("c1", [asked], expected_version=ANY).events[0]
        (read,) = store.read("c1")
        assert read == stored
        assert (read.client_id, read.event_id) == ("c1", asked.event_id)
        assert (read.event_type, read.schema_version, read.source) == ("client.bought", 3, "shop")
        assert (read.occurred_at, read.recorded_at) == (utc_text(asked.occurred_at), utc_text(NOON))
        assert (read.correlation_id, read.traceparent) == (asked.correlation_id, asked.traceparent)
        assert read.data == asked.data

    def test_streams_do_not_touch_each_other(self, store: EventStore) -> None:
        """The same event id may be used for two clients, and each counts for itself."""
        store.append("c1", emails(1, 2), expected_version=ANY)
        other = store.append("c2", emails(1), expected_version=NO_STREAM)
        assert (other.version, other.duplicates) == (1, frozenset())
        assert [event.client_id for event in store.read("c1")] == ["c1", "c1"]

    @pytest.mark.parametrize("client_id", ["a", "A", "CC.10~2020", "~27~20OR~201~3D1", "x_-1", "n.~C3~B1"])
    def test_ids_are_taken_as_they_are(self, store: EventStore, client_id: str) -> None:
        """Neither case nor an escaped quote widens or narrows what a read finds."""
        store.append("a.other", emails(1), expected_version=ANY)
        store.append(client_id, emails(7), expected_version=ANY)
        assert [(event.client_id, event.event_id) for event in store.read(client_id)] == [(client_id, "crm:7")]

    def test_reading_starts_after_and_ends_with_the_versions_given(self, store: EventStore) -> None:
        """`after` is exclusive, `until` inclusive, and bounds beyond the stream do no harm."""
        store.append("c1", emails(1, 2, 3, 4), expected_version=ANY)

        def versions(after: int, until: int | None) -> list[int]:
            return [event.version for event in store.read("c1", after=after, until=until)]

        assert versions(1, None) == [2, 3, 4]
        assert versions(0, 2) == [1, 2]
        assert versions(1, 3) == [2, 3]
        assert versions(3, 1) == []
        assert versions(10**30, None) == []
        assert versions(-(10**30), 10**30) == [1, 2, 3, 4]

    def test_a_long_stream_is_read_whole(self, store: EventStore) -> None:
        """A stream of more than one page comes complete and in order."""
        for start in range(0, 1100, 100):
            store.append("c1", emails(*range(start, start + 100)), expected_version=start)
        stream = list(store.read("c1"))
        assert len(stream) == 1100
        assert is_intact(stream)

    def test_a_reader_that_stops_early_disturbs_nobody(self, store: EventStore) -> None:
        """A stream half read does not block the next append."""
        store.append("c1", emails(1, 2), expected_version=ANY)
        reading = store.read("c1")
        next(reading)
        assert store.append("c1", emails(3), expected_version=2).version == 3
        assert [event.version for event in reading][:1] == [2]

    def test_the_head_is_the_last_event(self, store: EventStore) -> None:
        """Version, hash and time of the head are those that the next event continues."""
        last = store.append("c1", emails(1, 2), expected_version=ANY).events[-1]
        assert store.head("c1") == (last.version, last.hash, last.recorded_at)

    def test_hashes_chain_the_stream(self, store: EventStore) -> None:
        """What is read back is intact, across calls and stores."""
        store.append("c1", emails(1, 2), expected_version=ANY)
        store.append("c1", emails(3), expected_version=ANY)
        assert is_intact(list(store.read("c1")))

    def test_recorded_times_never_decrease(self, store: EventStore, clock: SettableClock) -> None:
        """A clock that is put back does not put the history back."""
        store.append("c1", emails(1), expected_version=ANY)
        clock.now = NOON - timedelta(hours=1)
        store.append("c1", emails(2), expected_version=ANY)
        clock.now = NOON + timedelta(hours=1)
        store.append("c1", emails(3), expected_version=ANY)
        noon, later = utc_text(NOON), utc_text(clock.now)
        assert [event.recorded_at for event in store.read("c1")] == [noon, noon, later]

    def test_a_repeat_changes_nothing(self, store: EventStore, clock: SettableClock) -> None:
        """The same call again returns the stored events, even when its expected version is long past."""
        first = store.append("c1", emails(1, 2), expected_version=NO_STREAM)
        clock.now = NOON + timedelta(days=1)
        again = store.append("c1", emails(1, 2), expected_version=NO_STREAM)
        assert again.events == first.events
        assert first.duplicates == frozenset()
        assert again.duplicates == {"crm:1", "crm:2"}
        assert len(list(store.read("c1"))) == 2

    def test_a_repeat_may_claim_another_time(self, store: EventStore) -> None:
        """Only type and data make the content; the first occurred time stays."""
        first = store.append("c1", [email(1)], expected_version=ANY)
        again = store.append("c1", [email(1, minutes=5)], expected_version=ANY)
        assert again.events == first.events

    def test_a_repeat_with_new_events_appends_the_new_ones(self, store: EventStore) -> None:
        """Known events keep their versions, the rest follows, and the answer has the order of the call."""
        store.append("c1", emails(2), expected_version=ANY)
        mixed = store.append("c1", emails(1, 2, 3), expected_version=1)
        assert [(event.event_id, event.version) for event in mixed.events] == [("crm:1", 2), ("crm:2", 1), ("crm:3", 3)]
        assert mixed.duplicates == {"crm:2"}
        assert mixed.version == 3

    def test_an_id_with_other_data_is_refused(self, store: EventStore) -> None:
        """A reused id writes nothing, not even the good events beside it."""
        store.append("c1", [email(1)], expected_version=ANY)
        with pytest.raises(EventIdReusedError) as caught:
            store.append("c1", [email(2), email(1, address="other@x.example")], expected_version=ANY)
        assert (caught.value.client_id, caught.value.event_id, caught.value.version) == ("c1", "crm:1", 1)
        assert len(list(store.read("c1"))) == 1

    def test_an_id_with_another_type_is_refused(self, store: EventStore) -> None:
        """The same data under another event type is other content."""
        store.append("c1", [EventData("crm:1", "client.a", 1, "crm", NOON, {})], expected_version=ANY)
        with pytest.raises(EventIdReusedError):
            store.append("c1", [EventData("crm:1", "client.b", 1, "crm", NOON, {})], expected_version=ANY)

    @pytest.mark.parametrize("expected", [NO_STREAM, 1, 3])
    def test_a_wrong_expected_version_is_refused(self, store: EventStore, expected: int) -> None:
        """An expected version that is behind or ahead writes nothing and tells where the stream is."""
        store.append("c1", emails(1, 2), expected_version=ANY)
        with pytest.raises(WrongExpectedVersionError) as caught:
            store.append("c1", emails(3), expected_version=expected)
        assert (caught.value.client_id, caught.value.expected, caught.value.actual) == ("c1", expected, 2)
        assert store.head("c1").version == 2

    def test_no_events_are_refused(self, store: EventStore) -> None:
        """An append of nothing is a mistake of the caller."""
        with pytest.raises(InvalidEventError, match="at least one"):
            store.append("c1", [], expected_version=ANY)

    def test_one_id_twice_in_a_call_is_refused(self, store: EventStore) -> None:
        """A repeat inside one call is not a repeat of a call; nothing is stored."""
        with pytest.raises(DuplicateEventIdError) as caught:
            store.append("c1", emails(1, 1), expected_version=ANY)
        assert caught.value.event_id == "crm:1"
        assert store.head("c1") == EMPTY_STREAM

    def test_a_hundred_events_fit_and_one_more_does_not(self, store: EventStore) -> None:
        """The limit of one transaction is the same everywhere; beyond it nothing is stored."""
        with pytest.raises(AppendTooLargeError) as caught:
            store.append("c1", emails(*range(101)), expected_version=ANY)
        assert (caught.value.size, caught.value.limit) == (101, 100)
        assert store.head("c1") == EMPTY_STREAM
        assert store.append("c1", emails(*range(100)), expected_version=ANY).version == 100

    def test_a_megabyte_fits_and_more_does_not(self, store: EventStore) -> None:
        """The limit counts the payloads of a call together."""

        def registered(key: str, size: int) -> EventData:
            return events.event_data(Registered(name="n" * size), source="crm", key=key, occurred_at=NOON)

        with pytest.raises(AppendTooLargeError) as caught:
            store.append("c1", [registered("a", 600_000), registered("b", 600_000)], expected_version=ANY)
        assert caught.value.limit == 1_000_000
        assert store.head("c1") == EMPTY_STREAM
        assert store.append("c1", [registered("c", 999_900)], expected_version=ANY).version == 1

    @pytest.mark.parametrize("client_id", NOT_IDS)
    def test_what_is_no_client_id_is_refused(self, store: EventStore, client_id: str) -> None:
        """No call takes a text that no id writes, so two spellings never share or split a client."""
        with pytest.raises(InvalidClientIdError):
            store.append(client_id, emails(1), expected_version=ANY)
        with pytest.raises(InvalidClientIdError):
            next(store.read(client_id), None)
        with pytest.raises(InvalidClientIdError):
            store.head(client_id)

    def test_concurrent_appends_to_one_client_are_all_stored(self, open_store: Callable[[], EventStore]) -> None:
        """Eight callers over two stores: nothing lost, nothing twice, no gap, one chain."""
        stores = [open_store(), open_store()]

        def caller(number: int) -> None:
            for key in range(number * 10, number * 10 + 10):
                stores[number % 2].append("c1", emails(key), expected_version=ANY)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(caller, range(8)))
        stream = list(stores[0].read("c1"))
        assert is_intact(stream)
        assert {event.event_id for event in stream} == {f"crm:{key}" for key in range(80)}

    def test_concurrent_repeats_store_one_event(self, open_store: Callable[[], EventStore]) -> None:
        """The same event from eight callers at once has one version, and each of them learns it."""
        stores = [open_store(), open_store()]

        def caller(number: int) -> int:
            return stores[number % 2].append("c1", emails(1), expected_version=ANY).version

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(caller, range(8))) == {1}
        assert len(list(stores[1].read("c1"))) == 1

    def test_one_of_two_with_the_same_expectation_wins(self, open_store: Callable[[], EventStore]) -> None:
        """Of callers that expect the same version exactly one is served."""
        stores = [open_store(), open_store()]

        def caller(number: int) -> bool:
            try:
                stores[number % 2].append("c1", emails(number), expected_version=NO_STREAM)
            except WrongExpectedVersionError:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(caller, range(6))) == 1
        assert len(list(stores[0].read("c1"))) == 1


class TestSqliteEventStore(EventStoreContract):
    @pytest.fixture
    def open_store(self, clock: SettableClock, tmp_path: Path) -> Iterator[Callable[[], EventStore]]:
        databases = []

        def open_store() -> EventStore:
            databases.append(open_events(tmp_path))
            return SqliteEventStore(databases[-1], clock=clock)

        yield open_store
        for database in databases:
            database.close()
