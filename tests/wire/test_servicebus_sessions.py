"""Sessions: one holder at a time, in order, with state."""

import datetime as dt
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import (
    OperationTimeoutError,
    ServiceBusConnectionError,
    ServiceBusError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.harness import NAMESPACE, ONCE, WAIT, bodies, connect, receive_all, receive_one, send, texts

pytestmark = pytest.mark.servicebus_wire


@pytest.fixture(scope="module", name="running")
def _running() -> Iterator[Broker]:
    with fast_polling(), Broker(NAMESPACE) as broker:
        yield broker


@pytest.fixture(name="broker")
def _broker(running: Broker) -> Iterator[Broker]:
    with leaked_sockets_ignored():
        running.reset()
        yield running


@pytest.fixture(name="client")
def _client(broker: Broker) -> Iterator[ServiceBusClient]:
    with connect(broker) as client:
        yield client


def test_a_session_has_one_holder(broker: Broker, client: ServiceBusClient) -> None:
    """Another receiver is refused the held session and gets the next one instead."""
    send(client, "clients", *texts("a", session_id="A"), *texts("b", session_id="B"))
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        assert receiver.session.session_id == "A"
        until = receiver.session.locked_until_utc
        assert until is not None
        assert 25 < (until - dt.datetime.now(dt.UTC)).total_seconds() < 35
        with (
            connect(broker, **ONCE) as second,
            pytest.raises(SessionCannotBeLockedError),
            second.get_queue_receiver("clients", session_id="A"),
        ):
            pass
        other = client.get_queue_receiver("clients", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=WAIT)
        with other:
            assert other.session.session_id == "B"
            assert receive_all(other, 1) == ["b"]


def test_a_session_keeps_its_order(broker: Broker, client: ServiceBusClient) -> None:
    """An abandoned message comes again before later ones; what the holder leaves is freed and not counted."""
    send(client, "clients", *texts("0", "1", "2", session_id="A"))
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        first = receive_one(receiver)
        receiver.abandon_message(first)
        again = receive_one(receiver)
        assert (str(again), again.delivery_count) == ("0", 1)
        receiver.complete_message(again)
        one, two = receiver.receive_messages(max_message_count=2, max_wait_time=WAIT)
        receiver.complete_message(one)
        assert str(two) == "2"
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        left = receive_one(receiver)
        assert (str(left), left.delivery_count) == ("2", 0)
        receiver.complete_message(left)
    assert broker.messages("clients") == []


def test_session_state_outlives_the_holder(broker: Broker, client: ServiceBusClient) -> None:
    """What a holder stores the next one reads, until it is taken away."""
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        assert receiver.session.get_state() is None
        receiver.session.set_state(b"cursor-1")
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        assert receiver.session.get_state() == b"cursor-1"
        receiver.session.set_state(None)
        assert receiver.session.get_state() is None


def test_session_locks_are_renewed_and_run_out(broker: Broker, client: ServiceBusClient) -> None:
    """A renewed session outlives its first end; then settling fails and the next delivery is counted."""
    send(client, "clients", *texts("a", session_id="A"))
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        message = receive_one(receiver)
        broker.advance(20)
        before = receiver.session.locked_until_utc
        assert before is not None
        assert receiver.session.renew_lock() > before
        broker.advance(20)
        assert broker.messages("clients")[0].locked
        broker.advance(11)
        with pytest.raises(SessionLockLostError):
            receiver.complete_message(message)
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        again = receive_one(receiver)
        assert again.delivery_count == 1
        receiver.complete_message(again)


def test_expired_locks_free_the_session(broker: Broker, client: ServiceBusClient) -> None:
    """`expire_locks` takes the session away from its holder."""
    send(client, "clients", *texts("a", session_id="A"))
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        message = receive_one(receiver)
        broker.expire_locks("clients")
        with pytest.raises(SessionLockLostError):
            receiver.complete_message(message)
    assert [(message.locked, message.delivery_count) for message in broker.messages("clients")] == [(False, 1)]


def test_waiting_for_a_session_in_vain(broker: Broker) -> None:
    """Without a free session the wait ends with an error, after the time the client gave."""
    with connect(broker, **ONCE) as client, ThreadPoolExecutor() as pool:
        receiver = client.get_queue_receiver("clients", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=30)
        opening = pool.submit(receiver.__enter__)
        broker.meter.wait("waits", 1, "clients")
        broker.advance(29)
        assert not opening.done()
        broker.advance(2)
        assert isinstance(opening.exception(timeout=WAIT), OperationTimeoutError)
        receiver.close()


def test_a_session_that_appears_while_waiting(broker: Broker, client: ServiceBusClient) -> None:
    """A receiver that waits for any session gets the first one that has a message."""
    waiting = connect(broker)
    with waiting, ThreadPoolExecutor() as pool:
        receiver = waiting.get_queue_receiver("clients", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=30)
        opening = pool.submit(receiver.__enter__)
        broker.meter.wait("waits", 1, "clients")
        send(client, "clients", *texts("late", session_id="A"))
        with opening.result(timeout=WAIT):
            assert receiver.session.session_id == "A"
            assert receive_all(receiver, 1) == ["late"]


def test_session_rules(client: ServiceBusClient) -> None:
    """Messages and receivers without a session are refused, and sessions where there are none."""
    with client.get_queue_sender("clients") as sender, pytest.raises(ServiceBusError, match="SessionId was not set"):
        sender.send_messages(ServiceBusMessage("no session"))
    with pytest.raises(ServiceBusError, match="non-sessionful"), client.get_queue_receiver("clients"):
        pass
    with pytest.raises(ServiceBusError, match="sessionful"), client.get_queue_receiver("orders", session_id="A"):
        pass


def test_deferred_messages_of_a_session(broker: Broker, client: ServiceBusClient) -> None:
    """The holder of a session gets its deferred messages by their number."""
    send(client, "clients", *texts("later", session_id="A"))
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        message = receive_one(receiver)
        receiver.defer_message(message)
        assert message.sequence_number is not None
        [again] = receiver.receive_deferred_messages(message.sequence_number)
        receiver.complete_message(again)
    assert broker.messages("clients") == []


def test_a_cut_connection_frees_the_session(broker: Broker, client: ServiceBusClient) -> None:
    """After a cut the holder cannot go on, and the next one gets everything in order."""
    send(client, "clients", *texts("0", "1", session_id="A"))
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        message = receive_one(receiver)
        assert broker.drop_connections("clients") == 1
        with pytest.raises((SessionLockLostError, ServiceBusConnectionError)):
            receiver.complete_message(message)
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        assert receive_all(receiver, 2) == ["0", "1"]


def test_receivers_share_sessions_without_overlap(broker: Broker, client: ServiceBusClient) -> None:
    """Two receivers work through four sessions, each session whole and in order."""
    expected = {session: [f"{session}{i}" for i in range(20)] for session in "ABCD"}
    for session, names in expected.items():
        send(client, "clients", *texts(*names, session_id=session))
    seen: dict[str, list[str]] = {}
    guard = threading.Lock()

    def work() -> None:
        with connect(broker, **ONCE) as own:
            while True:
                receiver = own.get_queue_receiver("clients", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=0.3)
                try:
                    with receiver:
                        received = receive_all(receiver, 20, at_once=7)
                except OperationTimeoutError:
                    return
                with guard:
                    seen.setdefault(str(receiver.session.session_id), []).extend(received)

    with ThreadPoolExecutor(2) as pool:
        for worker in [pool.submit(work), pool.submit(work)]:
            worker.result(timeout=30)
    assert seen == expected
    assert bodies(broker, "clients") == []


def test_sessions_are_listed(broker: Broker, client: ServiceBusClient) -> None:
    """Sessions with messages or state can be listed."""
    send(client, "clients", *texts("a", session_id="A"), *texts("b", session_id="B"))
    with client.get_queue_receiver("clients", session_id="C") as receiver:
        receiver.session.set_state("kept")
    assert sorted(client.list_queue_sessions("clients")) == ["A", "B", "C"]
