"""A database of numbers, and ways to hold its writer up at a certain point."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event as Flag
from typing import Any

from eventstore import SqliteDatabase

NUMBERS = [["CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT)"]]
PATIENCE = 20.0  # seconds that a deadlock would take to show


def insert(number: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers (n) VALUES (?)", (number,))
        return number

    return work


def numbers(database: SqliteDatabase) -> list[int]:
    with database.read() as connection:
        return [number for (number,) in connection.execute("SELECT n FROM numbers ORDER BY n").fetchall()]


class Queued:
    """Holds the leader's transaction open until others wait behind it."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.pool = ThreadPoolExecutor(40)
        self.may_go_on = Flag()
        leading = Flag()

        def work(_: sqlite3.Connection) -> None:
            leading.set()
            assert self.may_go_on.wait(PATIENCE)

        self.leader = self.pool.submit(database.write, work)
        assert leading.wait(PATIENCE)

    def add(self, work: Callable[[sqlite3.Connection], Any]) -> Future[Any]:
        """Have another thread write; returns when its job waits."""
        waiting = len(self.database._queue)
        future: Future[Any] = self.pool.submit(self.database.write, work)
        while len(self.database._queue) == waiting:
            assert not Flag().wait(0.001)
        return future

    def release(self) -> None:
        self.may_go_on.set()
        self.leader.result(PATIENCE)
        self.pool.shutdown(wait=False)


class AtCommit:
    """The writer's connection, with something happening right before or right after its next commit."""

    def __init__(
        self, database: SqliteDatabase, *, before: Callable[[], object] = int, after: Callable[[], object] = int
    ) -> None:
        self._connection = database._writer
        self._before, self._after = before, after
        database._writer = self  # type: ignore[assignment]  # stands in for the connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement != "COMMIT":
            return self._connection.execute(statement, *parameters)
        before, after, self._before, self._after = self._before, self._after, int, int
        before()
        cursor = self._connection.execute(statement, *parameters)
        after()
        return cursor
