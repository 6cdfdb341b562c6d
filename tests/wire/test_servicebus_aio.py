"""The aio SDK against the same broker."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage
from azure.servicebus.aio import AutoLockRenewer, ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageSizeExceededError,
    OperationTimeoutError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.harness import NAMESPACE, ONCE, QUICK, SMALL, WAIT, texts

pytestmark = pytest.mark.servicebus_wire

Scenario = Callable[[ServiceBusClient], Awaitable[None]]


@pytest.fixture(scope="module", name="running")
def _running() -> Iterator[Broker]:
    with fast_polling(), Broker(NAMESPACE) as broker:
        yield broker


@pytest.fixture(name="broker")
def _broker(running: Broker) -> Iterator[Broker]:
    with leaked_sockets_ignored():
        running.reset()
        yield running


def run(broker: Broker, scenario: Scenario, **options: int) -> None:
    """Plays a scenario with a client on an event loop of its own."""

    async def main() -> None:
        settings: dict[str, Any] = {**QUICK, **options}
        async with ServiceBusClient.from_connection_string(broker.connection_string, **settings) as client:
            await scenario(client)

    asyncio.run(asyncio.wait_for(main(), 30))


async def receive_all(receiver: ServiceBusReceiver, count: int) -> list[str]:
    """Receives and completes this many messages; returns their bodies."""
    received: list[str] = []
    while len(received) < count:
        batch = await receiver.receive_messages(max_message_count=min(100, count - len(received)), max_wait_time=WAIT)
        assert batch, f"expected {count} messages, got {len(received)}"
        for message in batch:
            await receiver.complete_message(message)
            received.append(str(message))
    return received


def test_lists_and_large_messages_keep_their_order(broker: Broker) -> None:
    """500 messages in one list and one of several frames come out in order."""

    async def scenario(client: ServiceBusClient) -> None:
        async with client.get_queue_sender("orders") as sender:
            await sender.send_messages(texts(*map(str, range(500))))
            await sender.send_messages(ServiceBusMessage(b"z" * 150_000))
        async with client.get_queue_receiver("orders", prefetch_count=100) as receiver:
            received = await receive_all(receiver, 501)
        assert received == [*map(str, range(500)), "z" * 150_000]

    run(broker, scenario)
    assert broker.messages("orders") == []


def test_all_ways_to_settle(broker: Broker) -> None:
    """Abandon, dead-letter, defer, renew and complete, and what a lost lock looks like."""

    async def scenario(client: ServiceBusClient) -> None:
        async with client.get_queue_sender("orders") as sender:
            await sender.send_messages(texts("a", "b", "c"))
        async with client.get_queue_receiver("orders") as receiver:
            first, second, third = await receiver.receive_messages(max_message_count=3, max_wait_time=WAIT)
            await receiver.abandon_message(first)
            await receiver.dead_letter_message(second, reason="why")
            await receiver.renew_message_lock(third)
            await receiver.defer_message(third)
            assert third.sequence_number is not None
            [deferred] = await receiver.receive_deferred_messages([third.sequence_number])
            await receiver.complete_message(deferred)
            [again] = await receiver.receive_messages(max_wait_time=WAIT)
            assert (str(again), again.delivery_count) == ("a", 1)
            broker.expire_locks("orders")
            with pytest.raises(MessageLockLostError):
                await receiver.complete_message(again)
            assert [str(message) for message in await receiver.peek_messages(sequence_number=1)] == ["a"]

    run(broker, scenario)
    [dead] = broker.messages("orders/$deadletterqueue")
    assert (dead.body, dead.application_properties["DeadLetterReason"]) == (b"b", "why")


def test_sessions(broker: Broker) -> None:
    """A session has one holder, an order and a state; a lost one cannot be settled."""

    async def scenario(client: ServiceBusClient) -> None:
        in_vain = client.get_queue_receiver("clients", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=0.3)
        with pytest.raises(OperationTimeoutError):
            async with in_vain:
                pass
        async with client.get_queue_sender("clients") as sender:
            await sender.send_messages([*texts("a0", "a1", session_id="A"), *texts("b0", session_id="B")])
        receiver = client.get_queue_receiver("clients", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=WAIT)
        async with receiver:
            assert receiver.session.session_id == "A"
            with pytest.raises(SessionCannotBeLockedError):
                async with client.get_queue_receiver("clients", session_id="A"):
                    pass
            await receiver.session.set_state("st")
            assert await receiver.session.get_state() == b"st"
            await receiver.session.renew_lock()
            assert await receive_all(receiver, 2) == ["a0", "a1"]
        async with client.get_queue_receiver("clients", session_id="B") as other:
            [message] = await other.receive_messages(max_wait_time=WAIT)
            broker.expire_locks("clients")
            with pytest.raises(SessionLockLostError):
                await other.complete_message(message)

    run(broker, scenario, **ONCE)


def test_faults(broker: Broker) -> None:
    """A cut before the answer duplicates, a busy server is retried, a cut connection is opened again."""

    async def scenario(client: ServiceBusClient) -> None:
        async with client.get_queue_sender("orders") as sender:
            broker.inject("stored", "drop", "orders")
            await sender.send_messages(ServiceBusMessage("x", message_id="m"))
            broker.inject("send", "reject", "orders", times=2)
            await sender.send_messages(ServiceBusMessage("y", message_id="n"))
            broker.drop_connections("orders")
            await sender.send_messages(ServiceBusMessage("z", message_id="o"))

    run(broker, scenario)
    assert [message.message_id for message in broker.messages("orders")] == ["m", "m", "n", "o"]


def test_many_senders_at_once(broker: Broker) -> None:
    """Eight senders on one connection: nothing is lost, and each one's order holds."""

    async def scenario(client: ServiceBusClient) -> None:
        async def work(sender_number: int) -> None:
            async with client.get_queue_sender("orders") as sender:
                for i in range(10):
                    await sender.send_messages(ServiceBusMessage(f"{sender_number}-{i}"))

        await asyncio.gather(*(work(number) for number in range(8)))

    run(broker, scenario)
    stored = [message.body.decode() for message in broker.messages("orders")]
    assert len(stored) == 80
    for number in range(8):
        assert [body for body in stored if body[0] == str(number)] == [f"{number}-{i}" for i in range(10)]


def test_an_oversized_message() -> None:
    """The broker's refusal reaches the sender."""

    async def scenario(client: ServiceBusClient) -> None:
        async with client.get_queue_sender("orders") as sender:
            with pytest.raises(MessageSizeExceededError):
                await sender.send_messages(ServiceBusMessage(b"x" * 20_000))

    with fast_polling(), Broker(NAMESPACE, max_message_size=SMALL) as broker:
        run(broker, scenario)


def test_the_lock_renewer_keeps_a_lock() -> None:
    """The SDK's AutoLockRenewer renews in time, so the lock outlives its first end."""
    # The broker's clock is late, so that to the SDK each lock seems about to end, and it renews after two seconds.
    with fast_polling(), Broker(NAMESPACE, now=lambda: time.time() - 26.4) as broker:

        async def scenario(client: ServiceBusClient) -> None:
            async with client.get_queue_sender("orders") as sender:
                await sender.send_messages(ServiceBusMessage("a"))
            async with (
                AutoLockRenewer() as renewer,
                client.get_queue_receiver("orders", auto_lock_renewer=renewer) as receiver,
            ):
                [message] = await receiver.receive_messages(max_wait_time=WAIT)
                await asyncio.to_thread(broker.meter.wait, "requests", 1, "orders")
                broker.advance(29.5)  # the first lock would be over
                await receiver.complete_message(message)

        run(broker, scenario)
        assert broker.messages("orders") == []
