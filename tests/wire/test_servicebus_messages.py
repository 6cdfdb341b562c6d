"""Queues: send, receive, schedule, peek, duplicates, sizes."""

import datetime as dt
import uuid
from collections.abc import Iterator

import pytest
from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
)
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageHeader
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusError,
)

from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.harness import (
    NAMESPACE,
    NOTHING,
    SMALL,
    WAIT,
    bodies,
    connect,
    properties_of,
    receive_all,
    receive_one,
    send,
    texts,
)
from tests.wire.servicebus.message import State

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


def test_every_property_arrives_as_it_was_sent(broker: Broker, client: ServiceBusClient) -> None:
    """System and application properties keep their values and types over send, store and receive."""
    some_id, when = uuid.uuid4(), dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    properties = {
        "int": 1,
        "long": {"TYPE": "LONG", "VALUE": 2**40},
        "float": 1.5,
        "bool": True,
        "text": "é",
        "uuid": some_id,
        "null": None,
        "when": when,
    }
    message = ServiceBusMessage(
        b"\x00\xff body",
        message_id="mid",
        correlation_id="cid",
        session_id="gid",
        subject="sub",
        content_type="application/json",
        to="to",
        reply_to="rt",
        reply_to_session_id="rts",
        partition_key="gid",
        application_properties=properties,  # type: ignore[arg-type]  # the SDK's hint forgets dicts with a TYPE
        time_to_live=dt.timedelta(hours=1),
    )
    before = dt.datetime.now(dt.UTC)
    send(client, "orders", message)
    with client.get_queue_receiver("orders") as receiver:
        got = receive_one(receiver)
        assert b"".join(got.body) == b"\x00\xff body"
        assert (got.message_id, got.correlation_id, got.session_id, got.subject) == ("mid", "cid", "gid", "sub")
        assert (got.content_type, got.to, got.reply_to) == ("application/json", "to", "rt")
        assert (got.reply_to_session_id, got.partition_key) == ("rts", "gid")
        assert got.time_to_live == dt.timedelta(hours=1)
        assert properties_of(got) == {
            b"int": 1,
            b"long": 2**40,
            b"float": 1.5,
            b"bool": True,
            b"text": "é".encode(),
            b"uuid": some_id,
            b"null": None,
            b"when": int(when.timestamp() * 1000),
        }
        assert got.delivery_count == 0
        assert got.sequence_number
        assert isinstance(got.lock_token, uuid.UUID)
        assert got.enqueued_time_utc is not None
        assert got.locked_until_utc is not None
        assert abs((got.enqueued_time_utc - before).total_seconds()) < 5
        assert 25 < (got.locked_until_utc - before).total_seconds() < 35
        receiver.complete_message(got)
    assert broker.messages("orders") == []


def test_a_number_above_32_bits_needs_its_type(client: ServiceBusClient) -> None:
    """The SDK refuses a plain large number before it sends anything, alone and in a list with different errors."""
    message = ServiceBusMessage("x", application_properties={"big": 2**40})
    with client.get_queue_sender("orders") as sender:
        with pytest.raises(ServiceBusError, match="int invalid"):
            sender.send_messages(message)
        with pytest.raises(ValueError, match="int invalid"):
            sender.send_messages([message])


def test_lists_batches_and_large_messages_keep_their_order(broker: Broker, client: ServiceBusClient) -> None:
    """500 messages in one list, 20 in a batch and one of several frames come out in the order they went in."""
    with client.get_queue_sender("orders") as sender:
        sender.send_messages([ServiceBusMessage(f"{i:03}" + "x" * 300) for i in range(500)])
        batch = sender.create_message_batch()
        assert batch.max_size_in_bytes == 256 * 1024
        for i in range(500, 520):
            batch.add_message(ServiceBusMessage(f"{i:03}"))
        sender.send_messages(batch)
        sender.send_messages(ServiceBusMessage(b"y" * 200_000))
    assert broker.meter.count("sends", "orders") == 3
    assert broker.meter.count("messages", "orders") == 521
    with client.get_queue_receiver("orders", prefetch_count=100) as receiver:
        received = receive_all(receiver, 521)
    assert [body[:3] for body in received[:520]] == [f"{i:03}" for i in range(520)]
    assert received[520] == "y" * 200_000
    assert broker.messages("orders") == []


def test_the_broker_names_what_comes_without_an_id(client: ServiceBusClient) -> None:
    """The SDK gives an id itself; a bare AMQP message gets one from the broker and keeps header and annotations."""
    send(client, "orders", ServiceBusMessage("a", subject="s"))
    bare = AmqpAnnotatedMessage(
        data_body=b"b",
        header=AmqpMessageHeader(priority=3),
        annotations={"x-mine": 7},
        application_properties={"k": "v"},
    )
    with client.get_queue_sender("orders") as sender:
        sender.send_messages(bare)
    with client.get_queue_receiver("orders") as receiver:
        named, unnamed = receiver.receive_messages(max_message_count=2, max_wait_time=WAIT)
        assert (len(named.message_id or ""), named.subject) == (36, "s")
        raw = unnamed.raw_amqp_message
        assert len(unnamed.message_id or "") == 32
        assert raw.header is not None
        assert raw.header.priority == 3
        assert (raw.annotations or {})[b"x-mine"] == 7


def test_all_kinds_of_bodies(client: ServiceBusClient) -> None:
    """Value, sequence and several data sections come back as they were."""
    with client.get_queue_sender("orders") as sender:
        sender.send_messages(AmqpAnnotatedMessage(value_body={"a": 1}))
        sender.send_messages(AmqpAnnotatedMessage(sequence_body=[1, 2, "x"]))
        sender.send_messages(AmqpAnnotatedMessage(data_body=[b"1", b"2"]))
    with client.get_queue_receiver("orders") as receiver:
        value, sequence, data = receiver.receive_messages(max_message_count=3, max_wait_time=WAIT)
    assert value.raw_amqp_message.body == {b"a": 1}
    assert list(sequence.raw_amqp_message.body) == [[1, 2, b"x"]]
    assert list(data.body) == [b"1", b"2"]


def test_iterating_ends_at_the_receivers_wait_time(client: ServiceBusClient) -> None:
    """A receiver that is iterated over stops once nothing came for its max_wait_time."""
    send(client, "orders", *texts(*"012"))
    got = []
    with client.get_queue_receiver("orders", max_wait_time=NOTHING) as receiver:
        for message in receiver:
            got.append(str(message))
            receiver.complete_message(message)
    assert got == ["0", "1", "2"]


def test_an_unknown_entity(client: ServiceBusClient) -> None:
    """Senders and receivers of something that is not there are told so."""
    with pytest.raises(MessagingEntityNotFoundError), client.get_queue_receiver("nope"):
        pass
    with pytest.raises(MessagingEntityNotFoundError), client.get_queue_sender("nope") as sender:
        sender.send_messages(ServiceBusMessage("x"))


def test_duplicates_vanish_within_the_window(broker: Broker, client: ServiceBusClient) -> None:
    """A known message id reports success and is dropped, until the window has passed."""
    with client.get_queue_sender("once") as sender:
        for _ in range(3):
            sender.send_messages(ServiceBusMessage("x", message_id="same"))
        sender.send_messages([ServiceBusMessage("y", message_id="same"), ServiceBusMessage("z", message_id="other")])
        assert bodies(broker, "once") == [b"x", b"z"]
        broker.advance(21)
        sender.send_messages(ServiceBusMessage("x2", message_id="same"))
    assert bodies(broker, "once") == [b"x", b"z", b"x2"]


def test_peek_schedule_and_cancel(broker: Broker, client: ServiceBusClient) -> None:
    """Peeking locks nothing; scheduled messages appear in time, those cancelled never."""
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    with client.get_queue_sender("orders") as sender, client.get_queue_receiver("orders") as receiver:
        assert receiver.peek_messages() == []
        sender.send_messages(texts(*"012"))
        assert [str(message) for message in receiver.peek_messages(max_message_count=2)] == ["0", "1"]
        assert [str(message) for message in receiver.peek_messages(5)] == ["2"]
        _, never = sender.schedule_messages(texts("soon", "never"), soon)
        sender.cancel_scheduled_messages(never)
        sender.send_messages(ServiceBusMessage("soon too", scheduled_enqueue_time_utc=soon))
        assert [message.state for message in broker.messages("orders")] == [State.ACTIVE] * 3 + [State.SCHEDULED] * 2
        assert receive_all(receiver, 3) == ["0", "1", "2"]
        assert receiver.receive_messages(max_wait_time=NOTHING) == []
        broker.advance(60)
        assert receive_all(receiver, 2) == ["soon", "soon too"]


def test_size_limits() -> None:
    """An oversized message is refused by the broker, an oversized batch by the SDK, from the limit on the link."""
    with fast_polling(), Broker(NAMESPACE, max_message_size=SMALL) as broker, connect(broker) as client:
        with client.get_queue_sender("orders") as sender:
            with pytest.raises(MessageSizeExceededError):
                sender.send_messages(ServiceBusMessage(b"x" * 20_000))  # the broker detaches the link
            with pytest.raises(MessageSizeExceededError):
                sender.create_message_batch().add_message(ServiceBusMessage(b"x" * 9_990))
            with pytest.raises(MessageSizeExceededError):
                sender.send_messages([ServiceBusMessage(b"x" * 6_000)] * 2)
            sender.send_messages(ServiceBusMessage(b"x" * 9_000))
        assert [message.size // 1000 for message in broker.messages("orders")] == [9]


def test_a_sender_is_stuck_after_an_oversized_message() -> None:
    """The SDK's trap that product code must know: after MessageSizeExceededError a sender has to be replaced."""
    with fast_polling(), Broker(NAMESPACE, max_message_size=SMALL) as broker, connect(broker) as client:
        with client.get_queue_sender("orders") as sender:
            with pytest.raises(MessageSizeExceededError):
                sender.send_messages(ServiceBusMessage(b"x" * 20_000))
            connection = sender._handler._connection
            assert connection is not None
            connection.listen(wait=0.2)  # what its keep-alive thread does every 30 s
            with pytest.raises(MessageSizeExceededError):
                sender.send_messages(ServiceBusMessage(b"tiny"))
        send(client, "orders", ServiceBusMessage(b"tiny"))
        assert bodies(broker, "orders") == [b"tiny"]
