"""Publishing and receiving on Service Bus when broker and network misbehave, through the SDK over a real socket."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from integrations import (
    IntegrationDefinitionError,
    InvalidMessageError,
    MessageLockLostError,
    MessageTooLargeError,
    ServiceBusSubscriptions,
    ServiceBusTopic,
    TopicMessage,
    TopicUnavailableError,
    UnknownSubscriptionError,
    read_announcement,
)
from integrations.servicebus_client import ReceiverLink, open_bus
from tests.support.waiting import wait_until
from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.errors import LOCK_LOST, MESSAGE_SIZE_EXCEEDED, UNAUTHORIZED
from tests.wire.servicebus.faults import Action, Point

pytestmark = pytest.mark.servicebus_wire

TOPIC = "clients"
CRM = "clients/subscriptions/crm"
PATIENCE = 10.0  # seconds until something that must happen counts as missing
MOST_LINKS = 4
NAMESPACE: dict[str, Any] = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "sbemulatorns",
                "Topics": [
                    {
                        "Name": TOPIC,
                        "Properties": {"RequiresDuplicateDetection": True},
                        "Subscriptions": [{"Name": "crm", "Properties": {"MaxDeliveryCount": 1}}, {"Name": "billing"}],
                    }
                ],
            }
        ],
        "Logging": {"Type": "Console"},
    }
}


@pytest.fixture(scope="class", name="running")  # no longer, for the sake of the test with the SDK as it is shipped
def _running() -> Iterator[Broker]:
    with fast_polling(), Broker(NAMESPACE) as broker:
        yield broker


@pytest.fixture
def broker(running: Broker) -> Iterator[Broker]:
    with leaked_sockets_ignored():
        running.reset()
        yield running


@pytest.fixture
def topic(broker: Broker) -> Iterator[ServiceBusTopic]:
    opened = ServiceBusTopic(broker.connection_string, TOPIC)
    yield opened
    opened.close()


@pytest.fixture
def subscriptions(broker: Broker) -> Iterator[ServiceBusSubscriptions]:
    opened = ServiceBusSubscriptions(broker.connection_string, TOPIC)
    yield opened
    opened.close()


def message(number: int, *, client_id: str = "c1", size: int = 10) -> TopicMessage:
    return TopicMessage(f"{client_id}-{number}", client_id, "request-1", {"contact": True}, b"x" * size)


def arrived(broker: Broker, path: str = CRM) -> list[str | None]:
    return [str(each.message_id) for each in broker.messages(path)]


class TestSending:
    def test_nothing_is_opened_before_the_first_message(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """Neither by making the objects nor by sending no messages."""
        ServiceBusSubscriptions(broker.connection_string, TOPIC).close()
        topic.send([])
        assert broker.meter.count("connections") == 0

    def test_a_topic_without_duplicate_detection_is_refused(self) -> None:
        """Nothing is sent to it, and the error says what to do."""
        without = {"UserConfig": {"Namespaces": [{"Name": "n", "Topics": [{"Name": TOPIC}]}]}}
        with Broker(without) as broker:
            topic = ServiceBusTopic(broker.connection_string, TOPIC)
            for _ in range(2):
                with pytest.raises(TopicUnavailableError, match="no duplicate detection"):
                    topic.send([message(1)])
            assert broker.meter.count("sends") == 0

    def test_duplicate_detection_is_looked_for_once(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """The first send asks, no other does."""
        for number in range(3):
            topic.send([message(number)])
        assert broker.administration.requests == 1

    def test_who_may_only_send_is_told_once(
        self, broker: Broker, topic: ServiceBusTopic, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without the right to look, messages go out all the same, and one warning says what nobody can see."""
        broker.administration.refuses = True
        for number in range(3):
            topic.send([message(number)])
        assert arrived(broker) == ["c1-0", "c1-1", "c1-2"]
        (record,) = [each for each in caplog.records if each.name.startswith("integrations")]
        assert "duplicate detection" in record.getMessage()
        assert "SAS_KEY_VALUE" not in caplog.text

    def test_one_link_serves_one_thread(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """Senders are kept."""
        for number in range(20):
            topic.send([message(number)])
        assert (broker.meter.count("links", TOPIC), broker.meter.count("connections")) == (1, 1)

    def test_threads_share_few_links(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """Eight threads publish through one object; nothing is lost or doubled, each client's messages keep order."""
        start = Barrier(8)

        def publish(client_id: str) -> None:
            start.wait(PATIENCE)
            for number in range(0, 20, 2):
                topic.send([message(number, client_id=client_id), message(number + 1, client_id=client_id)])

        clients = [f"c{number}" for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(publish, clients))
        stored = arrived(broker)
        assert len(stored) == 8 * 20
        for client_id in clients:
            own = [each for each in stored if str(each).startswith(f"{client_id}-")]
            assert own == [f"{client_id}-{number}" for number in range(20)]
        assert broker.meter.count("links", TOPIC) <= MOST_LINKS

    def test_a_thread_does_not_wait_for_ever_for_a_sender(
        self, broker: Broker, topic: ServiceBusTopic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With every sender waiting for its answer, the next send fails within its time; they end well."""
        monkeypatch.setattr("integrations.servicebus_senders._TURN_SECONDS", 0.05)
        slow = broker.inject("stored", "delay", TOPIC, seconds=3600, times=MOST_LINKS)
        with ThreadPoolExecutor(MOST_LINKS) as pool:
            sending = [pool.submit(topic.send, [message(number)]) for number in range(MOST_LINKS)]
            broker.meter.wait("sends", MOST_LINKS, TOPIC, timeout=PATIENCE)
            assert slow.fired.wait(PATIENCE)
            with pytest.raises(TopicUnavailableError, match="busy"):
                topic.send([message(9)])
            broker.advance(3600)
            for each in sending:
                each.result(PATIENCE)
        assert len(arrived(broker)) == MOST_LINKS

    def test_what_does_not_fit_one_batch_is_split(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """In order, with as few batches as possible."""
        topic.send([message(number, size=100_000) for number in range(5)])
        assert arrived(broker) == [f"c1-{number}" for number in range(5)]
        assert broker.meter.count("sends", TOPIC) == 3

    def test_a_message_too_large_is_told_apart(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """It never reaches the broker, those before it do, and the sender goes on."""
        with pytest.raises(MessageTooLargeError, match="262144") as caught:
            topic.send([message(1), message(2, size=300_000), message(3)])
        assert caught.value.limit == 262_144
        topic.send([message(4, size=200_000)])
        assert arrived(broker) == ["c1-1", "c1-4"]

    def test_a_broker_that_finds_a_message_too_large(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """It refuses the message and ends the link, which does not get in the way of the next send."""
        broker.inject("send", "reject", TOPIC, condition=MESSAGE_SIZE_EXCEEDED)
        with pytest.raises(MessageTooLargeError):
            topic.send([message(1)])
        broker.detach_links(TOPIC, MESSAGE_SIZE_EXCEEDED)
        topic.send([message(2)])
        assert arrived(broker) == ["c1-2"]

    @pytest.mark.parametrize("cut", ["drop", "reset"])
    def test_a_cut_before_the_answer_makes_no_duplicate(
        self, broker: Broker, topic: ServiceBusTopic, cut: Action
    ) -> None:
        """The batch is sent again, and the topic drops what it has."""
        fault = broker.inject("stored", cut, TOPIC)
        topic.send([message(1), message(2)])
        assert fault.fired.is_set()
        assert broker.meter.count("sends", TOPIC) == 2
        assert arrived(broker) == ["c1-1", "c1-2"]

    def test_an_answer_that_never_comes(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is not waited for without end: the batch is sent again, and the topic drops what it has."""
        monkeypatch.setattr("integrations.servicebus_client._TRY_SECONDS", 0.5)
        topic = ServiceBusTopic(broker.connection_string, TOPIC)
        fault = broker.inject("stored", "swallow", TOPIC)
        topic.send([message(1)])
        assert fault.fired.is_set()
        assert broker.meter.count("sends", TOPIC) == 2
        assert arrived(broker) == ["c1-1"]
        topic.close()

    @pytest.mark.parametrize(
        ("point", "action"),
        [("send", "drop"), ("send", "detach"), ("send", "close"), ("attach", "drop"), ("connect", "drop")],
    )
    def test_a_cut_before_storing_loses_nothing(
        self, broker: Broker, topic: ServiceBusTopic, point: Point, action: Action
    ) -> None:
        """Wherever connection or link end, the send goes through once."""
        fault = broker.inject(point, action)
        topic.send([message(1)])
        assert fault.fired.is_set()
        assert arrived(broker) == ["c1-1"]

    def test_a_link_closed_while_idle(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """The service does that after ten minutes; the next send opens another one."""
        topic.send([message(1)])
        assert broker.detach_links(TOPIC) == 1
        topic.send([message(2)])
        assert broker.drop_connections(TOPIC) == 1
        topic.send([message(3)])
        assert arrived(broker) == ["c1-1", "c1-2", "c1-3"]

    def test_a_busy_broker(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """It is asked again for a while; then the caller is told when to come back, and a new link is taken."""
        broker.inject("send", "reject", TOPIC, times=2)
        topic.send([message(1)])
        broker.inject("send", "reject", TOPIC, times=99)
        with pytest.raises(TopicUnavailableError, match="busy") as caught:
            topic.send([message(2)])
        assert caught.value.retry_after == 10
        broker.clear_faults()
        assert broker.meter.count("links", TOPIC) == 1
        topic.send([message(2), message(3)])
        assert arrived(broker) == ["c1-1", "c1-2", "c1-3"]
        assert broker.meter.count("links", TOPIC) == 2

    def test_a_broker_that_restarts(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """A restart is not noticed; an outage is told, and over when the broker is back."""
        topic.send([message(1)])
        broker.restart()
        topic.send([message(2)])
        broker.stop()
        try:
            with pytest.raises(TopicUnavailableError):
                topic.send([message(3)])
        finally:
            broker.start()
        topic.send([message(3)])
        assert arrived(broker) == ["c1-1", "c1-2", "c1-3"]

    def test_refused_credentials(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """It is said that they are refused, not what they are; a retry is worth it later only."""
        broker.inject("authorize", "reject", condition=UNAUTHORIZED, times=99)
        with pytest.raises(TopicUnavailableError, match="refused") as caught:
            topic.send([message(1)])
        assert caught.value.retry_after == 60
        assert "SAS_KEY_VALUE" not in repr((caught.value, caught.value.__cause__))

    def test_a_topic_that_is_not_there(self, broker: Broker) -> None:
        """The message says what to do."""
        elsewhere = ServiceBusTopic(broker.connection_string, "nowhere")
        with pytest.raises(TopicUnavailableError, match="provision"):
            elsewhere.send([message(1)])

    def test_a_connection_string_that_is_none(self) -> None:
        """It is refused at once, without the key in it."""
        with pytest.raises(IntegrationDefinitionError, match="Endpoint=") as caught:
            ServiceBusTopic("Endpoint=sb://here;SharedAccessKey=very-secret", TOPIC)
        assert "very-secret" not in repr((caught.value, caught.value.__cause__))

    def test_a_namespace_by_managed_identity(self) -> None:
        """A host name takes no secret, and opens nothing by itself."""
        ServiceBusTopic("somewhere.servicebus.windows.net", TOPIC).close()

    def test_trouble_is_not_logged_by_the_sdk(
        self, broker: Broker, topic: ServiceBusTopic, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What went wrong is raised, and the SDK stays quiet about addresses and keys."""
        caplog.set_level(logging.DEBUG)
        broker.inject("stored", "reset", TOPIC)
        topic.send([message(1)])
        broker.inject("send", "reject", TOPIC, times=99)
        with pytest.raises(TopicUnavailableError):
            topic.send([message(2)])
        assert [record for record in caplog.records if record.name.startswith("azure")] == []


class TestReceiving:
    @staticmethod
    def ids(subscriptions: ServiceBusSubscriptions, name: str = "billing") -> Sequence[str]:
        return [each.message.message_id for each in subscriptions.receive(name, limit=10)]

    def test_a_subscription_keeps_one_link(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """However often it is received from and settled, also when there is nothing."""
        for number in range(5):
            topic.send([message(number)])
            (received,) = subscriptions.receive("billing", limit=1)
            subscriptions.complete(received)
        assert subscriptions.receive("billing", limit=1) == []
        assert broker.messages("clients/subscriptions/billing") == []
        assert broker.meter.count("links", "clients/subscriptions/billing") == 1

    def test_no_more_than_asked_for(self, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions) -> None:
        """The rest comes with the next call, in order."""
        topic.send([message(number) for number in range(7)])
        numbers = [each.message.message_id for each in subscriptions.receive("billing", limit=3)]
        assert numbers == ["c1-0", "c1-1", "c1-2"]
        assert self.ids(subscriptions) == ["c1-3", "c1-4", "c1-5", "c1-6"]

    def test_threads_share_a_link(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """Eight threads receive and complete side by side; each message is handled once."""
        topic.send([message(number) for number in range(80)])
        start = Barrier(8)

        def work_off(_: int) -> list[str]:
            start.wait(PATIENCE)
            handled = []
            while received := subscriptions.receive("billing", limit=2):
                for each in received:
                    subscriptions.complete(each)
                    handled.append(each.message.message_id)
            return handled

        with ThreadPoolExecutor(8) as pool:
            handled = [each for part in pool.map(work_off, range(8)) for each in part]
        assert sorted(handled) == sorted(f"c1-{number}" for number in range(80))
        assert broker.messages("clients/subscriptions/billing") == []
        assert broker.meter.count("links", "clients/subscriptions/billing") == 1

    @pytest.mark.parametrize("trouble", ["detach", "drop", "reset", "restart"])
    def test_a_link_closed_while_idle(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions, trouble: str
    ) -> None:
        """The next receipt opens another one, and a message received before can still be settled."""
        topic.send([message(1)])
        (held,) = subscriptions.receive("billing", limit=1)
        match trouble:
            case "detach":
                assert broker.detach_links("clients/subscriptions/billing") == 1
            case "restart":
                broker.restart()
            case _:
                broker.drop_connections("clients/subscriptions/billing", reset=trouble == "reset")
        topic.send([message(2)])
        assert self.ids(subscriptions) == ["c1-2"]
        subscriptions.complete(held)
        assert arrived(broker, "clients/subscriptions/billing") == ["c1-2"]

    def test_a_broker_that_is_away(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """Receiving and settling say so, and both work when it is back."""
        topic.send([message(1), message(2)])
        (held,) = subscriptions.receive("billing", limit=1)
        broker.stop()
        try:
            with pytest.raises(TopicUnavailableError):
                subscriptions.receive("billing", limit=1)
            with pytest.raises(TopicUnavailableError):
                subscriptions.complete(held)
        finally:
            broker.start()
        subscriptions.complete(held)
        assert self.ids(subscriptions) == ["c1-2"]

    def test_a_settlement_cut_before_it_was_applied(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """It is repeated and goes through."""
        topic.send([message(1)])
        (held,) = subscriptions.receive("billing", limit=1)
        fault = broker.inject("settle", "drop", "clients/subscriptions/billing")
        subscriptions.complete(held)
        assert fault.fired.is_set()
        assert broker.messages("clients/subscriptions/billing") == []

    def test_a_settlement_refused_for_now(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """It is repeated over a new link."""
        topic.send([message(1)])
        (held,) = subscriptions.receive("billing", limit=1)
        fault = broker.inject("settle", "reject", "clients/subscriptions/billing")
        subscriptions.complete(held)
        assert fault.fired.is_set()
        assert broker.messages("clients/subscriptions/billing") == []
        assert broker.meter.count("links", "clients/subscriptions/billing") == 2

    def test_a_settlement_whose_answer_is_lost(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """It counts as a lost lock, though the message is gone: nobody can tell."""
        topic.send([message(1)])
        (held,) = subscriptions.receive("billing", limit=1)
        broker.inject("settled", "drop", "clients/subscriptions/billing")
        with pytest.raises(MessageLockLostError):
            subscriptions.complete(held)
        assert broker.messages("clients/subscriptions/billing") == []

    def test_a_lost_lock(self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions) -> None:
        """What the broker refuses changes nothing, and is not tried a second time."""
        topic.send([message(1)])
        (held,) = subscriptions.receive("billing", limit=1)
        broker.inject("settle", "reject", "clients/subscriptions/billing", condition=LOCK_LOST)
        with pytest.raises(MessageLockLostError):
            subscriptions.complete(held)
        with pytest.raises(MessageLockLostError):
            subscriptions.complete(held)
        assert broker.meter.count("settlements", "clients/subscriptions/billing") == 1
        assert arrived(broker, "clients/subscriptions/billing") == ["c1-1"]

    def test_what_cannot_be_settled_any_more_is_forgotten(self, broker: Broker, topic: ServiceBusTopic) -> None:
        """After its lock a message costs no memory and no call."""
        now = [datetime.now(UTC)]
        subscriptions = ServiceBusSubscriptions(broker.connection_string, TOPIC, clock=lambda: now[0])
        topic.send([message(1), message(2)])
        (first,) = subscriptions.receive("billing", limit=1)
        now[0] += timedelta(hours=1)
        (second,) = subscriptions.receive("billing", limit=1)
        with pytest.raises(MessageLockLostError):
            subscriptions.complete(first)
        assert broker.meter.count("settlements", "clients/subscriptions/billing") == 0
        subscriptions.complete(second)
        subscriptions.close()

    def test_settling_does_not_wait_for_receiving(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """Messages are settled while another thread waits a long time for the next one."""
        topic.send([message(number) for number in range(4)])
        held = subscriptions.receive("billing", limit=4)
        assert len(held) == 4
        with ThreadPoolExecutor(5) as pool:
            waiting = pool.submit(subscriptions.receive, "billing", limit=1, wait=600)
            for each in [pool.submit(subscriptions.complete, received) for received in held]:
                each.result(PATIENCE)
            assert not waiting.done()
            topic.send([message(9)])
            (received,) = waiting.result(PATIENCE)
        assert received.message == message(9)
        assert arrived(broker, "clients/subscriptions/billing") == ["c1-9"]

    def test_a_link_is_used_in_turn(self, broker: Broker) -> None:
        """By one thread at a time, and by whoever came first: one that comes again and again keeps nobody out."""
        client = open_bus(broker.connection_string, retries=0)
        link = ReceiverLink(lambda: client.get_subscription_receiver(TOPIC, "billing"))
        order: list[str] = []
        second = Thread(target=link.use, args=(lambda _: order.append("second"),))

        def first(_: object) -> None:
            second.start()
            wait_until("the second one waits", lambda: len(link._queue) == 2, seconds=PATIENCE)
            order.append("first")

        link.use(first)
        link.use(lambda _: order.append("third"))
        second.join(PATIENCE)
        assert order == ["first", "second", "third"]
        link.close()

    def test_a_message_of_somebody_else(self, broker: Broker, subscriptions: ServiceBusSubscriptions) -> None:
        """It is received as far as it can be told; that it is no announcement shows when it is read."""
        foreign = ServiceBusMessage("hello", application_properties={"text": "a", "flag": False})
        with (
            ServiceBusClient.from_connection_string(broker.connection_string) as client,
            client.get_topic_sender(TOPIC) as sender,
        ):
            sender.send_messages([foreign, ServiceBusMessage(None)])
        first, second = subscriptions.receive("billing", limit=2)
        assert first.message._replace(message_id="") == TopicMessage("", "", None, {"flag": False}, b"hello")
        assert second.message._replace(message_id="") == TopicMessage("", "", None, {}, b"")
        with pytest.raises(InvalidMessageError):
            read_announcement(second.message.body)

    def test_dead_letters_are_listed_without_being_taken(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """Oldest first, as often as one likes, not more than asked for."""
        topic.send([message(number) for number in range(3)])
        for received in subscriptions.receive("crm", limit=3):
            subscriptions.abandon(received)
        for _ in range(2):
            assert list(subscriptions.dead_letters("crm")) == [message(number) for number in range(3)]
        assert list(subscriptions.dead_letters("crm", limit=2)) == [message(0), message(1)]
        assert len(broker.messages(f"{CRM}/$deadletterqueue")) == 3

    def test_closing_after_the_broker_went_away(
        self, broker: Broker, topic: ServiceBusTopic, subscriptions: ServiceBusSubscriptions
    ) -> None:
        """It is no trouble, and both can be used again when it is back."""
        topic.send([message(1)])
        assert self.ids(subscriptions) == ["c1-1"]
        broker.stop()
        try:
            topic.close()
            subscriptions.close()
        finally:
            broker.start()
        topic.send([message(2)])
        assert self.ids(subscriptions) == ["c1-2"]

    def test_an_unknown_subscription(self, subscriptions: ServiceBusSubscriptions) -> None:
        """The error names it."""
        with pytest.raises(UnknownSubscriptionError, match="nobody"):
            subscriptions.receive("nobody", limit=1)


def test_with_the_sdk_as_it_is_shipped() -> None:
    """Send, receive and complete with the SDK's own pauses, which the other tests shorten."""
    with leaked_sockets_ignored(), Broker(NAMESPACE) as broker:
        topic = ServiceBusTopic(broker.connection_string, TOPIC)
        subscriptions = ServiceBusSubscriptions(broker.connection_string, TOPIC)
        topic.send([message(1)])
        broker.drop_connections(TOPIC)
        topic.send([message(2)])
        for received in subscriptions.receive("billing", limit=2):
            subscriptions.complete(received)
        assert broker.messages("clients/subscriptions/billing") == []
        topic.close()
        subscriptions.close()
