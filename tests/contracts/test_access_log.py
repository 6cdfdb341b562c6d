"""What every database must do for entries about accesses."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eventstore import StoreUnavailableError, utc_text
from functions_app.access import DAYS_KEPT, AccessEntry, AccessLog
from functions_app.cosmos_access import ACCESS_CONTAINER, CosmosAccessLog
from functions_app.sqlite_access import SqliteAccessLog, open_access
from tests.support.cosmos import Containers
from tests.wire.cosmos import CosmosServer, faults

pytestmark = pytest.mark.contract

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
ANA, BEN = "a" * 16, "b" * 16


def entry(minute: int = 0, *, who: str = "key", what: str = "record", client_ref: str | None = ANA) -> AccessEntry:
    return AccessEntry(utc_text(NOON + timedelta(minutes=minute)), who, what, client_ref)


class AccessLogContract:
    @pytest.fixture
    def log(self) -> AccessLog:
        raise NotImplementedError

    def test_there_are_none_at_first(self, log: AccessLog) -> None:
        """A fresh log is empty."""
        assert list(log.entries()) == []

    def test_an_entry_comes_back_whole(self, log: AccessLog) -> None:
        """Who, what, whom and when; also one that is about nobody."""
        kept = [entry(0, who="ana@x.example 0-1"), entry(1, what="pause crm", client_ref=None)]
        for each in kept:
            log.add(each)
        assert list(log.entries()) == kept[::-1]

    def test_the_same_access_twice_is_two_entries(self, log: AccessLog) -> None:
        """Nothing is taken for a repeat."""
        log.add(entry())
        log.add(entry())
        assert len(list(log.entries())) == 2

    def test_they_are_found_by_client_and_by_time(self, log: AccessLog) -> None:
        """From a time on, up to another, which is not included; newest first."""
        for minute in range(6):
            log.add(entry(minute, client_ref=ANA if minute % 2 else BEN))
        log.add(entry(6, client_ref=None))

        def minutes(**where: str) -> list[int]:
            return [datetime.fromisoformat(found.at).minute for found in log.entries(**where)]

        assert minutes() == [6, 5, 4, 3, 2, 1, 0]
        assert minutes(client_ref=ANA) == [5, 3, 1]
        assert minutes(since=entry(2).at, until=entry(5).at) == [4, 3, 2]
        assert minutes(client_ref=BEN, since=entry(1).at, until=entry(4).at) == [2]
        assert minutes(client_ref="c" * 16) == []

    def test_many_come_in_pages(self, log: AccessLog) -> None:
        """However many there are."""
        for number in range(520):
            log.add(entry(number // 10, what=str(number)))
        found = [int(each.what) for each in log.entries(client_ref=ANA)]
        assert sorted(found) == list(range(520))
        assert [number // 10 for number in found] == sorted((number // 10 for number in found), reverse=True)


class TestSqliteAccessLog(AccessLogContract):
    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[SqliteAccessLog]:
        database = open_access(tmp_path)
        yield SqliteAccessLog(database, clock=lambda: NOON)
        database.close()

    def test_old_entries_are_forgotten(self, tmp_path: Path) -> None:
        """With the next one that is written."""
        now = NOON
        database = open_access(tmp_path)
        log = SqliteAccessLog(database, clock=lambda: now)
        log.add(entry(0))
        log.add(entry(1))
        now += timedelta(days=DAYS_KEPT, minutes=1)
        log.add(entry(2))
        assert list(log.entries()) == [entry(2), entry(1)]
        database.close()

    def test_an_entry_that_is_not_durable_is_an_error(self, tmp_path: Path) -> None:
        """Whoever writes one has to know."""
        database = open_access(tmp_path)
        database.close()
        with pytest.raises(StoreUnavailableError):
            SqliteAccessLog(database).add(entry())


@pytest.mark.cosmos_wire
class TestCosmosAccessLog(AccessLogContract):
    @pytest.fixture(params=[1, 3])
    def server(self, request: pytest.FixtureRequest) -> Iterator[CosmosServer]:
        with CosmosServer(ranges=request.param) as server:
            yield server

    @pytest.fixture
    def log(self, server: CosmosServer) -> Iterator[CosmosAccessLog]:
        with Containers(server) as containers:
            yield CosmosAccessLog(containers.open(ACCESS_CONTAINER))

    def test_an_entry_is_one_request(self, log: CosmosAccessLog, server: CosmosServer) -> None:
        """That is what a read of a record costs more."""
        log.add(entry())
        with server.meter.measure() as used:
            log.add(entry())
        assert used.data_requests.total() == 1

    def test_a_write_that_the_sdk_repeats_is_one_entry(self, server: CosmosServer) -> None:
        """A request that was stored and answered late comes again under its own id, which nobody else has."""
        with Containers(server) as containers:
            log = CosmosAccessLog(containers.open(ACCESS_CONTAINER), new_id=lambda: "the-same")
            log.add(entry())
            log.add(entry())
            assert list(log.entries()) == [entry()]

    @pytest.mark.parametrize("fault", [faults.unavailable(), faults.dropped(stored=True)], ids=["503", "dropped"])
    def test_an_entry_that_may_be_lost_is_an_error(
        self, log: CosmosAccessLog, server: CosmosServer, fault: faults.Fault
    ) -> None:
        """Whoever writes one has to know, even if it may have been stored."""
        server.inject(fault, kind="create", container="access", times=20)
        with pytest.raises(StoreUnavailableError):
            log.add(entry())

    def test_the_service_forgets_them(self) -> None:
        """Time to live is a property of the container, so provisioning sees to it."""
        assert ACCESS_CONTAINER["default_ttl"] == DAYS_KEPT * 86_400
