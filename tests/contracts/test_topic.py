"""What every topic must do for publishers and subscribers."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import pytest

from integrations import (
    MessageLockLostError,
    ReceivedMessage,
    SqliteTopic,
    Subscriptions,
    Topic,
    TopicMessage,
    UnknownSubscriptionError,
    open_deliveries,
)

pytestmark = pytest.mark.contract

PAST_THE_LOCK = 120.0
PAST_THE_WINDOW = 700.0
MAX_DELIVERIES = 10


class Broker(NamedTuple):
    """A topic with both of its sides, and what a test needs around it."""

    topic: Topic
    subscriptions: Subscriptions
    subscribe: Callable[[str, list[str]], None]
    pass_time: Callable[[float], None]


def message(number: int, *, client_id: str = "c1", changed: tuple[str, ...] = ("contact",)) -> TopicMessage:
    properties = dict.fromkeys(changed, True)
    return TopicMessage(f"{client_id}-{number}", client_id, "request-1", properties, f'{{"n":{number}}}'.encode())


class TopicContract:
    @pytest.fixture
    def broker(self) -> Broker:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _subscribed(self, broker: Broker) -> None:
        broker.subscribe("crm", ["contact", "consent"])

    @staticmethod
    def ids(received: Iterator[ReceivedMessage] | list[ReceivedMessage]) -> list[str]:
        return [each.message.message_id for each in received]

    def receive(self, broker: Broker, name: str = "crm", limit: int = 10) -> list[ReceivedMessage]:
        return list(broker.subscriptions.receive(name, limit=limit))

    def test_a_message_arrives_as_it_was_sent(self, broker: Broker) -> None:
        """Ids, properties and the bytes of the body come through."""
        broker.topic.send([message(1)])
        (received,) = self.receive(broker)
        assert received.message == message(1)
        assert (received.subscription, received.delivery_count) == ("crm", 1)

    def test_messages_keep_their_order(self, broker: Broker) -> None:
        """What was sent first is received first, within a call and across calls."""
        broker.topic.send([message(1), message(2)])
        broker.topic.send([message(3)])
        assert self.ids(self.receive(broker, limit=2)) == ["c1-1", "c1-2"]
        assert self.ids(self.receive(broker)) == ["c1-3"]

    def test_a_subscription_gets_what_its_filter_admits(self, broker: Broker) -> None:
        """Any of the named sub-schemas is enough; every matching subscription gets its own copy."""
        broker.subscribe("billing", ["address"])
        broker.topic.send([message(1), message(2, changed=("address",)), message(3, changed=("address", "consent"))])
        broker.topic.send([message(4, changed=("segment",))])
        assert self.ids(self.receive(broker)) == ["c1-1", "c1-3"]
        assert self.ids(self.receive(broker, "billing")) == ["c1-2", "c1-3"]

    def test_a_changed_filter_counts_from_then_on(self, broker: Broker) -> None:
        """Subscribing again replaces the filter and keeps what has arrived."""
        broker.topic.send([message(1)])
        broker.subscribe("crm", ["address"])
        broker.topic.send([message(2), message(3, changed=("address",))])
        assert self.ids(self.receive(broker)) == ["c1-1", "c1-3"]

    def test_a_repeat_within_the_window_is_dropped(self, broker: Broker) -> None:
        """The same message id arrives once, even after it was completed."""
        broker.topic.send([message(1)])
        broker.subscriptions.complete(self.receive(broker)[0])
        broker.topic.send([message(1), message(2)])
        assert self.ids(self.receive(broker)) == ["c1-2"]

    def test_a_repeat_after_the_window_arrives(self, broker: Broker) -> None:
        """Duplicate detection does not remember for ever."""
        broker.topic.send([message(1)])
        broker.subscriptions.complete(self.receive(broker)[0])
        broker.pass_time(PAST_THE_WINDOW)
        broker.topic.send([message(1)])
        assert self.ids(self.receive(broker)) == ["c1-1"]

    def test_a_locked_message_is_not_given_to_others(self, broker: Broker) -> None:
        """While one receiver holds it, another one gets nothing."""
        broker.topic.send([message(1)])
        assert len(self.receive(broker)) == 1
        assert self.receive(broker) == []

    def test_a_completed_message_never_comes_again(self, broker: Broker) -> None:
        """Completion is final."""
        broker.topic.send([message(1)])
        broker.subscriptions.complete(self.receive(broker)[0])
        broker.pass_time(PAST_THE_LOCK)
        assert self.receive(broker) == []

    def test_an_abandoned_message_comes_again_at_once(self, broker: Broker) -> None:
        """The next receipt counts as the second one."""
        broker.topic.send([message(1)])
        broker.subscriptions.abandon(self.receive(broker)[0])
        (again,) = self.receive(broker)
        assert (again.message, again.delivery_count) == (message(1), 2)

    def test_a_message_comes_again_when_its_lock_ends(self, broker: Broker) -> None:
        """A receiver that died does not keep its message; settling it late is an error."""
        broker.topic.send([message(1)])
        (held,) = self.receive(broker)
        broker.pass_time(PAST_THE_LOCK)
        with pytest.raises(MessageLockLostError):
            broker.subscriptions.complete(held)
        (again,) = self.receive(broker)
        assert again.delivery_count == 2
        with pytest.raises(MessageLockLostError):
            broker.subscriptions.abandon(held)
        broker.subscriptions.complete(again)

    def test_a_message_nobody_completes_is_dead_lettered(self, broker: Broker) -> None:
        """After the last allowed receipt it is listed as dead and no longer received; others go on."""
        broker.topic.send([message(1)])
        for _ in range(MAX_DELIVERIES):
            assert list(broker.subscriptions.dead_letters("crm")) == []
            broker.subscriptions.abandon(self.receive(broker)[0])
        broker.topic.send([message(2)])
        assert self.ids(self.receive(broker)) == ["c1-2"]
        assert list(broker.subscriptions.dead_letters("crm")) == [message(1)]

    def test_an_unknown_subscription_is_refused(self, broker: Broker) -> None:
        """Receiving from a name nobody subscribed is an error, not silence."""
        with pytest.raises(UnknownSubscriptionError):
            broker.subscriptions.receive("nobody", limit=1)
        with pytest.raises(UnknownSubscriptionError):
            broker.subscriptions.dead_letters("nobody")

    def test_a_waiting_receiver_is_woken(self, broker: Broker) -> None:
        """A receiver that waits gets a message sent meanwhile."""
        got: list[str] = []
        waiting = Event()

        def wait() -> None:
            waiting.set()
            got.extend(self.ids(list(broker.subscriptions.receive("crm", limit=1, wait=10))))

        thread = Thread(target=wait)
        thread.start()
        waiting.wait(10)
        broker.topic.send([message(1)])
        thread.join(10)
        assert got == ["c1-1"]

    def test_waiting_ends(self, broker: Broker) -> None:
        """With nothing to receive the call returns empty-handed."""
        assert list(broker.subscriptions.receive("crm", limit=1, wait=0.01)) == []


class TestSqliteTopic(TopicContract):
    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[Broker]:
        now = [datetime(2026, 1, 31, 12, tzinfo=UTC)]
        database = open_deliveries(tmp_path)
        topic = SqliteTopic(database, clock=lambda: now[0])

        def pass_time(seconds: float) -> None:
            now[0] += timedelta(seconds=seconds)

        yield Broker(topic, topic, topic.subscribe, pass_time)
        database.close()
