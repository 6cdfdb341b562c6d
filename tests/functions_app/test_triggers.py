"""The doorbells of Azure: how they are declared, and that they do no more than say look now."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.functions import Document, DocumentList, FunctionApp
from azure.functions.servicebus import ServiceBusMessage

from eventstore import StoreUnavailableError
from functions_app import Delivered, Runtime, Settings, build_app, load_domain, open_runtime
from functions_app.errors import TakeFailedError
from functions_app.sample import domain

REGISTRATION = {
    "change_id": "crm-1",
    "person": 1001,
    "changed_at": "2026-11-02T09:00:00+01:00",
    "name": {"given": "Ana", "family": "Diaz"},
}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with closing(open_runtime(Settings({"CLIENT_FLOW_DATA": str(tmp_path)}))) as opened:
        yield opened


@pytest.fixture
def functions(runtime: Runtime) -> dict[str, Any]:
    app: FunctionApp = build_app(domain, lambda: runtime)
    return {str(function.get_function_name()): function for function in app.get_functions()}


def trigger(function: Any) -> dict[str, Any]:
    """The trigger's binding as the host sees it."""
    bindings = json.loads(function.get_function_json())["bindings"]
    found: dict[str, Any] = next(binding for binding in bindings if binding["type"].endswith("Trigger"))
    return found


def documents(runtime: Runtime, client_id: str) -> DocumentList:
    """A client's events as the change feed brings them."""
    return DocumentList(
        Document.from_dict({"id": f"{event.version:012}", **event._asdict()})
        for event in runtime.backend.events.read(client_id)
    )


def test_indexing_an_app_opens_nothing() -> None:
    """An app can be indexed without a single setting."""
    app = build_app(load_domain("functions_app.sample:domain"), lambda: pytest.fail("the runtime was opened"))
    assert len(app.get_functions()) > 10


def test_the_projector_follows_the_events_container_for_ever(functions: dict[str, Any]) -> None:
    """Leases per generation, no lease container made on the way, and a retry policy that never gives up."""
    binding = trigger(functions["project_clients"])
    assert binding["type"] == "cosmosDBTrigger"
    assert (binding["containerName"], binding["leaseContainerName"]) == ("events", "leases")
    assert binding["leaseContainerPrefix"] == "people.v1"
    assert binding["createLeaseContainerIfNotExists"] is False
    assert functions["project_clients"].get_settings_dict("retry_policy")["max_retry_count"] == "-1"


def test_each_integration_has_a_subscription_without_sessions(functions: dict[str, Any]) -> None:
    """One topic for the projection, one subscription for each integration."""
    for name in ("crm", "mailing"):
        binding = trigger(functions[f"{name}_deliver"])
        assert (binding["topicName"], binding["subscriptionName"]) == ("people", name)
        assert not binding.get("isSessionsEnabled")


def test_new_documents_are_projected(runtime: Runtime, functions: dict[str, Any]) -> None:
    """What the feed brings is folded, in whatever order its documents come, and once only."""
    runtime.intake.accept(domain.source("crm"), Delivered(REGISTRATION))
    batch = DocumentList(reversed(documents(runtime, "1001")))
    for _ in range(2):
        functions["project_clients"].get_user_function()(docs=batch)
    assert runtime.reader.current("1001").record.version == 1
    assert len(runtime.reader.audit("1001").entries) == 1


def test_a_topic_message_is_a_doorbell(runtime: Runtime, functions: dict[str, Any]) -> None:
    """Its session id names the client; what is owed is read from the deliveries, here a missing setting pauses them."""
    runtime.intake.accept(domain.source("crm"), Delivered(REGISTRATION))
    runtime.sweep()
    message = ServiceBusMessage(
        body=b"", session_id="1001", message_id="m", user_properties={}, application_properties={}
    )
    functions["crm_deliver"].get_user_function()(msg=message)
    (state,) = runtime.backend.deliveries.of_client("1001")
    assert (state.integration, state.wanted) == ("crm", 1)
    assert runtime.backend.deliveries.load_pause("crm").pause.until is not None


class TestQueueTrigger:
    def test_it_listens_to_the_queue_with_sessions(self, functions: dict[str, Any]) -> None:
        """One message at a time of each session; receivers without a queue have no such function."""
        binding = trigger(functions["crm_receive_queue"])
        assert binding["type"] == "serviceBusTrigger"
        assert (binding["queueName"], binding["isSessionsEnabled"]) == ("crm-events", True)
        assert binding.get("cardinality", "one").lower() == "one"
        assert "shop_receive_queue" not in functions

    def test_a_message_becomes_events(self, runtime: Runtime, functions: dict[str, Any]) -> None:
        """Once, however often the host brings it, with what the message says about its request."""
        traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        bring = functions["crm_receive_queue"].get_user_function()
        for _ in range(2):
            bring(msg=queue_message(REGISTRATION, traceparent=traceparent))
        [event] = runtime.backend.events.read("1001")
        assert (event.event_id, event.correlation_id, event.traceparent) == ("crm:crm-1", "request-7", traceparent)

    def test_an_invalid_message_is_kept_and_completed(self, runtime: Runtime, functions: dict[str, Any]) -> None:
        """The host is told that all is well, since another try would not help."""
        functions["crm_receive_queue"].get_user_function()(msg=queue_message({"person": "Canary7"}))
        assert [each.code for each in runtime.backend.rejections.open()] == ["invalid_payload"]

    def test_an_outage_while_it_starts_is_waited_for(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        """A message is not handed back, and so counted, because the first call of a new process finds the store away."""
        monkeypatch.setattr("functions_app.queue_intake._FIRST_PAUSE", 0.001)
        away = [StoreUnavailableError("away", retry_after=0.001)]

        def opened() -> Runtime:
            if away:
                raise away.pop()
            return runtime

        app = build_app(domain, opened)
        [bring] = [each for each in app.get_functions() if each.get_function_name() == "crm_receive_queue"]
        bring.get_user_function()(msg=queue_message(REGISTRATION))
        assert [event.event_id for event in runtime.backend.events.read("1001")] == ["crm:crm-1"]

    def test_only_what_was_not_foreseen_is_wrapped(self, runtime: Runtime, functions: dict[str, Any]) -> None:
        """The host logs what it is given: no value is in it."""
        rejections: Any = runtime.backend.rejections
        rejections.add = broken
        with pytest.raises(TakeFailedError) as caught:
            functions["crm_receive_queue"].get_user_function()(msg=queue_message({"person": "Canary7"}))
        assert caught.value.source == "crm"
        assert "Canary7" not in str(caught.value)
        assert caught.value.__cause__ is None


def broken(_: object) -> None:
    raise RuntimeError("Canary7")


def queue_message(document: Any, **properties: str) -> ServiceBusMessage:
    """A message as the worker hands it over."""
    return ServiceBusMessage(
        body=json.dumps(document).encode(),
        session_id="1001",
        message_id="m-1",
        correlation_id="request-7",
        delivery_count=1,
        enqueued_time_utc=datetime(2026, 11, 2, 9, tzinfo=UTC),
        user_properties={},
        application_properties=properties,
    )
