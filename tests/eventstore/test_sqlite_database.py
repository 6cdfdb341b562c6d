"""One SQLite file: durability settings, migrations, and what goes wrong with locks and disks."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventstore import SqliteDatabase, StoreUnavailableError, StoreVersionError
from tests.eventstore.writing import NUMBERS, PATIENCE, Queued, insert, numbers


def test_commits_are_durable(database: SqliteDatabase) -> None:
    """Write-ahead logging with a flush for each commit."""

    def settings(connection: sqlite3.Connection) -> tuple[str, int]:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        return mode, synchronous

    assert database.write(settings) == ("wal", 2)


def test_the_directory_is_for_its_owner(database: SqliteDatabase) -> None:
    """Personal data is not for every user of the machine."""
    assert database.path.parent.stat().st_mode & 0o077 == 0


def test_a_reader_cannot_write(database: SqliteDatabase) -> None:
    """A write past the queue would not share commits, and could be half done."""
    with pytest.raises(StoreUnavailableError, match="readonly"), database.read() as connection:
        connection.execute("INSERT INTO numbers (n) VALUES (1)")
    assert numbers(database) == []


def test_a_reader_does_not_wait_for_the_writer(database: SqliteDatabase) -> None:
    """While a transaction is open, readers see the state before it."""
    queued = Queued(database)
    assert numbers(database) == []
    queued.release()


def test_more_readers_than_are_kept(database: SqliteDatabase) -> None:
    """Forty readers at once get a connection each, and all of them come back."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(database.read())
    assert numbers(database) == []


def test_migrations_run_once_and_in_order(open_database: Callable[..., SqliteDatabase]) -> None:
    """Each list of statements is run by the first who knows it, and never again."""
    first = open_database()
    first.write(insert(1))
    migrations = [*NUMBERS, ["ALTER TABLE numbers ADD COLUMN unit TEXT", "UPDATE numbers SET unit = 'm'"]]
    for _ in range(2):
        with open_database(migrations).read() as connection:
            assert connection.execute("SELECT n, unit FROM numbers").fetchall() == [(1, "m")]


def test_a_migration_that_fails_changes_nothing(open_database: Callable[..., SqliteDatabase]) -> None:
    """A broken list of statements leaves the file at the version it had."""
    open_database().write(insert(1))
    with pytest.raises(StoreUnavailableError):
        open_database([*NUMBERS, ["ALTER TABLE numbers ADD COLUMN unit TEXT", "UPDATE nobody SET n = 1"]])
    again = open_database()
    with again.read() as connection:
        assert connection.execute("SELECT * FROM numbers").fetchall() == [(1, None)]


def test_a_file_of_a_newer_version_is_refused(open_database: Callable[..., SqliteDatabase]) -> None:
    """Old code does not touch what newer code wrote."""
    open_database([*NUMBERS, ["CREATE TABLE more (n)"]])
    with pytest.raises(StoreVersionError, match=r"numbers\.db has schema version 2, this software knows up to 1") as e:
        open_database()
    assert (e.value.name, e.value.found, e.value.known) == ("numbers.db", 2, 1)


def test_opening_an_up_to_date_file_waits_for_nobody(open_database: Callable[..., SqliteDatabase]) -> None:
    """A process that writes does not keep another from starting."""
    queued = Queued(open_database())
    assert numbers(open_database(busy_timeout=0.0)) == []
    queued.release()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked at as one" * 10])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no database is left as it is."""
    path = tmp_path / "numbers.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        SqliteDatabase(path, NUMBERS)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A file where the directory should be."""
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreUnavailableError, match=r"FileExistsError|NotADirectoryError"):
        SqliteDatabase(tmp_path / "data" / "numbers.db", NUMBERS)


HOLD_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("released", flush=True)
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the write lock."""
    command = [sys.executable, "-c", HOLD_LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            holder.stdin.write("\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "released\n"


def test_a_lock_of_another_process_is_told_and_passes(open_database: Callable[..., SqliteDatabase]) -> None:
    """After the busy timeout all who wait are told at once; when the lock is gone, the next call works."""
    database = open_database(busy_timeout=0.05)
    with locked(database.path):
        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(database.write, insert(number)) for number in range(8)]
        for future in futures:
            with pytest.raises(StoreUnavailableError, match="locked") as caught:
                future.result(PATIENCE)
            assert caught.value.retry_after > 0
        assert numbers(database) == []
    assert database.write(insert(1)) == 1
    assert numbers(database) == [1]


def test_a_full_disk_loses_nothing(open_database: Callable[..., SqliteDatabase]) -> None:
    """Writers are told, what was acknowledged stays, and with room again the next call works."""
    database = open_database()

    def limit(pages: int) -> Callable[[sqlite3.Connection], object]:
        return lambda connection: connection.execute(f"PRAGMA max_page_count={pages}").fetchone()

    def fill(number: int) -> Callable[[sqlite3.Connection], object]:
        return lambda connection: connection.execute("INSERT INTO numbers VALUES (?, ?)", (number, "x" * 3000))

    database.write(limit(40))
    acknowledged: list[int] = []

    def fill_up() -> None:
        for number in range(100):
            database.write(fill(number))
            acknowledged.append(number)

    with pytest.raises(StoreUnavailableError, match="full"):
        fill_up()
    assert acknowledged
    assert numbers(database) == acknowledged
    queued = Queued(database)
    futures = [queued.add(fill(number)) for number in (201, 202)]
    queued.release()
    for future in futures:
        with pytest.raises(StoreUnavailableError, match="full"):
            future.result(PATIENCE)
    database.write(limit(1_000_000))
    database.write(fill(300))
    assert numbers(database) == [*acknowledged, 300]


def test_a_closed_database_says_so(open_database: Callable[..., SqliteDatabase]) -> None:
    """Readers and writers after `close` are told, a reader that was at work may finish."""
    database = open_database()
    with database.read() as connection:
        database.close()
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (0,)
    with pytest.raises(StoreUnavailableError, match="closed"):
        database.write(insert(1))
    with pytest.raises(StoreUnavailableError, match="closed"):
        numbers(database)
    database.close()


OPEN_AT_ONCE = """
import sys
from pathlib import Path
from eventstore import open_events
sys.stdin.readline()
open_events(Path(sys.argv[1])).close()
"""


def test_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Who comes second waits for the first to make the tables."""
    for attempt in range(5):
        command = [sys.executable, "-c", OPEN_AT_ONCE, str(tmp_path / str(attempt))]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
        ]
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            _, complaint = process.communicate(timeout=60)
            assert process.returncode == 0, complaint
