"""Appends from three threads at once, tells each acknowledged event, and dies at a kill point.

Arguments: directory or connection string of a Cosmos DB account, kill point, crossing at which to die (0 is never), and for each thread the event to go on from.
"""

import os
import sqlite3
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import CosmosClient

from eventstore import ANY, CosmosEventStore, EventStore, SqliteEventStore, open_events
from tests.support.events import email
from tests.support.kill import KillPoints

POINTS = ("append.before", "append.written", "append.durable", "append.after")
THREADS = 3
CLIENTS = 2
EVENTS = 60


class Watched:
    """The writer's connection with kill points around what makes a transaction durable."""

    def __init__(self, connection: sqlite3.Connection, kill: KillPoints) -> None:
        self._connection, self._kill = connection, kill

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement != "COMMIT":
            return self._connection.execute(statement, *parameters)
        self._kill.cross("append.written")
        cursor = self._connection.execute(statement)
        self._kill.cross("append.durable")
        return cursor


def client_of(number: int) -> str:
    """Threads share clients, so that their appends meet in one stream."""
    return f"c{number % CLIENTS}"


def key(thread: int, number: int) -> int:
    """The key of a thread's event; no two threads share one."""
    return thread * 1000 + number


def open_store(place: str, kill: KillPoints) -> EventStore:
    """The store that is appended to."""
    if place.startswith("AccountEndpoint="):
        client = CosmosClient.from_connection_string(place, transport=RequestsTransport(use_env_settings=False))
        return CosmosEventStore(client.get_database_client("flow").get_container_client("events"))
    database = open_events(Path(place))
    database._writer = Watched(database._writer, kill)  # type: ignore[assignment]  # stands in for the connection
    return SqliteEventStore(database)


def main(place: str, point: str, crossing: int, starts: Sequence[int]) -> None:
    """Append what is left to append."""
    kill = KillPoints(point, crossing)
    store = kill.around(open_store(place, kill), {"append": ("append.before", "append.after")})

    def thread(index: int) -> None:
        for number in range(starts[index], EVENTS):
            event = email(key(index, number))
            store.append(client_of(number), [event], expected_version=ANY)
            os.write(1, f"{index} {number}\n".encode())

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(thread, range(THREADS)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), [int(start) for start in sys.argv[4:]])
