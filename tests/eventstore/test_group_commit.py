"""Concurrent callers share commits: errors, interrupts and locks reach whom they concern, and nobody else."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventstore import SqliteDatabase, StoreUnavailableError
from tests.eventstore.writing import PATIENCE, AtCommit, Queued, insert, numbers


def test_waiting_callers_share_one_commit(database: SqliteDatabase) -> None:
    """Thirty-two callers behind one transaction pay one more commit, not thirty-two."""
    statements: list[str] = []
    database.write(lambda connection: connection.set_trace_callback(statements.append))
    queued = Queued(database)
    futures = [queued.add(insert(number)) for number in range(32)]
    queued.release()
    assert [future.result(PATIENCE) for future in futures] == list(range(32))
    assert statements.count("COMMIT") == 3  # of the one that set the trace, the leader, and all the others
    assert numbers(database) == list(range(32))


def test_a_crowd_is_served_in_groups(database: SqliteDatabase) -> None:
    """Many threads with many writes each: every write is done once, and far fewer commits than writes are made."""
    statements: list[str] = []
    database.write(lambda connection: connection.set_trace_callback(statements.append))
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(lambda number: database.write(insert(number)), range(640))) == list(range(640))
    assert numbers(database) == list(range(640))
    assert statements.count("COMMIT") < 640


def test_an_error_in_one_job_leaves_the_others(database: SqliteDatabase) -> None:
    """What the failing job wrote is undone, its caller gets the error, everybody else is served."""

    def failing(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO numbers (n) VALUES (777)")
        raise LookupError("mine")

    queued = Queued(database)
    before, failed, after = queued.add(insert(1)), queued.add(failing), queued.add(insert(2))
    queued.release()
    assert (before.result(PATIENCE), after.result(PATIENCE)) == (1, 2)
    with pytest.raises(LookupError, match="mine"):
        failed.result(PATIENCE)
    assert numbers(database) == [1, 2]


def test_a_constraint_in_one_job_leaves_the_others(database: SqliteDatabase) -> None:
    """A statement that SQLite refuses fails only for its caller, who gets an error of this package."""
    queued = Queued(database)
    first, second, third = (queued.add(insert(number)) for number in (1, 1, 2))
    queued.release()
    assert (first.result(PATIENCE), third.result(PATIENCE)) == (1, 2)
    with pytest.raises(StoreUnavailableError, match="UNIQUE"):
        second.result(PATIENCE)
    assert numbers(database) == [1, 2]


def interrupting(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO numbers (n) VALUES (777)")
    raise KeyboardInterrupt


def test_an_interrupt_in_a_job_leaves_no_trace(database: SqliteDatabase) -> None:
    """The transaction is undone, and the next caller is served."""
    with pytest.raises(KeyboardInterrupt):
        database.write(interrupting)
    assert database.write(insert(1)) == 1
    assert numbers(database) == [1]


def test_an_interrupt_leaves_the_jobs_of_others(database: SqliteDatabase) -> None:
    """Who leads when it strikes, and whose job it was, get it; the jobs around them are done by the next leader."""
    queued = Queued(database)
    leads, interrupted, others = queued.add(insert(1)), queued.add(interrupting), [queued.add(insert(2))]
    others.append(queued.add(insert(3)))
    queued.release()
    for future in (leads, interrupted):
        assert isinstance(future.exception(PATIENCE), KeyboardInterrupt)
    assert [future.result(PATIENCE) for future in others] == [2, 3]
    assert numbers(database) == [2, 3]


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupt_after_the_commit_runs_no_job_twice(database: SqliteDatabase) -> None:
    """What is durable is done: the others get their results, and nothing is written again."""
    queued = Queued(database)
    runs: list[int] = []

    def counted(number: int) -> Callable[[sqlite3.Connection], int]:
        def work(connection: sqlite3.Connection) -> int:
            runs.append(number)
            return insert(number)(connection)

        return work

    first, second = queued.add(counted(1)), queued.add(counted(2))
    AtCommit(database, after=interrupt)  # the leader is in its transaction, so this is the commit of the two
    queued.release()
    assert isinstance(first.exception(PATIENCE), KeyboardInterrupt)
    assert second.result(PATIENCE) == 2
    assert runs == [1, 2]
    assert numbers(database) == [1, 2]


def test_an_interrupted_run_leaves_no_error_behind(database: SqliteDatabase) -> None:
    """A job that failed in a transaction that was undone is judged by its next run alone."""
    runs: list[int] = []

    def fails_once(connection: sqlite3.Connection) -> int:
        runs.append(len(runs))
        if len(runs) == 1:
            raise LookupError
        return insert(2)(connection)

    queued = Queued(database)
    leads, other = queued.add(insert(1)), queued.add(fails_once)
    AtCommit(database, before=interrupt)
    queued.release()
    assert isinstance(leads.exception(PATIENCE), KeyboardInterrupt)
    assert other.result(PATIENCE) == 2
    assert runs == [0, 1]
    assert numbers(database) == [2]


WAITING_CALLER = """
import signal, sys, threading
from pathlib import Path
from eventstore import SqliteDatabase

database = SqliteDatabase(Path(sys.argv[1]), [["CREATE TABLE numbers (n INTEGER PRIMARY KEY)"]])
insert = lambda n: lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (n,)).rowcount
leading, interrupted = threading.Event(), threading.Event()

def lead(connection):
    leading.set()
    while len(database._queue) < 2:  # until the main thread waits
        threading.Event().wait(0.001)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    assert interrupted.wait(20)

leader = threading.Thread(target=database.write, args=(lead,))
leader.start()
leading.wait(20)
try:
    database.write(insert(1))
except KeyboardInterrupt:
    print("interrupted")
interrupted.set()
leader.join(20)
other = threading.Thread(target=database.write, args=(insert(2),), daemon=True)
other.start()
other.join(20)
with database.read() as connection:
    print("alive", not other.is_alive(), connection.execute("SELECT n FROM numbers").fetchall())
"""


def test_an_interrupted_caller_who_waits_holds_up_nobody(tmp_path: Path) -> None:
    """Ctrl-C while another thread commits: the write is withdrawn, and the queue goes on without its caller."""
    done = subprocess.run(
        [sys.executable, "-c", WAITING_CALLER, str(tmp_path / "n.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["interrupted", "alive True [(2,)]"], done.stderr


def test_a_group_waits_for_a_lock_once(open_database: Callable[..., SqliteDatabase]) -> None:
    """A locked database fails a group as a whole; it does not wait for each of its jobs in turn."""
    database = open_database(busy_timeout=0.05)
    statements: list[str] = []
    database.write(lambda connection: connection.set_trace_callback(statements.append))
    statements.clear()
    with contextlib.closing(sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)) as other:
        AtCommit(database, after=lambda: other.execute("BEGIN IMMEDIATE"))
        queued = Queued(database)
        futures = [queued.add(insert(number)) for number in range(30)]
        queued.release()
        outcomes = [future.exception(PATIENCE) for future in futures]
    assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 30
    assert statements.count("BEGIN IMMEDIATE") == 2
    assert database.write(insert(1)) == 1
