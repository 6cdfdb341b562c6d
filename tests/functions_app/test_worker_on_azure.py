"""The deployed functions on Cosmos DB and Service Bus: the worker process goes to the wire servers over real sockets."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from functions_app.bundle import bundle
from tests.support.rest_target import RestTarget
from tests.wire.cosmos import CosmosServer
from tests.wire.servicebus import Broker, leaked_sockets_ignored
from tests.worker.golden import SAMPLE
from tests.worker.host import Worker
from tests.worker.services import NAMESPACE, changes, provisioned

pytestmark = [pytest.mark.worker, pytest.mark.cosmos_wire, pytest.mark.servicebus_wire]

CHANGE = {
    "change_id": "c-1",
    "person": 1001,
    "changed_at": "2026-11-02T09:00:00+01:00",
    "name": {"given": "Ana", "family": "Diaz"},
    "contact": {"email": "ana@x.example"},
}


@pytest.fixture
def namespace() -> Iterator[Broker]:
    with leaked_sockets_ignored(), Broker(NAMESPACE) as broker:
        yield broker


@pytest.fixture
def account() -> Iterator[CosmosServer]:
    with provisioned() as server:
        yield server


def test_from_the_webhook_to_the_target(account: CosmosServer, namespace: Broker, tmp_path: Path) -> None:
    """What one function leaves behind in a service, the host brings to the next one."""
    bundle(tmp_path / "app", SAMPLE)
    with RestTarget(clients={"client-flow": "secret"}) as crm:
        settings = {
            "COSMOS_CONN": f"AccountEndpoint={account.url};AccountKey={account.key}",
            "BUS_CONN": namespace.connection_string,
            "CRM_URL": crm.url,
            "CRM_CLIENT_ID": "client-flow",
            "CRM_CLIENT_SECRET": "secret",
        }
        with Worker(tmp_path / "app", settings) as worker:
            assert worker.request("crm_receive_event", body=CHANGE).status == 202
            documents = changes(account)
            assert [each["version"] for each in sorted(documents, key=lambda each: each["version"])] == [1, 2]
            for _ in range(2):  # the host may bring them again
                assert worker.feed(documents).raised is None
            [announced] = namespace.messages("people/subscriptions/crm")
            assert announced.session_id == "1001"
            for _ in range(2):
                delivered = worker.message(
                    "crm_deliver",
                    body=announced.body,
                    session_id=announced.session_id,
                    message_id=announced.message_id,
                )
                assert delivered.raised is None
            assert worker.tick("sweep").raised is None
            assert worker.request("record", params={"client_id": "1001"}).json["version"] == 2
        assert [item["number"] for item in crm.items("people").values()] == [1001]


def test_a_database_out_of_reach_is_told_to_the_host(namespace: Broker, tmp_path: Path) -> None:
    """The change feed's function raises, so that the host rings again; the receiver asks the sender to come back."""
    bundle(tmp_path / "app", SAMPLE)
    reachable = ExitStack()
    account = reachable.enter_context(provisioned())
    settings = {
        "COSMOS_CONN": f"AccountEndpoint={account.url};AccountKey={account.key}",
        "BUS_CONN": namespace.connection_string,
    }
    with reachable, Worker(tmp_path / "app", settings) as worker:
        assert worker.request("crm_receive_event", body=CHANGE).status == 202
        documents = changes(account)
        reachable.close()
        raised = worker.feed(documents).raised
        assert raised is not None
        assert raised.startswith(("StoreUnavailableError", "OutcomeUnknownError"))
        assert "ana@x.example" not in raised
        refused = worker.request("crm_receive_event", body={**CHANGE, "change_id": "c-2"})
        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
