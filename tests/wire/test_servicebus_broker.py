"""The broker itself: restarts, purging, counting, failures."""

import socket
import struct
from collections.abc import Iterator

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusConnectionError, ServiceBusError

from tests.wire.servicebus import Broker, BrokerError, fast_polling
from tests.wire.servicebus.harness import (
    NAMESPACE,
    ONCE,
    WAIT,
    bodies,
    connect,
    publish,
    receive_all,
    receive_one,
    send,
    texts,
)
from tests.wire.servicebus.sdk import leaked_sockets_ignored

pytestmark = pytest.mark.servicebus_wire


@pytest.fixture(name="broker")
def _broker() -> Iterator[Broker]:
    with leaked_sockets_ignored(), fast_polling(), Broker(NAMESPACE) as broker:
        yield broker


@pytest.fixture(name="client")
def _client(broker: Broker) -> Iterator[ServiceBusClient]:
    with connect(broker) as client:
        yield client


# ---- restarts


def test_a_restart_keeps_everything_but_the_connections(broker: Broker, client: ServiceBusClient) -> None:
    """After a restart the same clients go on with the same messages, locks, ids seen and session states."""
    before = broker.connection_string
    send(client, "once", ServiceBusMessage("x", message_id="m"))
    with client.get_queue_receiver("clients", session_id="A") as session:
        session.session.set_state(b"cursor")
    with client.get_queue_sender("orders") as sender, client.get_queue_receiver("orders") as receiver:
        sender.send_messages(texts("locked", "free"))
        receive_one(receiver)
        broker.restart()
        assert broker.connection_string == before
        sender.send_messages(ServiceBusMessage("later"))
        assert receive_all(receiver, 2) == ["free", "later"]
        [locked] = broker.messages("orders")
        assert (locked.body, locked.locked) == (b"locked", True)
    send(client, "once", ServiceBusMessage("x", message_id="m"))
    assert len(broker.messages("once")) == 1
    with client.get_queue_receiver("clients", session_id="A") as session:
        assert session.session.get_state() == b"cursor"


def test_an_outage(broker: Broker, client: ServiceBusClient) -> None:
    """While the broker is stopped nobody connects, its content can be seen, and what falls due is done at the start."""
    send(client, "orders", *texts("a"))
    with client.get_queue_receiver("orders") as receiver:
        receive_one(receiver)
    broker.stop()
    assert broker.messages("orders")[0].locked
    with connect(broker, **ONCE) as hopeless, pytest.raises(ServiceBusConnectionError):
        send(hopeless, "orders", *texts("b"))
    broker.advance(30)
    broker.start()
    assert [(message.locked, message.delivery_count) for message in broker.messages("orders")] == [(False, 1)]
    with client.get_queue_receiver("orders") as receiver:
        assert receive_all(receiver, 1) == ["a"]


def test_a_restart_frees_sessions(broker: Broker, client: ServiceBusClient) -> None:
    """A session held over a connection that the restart cut can be taken at once."""
    send(client, "clients", *texts("a", session_id="A"))
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        receive_one(receiver)
        broker.restart()
        with connect(broker) as second, second.get_queue_receiver("clients", session_id="A") as other:
            assert receive_all(other, 1) == ["a"]


def test_starting_twice_or_after_the_end_is_refused() -> None:
    """A running broker cannot be started, a closed one neither; stopping and closing twice are fine."""
    broker = Broker(NAMESPACE)
    with broker:
        with pytest.raises(BrokerError, match="running already"):
            broker.start()
        broker.stop()
        broker.stop()
    broker.close()
    with pytest.raises(BrokerError, match="closed for good"):
        broker.start()


# ---- looking in and acting


def test_purging_one_subscription(broker: Broker, client: ServiceBusClient) -> None:
    """Purging forgets messages and locks of one subscription; the others keep theirs, and new ones arrive."""
    publish(client, "changes", *texts("a", "b"))
    with client.get_subscription_receiver("changes", "all") as receiver:
        receive_one(receiver)
        broker.purge("changes/Subscriptions/all")
        assert broker.messages("changes/subscriptions/all") == []
        assert bodies(broker, "changes/subscriptions/sessions/$deadletterqueue") == [b"a", b"b"]
        publish(client, "changes", *texts("c"))
        assert receive_all(receiver, 1) == ["c"]


def test_purging_a_topic_forgets_its_ids(broker: Broker, client: ServiceBusClient) -> None:
    """After purging a topic a known message id passes again."""
    publish(client, "changes", ServiceBusMessage("a", message_id="m"))
    broker.purge("changes")
    publish(client, "changes", ServiceBusMessage("b", message_id="m"))
    assert bodies(broker, "changes/subscriptions/all") == [b"a", b"b"]


def test_a_reset_makes_the_broker_as_new(broker: Broker, client: ServiceBusClient) -> None:
    """Messages, ids seen, session states, faults and counts are forgotten."""
    send(client, "once", ServiceBusMessage("x", message_id="m"))
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        receiver.session.set_state(b"cursor")
    fault = broker.inject("send", "reject", "once")
    broker.reset()
    assert broker.meter.count("links") == 0
    send(client, "once", ServiceBusMessage("y", message_id="m"))
    assert bodies(broker, "once") == [b"y"]
    assert not fault.fired.is_set()
    with client.get_queue_receiver("clients", session_id="A") as receiver:
        assert receiver.session.get_state() is None


def test_the_meter_counts_what_a_client_costs(broker: Broker, client: ServiceBusClient) -> None:
    """Links, sends, messages, deliveries and settlements are counted by entity."""
    with client.get_queue_sender("orders") as sender:
        sender.send_messages(texts("1", "2", "3"))
        sender.send_messages(ServiceBusMessage("4"))
    with client.get_queue_receiver("orders") as receiver:
        assert receive_all(receiver, 4) == ["1", "2", "3", "4"]
    meter = broker.meter
    assert (meter.count("sends", "Orders"), meter.count("messages", "orders")) == (2, 4)
    assert (meter.count("links", "orders"), meter.count("sends", "once")) == (2, 0)
    assert (meter.count("deliveries"), meter.count("settlements")) == (4, 4)
    with pytest.raises(TimeoutError, match="expected 5 sends at orders, saw 2"):
        meter.wait("sends", 5, "orders", timeout=0.01)


def test_unknown_names_are_errors_of_the_test(broker: Broker) -> None:
    """A misspelt entity, or the messages of a topic, is refused with what there is."""
    with pytest.raises(BrokerError, match=r"no entity 'odrers'; there are changes, .*orders"):
        broker.messages("odrers")
    with pytest.raises(BrokerError, match="name a subscription"):
        broker.messages("changes")


def test_a_clock_of_the_test() -> None:
    """With a clock that stands still, only `advance` moves time."""
    with fast_polling(), Broker(NAMESPACE, now=lambda: 1_800_000_000.0) as broker, connect(broker) as client:
        send(client, "orders", *texts("a"))
        broker.advance(1)
        with client.get_queue_receiver("orders") as receiver:
            message = receive_one(receiver)
            assert message.enqueued_time_utc is not None
            assert message.locked_until_utc is not None
            assert message.enqueued_time_utc.timestamp() == 1_800_000_000
            assert message.locked_until_utc.timestamp() == 1_800_000_031
            receiver.complete_message(message)


def test_a_failure_inside_is_not_swallowed() -> None:
    """Bytes that are no AMQP end the connection, and closing the broker says so."""
    broker = Broker(NAMESPACE).start()
    port = int(broker.connection_string.split(":")[2].split(";")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        client.sendall(struct.pack(">IBBH", 3, 2, 0, 0))
        while client.recv(4096):  # until the broker hangs up
            pass
    with pytest.raises(BrokerError, match="expected a frame of 8"):
        broker.close()


def test_undecodable_messages_are_rejected(broker: Broker, client: ServiceBusClient) -> None:
    """A send whose content is no AMQP message is refused to its sender; nothing is stored."""
    with client.get_queue_sender("orders") as sender:
        batch = sender.create_message_batch()
        batch.add_message(ServiceBusMessage("x"))
        batch._message[5] = [b"\xa1\x05ab"]  # its data sections
        with pytest.raises(ServiceBusError, match="decode-error"):
            sender.send_messages(batch)
    assert broker.messages("orders") == []
