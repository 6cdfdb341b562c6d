"""One SQLite file with what every embedded store needs: migrations, shared commits, pooled readers, translated errors."""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import Any, TypeVar

from .errors import StoreUnavailableError, StoreVersionError

Result = TypeVar("Result")

_MAX_INTEGER = 2**63 - 1
_GROUP = 256  # jobs that share a commit at most: bounds what one caller waits for the others' work
_IDLE_READERS = 16
_RETRY_WAL = 0.01  # seconds


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
        path: the file; its directory is created, for the owner only. None keeps everything in memory, on one
            connection, for one thread: for tests of rules, gone when it is closed.
        migrations: lists of SQL statements; the file's `user_version` says how many lists it has seen.
        busy_timeout: seconds to wait for another process that writes.

    Raises:
        StoreVersionError: the file has seen more migrations than given.
        StoreUnavailableError: the file cannot be opened.
    """

    def __init__(self, path: Path | None, migrations: Sequence[Sequence[str]], *, busy_timeout: float = 5.0) -> None:
        self.path = path or Path(":memory:")
        self._in_memory = path is None
        self._busy_timeout = busy_timeout
        self._closed = False
        # Jobs that are not done, in order of arrival. The caller of the first one leads; the others sleep.
        self._queue: deque[_Job] = deque()
        self._mutex = Lock()  # guards the queue; held for moments
        self._writing = Lock()  # guards the writer; held for a commit
        self._readers: deque[sqlite3.Connection] = deque()  # idle ones
        with _translated():
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._writer = self._connect()
            try:
                if path is not None:
                    _make_durable(self._writer, busy_timeout)
                _migrate(self._writer, self.path.name, migrations)
            except BaseException:
                self._writer.close()
                raise

    def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` in a transaction and return its result once that is durable.

        If `work` raises, what it wrote is undone and the error is raised here. It may run more than once, when the
        thread that runs it is interrupted; so it must have no effect but through the connection, and must not call
        `write`.

        Raises:
            StoreUnavailableError: the database is locked by another process, full, closed, or cannot be written.
        """
        job = _Job(work)
        try:
            with self._mutex:
                self._queue.append(job)
                leads = self._queue[0] is job
            if not leads:
                job.wake.acquire()
            if not job.done:
                self._commit_waiting()
        finally:
            self._leave(job)
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
            if self._in_memory:
                if self._closed:
                    raise StoreUnavailableError("it was closed")
                yield self._writer  # another connection would have a memory of its own
                return
            connection = self._reader()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            if len(self._readers) < _IDLE_READERS:
                self._readers.append(connection)
            else:
                connection.close()
            if self._closed:
                self._close_readers()

    def close(self) -> None:
        """Close the file, after the commit that is under way; later calls raise `StoreUnavailableError`."""
        self._closed = True
        with self._writing:
            self._writer.close()
        self._close_readers()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )

    def _reader(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreUnavailableError("it was closed")
        try:
            return self._readers.pop()
        except IndexError:
            connection = self._connect()
            connection.execute("PRAGMA query_only=ON")
            return connection

    def _close_readers(self) -> None:
        with suppress(IndexError):
            while True:
                self._readers.pop().close()

    def _leave(self, job: _Job) -> None:
        """Take a job out of the queue, done or given up; a leader also wakes those it served, and its successor."""
        with self._mutex:
            if not self._queue or self._queue[0] is not job:
                if not job.done:  # a follower that was interrupted before its leader had taken the job out
                    with suppress(ValueError):
                        self._queue.remove(job)
                return
            self._queue.popleft()
            while self._queue and self._queue[0].done:
                self._queue.popleft().wake.release()
            if self._queue:
                self._queue[0].wake.release()

    def _commit_waiting(self) -> None:
        with self._mutex:
            jobs = list(islice(self._queue, _GROUP))
        with self._writing:
            if self._closed:
                raise StoreUnavailableError("it was closed")
            self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        """Run the jobs in one transaction; then each is done, with its result or its error."""
        connection = self._writer
        committing = failed = False
        for job in jobs:
            job.error = None  # of a run that was interrupted
        try:
            connection.execute("BEGIN IMMEDIATE")
            if len(jobs) == 1:
                jobs[0].result = _result(jobs[0].work(connection))
            else:
                for job in jobs:
                    _run(connection, job)
            committing = True
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to every caller, whose jobs it undid
            failed = True
            for job in jobs:
                job.error = _translate(error)
        finally:
            durable = committing and not connection.in_transaction
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            # After an interrupt it is neither: the jobs stay in the queue for the next leader.
            if durable or failed:
                for job in jobs:
                    job.done = True


def sqlite_integer(number: int) -> int:
    """The number, or the nearest one that SQLite can be asked for."""
    return max(-_MAX_INTEGER, min(number, _MAX_INTEGER))


def _run(connection: sqlite3.Connection, job: _Job) -> None:
    """Run one job such that its failure undoes nothing of the others."""
    connection.execute("SAVEPOINT job")
    try:
        job.result = _result(job.work(connection))
    except Exception as error:
        if not connection.in_transaction:  # SQLite itself gave up the whole transaction, as on a full disk
            raise
        job.error = _translate(error)
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")


def _result(result: Any) -> Any:
    """What a job gave, but no cursor: its end would reset a statement that the next leader may be running elsewhere."""
    if isinstance(result, sqlite3.Cursor):
        result.close()
        return None
    return result


def _make_durable(connection: sqlite3.Connection, patience: float) -> None:
    """What was committed survives a power cut."""
    _use_wal(connection, patience)
    connection.execute("PRAGMA synchronous=FULL")


def _migrate(connection: sqlite3.Connection, name: str, migrations: Sequence[Sequence[str]]) -> None:
    """Bring the database to the newest schema version."""
    if _schema_version(connection, name, len(migrations)) == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")  # two processes may open a new file at once
    found = _schema_version(connection, name, len(migrations))
    for statements in migrations[found:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={len(migrations)}")
    connection.execute("COMMIT")


def _use_wal(connection: sqlite3.Connection, patience: float) -> None:
    deadline = monotonic() + patience
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait for its turn here when several processes open a new file at once.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            sleep(_RETRY_WAL)
    if mode != "wal":
        raise StoreUnavailableError("its file system does not support write-ahead logging; use a local disk")


def _schema_version(connection: sqlite3.Connection, name: str, known: int) -> int:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > known:
        raise StoreVersionError(name, found, known)
    return int(found)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _translate(error) from error


def _translate(error: Exception) -> Exception:
    if not isinstance(error, (sqlite3.Error, OSError)):
        return error
    # SQLite's own messages name tables and states, never values.
    problem = f"{type(error).__name__}: {error}" if isinstance(error, sqlite3.Error) else type(error).__name__
    translated = StoreUnavailableError(problem)
    translated.__cause__ = error
    return translated
