"""The contract of topics and subscriptions on Service Bus, through the SDK and over a real socket."""

from collections.abc import Iterator

import pytest

from integrations import ServiceBusSubscriptions, ServiceBusTopic
from tests.contracts.test_topic import Broker, TopicContract
from tests.wire.servicebus import Broker as WireBroker
from tests.wire.servicebus import fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.filters import CorrelationFilter, Rule
from tests.wire.servicebus.topics import Topic

pytestmark = [pytest.mark.contract, pytest.mark.servicebus_wire]

TOPIC = "clients"
NAMESPACE = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "sbemulatorns",
                "Topics": [
                    {
                        "Name": TOPIC,
                        "Properties": {
                            "RequiresDuplicateDetection": True,
                            "DuplicateDetectionHistoryTimeWindow": "PT10M",
                        },
                        "Subscriptions": [
                            {"Name": name, "Properties": {"LockDuration": "PT1M", "MaxDeliveryCount": 10}}
                            for name in ("crm", "billing")
                        ],
                    }
                ],
            }
        ],
        "Logging": {"Type": "Console"},
    }
}


@pytest.fixture(scope="module", name="running")
def _running() -> Iterator[WireBroker]:
    with fast_polling(), WireBroker(NAMESPACE) as broker:
        yield broker


def subscribe(broker: WireBroker, name: str, sub_schemas: list[str]) -> None:
    """Give a subscription the rules that provisioning would give it."""
    topic = broker._namespace.entities[TOPIC]
    assert isinstance(topic, Topic)
    rules = tuple(Rule(each, CorrelationFilter({}, {each: True})) for each in sub_schemas)
    changed = [
        each._replace(rules=rules) if each.queue.path.endswith(f"/{name}") else each for each in topic.subscriptions
    ]
    broker._call(lambda: setattr(topic, "subscriptions", changed))


class TestServiceBusTopic(TopicContract):
    @pytest.fixture
    def broker(self, running: WireBroker) -> Iterator[Broker]:
        with leaked_sockets_ignored():
            running.reset()
            topic = ServiceBusTopic(running.connection_string, TOPIC)
            subscriptions = ServiceBusSubscriptions(running.connection_string, TOPIC)
            yield Broker(topic, subscriptions, lambda name, schemas: subscribe(running, name, schemas), running.advance)
            topic.close()
            subscriptions.close()
