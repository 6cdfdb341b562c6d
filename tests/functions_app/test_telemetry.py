"""Traces and metrics, as an SDK that an operator configured would export them."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from azure.functions import HttpRequest
from azure.functions.servicebus import ServiceBusMessage
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from eventstore import open_cosmos
from functions_app import Delivered, Pull, Pulled, Runtime, build_app, telemetry
from functions_app.access import AccessEntry
from functions_app.cosmos_access import ACCESS_CONTAINER, CosmosAccessLog
from functions_app.lag import report_lag
from functions_app.provision import provision
from functions_app.sample import domain
from integrations import IncompleteError, TopicMessage
from tests.functions_app.test_triggers import documents
from tests.support.flow import KEY, open_flow, serving
from tests.support.rest_target import Fault, RestTarget
from tests.support.telemetry import Exported, exported
from tests.wire.cosmos import CosmosServer

__all__ = ["exported"]

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MAILING = {"MAILING_KEY": "secret-of-the-mailing"}


def change(change_id: str = "c-1", person: int = 1, **parts: Any) -> dict[str, Any]:
    parts = parts or {
        "contact": {"email": f"{change_id}@example.org"},
        "consent": {"channel": "email", "given": True},
    }
    return {"change_id": change_id, "person": person, "changed_at": "2026-03-01T12:00:00Z", **parts}


@pytest.fixture
def target() -> Iterator[RestTarget]:
    with RestTarget(api_key=MAILING["MAILING_KEY"]) as target:
        yield target


@pytest.fixture
def runtime(tmp_path: Path, target: RestTarget) -> Runtime:
    """The sample with one integration that can be called; deliveries to the other pause for a missing setting."""
    return open_flow(tmp_path, environment={"MAILING_URL": target.url, **MAILING})


def ring(runtime: Runtime, integration: str = "mailing") -> list[TopicMessage]:
    """Answer the topic's messages as the trigger function of an integration does."""
    received = runtime.backend.subscriptions.receive(integration, limit=10)
    for each in received:
        runtime.deliverer.answer(each.message.session_id, integration, each.message.body)
        runtime.backend.subscriptions.complete(each)
    return [each.message for each in received]


def by_name(exported: Exported) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for span in exported.spans:
        found.setdefault(span.name, []).append(span)
    return found


def test_one_trace_leads_from_the_webhook_to_the_call(runtime: Runtime, target: RestTarget, exported: Exported) -> None:
    """Receive, append, catch-up, publish, deliver and the REST call bear the caller's trace id, as its request does."""
    with serving(runtime) as flow:
        assert flow.post("crm", change(), {"traceparent": CALLER}).status_code == 202
    runtime.sweep()
    ring(runtime)
    spans = by_name(exported)
    chain = ["receive crm", "append", "catch-up", "publish", "deliver mailing", "PUT"]
    assert [name for name in chain if name not in spans] == []
    for name in chain:
        [span] = spans[name]
        assert f"{span.context.trace_id:032x}" == CALLER.split("-")[1], name
    [receive], [rest], [deliver] = spans["receive crm"], spans["PUT"], spans["deliver mailing"]
    assert f"{receive.parent.span_id:016x}" == CALLER.split("-")[2]
    assert rest.parent.span_id == deliver.context.span_id
    for name in ("append", "catch-up", "publish", "deliver mailing"):
        assert spans[name][0].parent.span_id == receive.context.span_id
    assert (receive.kind, spans["publish"][0].kind, rest.kind) == (SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CLIENT)
    [request] = target.requests
    assert request.headers["traceparent"] == f"00-{rest.context.trace_id:032x}-{rest.context.span_id:016x}-01"
    assert "baggage" not in request.headers


def test_the_spans_say_what_they_are_about(runtime: Runtime, exported: Exported) -> None:
    """References, versions, sources and outcomes; the reference of a client is that of the log."""
    with serving(runtime) as flow:
        flow.post("crm", change())
    runtime.sweep()
    ring(runtime)
    client_ref, versions = runtime.references.client("1"), runtime.backend.events.head("1").version
    assert exported.named("receive crm").attributes == {"source": "crm", "http.response.status_code": 202}
    assert exported.named("append").attributes == {"client_flow.clients": 1, "client_flow.events": versions}
    assert exported.named("catch-up").attributes == {
        "client_flow.client_ref": client_ref,
        "client_flow.version": versions,
        "client_flow.event_ref": runtime.references.event("crm:c-1:2"),
        "source": "crm",
        "client_flow.outcome": "current",
    }
    assert exported.named("publish").attributes == {
        "client_flow.client_ref": client_ref,
        "client_flow.version": versions,
        "messaging.batch.message_count": 1,
    }
    assert exported.named("deliver mailing").attributes == {
        "client_flow.client_ref": client_ref,
        "client_flow.seq": 1,
        "integration": "mailing",
        "client_flow.outcome": "delivered",
        "client_flow.code": "ok",
    }
    assert exported.named("PUT").attributes == {
        "http.request.method": "PUT",
        "server.address": "127.0.0.1",
        "http.response.status_code": 200,
    }


def test_the_trace_goes_through_the_functions_of_azure(runtime: Runtime, exported: Exported) -> None:
    """The change feed's documents and the topic's messages carry it to whatever process is triggered by them."""
    functions: dict[str, Any] = {
        str(each.get_function_name()): each.get_user_function()
        for each in build_app(domain, lambda: runtime).get_functions()
    }
    with serving(runtime) as flow:
        flow.post("crm", change(), {"traceparent": CALLER})
    functions["project_clients"](docs=documents(runtime, "1"))
    [received] = runtime.backend.subscriptions.receive("mailing", limit=10)
    functions["mailing_deliver"](
        msg=ServiceBusMessage(
            body=received.message.body, session_id="1", message_id="m", user_properties={}, application_properties={}
        )
    )
    traces = {f"{exported.named(name).context.trace_id:032x}" for name in ("catch-up", "publish", "PUT")}
    assert traces == {CALLER.split("-")[1]}


def test_a_trace_that_the_host_began_is_gone_on_with(runtime: Runtime, exported: Exported) -> None:
    """The worker of Azure Functions makes the host's trace the present one; the caller's header is its business."""
    app = {str(each.get_function_name()): each for each in build_app(domain, lambda: runtime).get_functions()}
    request = HttpRequest(
        "POST",
        "/api/crm_receive_event",
        headers={"content-type": "application/json", "traceparent": CALLER},
        body=orjson.dumps(change()),
    )
    with trace.get_tracer("host").start_as_current_span("invocation") as invocation:
        assert app["crm_receive_event"].get_user_function()(request).status_code == 202
    receive = exported.named("receive crm")
    assert receive.parent is not None
    assert receive.parent.span_id == invocation.get_span_context().span_id


def test_a_batch_links_the_traces_it_brings_together(runtime: Runtime, exported: Exported) -> None:
    """Events of two requests folded at once: the span is in the later one's trace and linked to the earlier one's."""
    with serving(runtime) as flow:
        flow.post("crm", change("c-1"), {"traceparent": CALLER})
        flow.post("crm", change("c-2"))
    runtime.sweep()
    first, second = by_name(exported)["receive crm"]
    caught_up = exported.named("catch-up")
    assert caught_up.context.trace_id == second.context.trace_id
    assert first.context.trace_id in {link.context.trace_id for link in caught_up.links}


def test_a_pull_begins_a_trace(tmp_path: Path, exported: Exported) -> None:
    """What a timer asked for has no caller, and is traced from there on."""
    pull = domain.source("registry")
    assert isinstance(pull, Pull)
    row = {"rec_id": "rec-7-org", "surname": "Diaz", "changed_at": "2026-03-01T12:00:00Z"}
    pull = replace(pull, get_data=lambda _settings, _cursor: iter([Pulled([row, {"rec_id": 1}], "1")]))
    runtime = open_flow(tmp_path)
    assert runtime.pull(pull) == (1, 1)
    pulled = exported.named("pull registry")
    assert pulled.attributes == {"source": "registry"}
    stored = {(event.traceparent or "")[:52] for event in runtime.backend.events.read("7")}
    assert stored == {f"00-{pulled.context.trace_id:032x}-{pulled.context.span_id:016x}"}


def test_a_client_that_is_taken_over_is_not_in_the_trace_of_another(
    runtime: Runtime, target: RestTarget, exported: Exported
) -> None:
    """A doorbell's trace is that of its own client; others get one of their own."""
    with telemetry.doorbell("1", CALLER), telemetry.delivered("2", "mailing", {}):
        pass
    with telemetry.doorbell("1", CALLER), telemetry.delivered("1", "mailing", {}):
        pass
    other, own = by_name(exported)["deliver mailing"]
    assert f"{own.context.trace_id:032x}" == CALLER.split("-")[1]
    assert other.context.trace_id != own.context.trace_id


def test_a_failure_is_told_by_its_class_alone(runtime: Runtime, target: RestTarget, exported: Exported) -> None:
    """Spans of calls that fail bear status and code; nothing records a message."""
    target.script(Fault(status=503), Fault(drop="after"))
    with serving(runtime) as flow:
        flow.post("crm", change())
        assert flow.send("crm", b"{", {"x-functions-key": KEY, "Content-Type": "application/json"}).status_code == 400
    runtime.sweep()
    ring(runtime)
    rest = exported.named("PUT")
    assert rest.status.status_code is StatusCode.ERROR
    assert rest.attributes is not None
    assert rest.attributes["http.response.status_code"] == 503
    delivered = exported.named("deliver mailing")
    assert delivered.attributes is not None
    assert (delivered.attributes["client_flow.outcome"], delivered.attributes["client_flow.code"]) == (
        "retry",
        "http_503",
    )
    runtime.deliverer.resume("mailing")
    runtime.deliverer.retry("1", "mailing")
    lost = by_name(exported)["PUT"][1]
    assert lost.attributes["error.type"] == "connection_lost"
    assert [event for span in exported.spans for event in span.events] == []
    assert {span.status.description for span in exported.spans} == {None}


def test_metrics_tell_outcomes_rejections_and_lag(runtime: Runtime, target: RestTarget, exported: Exported) -> None:
    """Attempts by integration, verdict and code; what was refused by source and code; what waits."""

    def counted(name: str, **attributes: str) -> float:
        return sum(value for found, value in exported.points(name) if attributes.items() <= found.items())

    retries = {"integration": "mailing", "verdict": "retry", "code": "http_503"}
    before = counted("client_flow.deliveries", **retries)
    done = counted("client_flow.deliveries", integration="mailing", verdict="delivered")
    timed = counted("client_flow.delivery.duration", integration="mailing")
    refused = counted("client_flow.rejections", source="crm", code="invalid_payload")
    target.script(Fault(status=503))
    with serving(runtime) as flow:
        flow.post("crm", change())
        assert flow.post("crm", change(person="nobody" * 20)).status_code == 422  # type: ignore[arg-type]
    runtime.sweep()
    ring(runtime)
    runtime.deliverer.retry("1", "mailing")
    report_lag(runtime)
    assert counted("client_flow.deliveries", **retries) == before + 1
    assert counted("client_flow.deliveries", integration="mailing", verdict="delivered") == done + 1
    assert counted("client_flow.delivery.duration", integration="mailing") == timed + 2
    assert counted("client_flow.rejections", source="crm", code="invalid_payload") == refused + 1
    assert exported.points("client_flow.lag.events") == [({}, 0)]
    assert exported.points("client_flow.parked") == [({}, 0)]
    waiting = {found["integration"]: value for found, value in exported.points("client_flow.deliveries.waiting")}
    assert (waiting["crm"], waiting["mailing"]) == (1, 0)


def test_trouble_with_a_client_is_logged_under_its_reference(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """Parked clients and deliveries that fail can be told apart without naming anybody."""
    reference = runtime.references.client("4711")
    with caplog.at_level(logging.INFO):
        runtime.intake.accept(
            domain.source("crm"), Delivered(change(person=4711, consent={"channel": "fax", "given": True}))
        )
        runtime.intake.accept(domain.source("crm"), Delivered(change("c-2", person=2)))
        runtime.sweep()
        runtime.deliverer.deliver_due()
    lines = [record.getMessage() for record in caplog.records]
    assert f"Client {reference} is parked at version 1: invalid_evolution" in lines
    assert f"Client {runtime.references.client('2')}, integration crm: pause (setting_missing)" in lines
    assert "4711" not in caplog.text


def test_a_client_that_cannot_be_published_is_logged_under_its_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error that leaves says how many there were; the log says which."""

    class Refusing:
        def send(self, messages: Any) -> None:
            raise ValueError("CANARY")

    runtime = open_flow(tmp_path, topic=Refusing())
    runtime.intake.accept(domain.source("crm"), Delivered(change(person=4711)))
    runtime.record_at_least("4711", 1)
    with pytest.raises(IncompleteError):
        runtime.publisher.publish(["4711"])
    assert f"Unexpected ValueError about client {runtime.references.client('4711')}" in caplog.text
    assert "4711" not in caplog.text
    assert "CANARY" not in caplog.text


def test_without_an_sdk_the_trace_context_is_passed_on(tmp_path: Path) -> None:
    """In a process that configured none: the event keeps what the caller sent, and the target is told."""
    code = f"""
from opentelemetry import trace
from functions_app import telemetry
from integrations import RESTIntegration, Delivery
from tests.support.rest_target import RestTarget
assert not telemetry.is_traced()
with RestTarget() as target, telemetry.received("crm", {{"traceparent": "{CALLER}"}}):
    assert telemetry.current_traceparent() == "{CALLER}"
    with telemetry.appended(1, 1), telemetry.delivered("1", "mailing", {{}}):
        RESTIntegration(target.url, update="PUT /a/{{client_id}}").send({{}}, Delivery("1", 1, None, "k", False))
    [request] = target.requests
    assert request.headers["traceparent"] == "{CALLER}"
with telemetry.received("crm", {{}}):
    assert telemetry.current_traceparent() is None
import sys
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.cosmos_wire
def test_request_units_are_counted(exported: Exported) -> None:
    """What each answer of the service charged, as it says itself."""

    def charged() -> float:
        return sum(value for _, value in exported.points("client_flow.cosmos.request_charge"))

    with (
        CosmosServer() as server,
        open_cosmos(
            f"AccountEndpoint={server.url};AccountKey={server.key};", on_charge=telemetry.count_charge
        ) as client,
    ):
        provision(client, "flow", [ACCESS_CONTAINER])
        log = CosmosAccessLog(client.get_database_client("flow").get_container_client("access"))
        before = charged()
        with server.meter.measure() as used:
            log.add(AccessEntry("2026-01-31T12:00:00.000000Z", "key", "record", "a" * 16))
            assert len(list(log.entries())) == 1
        data = used.request_units["create"] + used.request_units["query"]
        # The SDK asks for metadata in the background, too, at any time.
        assert 0 < round(data, 2) <= round(charged() - before, 2)
