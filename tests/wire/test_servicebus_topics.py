"""Topics: fan-out, rules, duplicate detection."""

import copy
from collections.abc import Iterator

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import ServiceBusError

from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.harness import NAMESPACE, WAIT, bodies, connect, publish, receive_all, receive_one

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


def change(body: str, *, session_id: str = "s", message_id: str | None = None, **changed: bool) -> ServiceBusMessage:
    """A message that names what changed."""
    message = ServiceBusMessage(body, session_id=session_id, message_id=message_id)
    message.application_properties = dict(changed.items())
    return message


def test_each_subscription_gets_what_it_asks_for(broker: Broker, client: ServiceBusClient) -> None:
    """Without rules everything ($Default), with one rule its selection, and with two rules either, once."""
    publish(
        client,
        "changes",
        change("contact", contact=True, address=False),
        change("address", contact=False, address=True),
        change("both", contact=True, address=True),
        change("neither", contact=False, address=False),
        change("unmarked"),
    )
    everything = [b"contact", b"address", b"both", b"neither", b"unmarked"]
    assert bodies(broker, "changes/subscriptions/all") == everything
    assert bodies(broker, "changes/subscriptions/sessions") == everything
    assert bodies(broker, "changes/Subscriptions/Contact") == [b"contact", b"both"]
    assert bodies(broker, "changes/subscriptions/either") == [b"contact", b"address", b"both"]


def test_each_subscription_settles_its_own_copy(broker: Broker, client: ServiceBusClient) -> None:
    """What one subscription completes or dead-letters, with its marks, is untouched in the others."""
    publish(client, "changes", change("a", contact=True), change("b", contact=True))
    with client.get_subscription_receiver("changes", "all") as receiver:
        first, second = receiver.receive_messages(max_message_count=2, max_wait_time=WAIT)
        receiver.complete_message(first)
        receiver.dead_letter_message(second, reason="x")
    with client.get_subscription_receiver("changes", "all", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        dead = receive_one(receiver)
        assert (str(dead), dead.dead_letter_reason) == ("b", "x")
    others = broker.messages("changes/subscriptions/contact")
    assert [message.body for message in others] == [b"a", b"b"]
    assert [message.application_properties for message in others] == [{"contact": True}] * 2
    with client.get_subscription_receiver("changes", "contact") as receiver:
        assert receive_all(receiver, 2) == ["a", "b"]


def test_the_topic_drops_duplicates_for_all(broker: Broker, client: ServiceBusClient) -> None:
    """Duplicate detection is the topic's: a second message of one id reaches nobody, even with other properties."""
    publish(client, "changes", change("a", message_id="1", contact=True))
    publish(client, "changes", change("b", message_id="1", address=True), change("c", message_id="2"))
    assert bodies(broker, "changes/subscriptions/all") == [b"a", b"c"]
    assert bodies(broker, "changes/subscriptions/either") == [b"a"]
    assert broker.meter.count("messages", "changes") == 3


def test_a_subscription_with_sessions(broker: Broker, client: ServiceBusClient) -> None:
    """It hands out sessions, and dead-letters what has no session id, since a topic cannot refuse it."""
    publish(client, "changes", change("a"), ServiceBusMessage("stray"), change("b"))
    receiver = client.get_subscription_receiver(
        "changes", "sessions", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=WAIT
    )
    with receiver:
        assert receiver.session.session_id == "s"
        assert receive_all(receiver, 2) == ["a", "b"]
    [stray] = broker.messages("changes/subscriptions/sessions/$deadletterqueue")
    assert (stray.body, stray.application_properties["DeadLetterReason"]) == (b"stray", "Session ID is null")


def test_a_topic_cannot_be_received_from(broker: Broker, client: ServiceBusClient) -> None:
    """A receiver must name a subscription."""
    with pytest.raises(ServiceBusError, match="name a subscription"), client.get_queue_receiver("changes"):
        pass


def test_the_shorter_time_to_live_of_topic_and_subscription_holds(broker: Broker) -> None:
    """A subscription's messages live no longer than the topic allows."""
    config = copy.deepcopy(NAMESPACE)
    [topic] = config["UserConfig"]["Namespaces"][0]["Topics"]
    topic["Properties"]["DefaultMessageTimeToLive"] = "PT5M"
    topic["Subscriptions"][0]["Properties"] = {
        "DefaultMessageTimeToLive": "PT1H",
        "DeadLetteringOnMessageExpiration": True,
    }
    with Broker(config) as short_lived, connect(short_lived) as client:
        publish(client, "changes", change("old"))
        short_lived.advance(301)
        publish(client, "changes", change("new"))
        with client.get_subscription_receiver("changes", "all") as receiver:
            assert receive_all(receiver, 1) == ["new"]
        assert bodies(short_lived, "changes/subscriptions/all/$deadletterqueue") == [b"old"]
