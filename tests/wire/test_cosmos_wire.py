"""The Cosmos wire server, seen through the unmodified azure-cosmos SDK."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import ServiceResponseError
from azure.cosmos import ContainerProxy, CosmosClient, DatabaseProxy, PartitionKey
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from tests.wire.cosmos import CosmosServer, Fault, Gate, faults

pytestmark = pytest.mark.cosmos_wire

Item = dict[str, Any]
EVENTS_POLICY = {
    "indexingMode": "consistent",
    "includedPaths": [{"path": "/client_id/?"}, {"path": "/version/?"}, {"path": "/tags/[]/?"}],
    "excludedPaths": [{"path": "/*"}],
}


@pytest.fixture
def server() -> Iterator[CosmosServer]:
    with CosmosServer(ranges=3) as server:
        yield server


@pytest.fixture
def database(server: CosmosServer) -> Iterator[DatabaseProxy]:
    with CosmosClient(server.url, server.key) as client:
        yield client.create_database("flow")


@pytest.fixture
def events(database: DatabaseProxy) -> ContainerProxy:
    return database.create_container(
        "events",
        PartitionKey("/client_id"),
        unique_key_policy={"uniqueKeys": [{"paths": ["/event_id"]}]},
        default_ttl=-1,
    )


@pytest.fixture
def other(server: CosmosServer, events: ContainerProxy) -> Iterator[ContainerProxy]:
    """The same container through a client of its own, without session tokens; it does not repeat 408 and 503."""
    with CosmosClient.from_connection_string(server.connection_string, enable_endpoint_discovery=False) as client:
        yield client.get_database_client("flow").get_container_client("events")


def event(version: int, client_id: str = "ada", **more: Any) -> Item:
    """A document as the event container holds it."""
    return {
        "id": f"{version:04}",
        "client_id": client_id,
        "event_id": f"{client_id}:{version}",
        "version": version,
    } | more


def append(container: ContainerProxy, *documents: Item) -> None:
    """Create documents of one client in one transaction."""
    container.execute_item_batch([("create", (document,)) for document in documents], documents[0]["client_id"])


def ask(container: ContainerProxy, query: str, partition: str | None = "ada", /, **parameters: Any) -> list[Any]:
    """All results of a query in one partition, or across partitions for None."""
    scope: Item = {"enable_cross_partition_query": True} if partition is None else {"partition_key": partition}
    named = [{"name": f"@{name}", "value": value} for name, value in parameters.items()]
    return list(container.query_items(query, parameters=named, **scope))


def versions(
    container: ContainerProxy, rest: str = "", partition: str | None = "ada", /, **parameters: Any
) -> list[Any]:
    """The versions that a query selects, whose conditions and order are given."""
    return [row.get("version") for row in ask(container, f"SELECT c.version FROM c {rest}", partition, **parameters)]


def read_feed(
    container: ContainerProxy, size: int = 100, *, most: int | None = None, **start: Any
) -> tuple[list[list[Item]], str]:
    """The pages of a feed, all or `most`, from a beginning or a continuation, and the token behind the last one."""
    seen: list[Mapping[str, str]] = []

    def keep(headers: Mapping[str, str], _body: object) -> None:
        seen.append(headers)  # the SDK puts the token in only after this call

    pages = container.query_items_change_feed(max_item_count=size, response_hook=keep, **start).by_page()
    read = [list(page) for page in islice(pages, most)]
    return read, seen[-1]["etag"]


def beginning(container: ContainerProxy) -> list[Item]:
    """Where to start, for every feed range."""
    return [
        {"feed_range": range_, "start_time": "Beginning"} for range_ in container.read_feed_ranges(force_refresh=True)
    ]


class TestResources:
    def test_databases_and_containers_are_created_listed_and_deleted(self, server: CosmosServer) -> None:
        """Databases and containers exist from their creation to their deletion, each only once."""
        with CosmosClient(server.url, server.key) as client:
            database = client.create_database_if_not_exists("flow")
            client.create_database_if_not_exists("flow")
            container = database.create_container_if_not_exists("events", PartitionKey("/client_id"))
            with pytest.raises(CosmosResourceExistsError):
                database.create_container("events", PartitionKey("/client_id"))
            assert [found["id"] for found in client.list_databases()] == ["flow"]
            assert container.read()["id"] == "events"
            database.delete_container(container)
            with pytest.raises(CosmosResourceNotFoundError):
                container.read()
            client.delete_database("flow")
            assert list(client.list_databases()) == []

    def test_a_container_reads_back_what_it_was_created_and_replaced_with(self, database: DatabaseProxy) -> None:
        """Partition key, unique keys, indexing policy and default ttl read back; the last two can be replaced."""
        key, unique = PartitionKey("/client_id"), {"uniqueKeys": [{"paths": ["/event_id"]}]}
        container = database.create_container("events", key, unique_key_policy=unique, default_ttl=60)
        properties = container.read()
        assert (properties["partitionKey"], properties["uniqueKeyPolicy"]) == (key, unique)
        assert properties["defaultTtl"] == 60
        assert properties["indexingPolicy"]["includedPaths"] == [{"path": "/*"}]
        database.replace_container(container, key, indexing_policy=EVENTS_POLICY)
        properties = container.read()
        assert properties["indexingPolicy"] == EVENTS_POLICY
        assert "defaultTtl" not in properties
        assert properties["uniqueKeyPolicy"] == unique
        with pytest.raises(CosmosHttpResponseError, match="partitionKey of a container cannot be changed"):
            database.replace_container(container, PartitionKey("/event_id"))

    def test_a_client_finds_a_container_that_was_created_anew(
        self, server: CosmosServer, database: DatabaseProxy, events: ContainerProxy, other: ContainerProxy
    ) -> None:
        """A client that still knows the old container reads its properties again and goes on."""
        other.create_item(event(1))
        database.delete_container(events)
        database.create_container("events", PartitionKey("/client_id"))
        with server.meter.measure() as cost:
            other.create_item(event(1))
        assert cost.data_requests == {"create": 2}
        assert ask(other, "SELECT VALUE COUNT(1) FROM c") == [1]

    def test_what_is_not_served_is_refused(self, server: CosmosServer, events: ContainerProxy) -> None:
        """A request outside the served part gets 400 and a message that names it."""
        with pytest.raises(CosmosHttpResponseError, match="Not served by this test server: POST /offers") as refusal:
            events.get_throughput()
        assert refusal.value.status_code == 400


class TestItems:
    def test_an_item_is_created_read_replaced_upserted_and_deleted(self, events: ContainerProxy) -> None:
        """Each point operation does what its name says, and every write gives a new etag."""
        created = events.create_item(event(1))
        with pytest.raises(CosmosResourceExistsError):
            events.create_item(event(1))
        replaced = events.replace_item("0001", event(1, note="replaced"))
        upserted = events.upsert_item(event(1, note="upserted"))
        assert len({created["_etag"], replaced["_etag"], upserted["_etag"]}) == 3
        assert events.read_item("0001", "ada") == upserted
        events.upsert_item(event(2))
        events.delete_item("0001", "ada")
        with pytest.raises(CosmosResourceNotFoundError):
            events.read_item("0001", "ada")
        with pytest.raises(CosmosResourceNotFoundError):
            events.delete_item("0001", "ada")
        assert ask(events, "SELECT c.id FROM c") == [{"id": "0002"}]

    def test_of_concurrent_creates_one_wins(self, server: CosmosServer, events: ContainerProxy) -> None:
        """Whoever comes first has the id, all others get a conflict."""

        def create(number: int) -> int | None:
            try:
                events.create_item(event(1, by=number))
            except CosmosResourceExistsError:
                return None
            return number

        with ThreadPoolExecutor(8) as pool:
            winners = [number for number in pool.map(create, range(16)) if number is not None]
        assert winners == [document["by"] for document in server.documents("flow", "events")]
        assert len(winners) == 1

    def test_a_stale_etag_is_refused(self, server: CosmosServer, events: ContainerProxy) -> None:
        """Replace, upsert and delete with If-Match change nothing once the document has moved on."""
        etag = events.create_item(event(1))["_etag"]
        current = events.replace_item("0001", event(1, n=1), etag=etag, match_condition=MatchConditions.IfNotModified)
        guard: Item = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        calls: list[Callable[[], Any]] = [
            lambda: events.replace_item("0001", event(1, n=2), **guard),
            lambda: events.upsert_item(event(1, n=2), **guard),
            lambda: events.delete_item("0001", "ada", **guard),
        ]
        for call in calls:
            with pytest.raises(CosmosAccessConditionFailedError):
                call()
        with pytest.raises(CosmosHttpResponseError, match="Not served"):
            events.upsert_item(event(1), match_condition=MatchConditions.IfMissing)
        assert server.documents("flow", "events") == [current]

    def test_a_write_without_response_still_tells_the_etag(self, events: ContainerProxy) -> None:
        """With no_response the body is empty and the etag is in the headers."""
        answer = events.create_item(event(1), no_response=True)
        assert dict(answer) == {}
        assert answer.get_response_headers()["etag"] == events.read_item("0001", "ada")["_etag"]

    def test_a_unique_key_holds_within_its_partition(self, events: ContainerProxy) -> None:
        """A unique key is taken for one partition key only, and is free again after a delete; a missing one is null."""
        events.create_item(event(1, event_id="e"))
        with pytest.raises(CosmosResourceExistsError):
            events.create_item(event(2, event_id="e"))
        events.create_item(event(1, "bob", event_id="e"))
        events.delete_item("0001", "ada")
        events.create_item(event(2, event_id="e"))
        events.create_item({"id": "a", "client_id": "ada"})
        with pytest.raises(CosmosResourceExistsError):
            events.create_item({"id": "b", "client_id": "ada"})

    def test_numbers_are_doubles(self, events: ContainerProxy) -> None:
        """An integer above 2^53 loses precision and 1.0 comes back as 1."""
        item = events.create_item(event(1, big=2**53 + 1, whole=1.0, half=0.5, negative=-(2**53) - 1))
        assert (item["big"], item["negative"]) == (2**53, -(2**53))
        assert type(item["whole"]) is int
        assert item["half"] == 0.5

    def test_an_id_that_is_too_long_is_refused(self, events: ContainerProxy) -> None:
        """An id has at most 1023 bytes."""
        with pytest.raises(CosmosHttpResponseError, match="1023 bytes"):
            events.create_item(event(1) | {"id": "a" * 1024})

    def test_a_document_above_two_megabytes_is_refused(self, events: ContainerProxy) -> None:
        """A document larger than 2 MB gets 413."""
        with pytest.raises(CosmosHttpResponseError) as refusal:
            events.create_item(event(1, data="x" * 2 * 1024 * 1024))
        assert refusal.value.status_code == 413

    def test_a_full_logical_partition_takes_no_more(self, server: CosmosServer, events: ContainerProxy) -> None:
        """Beyond the partition's limit writes get 403 (1014) until something is deleted; other partitions go on."""
        server.settings.partition_limit = 2000
        events.create_item(event(1, data="x" * 1000))
        with pytest.raises(CosmosHttpResponseError) as refusal:
            events.create_item(event(2, data="x" * 1000))
        assert (refusal.value.status_code, refusal.value.sub_status) == (403, 1014)
        events.create_item(event(1, "bob", data="x" * 1000))
        events.delete_item("0001", "ada")
        events.create_item(event(2, data="x" * 1000))


class TestBatch:
    def test_a_batch_answers_for_each_operation(self, events: ContainerProxy) -> None:
        """Every operation of a batch has its status, and the document where there is one."""
        append(events, event(1), event(2))
        results = events.execute_item_batch(
            [
                ("create", (event(3),)),
                ("upsert", (event(1, n=1),)),
                ("replace", ("0001", event(1, n=2))),
                ("delete", ("0002",)),
            ],
            "ada",
        )
        assert [result["statusCode"] for result in results] == [201, 200, 200, 204]
        assert results[2]["resourceBody"]["n"] == 2
        assert results[2]["eTag"] == events.read_item("0001", "ada")["_etag"]
        assert versions(events) == [1, 3]

    @pytest.mark.parametrize(
        ("guilty", "status"),
        [
            (("create", (event(9, event_id="ada:1"),)), 409),
            (("replace", ("0001", event(1)), {"if_match_etag": '"old"'}), 412),
            (("delete", ("nobody",)), 404),
            (("create", (event(9, "bob"),)), 400),
        ],
    )
    def test_a_batch_is_stored_whole_or_not_at_all(
        self, server: CosmosServer, events: ContainerProxy, guilty: Any, status: int
    ) -> None:
        """The guilty operation has its status, all others 424, and every earlier write is undone."""
        append(events, event(1), event(2))
        before = server.documents("flow", "events")
        harmless: list[Any] = [("replace", ("0001", event(1, n=1))), ("delete", ("0002",)), ("create", (event(3),))]
        with pytest.raises(CosmosBatchOperationError) as failure:
            events.execute_item_batch([*harmless, guilty, ("create", (event(4),))], "ada")
        assert failure.value.error_index == 3
        assert [result["statusCode"] for result in failure.value.operation_responses] == [424, 424, 424, status, 424]
        assert sorted(server.documents("flow", "events"), key=lambda item: item["id"]) == before
        assert versions(events, "ORDER BY c.version") == [1, 2]
        append(events, event(3), event(4))

    def test_a_batch_has_limits(self, server: CosmosServer, events: ContainerProxy) -> None:
        """More than 100 operations get 400, more than 2 MB get 413, and nothing is stored."""
        with pytest.raises(CosmosHttpResponseError) as many:
            append(events, *(event(version) for version in range(101)))
        with pytest.raises(CosmosHttpResponseError) as large:
            append(events, event(1, data="x" * 1024 * 1024), event(2, data="x" * 1024 * 1024))
        assert (many.value.status_code, large.value.status_code) == (400, 413)
        append(events, *(event(version) for version in range(100)))
        assert len(server.documents("flow", "events")) == 100


class TestQueries:
    @pytest.fixture
    def filled(self, events: ContainerProxy) -> ContainerProxy:
        append(
            events,
            event(1, kind="a", tags=["x", "y"], note=None),
            event(2, kind="b", tags=["y"], flag=True),
            event(3, kind="a", deep={"inside": 1}),
            event(4, kind="b"),
        )
        append(events, event(5, "bob", kind="c"))
        return events

    @pytest.mark.parametrize(
        ("condition", "expected"),
        [
            ("c.version = 2", [2]),
            ("c.version <= 2", [1, 2]),
            ("c.version > @two", [3, 4]),
            ("c.version >= 2 AND c.version < 4", [2, 3]),
            ("c.version > 1 AND (c.kind = 'a' OR c.version = 4 AND c.kind = 'b')", [3, 4]),
            ("c.version IN (4, @two, 99)", [2, 4]),
            ("ARRAY_CONTAINS(c.tags, 'y') AND c.version > 1", [2]),
            ("STARTSWITH(c.kind, 'a') OR STARTSWITH(c.kind, 'bb')", [1, 3]),
            ("c.note = null", [1]),
            ("c.flag = true", [2]),
            ("c.deep.inside = 1", [3]),
            ("c.kind > 5", []),
            ("c.missing < 1", []),
            ("c.version = '2'", []),
        ],
    )
    def test_conditions(self, filled: ContainerProxy, condition: str, expected: list[int]) -> None:
        """WHERE compares values of one type; what is missing does not pass."""
        assert sorted(versions(filled, f"WHERE {condition}", two=2)) == expected

    def test_selections(self, filled: ContainerProxy) -> None:
        """Whole documents, chosen fields, a count, and the first ones are selected."""
        assert ask(filled, "SELECT * FROM c WHERE c.version = 1") == [filled.read_item("0001", "ada")]
        assert ask(filled, "SELECT c.kind, c.deep.inside, c.note FROM c WHERE c.version=3") == [
            {"kind": "a", "inside": 1}
        ]
        assert ask(filled, "SELECT VALUE COUNT(1) FROM c WHERE c.kind = 'a'") == [2]
        assert ask(filled, "SELECT TOP 2 c.version FROM c ORDER BY c.version DESC") == [{"version": 4}, {"version": 3}]
        assert versions(filled, "WHERE c.version IN (4, 1, 2) AND c.version < 4 ORDER BY c.version DESC") == [2, 1]

    def test_queries_across_partitions(self, filled: ContainerProxy) -> None:
        """A query without a partition key reads all partitions, if it says so."""
        assert versions(filled, "ORDER BY c.version DESC", None) == [5, 4, 3, 2, 1]
        assert ask(filled, "SELECT VALUE COUNT(1) FROM c", None) == [5]
        assert versions(filled, "WHERE c.version IN (5, 1)", None) in ([1, 5], [5, 1])
        with pytest.raises(CosmosHttpResponseError):
            list(filled.query_items("SELECT * FROM c"))

    def test_missing_and_mixed_values_have_a_place_in_the_order(self, events: ContainerProxy) -> None:
        """ORDER BY puts undefined before null, booleans, numbers and strings."""
        values: list[Item] = [{"x": "b"}, {"x": 2}, {"x": None}, {}, {"x": True}, {"x": 1.5}, {"x": "a"}]
        append(events, *(event(version, **value) for version, value in enumerate(values)))
        found = ask(events, "SELECT c.x FROM c ORDER BY c.x")
        assert found == [{}, {"x": None}, {"x": True}, {"x": 1.5}, {"x": 2}, {"x": "a"}, {"x": "b"}]

    def test_a_query_sees_every_earlier_write(self, events: ContainerProxy) -> None:
        """What was replaced or deleted between two runs of a query does not come back."""
        append(events, event(1), event(2))
        assert versions(events, "ORDER BY c.version") == [1, 2]
        events.replace_item("0001", event(1) | {"version": 5})
        events.delete_item("0002", "ada")
        assert versions(events, "ORDER BY c.version") == [5]

    @pytest.mark.parametrize("direction", ["ASC", "DESC"])
    @pytest.mark.parametrize("partition", ["ada", None])
    def test_pages_go_on_where_the_last_one_ended(
        self, events: ContainerProxy, direction: str, partition: str | None
    ) -> None:
        """A continuation survives a new query object, and rows written behind it are not missed or repeated."""
        append(events, *(event(version) for version in range(1, 11)))
        append(events, event(5, "bob"))
        scope: Item = {"partition_key": partition} if partition else {"enable_cross_partition_query": True}
        query = f"SELECT * FROM c WHERE c.version > 2 ORDER BY c.version {direction}"
        found: list[int] = []
        token, pages = None, 0
        while token or not pages:
            iterator: Any = events.query_items(query, max_item_count=3, **scope).by_page(token)
            found += [item["version"] for item in next(iterator)]
            token = iterator.continuation_token
            if not pages:
                append(events, event(0), event(11))
            pages += 1
        expected = [*range(3, 11), *([11] if direction == "ASC" else []), *([5] if partition is None else [])]
        assert found == sorted(expected, reverse=direction == "DESC")

    def test_a_page_holds_at_most_four_megabytes(self, events: ContainerProxy) -> None:
        """Large documents make a page end before it has as many as were asked for."""
        for version in range(5):
            events.create_item(event(version, data="x" * 1_500_000))
        pages = events.query_items("SELECT * FROM c", partition_key="ada", max_item_count=100).by_page()
        assert [len(list(page)) for page in pages] == [2, 2, 1]

    @pytest.mark.parametrize(
        "query",
        [
            "SELECT DISTINCT c.kind FROM c",
            "SELECT c.kind FROM c GROUP BY c.kind",
            "SELECT VALUE MAX(c.version) FROM c",
            "SELECT * FROM c JOIN t IN c.tags",
            "SELECT * FROM c WHERE c.version + 1 = 2",
            "SELECT * FROM c WHERE LOWER(c.kind) = 'a'",
            "SELECT * FROM c WHERE c.version BETWEEN 1 AND 2",
            "SELECT * FROM c WHERE c.version != 1",
            "SELECT * FROM c WHERE NOT c.version = 1",
            "SELECT VALUE c.version FROM c",
            "SELECT * FROM c ORDER BY c.kind, c.version",
            "SELECT * FROM c OFFSET 1 LIMIT 1",
            "SELECT * FROM c WHERE d.version = 1",
            "SELECT * FROM c WHERE c.value = 1",
            "SELECT * FROM c WHERE c.version = @missing",
            "SELECT TOP 1 VALUE COUNT(1) FROM c",
            "DELETE FROM c",
        ],
    )
    def test_a_query_outside_the_served_part_is_refused(self, filled: ContainerProxy, query: str) -> None:
        """What the server does not understand gets 400 and a message, never a wrong result."""
        with pytest.raises(CosmosHttpResponseError, match="Query not served") as refusal:
            ask(filled, query)
        assert refusal.value.status_code == 400

    def test_only_indexed_properties_are_filtered_and_sorted_by(self, database: DatabaseProxy) -> None:
        """A filter or sort on a path that the policy excludes is refused; id and _ts always have an index."""
        container = database.create_container("lean", PartitionKey("/client_id"), indexing_policy=EVENTS_POLICY)
        container.create_item(event(1, kind="a", tags=["x"]))
        for served in (
            "c.client_id = 'ada' AND c.version > 0",
            "c.id = '0001' AND c._ts > 0",
            "ARRAY_CONTAINS(c.tags, 'x')",
        ):
            assert versions(container, f"WHERE {served}") == [1]
        for refused in ("WHERE c.kind = 'a'", "WHERE c.data.inside = 1", "WHERE c.tags = 'x'", "ORDER BY c.kind"):
            with pytest.raises(CosmosHttpResponseError, match="indexing policy excludes"):
                versions(container, refused)

    def test_a_policy_of_another_form_is_refused(self, database: DatabaseProxy) -> None:
        """Either everything is indexed, or what is included by name."""
        policy = {"includedPaths": [{"path": "/*"}], "excludedPaths": [{"path": "/data/*"}]}
        with pytest.raises(CosmosHttpResponseError, match="Not served"):
            database.create_container("odd", PartitionKey("/client_id"), indexing_policy=policy)


class TestChangeFeed:
    def test_a_range_is_read_page_by_page_from_its_token(self, events: ContainerProxy) -> None:
        """Every document is in one range's feed; a token gives what came after it."""
        clients = [f"client-{number}" for number in range(12)]
        for client in clients:
            events.create_item(event(1, client))
        read = {str(start["feed_range"]): read_feed(events, 2, **start) for start in beginning(events)}
        seen = [item["client_id"] for pages, _ in read.values() for page in pages for item in page]
        assert sorted(seen) == sorted(clients)
        assert all(len(page) <= 2 for pages, _ in read.values() for page in pages)
        events.create_item(event(2, "client-0"))
        news = [page for _, token in read.values() for page in read_feed(events, continuation=token)[0]]
        assert [[item["id"] for item in page] for page in news] == [["0002"]]

    def test_the_feed_shows_the_latest_version_at_its_new_place(self, events: ContainerProxy) -> None:
        """A replaced document moves to the end, a deleted one is not shown; other partitions have their own feed."""
        append(events, event(1), event(2), event(3))
        events.replace_item("0001", event(1, n=1))
        events.delete_item("0002", "ada")
        for number in range(9):
            events.create_item(event(1, f"other-{number}"))
        pages, _ = read_feed(events, partition_key="ada", start_time="Beginning")
        assert [(item["id"], item.get("n")) for page in pages for item in page] == [("0003", None), ("0001", 1)]

    def test_a_transaction_is_shuffled_but_never_cut(self, events: ContainerProxy) -> None:
        """The documents of a batch share a page and an LSN, in an order of their own."""
        for first in (1, 11, 21):
            append(events, *(event(version) for version in range(first, first + 10)))
        pages, _ = read_feed(events, 4, partition_key="ada", start_time="Beginning")
        versions = [[item["version"] for item in page] for page in pages]
        assert [sorted(page) for page in versions] == [list(range(first, first + 10)) for first in (1, 11, 21)]
        assert all(page != sorted(page) for page in versions)
        assert [{item["_lsn"] for item in page} for page in pages] == [{1}, {2}, {3}]

    def test_now_starts_behind_what_is_there(self, events: ContainerProxy) -> None:
        """A feed from now has nothing, and its token shows only what comes later."""
        events.create_item(event(1))
        pages, token = read_feed(events, partition_key="ada", start_time="Now")
        events.create_item(event(2))
        later, _ = read_feed(events, continuation=token)
        assert [item["id"] for page in pages + later for item in page] == ["0002"]

    def test_a_split_in_the_middle_loses_and_doubles_nothing(
        self, server: CosmosServer, events: ContainerProxy
    ) -> None:
        """A reader whose range is split between two pages goes on with its token through both children."""
        clients = [f"client-{number}" for number in range(40)]
        for client in clients:
            append(events, event(1, client), event(2, client))
        starts = beginning(events)
        seen: list[Item] = []
        tokens: list[str] = []
        for start in starts:
            pages, token = read_feed(events, 4, most=1, **start)
            seen += pages[0]
            tokens.append(token)
        children = server.split("flow", "events", "0")
        assert children == ["3", "4"]
        server.split("flow", "events", "3")
        for client in clients:
            append(events, event(3, client), event(4, client))
        seen += [item for token in tokens for page in read_feed(events, 4, continuation=token)[0] for item in page]
        names = [(item["client_id"], item["version"]) for item in seen]
        assert sorted(names) == sorted((client, version) for client in clients for version in (1, 2, 3, 4))
        assert len(beginning(events)) == 5
        assert ask(events, "SELECT VALUE COUNT(1) FROM c", None) == [160]
        assert all(events.read_item("0004", client)["version"] == 4 for client in clients)
        ranges = [start["feed_range"] for start in starts]
        assert sum(len(list(events.query_items("SELECT * FROM c", feed_range=range_))) for range_ in ranges) == 160


class TestSession:
    def test_a_reader_without_a_session_token_lags_behind(
        self, server: CosmosServer, events: ContainerProxy, other: ContainerProxy
    ) -> None:
        """Another client reads an older state by up to stale_writes writes, and catches up with every read."""
        server.settings.stale_writes = 2
        events.create_item(event(1, n=0))
        for n in (1, 2):
            events.replace_item("0001", event(1, n=n))
        assert events.read_item("0001", "ada")["n"] == 2
        assert [other.read_item("0001", "ada")["n"] for _ in range(4)] == [0, 1, 2, 2]

    def test_a_session_token_carries_the_fresh_state_to_another_client(
        self, server: CosmosServer, events: ContainerProxy, other: ContainerProxy
    ) -> None:
        """The token of a write, passed on, makes any client see that write."""
        server.settings.stale_writes = 5
        token = events.create_item(event(1)).get_response_headers()["x-ms-session-token"]
        with pytest.raises(CosmosResourceNotFoundError):
            other.read_item("0001", "ada")
        assert other.read_item("0001", "ada", session_token=token)["version"] == 1

    @pytest.mark.parametrize("order", ["", "ORDER BY c.version"])
    def test_queries_lag_too(
        self, server: CosmosServer, events: ContainerProxy, other: ContainerProxy, order: str
    ) -> None:
        """A query sees replaced, deleted and new documents as they were at one moment."""
        append(events, event(1), event(2))
        server.settings.stale_writes = 4
        events.replace_item("0001", event(1, n=1))
        events.delete_item("0002", "ada")
        events.create_item(event(3))
        append(events, event(7, "bob"))
        query = f"SELECT c.version, c.n FROM c {order}"
        assert [ask(other, query) for _ in range(4)] == [
            [{"version": 1}, {"version": 2}],
            [{"version": 1, "n": 1}, {"version": 2}],
            [{"version": 1, "n": 1}],
            [{"version": 1, "n": 1}, {"version": 3}],
        ]

    def test_the_feed_lags_without_loss(
        self, server: CosmosServer, events: ContainerProxy, other: ContainerProxy
    ) -> None:
        """A feed page ends where its reader's state ends, and the next one goes on there."""
        server.settings.stale_writes = 1
        events.create_item(event(1))
        events.create_item(event(2))
        pages, _ = read_feed(other, partition_key="ada", start_time="Beginning")
        assert [[item["version"] for item in page] for page in pages] == [[1], [2]]

    def test_a_batch_leaves_no_session_token_behind(self, server: CosmosServer, events: ContainerProxy) -> None:
        """The SDK does not keep the token of a batch: its own next read may be stale, unless the token is passed on."""
        server.settings.stale_writes = 1
        append(events, event(1))
        with pytest.raises(CosmosResourceNotFoundError):
            events.read_item("0001", "ada")
        answer = events.execute_item_batch([("create", (event(2),))], "ada")
        token = answer.get_response_headers()["x-ms-session-token"]
        assert events.read_item("0002", "ada", session_token=token)["version"] == 2


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "status", "sub_status"),
        [
            (faults.retry_with(), 449, None),
            (faults.request_timeout(), 408, None),
            (faults.unavailable(), 503, None),
            (Fault(410, 1002), 410, 1002),
            (faults.partition_full(), 403, 1014),
            (faults.forbidden(), 403, 5300),
            (faults.too_large(), 413, None),
        ],
    )
    def test_a_request_is_refused_once(
        self, server: CosmosServer, other: ContainerProxy, fault: Fault, status: int, sub_status: int | None
    ) -> None:
        """An injected answer reaches the caller, nothing is stored, and the next request goes through."""
        injection = server.inject(fault, kind="create", container="events")
        with pytest.raises(CosmosHttpResponseError) as refusal:
            other.create_item(event(1))
        assert (refusal.value.status_code, refusal.value.sub_status) == (status, sub_status)
        assert server.documents("flow", "events") == []
        other.create_item(event(1))
        assert injection.hits == 1

    def test_the_sdk_waits_out_throttling(self, server: CosmosServer, events: ContainerProxy) -> None:
        """429 with a wait makes the SDK repeat the request, each try counted."""
        server.inject(faults.throttled(), times=3, kind="create")
        with server.meter.measure() as cost:
            events.create_item(event(1))
        assert cost.requests["create"] == 4

    @pytest.mark.parametrize("stored", [False, True])
    @pytest.mark.parametrize("kind", ["create", "batch"])
    def test_a_connection_breaks_before_or_after_the_write(
        self,
        server: CosmosServer,
        events: ContainerProxy,
        kind: str,
        stored: bool,  # noqa: FBT001 - a test parameter
    ) -> None:
        """The caller cannot tell whether a write was stored when its connection broke."""
        server.inject(faults.dropped(stored=stored), kind=kind)
        with server.meter.measure() as cost, pytest.raises(ServiceResponseError):
            append(events, event(1)) if kind == "batch" else events.create_item(event(1))
        assert cost.requests[kind] == 1
        assert len(server.documents("flow", "events")) == stored
        assert len(ask(events, "SELECT * FROM c")) == stored

    def test_a_timeout_may_have_stored_the_write(self, server: CosmosServer, other: ContainerProxy) -> None:
        """408 after the write was stored makes the second try a conflict."""
        server.inject(faults.request_timeout(stored=True), kind="create")
        with pytest.raises(CosmosHttpResponseError):
            other.create_item(event(1))
        with pytest.raises(CosmosResourceExistsError):
            other.create_item(event(1))

    def test_one_operation_of_a_batch_fails(self, server: CosmosServer, events: ContainerProxy) -> None:
        """A batch can fail by one operation with any status, here 449, which the SDK does not repeat."""
        server.inject(faults.operation_failed(449, operation=1), kind="batch")
        with pytest.raises(CosmosBatchOperationError) as failure:
            append(events, event(1), event(2), event(3))
        assert [result["statusCode"] for result in failure.value.operation_responses] == [424, 449, 424]
        assert server.documents("flow", "events") == []

    @pytest.mark.parametrize("stored", [False, True])
    def test_a_slow_answer_waits_at_a_gate(
        self,
        server: CosmosServer,
        events: ContainerProxy,
        stored: bool,  # noqa: FBT001 - a test parameter
    ) -> None:
        """While one request is held, before or after it took effect, all others are answered."""
        gate = Gate()
        server.inject(faults.slow(gate, stored=stored), kind="create", container="events")
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(events.create_item, event(1))
            gate.wait_for_request()
            events.create_item(event(2))
            assert len(server.documents("flow", "events")) == 1 + stored
            assert not held.done()
            gate.release()
            assert held.result()["version"] == 1

    def test_an_error_in_a_test_does_not_leave_the_client_waiting(
        self, server: CosmosServer, events: ContainerProxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When the code of a matcher fails, the connection breaks at once and the error is logged."""
        server.inject(faults.retry_with(), kind="create", match=lambda request: request.json()["missing"])
        with pytest.raises(ServiceResponseError):
            events.create_item(event(1))
        events.create_item(event(1, missing=False))
        assert "KeyError" in caplog.text

    def test_half_a_request_is_not_run(self, server: CosmosServer, events: ContainerProxy) -> None:
        """A client that dies while it sends leaves nothing behind, even if what arrived could be understood."""
        head = 'POST /dbs/flow/colls/events/docs/ HTTP/1.1\r\nx-ms-documentdb-partitionkey: ["ada"]\r\n'
        for sent in (head, head + "content-length: 1000\r\n\r\n" + json.dumps(event(1))):
            with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
                client.sendall(sent.encode())
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
        assert server.documents("flow", "events") == []

    def test_a_fault_is_aimed(self, server: CosmosServer, events: ContainerProxy) -> None:
        """A fault spares the requests that come first, those that do not match, and those that come later."""
        server.inject(faults.retry_with(), skip=1, match=lambda request: request.partition_key() == ["ada"])
        events.create_item(event(1))
        events.create_item(event(1, "bob"))
        with pytest.raises(CosmosHttpResponseError):
            events.create_item(event(2))
        events.create_item(event(2))

    def test_a_listener_sees_every_request(self, server: CosmosServer, events: ContainerProxy) -> None:
        """A listener is told of each request, in order, before it is run."""
        seen: list[tuple[str, str | None, int]] = []
        server.listen(
            lambda request: seen.append((request.kind, request.container, len(server.documents("flow", "events"))))
        )
        events.create_item(event(1))
        append(events, event(2), event(3))
        assert [each for each in seen if each[0] != "metadata"] == [("create", "events", 0), ("batch", "events", 1)]


class TestMeter:
    def test_each_call_costs_the_requests_and_units_of_its_kind(
        self, server: CosmosServer, events: ContainerProxy
    ) -> None:
        """The meter tells what one call cost, and the SDK sees the same charge in its headers."""
        events.create_item(event(1))
        events.read_item("0001", "ada")  # the first read with a session token looks the ranges up
        with server.meter.measure() as read:
            answer = events.read_item("0001", "ada")
        assert read.data_requests == {"read": 1}
        assert read.total_request_units == float(answer.get_response_headers()["x-ms-request-charge"]) == 1.0
        with server.meter.measure() as cost:
            events.create_item(event(2))
            events.replace_item("0002", event(2, n=1))
            events.upsert_item(event(3))
            append(events, event(4), event(5))
            ask(events, "SELECT * FROM c")
            events.delete_item("0005", "ada")
        kinds = ["create", "replace", "upsert", "batch", "query", "delete"]
        assert cost.data_requests == dict.fromkeys(kinds, 1)
        assert cost.data_requests.total() == 6
        units = cost.request_units
        assert 5 < units["create"] < units["replace"] < 2.5 * units["create"]
        assert 2.3 < units["query"] < 4

    def test_large_documents_and_more_indexes_cost_more(self, server: CosmosServer, database: DatabaseProxy) -> None:
        """A write is charged by size and by indexed values, a read by size."""
        units = {}
        for name, policy in (("lean", EVENTS_POLICY), ("full", None)):
            container = database.create_container(name, PartitionKey("/client_id"), indexing_policy=policy)
            with server.meter.measure() as cost:
                container.create_item(event(1, data={f"f{number}": "x" * 1000 for number in range(20)}))
                container.read_item("0001", "ada")
            units[name] = cost.request_units
        assert units["lean"]["create"] < units["full"]["create"] - 1
        assert 2 < units["lean"]["read"] < 4

    def test_a_refused_request_is_counted(self, server: CosmosServer, events: ContainerProxy) -> None:
        """A conflict costs a request and a unit."""
        events.create_item(event(1))
        with server.meter.measure() as cost, pytest.raises(CosmosResourceExistsError):
            events.create_item(event(1))
        assert cost.data_requests == {"create": 1}
        assert cost.total_request_units == 1.0
