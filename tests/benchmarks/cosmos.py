"""What projecting costs on Cosmos DB, through the SDK: requests and estimated request units beside an older pattern.

The older pattern is that of the library this one succeeds: for each event a query across partitions for the record, an
upsert of it, and a create for each changed field. Both run against the same wire server, whose request units are an
estimate (see `tests/wire/cosmos/charges.py`). The older pattern is given a tenth of the clients, as it costs the same for
each and would take ten minutes for all.
"""

import time
from collections.abc import Iterator
from typing import Any

from azure.cosmos import ContainerProxy

from eventstore import (
    ANY,
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    RecordedEvent,
)
from projections import PROJECTIONS_CONTAINER, CosmosProjectionStore, FeedFollower, Projector
from tests.support.cosmos import Containers
from tests.wire.cosmos import CosmosServer

from .harness import Figure, compared
from .workload import PER_CLIENT, client_ids, event_data, projection

_PER_CALL = 5
_OLD: dict[str, Any] = {
    "id": "old",
    "partition_key": "/client_id",
    "unique_keys": [],
    "indexed": ["/client_id/?", "/kind/?"],
}


def figures(clients: int) -> Iterator[Figure]:
    """Append and project, then project the same events the older way."""
    people = projection(3)
    old_clients = max(clients // 10, 1)
    events, old_events = clients * PER_CLIENT, old_clients * PER_CLIENT
    with CosmosServer(ranges=3) as server, Containers(server) as containers:
        container = containers.open(EVENTS_CONTAINER)
        checkpoints = CosmosCheckpointStore(containers.open(INTAKE_CONTAINER))
        store = CosmosEventStore(container)
        records = CosmosProjectionStore(containers.open(PROJECTIONS_CONTAINER), people)
        follower = FeedFollower(
            Projector(people, store, records), CosmosChangeFeed(container, checkpoints), checkpoints
        )

        with server.meter.measure() as appending:
            for first in range(0, PER_CLIENT, _PER_CALL):
                for client in range(clients):
                    batch = [event_data(client, place) for place in range(first, first + _PER_CALL)]
                    store.append(str(client + 1), batch, expected_version=ANY)
        yield Figure("cosmos, append, requests", appending.data_requests.total() / events, "per event")
        yield Figure("cosmos, append, request units", appending.total_request_units / events, "per event")

        started = time.perf_counter()
        with server.meter.measure() as ours:
            follower.sweep()
        seconds = time.perf_counter() - started

        old = containers.open(_OLD)
        started = time.perf_counter()
        with server.meter.measure() as theirs:
            for client_id in client_ids(old_clients):
                for event in store.read(client_id):
                    _project_the_old_way(old, event)
        old_seconds = time.perf_counter() - started

    label = "query, upsert, create a field"
    requests, old_requests = ours.data_requests.total() / events, theirs.data_requests.total() / old_events
    yield compared("cosmos, project", [events / seconds], "events/s", (label, [old_events / old_seconds]), None)
    yield Figure(
        "cosmos, project, requests",
        requests,
        "per event",
        label,
        old_requests / requests,
        4,
        old_requests >= 4 * requests,
    )
    units, old_units = ours.total_request_units / events, theirs.total_request_units / old_events
    yield Figure("cosmos, project, request units", units, "per event", label, old_units / units)


def _project_the_old_way(container: ContainerProxy, event: RecordedEvent) -> None:
    found = list(
        container.query_items(
            "SELECT * FROM c WHERE c.client_id = @client_id AND c.kind = 'record'",
            parameters=[{"name": "@client_id", "value": event.client_id}],
            enable_cross_partition_query=True,
        )
    )
    record: dict[str, Any] = (
        found[0] if found else {"id": event.client_id, "client_id": event.client_id, "kind": "record", "state": {}}
    )
    changed = [name for name, value in event.data.items() if value is not None and record["state"].get(name) != value]
    record["state"] |= {name: event.data[name] for name in changed}
    container.upsert_item(record)
    for name in changed:
        audit = {"id": f"{event.version}-{name}", "client_id": event.client_id, "kind": "audit", "field": name}
        container.create_item({**audit, "new_value": event.data[name]})
