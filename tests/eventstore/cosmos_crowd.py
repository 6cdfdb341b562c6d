"""A process of a crowd that appends to one client: `python cosmos_crowd.py URL KEY NUMBER EVENTS`.

Says `ready` once its client is open, waits for a line on its standard input, and appends each event in a thread of its own.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import CosmosClient

from eventstore import ANY, CosmosEventStore
from tests.eventstore.cosmos_appender import Noted, events, persistently


def main(url: str, key: str, number: int, each: int) -> None:
    """Append all at once."""
    with CosmosClient(url, key, transport=RequestsTransport(use_env_settings=False)) as client:
        store = CosmosEventStore(client.get_database_client("flow").get_container_client("events"))

        def append(place: int) -> None:
            noted = events.event_data(
                Noted(text=str(place)), source="crm", key=f"{number}-{place}", occurred_at=datetime.now(UTC)
            )
            persistently(lambda: store.append("c0", [noted], expected_version=ANY))

        store.head("c0")
        with ThreadPoolExecutor(each) as pool:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.readline()
            list(pool.map(append, range(each)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
