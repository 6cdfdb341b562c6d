"""The contract of session queues on Service Bus, through the SDK and over a real socket."""

from collections.abc import Iterator

import pytest

from integrations import ServiceBusSessionQueues
from tests.contracts.test_session_queues import QUEUE, Queued, SessionQueuesContract
from tests.support.queues import look_briefly, queue_namespace
from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored

pytestmark = [pytest.mark.contract, pytest.mark.servicebus_wire]


@pytest.fixture(scope="module", name="running")
def _running() -> Iterator[Broker]:
    with fast_polling(), Broker(queue_namespace(QUEUE, "crm-events")) as broker:
        yield broker


class TestServiceBusSessionQueues(SessionQueuesContract):
    @pytest.fixture
    def broker(self, running: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queued]:
        look_briefly(monkeypatch)
        with leaked_sockets_ignored():
            running.reset()
            queues = ServiceBusSessionQueues(running.connection_string)
            yield Queued(queues, running.advance)
            queues.close()
