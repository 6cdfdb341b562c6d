"""Locks and settlement: abandon, dead-letter, defer, renew, expire."""

import datetime as dt
import time
from collections.abc import Iterator

import pytest
from azure.servicebus import (
    AutoLockRenewer,
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
)

from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.harness import (
    NAMESPACE,
    NOTHING,
    WAIT,
    connect,
    properties_of,
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


def test_abandoning_counts_and_ends_in_the_dead_letter_queue(broker: Broker, client: ServiceBusClient) -> None:
    """After MaxDeliveryCount deliveries a message is dead-lettered with the reason, properties intact."""
    send(client, "orders", ServiceBusMessage("a", message_id="m", application_properties={"k": 1}))
    with client.get_queue_receiver("orders") as receiver:
        for attempt in range(3):
            message = receive_one(receiver)
            assert message.delivery_count == attempt
            receiver.abandon_message(message)
    assert broker.messages("orders") == []
    with client.get_queue_receiver("orders", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        message = receive_one(receiver)
        assert message.dead_letter_reason == "MaxDeliveryCountExceeded"
        assert (properties_of(message)[b"k"], message.delivery_count) == (1, 3)
        receiver.complete_message(message)
    assert broker.messages("orders/$deadletterqueue") == []


def test_dead_letter_and_defer(broker: Broker, client: ServiceBusClient) -> None:
    """A dead-lettered message keeps reason and description; a deferred one comes only by its number."""
    send(client, "orders", *texts("dead", "later"))
    with client.get_queue_receiver("orders") as receiver:
        dead, later = receiver.receive_messages(max_message_count=2, max_wait_time=WAIT)
        receiver.dead_letter_message(dead, reason="why", error_description="because")
        receiver.defer_message(later)
        assert receiver.receive_messages(max_wait_time=NOTHING) == []
        assert later.sequence_number is not None
        [again] = receiver.receive_deferred_messages(later.sequence_number)
        assert str(again) == "later"
        receiver.complete_message(again)
        with pytest.raises(MessageNotFoundError):
            receiver.receive_deferred_messages(later.sequence_number)
    with client.get_queue_receiver("orders", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        message = receive_one(receiver)
        assert (message.dead_letter_reason, message.dead_letter_error_description) == ("why", "because")
        receiver.complete_message(message)
    assert broker.messages("orders") == []


def test_a_lock_runs_out_and_is_lost(broker: Broker, client: ServiceBusClient) -> None:
    """A renewed lock outlives its first end; after that the message is delivered again and counted."""
    send(client, "orders", *texts("a"))
    with client.get_queue_receiver("orders") as receiver:
        message = receive_one(receiver)
        broker.advance(20)
        receiver.renew_message_lock(message)
        broker.advance(20)  # past the first end, inside the renewed lock
        assert broker.messages("orders")[0].locked
        broker.advance(11)
        assert not broker.messages("orders")[0].locked
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(message)
        again = receive_one(receiver)
        assert again.delivery_count == 1
        broker.expire_locks("orders")
        with pytest.raises(MessageLockLostError):
            receiver.renew_message_lock(again)
        last = receive_one(receiver)
        assert last.delivery_count == 2
        receiver.complete_message(last)
    assert broker.messages("orders") == []


def test_a_lock_outlives_its_receiver(broker: Broker, client: ServiceBusClient) -> None:
    """Closing a receiver does not free what it locked; the end of the lock does."""
    send(client, "orders", *texts("a"))
    with client.get_queue_receiver("orders") as receiver:
        receive_one(receiver)
    assert broker.messages("orders")[0].locked
    broker.advance(30)
    with client.get_queue_receiver("orders") as receiver:
        message = receive_one(receiver)
        assert message.delivery_count == 1
        receiver.complete_message(message)


def test_receive_and_delete(broker: Broker, client: ServiceBusClient) -> None:
    """In receive-and-delete mode a delivered message is gone."""
    send(client, "orders", *texts(*"01234"))
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    with client.get_queue_receiver("orders", receive_mode=mode, prefetch_count=10) as receiver:
        got = [str(message) for message in receiver.receive_messages(max_message_count=5, max_wait_time=WAIT)]
    assert got == list("01234")
    assert broker.messages("orders") == []


def test_prefetched_messages_are_released_on_close(broker: Broker, client: ServiceBusClient) -> None:
    """What the SDK prefetched and nobody asked for goes back uncounted when the receiver is closed."""
    send(client, "orders", *texts(*"01234"))
    with client.get_queue_receiver("orders", prefetch_count=10) as receiver:
        receiver.complete_message(receive_one(receiver))
        broker.meter.wait("deliveries", 5, "orders")
    broker.meter.wait("settlements", 5, "orders")
    left = broker.messages("orders")
    assert [message.body for message in left] == [b"1", b"2", b"3", b"4"]
    assert not any(message.locked or message.delivery_count for message in left)


def test_an_expired_message_is_dead_lettered(broker: Broker, client: ServiceBusClient) -> None:
    """The queue's time to live holds where the message has none, and a shorter one of the message wins."""
    send(client, "mortal", ServiceBusMessage("a"), ServiceBusMessage("b", time_to_live=dt.timedelta(minutes=1)))
    with client.get_queue_receiver("mortal") as receiver:
        broker.advance(61)
        kept = receive_one(receiver)
        receiver.abandon_message(kept)
        assert str(kept) == "a"
        broker.advance(240)
        assert receiver.receive_messages(max_wait_time=NOTHING) == []
    dead = broker.messages("mortal/$deadletterqueue")
    assert {message.application_properties["DeadLetterReason"] for message in dead} == {"TTLExpiredException"}
    assert sorted(message.body for message in dead) == [b"a", b"b"]


def test_the_lock_renewer_keeps_a_lock() -> None:
    """The SDK's AutoLockRenewer renews in time, so the lock outlives its first end."""
    # The broker's clock is late, so that to the SDK each lock seems about to end, and it renews after two seconds.
    with (
        fast_polling(),
        Broker(NAMESPACE, now=lambda: time.time() - 26.4) as broker,
        connect(broker) as client,
        AutoLockRenewer() as renewer,
    ):
        send(client, "orders", *texts("a"))
        with client.get_queue_receiver("orders", auto_lock_renewer=renewer) as receiver:
            message = receive_one(receiver)
            broker.meter.wait("requests", 1, "orders")
            broker.advance(29.5)  # the first lock would be over
            receiver.complete_message(message)
        assert broker.messages("orders") == []
