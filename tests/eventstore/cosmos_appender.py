"""A process that appends to the same clients as its siblings: `python cosmos_appender.py URL KEY NUMBER CLIENTS EVENTS`.

Appends each of its events twice, as a sender that lost the first answer does, and writes a JSON object of the versions it
was told, by client and event id.
"""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import CosmosClient

from eventstore import ANY, Appended, ContentionError, CosmosEventStore, Event, EventRegistry, StoreUnavailableError

events = EventRegistry()


@events.register("client.noted")
class Noted(Event):
    """Anything."""

    text: str


def persistently(append: Callable[[], Appended]) -> Appended:
    """Try again whenever told to."""
    while True:
        try:
            return append()
        except (ContentionError, StoreUnavailableError):
            continue


def main(url: str, key: str, number: int, clients: int, each: int) -> None:
    """Append, and print what was told."""
    told: dict[str, int] = {}
    with CosmosClient(url, key, transport=RequestsTransport(use_env_settings=False)) as client:
        container = client.get_database_client("flow").get_container_client("events")
        store = CosmosEventStore(container)
        for place in range(clients * each):
            client_id = f"c{(place * 7 + number) % clients}"
            noted = events.event_data(
                Noted(text=f"{number}/{place}"), source="crm", key=f"{number}-{place}", occurred_at=datetime.now(UTC)
            )
            for _ in range(2):
                appended = persistently(lambda: store.append(client_id, [noted], expected_version=ANY))  # noqa: B023 - called at once
                told[f"{client_id}/{noted.event_id}"] = appended.version
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
