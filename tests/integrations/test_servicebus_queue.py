"""Session queues on Service Bus when broker and network misbehave, through the SDK over a real socket."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageProperties

from integrations import (
    IntegrationDefinitionError,
    MessageTooLargeError,
    QueuedMessage,
    QueueMessage,
    QueueUnavailableError,
    ServiceBusSessionQueues,
    SessionLockLostError,
)
from tests.support.queues import look_briefly, queue_namespace
from tests.support.waiting import PATIENCE, wait_until
from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored

pytestmark = pytest.mark.servicebus_wire

QUEUE = "shop-events"
MOST_LINKS = 4
LIMIT = 256 * 1024  # bytes of a message on the standard tier


@pytest.fixture(scope="class", name="running")  # no longer, for the sake of the test with the SDK as it is shipped
def _running() -> Iterator[Broker]:
    with fast_polling(), Broker(queue_namespace(QUEUE)) as broker:
        yield broker


@pytest.fixture
def broker(running: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    look_briefly(monkeypatch)
    with leaked_sockets_ignored():
        running.reset()
        yield running


@pytest.fixture
def queues(broker: Broker) -> Iterator[ServiceBusSessionQueues]:
    with closing(ServiceBusSessionQueues(broker.connection_string)) as opened:
        yield opened


def message(number: int, session_id: str = "c1", *, size: int = 10) -> QueueMessage:
    return QueueMessage(f"{session_id}-{number}", session_id, b"x" * size)


def raw(**body: Any) -> AmqpAnnotatedMessage:
    """A message as another language's library may send it."""
    return AmqpAnnotatedMessage(
        **body,
        properties=AmqpMessageProperties(message_id="m", group_id="s"),
        application_properties={"event_key": "k", "count": 7, "note": "\N{SNOWMAN}"},
    )


def first_of(queues: ServiceBusSessionQueues) -> QueuedMessage:
    """The first message of the next session, completed."""
    session = queues.next_session(QUEUE, wait=0)
    assert session is not None
    with closing(session):
        queued = session.receive()
        assert queued is not None
        session.complete(queued)
        return queued


class TestSending:
    def test_nothing_is_opened_before_the_first_message(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """Neither by making the object nor by sending no messages."""
        queues.send(QUEUE, [])
        assert broker.meter.count("connections") == 0

    def test_many_sessions_share_few_links(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """A batch holds one session; they go side by side over at most four links, which are kept."""
        for step in range(2):
            queues.send(QUEUE, [message(step, f"c{number}") for number in range(30)])
        assert broker.meter.count("sends", QUEUE) == 60
        assert broker.meter.count("links", QUEUE) <= MOST_LINKS
        assert len(broker.messages(QUEUE)) == 60

    def test_a_session_goes_in_as_few_batches_as_hold_it(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """In order, each within the limit."""
        queues.send(QUEUE, [message(number, size=100_000) for number in range(5)])
        assert broker.meter.count("sends", QUEUE) == 3
        assert [each.message_id for each in broker.messages(QUEUE)] == [f"c1-{number}" for number in range(5)]

    def test_a_message_that_does_not_fit(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """It is refused before it is sent, and the next one goes over the same link."""
        with pytest.raises(MessageTooLargeError) as caught:
            queues.send(QUEUE, [message(1, size=LIMIT + 1)])
        assert caught.value.limit == LIMIT
        queues.send(QUEUE, [message(2)])
        assert [each.message_id for each in broker.messages(QUEUE)] == ["c1-2"]

    def test_an_answer_that_got_lost(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """The message is stored once, though it is sent twice."""
        broker.inject("stored", "drop", QUEUE)
        queues.send(QUEUE, [message(1)])
        assert broker.meter.count("sends", QUEUE) == 2
        assert len(broker.messages(QUEUE)) == 1

    def test_a_queue_nobody_provisioned(self, queues: ServiceBusSessionQueues) -> None:
        """The error says what to do, on both sides."""
        uses: list[Callable[[], object]] = [
            lambda: queues.send("nowhere", [message(1)]),
            lambda: queues.next_session("nowhere", wait=0),
            lambda: queues.drain("nowhere", lambda _: True),
        ]
        for use in uses:
            with pytest.raises(QueueUnavailableError, match="provision it") as caught:
                use()
            assert caught.value.retry_after == 60


class TestReceiving:
    @pytest.mark.parametrize(
        ("foreign", "body"),
        [
            (ServiceBusMessage("text", session_id="s", message_id="m"), b"text"),
            (ServiceBusMessage(None, session_id="s", message_id="m"), b""),
            (raw(value_body="text"), b"text"),
            (raw(value_body=b"bytes"), b"bytes"),
            (raw(value_body=7), b""),
            (raw(sequence_body=[["a"]]), b""),
        ],
    )
    def test_a_message_of_somebody_else(
        self, broker: Broker, queues: ServiceBusSessionQueues, foreign: Any, body: bytes
    ) -> None:
        """Whatever it is made of, it is received: text and bytes as they are, what is neither as nothing."""
        with (
            ServiceBusClient.from_connection_string(broker.connection_string) as client,
            client.get_queue_sender(QUEUE) as sender,
        ):
            sender.send_messages(foreign)
        queued = first_of(queues)
        assert (queued.message.session_id, queued.message.message_id, queued.message.body) == ("s", "m", body)
        if isinstance(foreign, AmqpAnnotatedMessage):
            assert queued.message.properties == {"event_key": "k", "note": "\N{SNOWMAN}"}

    def test_an_answer_to_complete_that_got_lost(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """It counts as unknown: the message may be gone although this raises, here it is."""
        queues.send(QUEUE, [message(1)])
        broker.inject("settled", "drop", QUEUE)
        with pytest.raises((SessionLockLostError, QueueUnavailableError)):
            first_of(queues)
        assert broker.messages(QUEUE) == []

    def test_a_session_closed_after_the_broker_went_away(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """It is no trouble, and when it is back the message comes again."""
        queues.send(QUEUE, [message(1)])
        session = queues.next_session(QUEUE, wait=0)
        assert session is not None
        assert session.receive() is not None
        broker.restart()
        session.close()
        assert first_of(queues).message == message(1)

    def test_a_dead_letter_whose_lock_was_lost_stays(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """It was dealt with but could not be forgotten, so it is handed over once more later; others are not held up."""
        for number in (1, 2):
            queues.send(QUEUE, [message(number, f"c{number}")])
            session = queues.next_session(QUEUE, wait=0)
            assert session is not None
            with closing(session):
                for _ in range(10):
                    queued = session.receive()
                    assert queued is not None
                    session.abandon(queued)
        broker.inject("settle", "reject", f"{QUEUE}/$deadletterqueue", condition="com.microsoft:message-lock-lost")
        taken: list[str] = []
        queues.drain(QUEUE, lambda queued: not taken.append(queued.message.message_id))  # type: ignore[func-returns-value]
        assert taken == ["c1-1", "c2-2"]
        assert [each.message_id for each in broker.messages(f"{QUEUE}/$deadletterqueue")] == ["c1-1"]

    def test_looking_for_a_session_ends(self, broker: Broker, queues: ServiceBusSessionQueues) -> None:
        """With none to be had, the call returns empty-handed and leaves no link behind."""
        assert queues.next_session(QUEUE, wait=0) is None
        wait_until("no link is left", lambda: broker._call(lambda: len(broker._namespace.connections)) == 0)


def test_a_connection_string_that_is_none() -> None:
    """The error shows what is expected, and nothing of what was given."""
    with pytest.raises(IntegrationDefinitionError, match="Endpoint=") as caught:
        ServiceBusSessionQueues("SharedAccessKey=s3cret")
    assert "s3cret" not in str(caught.value)


def test_with_the_sdk_as_it_is_shipped() -> None:
    """Send, accept, receive, complete and close with the SDK's own pauses, which the other tests shorten."""
    with leaked_sockets_ignored(), Broker(queue_namespace(QUEUE)) as broker:
        with closing(ServiceBusSessionQueues(broker.connection_string)) as queues:
            queues.send(QUEUE, [message(1), message(1, "c2")])
            assert {first_of(queues).message.session_id for _ in range(2)} == {"c1", "c2"}
        assert broker.messages(QUEUE) == []
        wait_until(
            "no link is left", lambda: broker._call(lambda: len(broker._namespace.connections)) == 0, seconds=PATIENCE
        )
