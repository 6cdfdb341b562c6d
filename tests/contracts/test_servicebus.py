"""The contract of topics and subscriptions on Service Bus, through the SDK and over a real socket."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from integrations import ServiceBusSubscriptions, ServiceBusTopic
from tests.contracts.test_topic import Broker, TopicContract
from tests.support.servicebus import EMPTY, VARIABLE, Namespace, OwnTopic, contract_namespace
from tests.wire.servicebus import Broker as WireBroker
from tests.wire.servicebus import leaked_sockets_ignored

pytestmark = [pytest.mark.contract, pytest.mark.servicebus_wire]

_TWO = "arrives_as_it_was_sent or comes_again_when_its_lock_ends"


@pytest.fixture(scope="module", name="namespace")
def _namespace() -> Iterator[Namespace]:
    with contract_namespace() as namespace:
        yield namespace


class TestServiceBusTopic(TopicContract):
    @pytest.fixture
    def broker(self, namespace: Namespace) -> Iterator[Broker]:
        with leaked_sockets_ignored(), OwnTopic(namespace) as own:
            topic = ServiceBusTopic(namespace.connection, own.name)
            subscriptions = ServiceBusSubscriptions(namespace.connection, own.name)
            yield Broker(topic, subscriptions, own.subscribe, namespace.pass_time)
            topic.close()
            subscriptions.close()


def test_the_suite_runs_where_the_environment_says() -> None:
    """Pointed at a namespace it has not started, the suite makes its topics there, cleans up, and skips what takes time."""
    with WireBroker(EMPTY) as elsewhere:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider", "-k", _TWO],
            env={**os.environ, VARIABLE: elsewhere.connection_string},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "1 passed, 1 skipped" in done.stdout
        assert elsewhere.meter.count("messages") == 2
        removed = [change for change in elsewhere.administration.changes if change.startswith("DELETE contract-")]
        assert len([change for change in removed if "/" not in change.removeprefix("DELETE ")]) == 2
        assert elsewhere._namespace.entities == {}
