"""The application on Azure's services, as the settings ask for it, served by the local host: everything over the wire."""

import gc
import warnings
from collections.abc import Iterator

import orjson
import pytest

from eventstore import open_cosmos
from functions_app import MissingSettingError, Settings, open_runtime
from functions_app.azure_host import CONTAINERS, open_azure
from functions_app.demo_target import DemoTarget
from functions_app.provision import provision
from functions_app.sample import domain
from integrations import QueueMessage, TopicMessage
from tests.support.flow import serving
from tests.support.queues import look_briefly, queue_namespace
from tests.support.waiting import wait_until
from tests.wire.cosmos import CosmosServer
from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored

pytestmark = [pytest.mark.cosmos_wire, pytest.mark.servicebus_wire]

QUEUES = tuple(receiver.queue_name for receiver in domain.queued)
CHANGE = {
    "change_id": "c-1",
    "person": 1001,
    "changed_at": "2026-11-02T09:00:00+01:00",
    "name": {"given": "Ana", "family": "Diaz"},
    "contact": {"email": "ana@x.example"},
}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    look_briefly(monkeypatch)
    namespace = queue_namespace(*QUEUES, topic="people", subscriptions=("crm", "mailing"))
    with leaked_sockets_ignored(), fast_polling(), Broker(namespace) as broker:
        yield broker


@pytest.fixture
def account() -> Iterator[CosmosServer]:
    with CosmosServer() as server:
        with open_cosmos(server.connection_string) as client:
            provision(client, "flow", CONTAINERS)
        yield server


@pytest.fixture
def target() -> Iterator[DemoTarget]:
    target = DemoTarget(0)
    with target.running():
        yield target


@pytest.fixture
def settings(account: CosmosServer, broker: Broker, target: DemoTarget) -> Settings:
    return Settings(
        {
            "COSMOS_CONN": account.connection_string,
            "BUS_CONN": broker.connection_string,
            "DATABASE": "flow",
            "CRM_URL": target.url,
            "CRM_CLIENT_ID": "client-flow",
            "CRM_CLIENT_SECRET": "secret",
            "MAILING_URL": target.url,
            "MAILING_KEY": "key",
        }
    )


def test_from_the_queue_to_the_target(settings: Settings, broker: Broker, target: DemoTarget) -> None:
    """Session queue, event store, record, topic, subscription, REST API: outside Functions, and let go of at the end."""
    runtime = open_runtime(settings)
    message = QueueMessage("m-1", "1001", orjson.dumps(CHANGE))
    with serving(runtime, loops=True) as flow:
        runtime.backend.queues.send("crm-events", [message])
        assert flow.post("crm", CHANGE | {"change_id": "c-2", "name": {"given": "Ana", "family": "Ruiz"}}).ok
        wait_until(
            "the target knows", lambda: [each.get("email") for each in target.people.values()] == ["ana@x.example"]
        )
        flow.settle()
    assert len(list(runtime.backend.events.read("1001"))) == 4
    assert broker.messages("crm-events") == []
    runtime.close()


def test_closing_lets_go_of_everything(settings: Settings, broker: Broker) -> None:
    """No link stays open at the broker, and nothing is left for the garbage collector to warn about."""
    runtime = open_runtime(settings)
    backend = runtime.backend
    backend.topic.send([TopicMessage("m", "c", None, {"contact": True}, b"{}")])
    backend.queues.send("crm-events", [QueueMessage("m", "1001", b"{}")])
    backend.subscriptions.receive("crm", limit=1)
    assert backend.events.head("1001").version == 0
    assert broker._call(lambda: len(broker._namespace.connections)) > 0
    runtime.close()
    wait_until("the broker has no connection", lambda: broker._call(lambda: len(broker._namespace.connections)) == 0)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del runtime, backend
        gc.collect()
    assert [str(each.message) for each in warned] == []


def test_the_settings_are_needed(account: CosmosServer) -> None:
    """A database without a namespace is no application; the error names what is missing."""
    with pytest.raises(MissingSettingError, match="BUS_NAMESPACE"):
        open_azure(Settings({"COSMOS_CONN": account.connection_string}), domain)
