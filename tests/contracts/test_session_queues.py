"""What every session queue must do for those who send deliveries and those who take them."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import pytest

from integrations import (
    QueueMessage,
    QueueSession,
    SessionLockLostError,
    SessionQueues,
    SqliteSessionQueues,
    open_deliveries,
)

pytestmark = pytest.mark.contract

QUEUE = "shop-events"
PAST_THE_LOCK = 120.0
PAST_THE_WINDOW = 700.0
MAX_DELIVERIES = 10


class Queued(NamedTuple):
    """Queues and what a test needs around them."""

    queues: SessionQueues
    pass_time: Callable[[float], None]


def message(number: int, session_id: str = "c1") -> QueueMessage:
    properties = {"event_key": f"k-{number}", "note": "\N{SNOWMAN}"}
    return QueueMessage(f"{session_id}-{number}", session_id, f'{{"n":{number}}}'.encode(), properties, "request-1")


def took(session: QueueSession) -> list[str]:
    """Complete everything a session has; gives the ids."""
    ids = []
    while (queued := session.receive()) is not None:
        session.complete(queued)
        ids.append(queued.message.message_id)
    return ids


class SessionQueuesContract:
    @pytest.fixture
    def broker(self) -> Queued:
        raise NotImplementedError

    @pytest.fixture
    def queues(self, broker: Queued) -> SessionQueues:
        return broker.queues

    @staticmethod
    def session(queues: SessionQueues) -> QueueSession:
        found = queues.next_session(QUEUE, wait=0)
        assert found is not None
        return found

    @staticmethod
    def drained(queues: SessionQueues, *, take: bool = True) -> list[str]:
        found: list[str] = []

        def note(queued: object) -> bool:
            found.append(queued.message.message_id)  # type: ignore[attr-defined]
            return take

        queues.drain(QUEUE, note)
        return found

    def kill(self, queues: SessionQueues, number: int, session_id: str = "c1") -> None:
        """Send a message and hand it back until it is dead."""
        queues.send(QUEUE, [message(number, session_id)])
        with closing(self.session(queues)) as session:
            for attempt in range(MAX_DELIVERIES):
                queued = session.receive()
                assert queued is not None
                assert queued.delivery_count == attempt + 1
                session.abandon(queued)

    def test_a_message_arrives_as_it_was_sent(self, queues: SessionQueues) -> None:
        """Ids, properties and the bytes of the body come through, with the time of receipt."""
        queues.send(QUEUE, [message(1)])
        with closing(self.session(queues)) as session:
            queued = session.receive()
            assert queued is not None
            assert (queued.message, queued.delivery_count) == (message(1), 1)
            assert queued.enqueued_at.utcoffset() == timedelta(0)
            session.complete(queued)
            assert session.receive() is None

    def test_a_session_keeps_its_order(self, queues: SessionQueues) -> None:
        """What was sent first is received first, within a call and across calls."""
        queues.send(QUEUE, [message(1), message(2)])
        queues.send(QUEUE, [message(3)])
        with closing(self.session(queues)) as session:
            assert took(session) == ["c1-1", "c1-2", "c1-3"]

    def test_a_session_has_one_holder_and_hinders_no_other(self, queues: SessionQueues) -> None:
        """While one is held the next one is given out, and after that there is none."""
        queues.send(QUEUE, [message(1), message(2), message(1, "c2")])
        with closing(self.session(queues)) as first:
            held = first.receive()
            assert held is not None
            with closing(self.session(queues)) as second:
                both = {"c1": ["c1-1", "c1-2"], "c2": ["c2-1"]}
                del both[held.message.session_id]
                assert [took(second)] == list(both.values())
                assert queues.next_session(QUEUE, wait=0) is None

    def test_queues_do_not_mix(self, queues: SessionQueues) -> None:
        """The same ids in another queue are other messages."""
        queues.send(QUEUE, [message(1)])
        queues.send("crm-events", [message(1)])
        with closing(self.session(queues)) as session:
            assert took(session) == ["c1-1"]
        assert queues.next_session(QUEUE, wait=0) is None
        other = queues.next_session("crm-events", wait=0)
        assert other is not None
        with closing(other):
            assert took(other) == ["c1-1"]

    def test_a_repeat_within_the_window_is_dropped(self, queues: SessionQueues) -> None:
        """The same message id arrives once, even after it was completed."""
        queues.send(QUEUE, [message(1)])
        with closing(self.session(queues)) as session:
            assert took(session) == ["c1-1"]
            queues.send(QUEUE, [message(1), message(2)])
            assert took(session) == ["c1-2"]

    def test_a_repeat_after_the_window_arrives(self, broker: Queued) -> None:
        """Duplicate detection does not remember for ever."""
        broker.queues.send(QUEUE, [message(1)])
        with closing(self.session(broker.queues)) as session:
            took(session)
        broker.pass_time(PAST_THE_WINDOW)
        broker.queues.send(QUEUE, [message(1)])
        with closing(self.session(broker.queues)) as session:
            assert took(session) == ["c1-1"]

    def test_a_closed_session_is_free_at_once(self, queues: SessionQueues) -> None:
        """What was received and not settled comes again and counts as not received."""
        queues.send(QUEUE, [message(1), message(2)])
        with closing(self.session(queues)) as session:
            assert session.receive() is not None
        with closing(self.session(queues)) as session:
            queued = session.receive()
            assert queued is not None
            assert (queued.message.message_id, queued.delivery_count) == ("c1-1", 1)

    def test_an_abandoned_message_is_the_first_again(self, queues: SessionQueues) -> None:
        """It does not let later ones of its session pass."""
        queues.send(QUEUE, [message(1), message(2)])
        with closing(self.session(queues)) as session:
            queued = session.receive()
            assert queued is not None
            session.abandon(queued)
            again = session.receive()
            assert again is not None
            assert (again.message.message_id, again.delivery_count) == ("c1-1", 2)

    def test_a_session_is_free_when_its_lock_ends(self, broker: Queued) -> None:
        """A holder that died does not keep it; whoever held it too long can settle nothing any more."""
        broker.queues.send(QUEUE, [message(1)])
        with closing(self.session(broker.queues)) as late:
            held = late.receive()
            assert held is not None
            broker.pass_time(PAST_THE_LOCK)
            with closing(self.session(broker.queues)) as session:
                again = session.receive()
                assert again is not None
                assert again.delivery_count == 2
                with pytest.raises(SessionLockLostError):
                    late.complete(held)
                with pytest.raises(SessionLockLostError):
                    late.renew()
                session.complete(again)

    def test_a_renewed_lock_holds_on(self, broker: Queued) -> None:
        """Renewed before its end, it outlives the time it was given at first."""
        broker.queues.send(QUEUE, [message(1)])
        with closing(self.session(broker.queues)) as session:
            queued = session.receive()
            assert queued is not None
            for _ in range(3):
                broker.pass_time(40)
                session.renew()
            assert broker.queues.next_session(QUEUE, wait=0) is None
            session.complete(queued)

    def test_a_message_handed_back_too_often_is_dead(self, queues: SessionQueues) -> None:
        """Later ones of its session go on without it."""
        self.kill(queues, 1)
        queues.send(QUEUE, [message(2)])
        with closing(self.session(queues)) as session:
            assert took(session) == ["c1-2"]

    def test_dead_letters_are_drained_in_their_order(self, queues: SessionQueues) -> None:
        """Oldest first, once each."""
        for number in (1, 2, 3):
            self.kill(queues, number, f"c{number}")
        assert self.drained(queues) == ["c1-1", "c2-2", "c3-3"]
        assert self.drained(queues) == []

    def test_a_dead_letter_that_was_not_taken_stays(self, broker: Queued) -> None:
        """It is handed over again when its lock has ended, and not before."""
        self.kill(broker.queues, 1)
        assert self.drained(broker.queues, take=False) == ["c1-1"]
        assert self.drained(broker.queues) == []
        broker.pass_time(PAST_THE_LOCK)
        assert self.drained(broker.queues) == ["c1-1"]

    def test_a_waiting_receiver_is_woken(self, queues: SessionQueues) -> None:
        """Whoever waits for a session gets one that begins meanwhile."""
        got: list[str] = []
        waiting = Event()

        def wait() -> None:
            waiting.set()
            session = queues.next_session(QUEUE, wait=4)
            if session is not None:
                with closing(session):
                    got.extend(took(session))

        thread = Thread(target=wait)
        thread.start()
        waiting.wait(10)
        queues.send(QUEUE, [message(1)])
        thread.join(10)
        assert got == ["c1-1"]


class TestSqliteSessionQueues(SessionQueuesContract):
    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[Queued]:
        now = [datetime(2026, 1, 31, 12, tzinfo=UTC)]
        database = open_deliveries(tmp_path)

        def pass_time(seconds: float) -> None:
            now[0] += timedelta(seconds=seconds)

        yield Queued(SqliteSessionQueues(database, clock=lambda: now[0]), pass_time)
        database.close()
