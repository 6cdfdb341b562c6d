"""The SDK exactly as it is shipped, its fixed sleeps included: the rest of the tests shortens them."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage, _servicebus_sender
from azure.servicebus.aio import ServiceBusClient as AsyncClient

from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.harness import NAMESPACE, WAIT, bodies, connect, publish, receive_all, send, texts

pytestmark = pytest.mark.servicebus_wire


@pytest.fixture(name="broker")
def _broker() -> Iterator[Broker]:
    with leaked_sockets_ignored(), Broker(NAMESPACE) as broker:
        yield broker


def test_send_receive_and_settle(broker: Broker) -> None:
    """A queue and a filtered subscription, from send to complete."""
    with connect(broker) as client:
        send(client, "orders", *texts("1", "2"))
        publish(client, "changes", ServiceBusMessage("3", application_properties={"contact": True}))
        with client.get_queue_receiver("orders") as receiver:
            assert receive_all(receiver, 2) == ["1", "2"]
        with client.get_subscription_receiver("changes", "contact") as receiver:
            assert receive_all(receiver, 1) == ["3"]
    assert broker.messages("orders") == []


def test_the_next_session(broker: Broker) -> None:
    """A session is accepted, renewed and worked through."""
    with connect(broker) as client:
        send(client, "clients", *texts("1", "2", session_id="A"))
        with client.get_queue_receiver("clients", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=WAIT) as receiver:
            assert receiver.session.renew_lock() is not None
            assert receive_all(receiver, 2) == ["1", "2"]


def test_a_cut_and_a_restart(broker: Broker) -> None:
    """The SDK's own retries carry a sender over a cut before the answer and over a restart of the broker."""
    with connect(broker) as client, client.get_queue_sender("once") as sender:
        broker.inject("stored", "drop", "once")
        sender.send_messages(ServiceBusMessage("1", message_id="m"))
        broker.restart()
        sender.send_messages(ServiceBusMessage("2", message_id="n"))
    assert bodies(broker, "once") == [b"1", b"2"]


def test_aio(broker: Broker) -> None:
    """The same with the aio SDK."""

    async def main() -> None:
        async with AsyncClient.from_connection_string(broker.connection_string) as client:
            async with client.get_queue_sender("orders") as sender:
                await sender.send_messages(ServiceBusMessage("1"))
            async with client.get_queue_receiver("orders") as receiver:
                [message] = await receiver.receive_messages(max_wait_time=WAIT)
                await receiver.complete_message(message)

    asyncio.run(asyncio.wait_for(main(), 30))
    assert broker.messages("orders") == []


def test_fast_polling_leaves_no_trace() -> None:
    """The SDK's modules get back exactly what they had, after an error too."""
    before = vars(_servicebus_sender)["time"]

    def fail() -> None:
        with fast_polling():
            assert vars(_servicebus_sender)["time"] is not before
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert vars(_servicebus_sender)["time"] is before is time
