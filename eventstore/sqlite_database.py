"""One SQLite file with what every embedded store needs: migrations, shared commits, pooled readers, translated errors."""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from threading import Lock
from typing import Any, TypeVar

from .errors import EventStoreError, StoreUnavailableError, StoreVersionError

Result = TypeVar("Result")

_GROUP = 256  # jobs that share a commit at most: bounds what one caller waits for the others' work
_BUSY_SECONDS = 5.0
_IDLE_READERS = 16


class _Job:
    """A caller's write; `wake` is released when it is done, or when its caller is to lead the next commit."""

    __slots__ = ("done", "error", "result", "wake", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.wake = Lock()
        self.wake.acquire()
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None


class SqliteDatabase:
    """A database file in WAL mode with `synchronous=FULL`: what was committed survives a power cut.

    Writers of one process share commits: one caller leads and runs the jobs of all who wait in one transaction, so
    that 32 callers pay one fsync; then the first of those who came meanwhile leads. Readers use connections of their
    own and never wait for writers.

    Args:
        path: the file; its directory is created.
        migrations: lists of SQL statements; the file's `user_version` says how many lists it has seen.

    Raises:
        StoreVersionError: the file has seen more migrations than given.
        StoreUnavailableError: the file cannot be opened.
    """

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]]) -> None:
        self.path = path
        self._queue: deque[_Job] = deque()
        self._mutex = Lock()
        self._led = False
        self._readers: LifoQueue[sqlite3.Connection] = LifoQueue(_IDLE_READERS)
        with _translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            try:
                self._migrate(migrations)
            except BaseException:
                self._writer.close()
                raise

    def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` in a transaction and return its result once that is durable.

        `work` may run more than once, when a job that shares its transaction fails; it must have no effect but
        through the connection.

        Raises:
            StoreUnavailableError: the database is locked by another process, full, or cannot be written.
        """
        job = _Job(work)
        with self._mutex:
            self._queue.append(job)
            leads, self._led = not self._led, True
        if not leads:
            job.wake.acquire()
        while not job.done:
            self._lead(job)
        if job.error is not None:
            raise job.error
        result: Result = job.result
        return result

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees a state of the last commit or later.

        Raises:
            StoreUnavailableError: the database cannot be read.
        """
        with _translated():
            try:
                connection = self._readers.get_nowait()
            except Empty:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            if self._readers.full():
                connection.close()
            else:
                self._readers.put(connection)

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._writer.close()
        while not self._readers.empty():
            self._readers.get().close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, migrations: Sequence[Sequence[str]]) -> None:
        connection = self._writer
        connection.execute("BEGIN IMMEDIATE")  # two processes may open a new file at once
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > len(migrations):
            raise StoreVersionError(self.path.name, found, len(migrations))
        for statements in migrations[found:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute("COMMIT")

    def _lead(self, own: _Job) -> None:
        """Commit the jobs that wait, wake their callers, and let the first of the others lead on."""
        with self._mutex:
            jobs = [self._queue.popleft() for _ in range(min(len(self._queue), _GROUP))]
        try:
            if not self._commit_together(jobs):
                for job in jobs:
                    self._commit_together([job])
        finally:
            with self._mutex:
                # An interrupt leaves jobs undone; the next leader runs those of the other callers.
                self._queue.extendleft(job for job in reversed(jobs) if not job.done and job is not own)
                self._led = bool(self._queue)
                if self._led:
                    self._queue[0].wake.release()
            for job in jobs:
                if job.done:
                    job.wake.release()

    def _commit_together(self, jobs: list[_Job]) -> bool:
        """Whether the jobs are done: all with their results, or the only one with its error."""
        connection = self._writer
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.result = job.work(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to the caller whose job raised it
            if len(jobs) > 1:
                return False
            jobs[0].error = _translate(error)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        for job in jobs:
            job.done = True
        return True


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _translate(error) from error


def _translate(error: Exception) -> Exception:
    if isinstance(error, EventStoreError) or not isinstance(error, (sqlite3.Error, OSError)):
        return error
    # SQLite's own messages name tables and states, never values.
    problem = f"{type(error).__name__}: {error}" if isinstance(error, sqlite3.Error) else type(error).__name__
    translated = StoreUnavailableError(problem)
    translated.__cause__ = error
    return translated
