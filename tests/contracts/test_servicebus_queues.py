"""The contract of session queues on Service Bus, through the SDK and over a real socket."""

from collections.abc import Iterator

import pytest

from integrations import ServiceBusSessionQueues
from tests.contracts.test_session_queues import QUEUE, Queued, SessionQueuesContract
from tests.support.queues import look_briefly
from tests.support.servicebus import Namespace, contract_namespace, own_queues
from tests.wire.servicebus import leaked_sockets_ignored

pytestmark = [pytest.mark.contract, pytest.mark.servicebus_wire]


@pytest.fixture(scope="module", name="namespace")
def _namespace() -> Iterator[Namespace]:
    with contract_namespace() as namespace:
        yield namespace


class TestServiceBusSessionQueues(SessionQueuesContract):
    @pytest.fixture
    def broker(self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queued]:
        look_briefly(monkeypatch)
        with leaked_sockets_ignored(), own_queues(namespace, QUEUE, "crm-events"):
            queues = ServiceBusSessionQueues(namespace.connection)
            yield Queued(queues, namespace.pass_time)
            queues.close()
