"""Faults: what the SDK makes of a broker or a network that misbehaves at a chosen point."""

import contextlib
import copy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage, ServiceBusReceiver
from azure.servicebus.exceptions import (
    MessageLockLostError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusConnectionError,
    ServiceBusError,
    ServiceBusServerBusyError,
)

from tests.wire.servicebus import Broker, BrokerError, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.errors import LOCK_LOST, UNAUTHORIZED
from tests.wire.servicebus.faults import Action, Point
from tests.wire.servicebus.harness import (
    NAMESPACE,
    NOTHING,
    ONCE,
    WAIT,
    bodies,
    connect,
    receive_all,
    receive_one,
    send,
    texts,
)

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


@pytest.mark.parametrize("cut", ["drop", "reset"])
def test_a_cut_before_the_answer_duplicates(broker: Broker, client: ServiceBusClient, cut: Action) -> None:
    """The SDK sends the stored message again; only duplicate detection takes the copy away."""
    for queue, stored in (("orders", 2), ("once", 1)):
        fault = broker.inject("stored", cut, queue)
        send(client, queue, ServiceBusMessage("x", message_id="m"))
        assert fault.fired.is_set()
        assert [message.message_id for message in broker.messages(queue)] == ["m"] * stored
        assert broker.meter.count("sends", queue) == 2


def test_a_cut_before_the_answer_without_retries(broker: Broker) -> None:
    """Without retries the sender sees a failure although the message is there."""
    broker.inject("stored", "drop", "orders")
    with connect(broker, **ONCE) as client, pytest.raises(ServiceBusConnectionError):
        send(client, "orders", *texts("x"))
    assert bodies(broker, "orders") == [b"x"]


def test_a_cut_before_storing_loses_nothing(broker: Broker, client: ServiceBusClient) -> None:
    """A send that was cut off before it was stored is repeated and there once."""
    broker.inject("send", "drop", "orders")
    send(client, "orders", *texts("x"))
    assert bodies(broker, "orders") == [b"x"]


def test_a_busy_server(broker: Broker, client: ServiceBusClient) -> None:
    """The SDK retries a busy server as often as it may, then gives up."""
    fault = broker.inject("send", "reject", "orders", times=2)
    with client.get_queue_sender("orders") as sender:
        sender.send_messages(ServiceBusMessage("x"))
        assert fault.hits == 2
        broker.inject("send", "reject", "orders", times=99)
        with pytest.raises(ServiceBusServerBusyError):
            sender.send_messages(ServiceBusMessage("y"))
        broker.clear_faults()
        sender.send_messages(ServiceBusMessage("z"))
    assert bodies(broker, "orders") == [b"x", b"z"]


def test_detached_links_are_opened_again(broker: Broker, client: ServiceBusClient) -> None:
    """Sender and receiver survive that the broker detaches their links, idle or in the middle of a send."""
    with client.get_queue_sender("orders") as sender, client.get_queue_receiver("orders") as receiver:
        sender.send_messages(ServiceBusMessage("1"))
        assert broker.detach_links("orders") == 2
        sender.send_messages(ServiceBusMessage("2"))
        broker.inject("send", "detach", "orders")
        sender.send_messages(ServiceBusMessage("3"))
        assert receive_all(receiver, 3) == ["1", "2", "3"]


def test_a_refused_attach(broker: Broker, client: ServiceBusClient) -> None:
    """A link that is refused is an error with the broker's reason."""
    broker.inject("attach", "reject", "orders", condition=UNAUTHORIZED)
    with pytest.raises(ServiceBusError, match="unauthorized-access"), client.get_queue_sender("orders"):
        pass


def test_a_refused_token(broker: Broker) -> None:
    """A token that $cbs refuses is an authentication error."""
    broker.inject("authorize", "reject", condition=UNAUTHORIZED)
    with (
        connect(broker, **ONCE) as client,
        pytest.raises(ServiceBusAuthenticationError),
        client.get_queue_sender("orders"),
    ):
        pass


def test_a_slow_answer(broker: Broker, client: ServiceBusClient) -> None:
    """A delayed answer keeps the sender waiting, and comes when the broker's time says so."""
    fault = broker.inject("stored", "delay", "orders", seconds=3600)
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(send, client, "orders", *texts("slow"))
        assert fault.fired.wait(WAIT)
        assert bodies(broker, "orders") == [b"slow"]
        assert not sending.done()
        broker.advance(3600)
        sending.result(timeout=WAIT)
    assert broker.meter.count("sends", "orders") == 1


def test_an_answer_that_never_comes(broker: Broker) -> None:
    """A send whose answer is swallowed ends with a timeout although the message is there."""
    broker.inject("stored", "swallow", "orders")
    with (
        connect(broker, **ONCE) as client,
        client.get_queue_sender("orders") as sender,
        pytest.raises(OperationTimeoutError),
    ):
        sender.send_messages(ServiceBusMessage("x"), timeout=0.5)
    assert bodies(broker, "orders") == [b"x"]


def test_a_cut_while_settling(broker: Broker, client: ServiceBusClient) -> None:
    """Not applied, the SDK settles over $management; applied with the answer lost, it reports a lost lock."""
    send(client, "orders", *texts("a", "b"))
    with client.get_queue_receiver("orders") as receiver:
        first, _ = receiver.receive_messages(max_message_count=2, max_wait_time=WAIT)
        broker.inject("settle", "drop", "orders")
        receiver.complete_message(first)
        assert bodies(broker, "orders") == [b"b"]
    broker.expire_locks("orders")
    with client.get_queue_receiver("orders") as receiver:
        second = receive_one(receiver)
        broker.inject("settled", "drop", "orders")
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(second)
    assert broker.messages("orders") == []


def test_a_lost_lock(broker: Broker, client: ServiceBusClient) -> None:
    """A settlement refused because the lock is lost changes nothing."""
    send(client, "orders", *texts("a"))
    with client.get_queue_receiver("orders") as receiver:
        message = receive_one(receiver)
        broker.inject("settle", "reject", "orders", condition=LOCK_LOST)
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(message)
    assert bodies(broker, "orders") == [b"a"]


def test_faults_on_management(broker: Broker, client: ServiceBusClient) -> None:
    """Renewals and settlements over $management are retried when the server is busy or cuts."""
    send(client, "orders", *texts("a", "b"))
    with client.get_queue_receiver("orders") as receiver:
        first, second = receiver.receive_messages(max_message_count=2, max_wait_time=WAIT)
        busy = broker.inject("request", "reject", "orders", operation="renew-lock")
        receiver.renew_message_lock(first)
        cut = broker.inject("answer", "drop", "orders", operation="renew-lock")
        receiver.renew_message_lock(first)
        assert busy.fired.is_set()
        assert cut.fired.is_set()
        receiver.complete_message(first)  # over $management, since its link is gone
        assert bodies(broker, "orders") == [b"b"]
        broker.inject("request", "drop", "orders", operation="update-disposition")
        receiver.complete_message(second)
    assert broker.messages("orders") == []


def test_a_receiver_reconnects(broker: Broker, client: ServiceBusClient) -> None:
    """An idle receiver whose connection was cut gets what comes afterwards."""
    with client.get_queue_receiver("orders") as receiver:
        assert receiver.receive_messages(max_wait_time=NOTHING) == []
        assert broker.drop_connections("orders") == 1
        send(client, "orders", *texts("after"))
        assert receive_all(receiver, 1) == ["after"]
    assert broker.messages("orders") == []


@pytest.mark.parametrize("point", ["deliver", "delivered"])
def test_a_cut_around_a_delivery(broker: Broker, client: ServiceBusClient, point: Point) -> None:
    """A message on its way when the connection is cut stays locked, and comes again when the lock runs out."""
    send(client, "orders", *texts("a"))
    fault = broker.inject(point, "drop", "orders")
    with client.get_queue_receiver("orders") as receiver:
        receiver.receive_messages(max_wait_time=0.5)
        assert fault.fired.is_set()
        assert broker.messages("orders")[0].locked
        broker.advance(30)
        again = receive_one(receiver)
        assert again.delivery_count == 1
        receiver.complete_message(again)
    assert broker.messages("orders") == []


def test_a_refused_connection_and_a_forced_close(broker: Broker, client: ServiceBusClient) -> None:
    """The SDK connects again after a cut at once, and after the broker closed the connection with an error."""
    broker.inject("connect", "drop")
    broker.inject("send", "close", "orders", condition="amqp:connection:forced")
    send(client, "orders", *texts("x"))
    assert bodies(broker, "orders") == [b"x"]
    assert broker.meter.count("connections") == 3


def test_faults_strike_in_turn(broker: Broker, client: ServiceBusClient) -> None:
    """`skip` lets a point pass, `times` repeats, and a second fault waits until the first is used up."""
    first = broker.inject("send", "reject", "orders", skip=1, times=2)
    second = broker.inject("send", "reject", "ORDERS")
    with client.get_queue_sender("orders") as sender:
        sender.send_messages(ServiceBusMessage("1"))
        assert not first.fired.is_set()
        sender.send_messages(ServiceBusMessage("2"))
    assert (first.hits, second.hits) == (3, 1)
    assert bodies(broker, "orders") == [b"1", b"2"]


def test_faults_that_make_no_sense(broker: Broker) -> None:
    """Rejecting where nothing is asked, or naming an operation elsewhere, is refused at once."""
    with pytest.raises(BrokerError, match="makes no sense"):
        broker.inject("delivered", "reject")
    with pytest.raises(BrokerError, match="makes no sense"):
        broker.inject("connect", "detach")
    with pytest.raises(BrokerError, match="operation belongs"):
        broker.inject("send", "drop", operation="renew-lock")


def produce(broker: Broker, session_id: str, count: int) -> None:
    """Sends numbered messages of one session, one by one."""
    with connect(broker, retry_total=8) as client, client.get_queue_sender("chaos") as sender:
        for i in range(count):
            message_id = f"{session_id}-{i}"
            sender.send_messages(ServiceBusMessage(str(i), session_id=session_id, message_id=message_id))


def consume(broker: Broker, sent: threading.Event, completed: dict[str, list[int]]) -> None:
    """Takes sessions until all is sent and gone, whatever happens on the way."""
    with connect(broker, **ONCE) as client:
        while not sent.is_set() or broker.messages("chaos"):
            receiver = client.get_queue_receiver("chaos", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=0.3)
            with contextlib.suppress(ServiceBusError), receiver:
                work_off(receiver, completed)


def work_off(receiver: ServiceBusReceiver, completed: dict[str, list[int]]) -> None:
    """Completes what the session holds."""
    while messages := receiver.receive_messages(max_message_count=10, max_wait_time=0.1):
        for message in messages:
            receiver.complete_message(message)
            completed[str(receiver.session.session_id)].append(int(str(message)))


def test_chaos_loses_nothing_and_keeps_each_sessions_order() -> None:
    """Connections are cut at every point, again and again: all is handled, in order, and nothing is dead-lettered."""
    count = 40
    config = copy.deepcopy(NAMESPACE)
    properties = {"RequiresSession": True, "RequiresDuplicateDetection": True, "MaxDeliveryCount": 1000}
    config["UserConfig"]["Namespaces"][0]["Queues"].append({"Name": "chaos", "Properties": properties})
    points: list[Point] = ["attach", "send", "stored", "deliver", "delivered", "settle", "settled"]
    completed: dict[str, list[int]] = {session_id: [] for session_id in "ABC"}
    sent = threading.Event()
    with fast_polling(), leaked_sockets_ignored(), Broker(config) as broker, ThreadPoolExecutor(6) as pool:
        faults = [
            broker.inject(point, cut, "chaos", skip=5) for cut in ("drop", "reset", "reset", "drop") for point in points
        ]
        consumers = [pool.submit(consume, broker, sent, completed) for _ in range(3)]
        producers = [pool.submit(produce, broker, session_id, count) for session_id in completed]
        for producer in producers:
            producer.result(timeout=60)
        broker.clear_faults()
        sent.set()
        for consumer in consumers:
            consumer.result(timeout=60)
        assert broker.messages("chaos") == []
        assert broker.messages("chaos/$deadletterqueue") == []
        assert sum(fault.fired.is_set() for fault in faults) > 10
    for numbers in completed.values():
        # A completion whose answer was lost counts as a failure, so it is missing; none comes twice or out of order.
        assert numbers == sorted(set(numbers))
        assert len(numbers) > count // 2
