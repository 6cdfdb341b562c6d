"""Values that are nobody's business appear in no log record, span, metric, answer or error that leaves a function.

Each field, key, secret and client id holds a text of its own that occurs nowhere else, and everything that can fail does,
with a message that quotes what it was given.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from eventstore import ANY, NO_STREAM, EventData
from functions_app import Delivered, Runtime, Settings, build_app
from functions_app.bulk import RejectedLine, import_file
from functions_app.cli import app as command_line
from projections import Target, annul
from tests.support.canary import AT, MASTER, SECRETS, Place, canary, leaks, message, place, served, signed, work
from tests.support.canary_domain import PASSWORD, domain
from tests.support.local_app import Reply
from tests.support.rest_target import Fault
from tests.support.telemetry import Exported, exported

__all__ = ["exported", "place"]

Request = Callable[..., Reply]


def accepted(request: Request) -> Sequence[Reply]:
    """What is taken in: good ones, repeats, and some that fail later."""
    good = orjson.dumps(message("good"))
    signature = signed(good, SECRETS["SIGNING_SECRET"])
    return [
        request("POST", "/api/open_receive_event", good),
        request("POST", "/api/open_receive_event", good),
        request("POST", "/api/signed_receive_event", good, X_Shopify_Hmac_Sha256=signature),
        request("POST", "/api/open_receive_event", orjson.dumps(message("rule", trouble="rule"))),
        request("POST", "/api/open_receive_event", orjson.dumps(message("mapping", trouble="mapping"))),
        request("POST", "/api/open_receive_event", orjson.dumps(message("comma", email=f"{canary('comma')},"))),
    ]


def refused_bodies() -> Sequence[bytes]:
    """Bodies that are refused, each for another reason."""
    good = orjson.dumps(message("good"))
    return [
        orjson.dumps(message("bad", email=[canary("list")])),
        good[:-5],
        good.replace(canary("email-good").encode(), b"\xff" + canary("utf").encode()),
        orjson.dumps(message("good", email=canary("reused"))),
        orjson.dumps(message("extra", client=f"{canary('too-long')}{'x' * 100}")),
        orjson.dumps(message("note", note=f"{canary('validator')},")),
        orjson.dumps(message("time", at=canary("time"))),
        orjson.dumps(message("processor", trouble="processor")),
        orjson.dumps(message("deep", free={canary("key@deep"): [[canary("nul") + "\0"]]})),
        orjson.dumps(message("key", key={"not": canary("text")})),
        orjson.dumps(canary("text-alone")),
        b'{"key": NaN, "email": "' + canary("nan").encode() + b'"}',
        b'{"' + canary("twice").encode() + b'": 1, "' + canary("twice").encode() + b'": 2}',
        orjson.dumps(message("large", note=canary("large") * 30_000)),
    ]


def refused(request: Request) -> Sequence[Reply]:
    """Requests that are refused, each for another reason."""
    good = orjson.dumps(message("good"))
    forged = signed(good, canary("forger"))
    wrong = {"x_functions_key": canary("wrong-key")}
    at_client, unknown = f"/api/clients/{canary('client-good')}", f"/api/clients/{canary('unknown')}"
    return [
        *(request("POST", "/api/open_receive_event", body) for body in refused_bodies()),
        request("POST", "/api/open_receive_event", good, Content_Type=canary("type")),
        request("POST", "/api/open_receive_event", good, **wrong),
        request("POST", f"/api/open_receive_event?code={canary('code')}", good, **wrong),
        request("POST", "/api/signed_receive_event", good),
        request("POST", "/api/signed_receive_event", good, X_Shopify_Hmac_Sha256=canary("signature")),
        request("POST", "/api/signed_receive_event", good, X_Shopify_Hmac_Sha256=forged),
        request("GET", f"/api/{canary('route')}"),
        request("GET", unknown),
        request("GET", f"{unknown}/audit"),
        request("GET", f"{unknown}/blame"),
        request("GET", f"{unknown}/deliveries"),
        request("GET", f"{unknown}/as-of?version=1"),
        request("GET", f"/api/clients/{canary('bad')}%2F%2Fid"),
        request("GET", f"{at_client}?min_version={canary('number')}"),
        request("GET", f"{at_client}?min_version=99"),
        request("GET", f"{at_client}/as-of?time={canary('time')}"),
        request("GET", f"{at_client}/audit?cursor={canary('cursor')}"),
        request("GET", f"{at_client}/audit?limit={canary('limit')}"),
        request("GET", f"{at_client}/deliveries?cursor={canary('cursor')}"),
        request("GET", f"/api/clients/{canary('client-rule')}?min_version=1"),
        request("POST", "/admin/functions/registry_scheduled_event", x_functions_key=MASTER),
        request("POST", f"/admin/functions/{canary('function')}", x_functions_key=MASTER),
    ]


def test_no_value_is_in_a_log_a_span_or_an_error_answer_when_everything_fails(place: Place, exported: Exported) -> None:
    """Requests that are refused in each way, rules, mappings, processors, pulls and targets that fail: nothing leaks."""
    runtime, target = place.runtime, place.target
    target.script_tokens(Fault(status=401, body=b"no"), Fault(status=500))
    target.script(Fault(status=400), Fault(status=401), Fault(status=422), Fault(status=503), Fault(drop="after"))
    with served(runtime) as request:
        assert [reply.status for reply in accepted(request)] == [202] * 6
        refusals = refused(request)
        batch = orjson.dumps([message("batch"), message("in-batch", email=[canary("in-batch")]), canary("item")])
        answer = request("POST", "/api/open_receive_event", batch)
        for _ in range(3):
            work(runtime)
            for timer in ("sweep", "deliver_due"):
                assert request("POST", f"/admin/functions/{timer}", x_functions_key=MASTER).status == 202
            for integration in domain.integrations:
                runtime.deliverer.resume(integration.name)
                runtime.deliverer.retry(canary("client-good"), integration.name)
    problems = [each["problem"] for each in orjson.loads(answer.body)["results"] if "problem" in each]
    assert (answer.status, len(problems)) == (207, 2)
    assert [reply.status for reply in refusals if reply.status < 400] == []
    assert not leaks([str(problems), *(f"{reply.body!r} {reply.headers}" for reply in refusals)])
    assert len(runtime.backend.projections.parked()) == 2
    assert len(runtime.backend.rejections.open()) == 3
    assert len(target.requests) > 5
    assert place.caplog.records
    assert not leaks(place.logged())
    names = {span.name.partition(" ")[0] for span in exported.spans}
    assert names >= {"receive", "pull", "append", "catch-up", "publish", "deliver", "POST", "PUT"}
    assert exported.points("client_flow.deliveries")
    assert exported.points("client_flow.rejections")
    assert not leaks(exported.texts())
    # Each client that gave trouble is named by its reference, so that a person can find it.
    client_ref = runtime.references.client(canary("client-rule"))
    assert any(client_ref in line for line in place.logged())
    entries = list(runtime.backend.access.entries())
    assert entries
    assert not leaks([str(entry) for entry in entries])


def test_no_secret_is_in_a_delivery_log_entry(place: Place) -> None:
    """Neither what is sent nor targets that quote the request in their answers put a secret into the delivery log."""
    client, store = canary("client-good"), place.runtime.backend.deliveries
    place.runtime.intake.accept(domain.source("open"), Delivered(message("good")))
    work(place.runtime)
    for status in (400, 401, 403, 422, 503):
        place.target.refusing = status
        for integration in domain.integrations:
            place.runtime.deliverer.resume(integration.name)
            place.runtime.deliverer.retry(client, integration.name)
    entries = store.entries(client).entries
    quoting = {(each.integration, each.status) for each in entries if "you sent" in each.answer}
    assert quoting >= {(name, status) for name in ("crm", "mailing") for status in (400, 401, 403, 422)}
    shown = [str(entry) for entry in entries]
    assert not [each for each in shown if "of-the-target" in each]  # as the target's tokens end
    assert not [each for each in shown for secret in (*SECRETS.values(), PASSWORD) if secret in each]


def intake_errors(runtime: Runtime) -> Iterator[Exception]:
    """What the ways in raise."""
    for each in (
        message("list", email=[canary("list")]),
        message("comma", note=f"{canary('validator')},"),
        message("processor", trouble="processor"),
        message("long", client=f"{canary('long')}{'x' * 100}"),
        message("control", key=f"{canary('control')}\n"),
        message("reused", key=canary("key-good"), client=canary("client-good")),
        canary("alone"),
    ):
        yield _refusal(runtime, each)
    functions: dict[Any, Any] = {
        each.get_function_name(): each.get_user_function()
        for each in build_app(domain, lambda: runtime).get_functions()
    }
    yield _error(functions["registry_scheduled_event"], timer=None)
    yield _error(runtime.replay, 1)
    yield _error(domain.source, canary("source"))
    yield _error(Settings({"OTHER": canary("other")}).text, "MISSING")


def store_errors(runtime: Runtime) -> Iterator[Exception]:
    """What the event store and its registry raise."""
    client, now = canary("client-good"), runtime.clock()
    reused = EventData(f"open:{canary('key-good')}", "client.told", 1, "open", now, {"email": canary("reused")})
    new = EventData(f"open:{canary('new')}", "client.told", 1, "open", now, {"email": canary("new")})
    append, decode = runtime.backend.events.append, domain.events.decode
    yield _error(append, client, [reused], expected_version=ANY)
    yield _error(append, client, [new, new], expected_version=ANY)
    yield _error(append, f"{canary('bad')}//", [new], expected_version=ANY)
    yield _error(append, client, [new], expected_version=NO_STREAM)
    yield _error(EventData, f"open:{canary('control')}\n", "client.told", 1, "open", now, {})
    yield _error(EventData, canary("id"), canary("type"), 1, canary("source"), now, {})
    yield _error(EventData, "open:1", "client.told", 1, "open", now, {"free": {canary("@"): float("nan")}})
    yield _error(decode, "client.told", 1, {"email": canary("alone"), canary("extra@"): 1})
    yield _error(decode, "client.told", 9, {"email": canary("future")})


def projection_errors(runtime: Runtime) -> Iterator[Exception]:
    """What projections and integrations raise."""
    unknown, client = canary("unknown"), canary("client-good")
    reason, by = canary("reason"), canary("by")
    yield _error(runtime.projector.catch_up, client, Target(99))
    yield _error(annul, runtime.backend.events, unknown, 1, reason=reason, by=by, now=runtime.clock())
    yield _error(runtime.reader.current, unknown)
    yield _error(runtime.reader.as_of_version, unknown, 1)
    yield _error(runtime.reader.audit, client, cursor=canary("cursor"))
    yield _error(runtime.backend.deliveries.entries, client, cursor=canary("cursor"))
    yield _error(runtime.deliverer.retry, unknown, "crm")


@pytest.mark.parametrize("errors", [intake_errors, store_errors, projection_errors])
def test_no_value_is_in_an_error_that_leaves_a_function(
    errors: Callable[[Runtime], Iterator[Exception]], place: Place
) -> None:
    """What is raised at callers names fields and versions, never a value or client, nor do the errors that caused it."""
    runtime = place.runtime
    runtime.intake.accept(domain.source("open"), Delivered(message("good")))
    runtime.intake.accept(domain.source("open"), Delivered(message("rule", trouble="rule")))
    _keep_a_rejection(runtime)
    work(runtime)
    for error in errors(runtime):
        assert not leaks([str(error), repr(error), "".join(traceback.format_exception(error))])
    assert not leaks(place.logged())


def _error(function: Callable[..., object], *args: Any, **kwargs: Any) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is, it has to keep silent
        function(*args, **kwargs)
    return raised.value


def _refusal(runtime: Runtime, payload: Any) -> Any:
    return _error(runtime.intake.accept, domain.source("open"), Delivered(payload))


def _keep_a_rejection(runtime: Runtime) -> None:
    kept = message("kept", email=None)
    rejection = runtime.rejection(domain.source("open"), Delivered(kept), _refusal(runtime, kept))
    runtime.backend.rejections.add([rejection])


def test_no_value_is_in_the_log_of_a_bulk_import(place: Place) -> None:
    """Lines that are refused are named by their number and fields, in the log and in what is kept of the reason."""
    runtime, file = place.runtime, place.directory / "people.csv"
    lines = [
        "key,client,email,note,at",
        f"{canary('k1')},{canary('c1')},{canary('e1')},{canary('n1')},{AT}",
        f"{canary('k2')},{canary('c2')},{canary('e2')},{canary('n2')},{canary('t2')}",
        f'{canary("k3")},{canary("c3")},{canary("e3")},"{canary("n3")},x",{AT}',
        f"{canary('k4')},{canary('c4')}",
        f",{canary('c5')},{canary('e5')},,{AT}",
    ]
    file.write_text("\n".join(lines))
    refused_lines: list[RejectedLine] = []
    on_reject = refused_lines.append
    source = domain.source("open")
    done = import_file(runtime, source, file, columns={}, key="key", on_reject=on_reject, on_portion=lambda _: None)
    assert (done.appended, done.rejected) == (1, 4)
    assert not leaks([f"{line.error!s} {line.error!r}" for line in refused_lines])
    assert not leaks([f"{kept.code} {kept.problems}" for kept in runtime.backend.rejections.open()])
    assert not leaks(place.logged())


@pytest.mark.parametrize(
    "arguments",
    [
        ["view", canary("unknown")],
        ["view", f"{canary('bad')}//"],
        ["view", canary("client-good"), "--time", canary("time")],
        ["audit", canary("client-good"), "--cursor", canary("cursor")],
        ["blame", canary("unknown")],
        ["deliveries", canary("client-good"), "--cursor", canary("cursor")],
        ["annul", canary("unknown"), "1", "--reason", canary("reason"), "--by", canary("by"), "--yes"],
        ["retry", canary("unknown"), "--integration", "crm"],
        ["rejections", "--replay", "1"],
        ["append", "FILE", "--source", "nobody"],
    ],
    ids=lambda arguments: " ".join(arguments[:1]),
)
def test_no_value_is_in_the_error_of_a_command(
    arguments: list[str], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that fails says why without the client or any value."""
    runtime = place.runtime
    runtime.intake.accept(domain.source("open"), Delivered(message("good")))
    _keep_a_rejection(runtime)
    work(runtime)
    for name, value in runtime.settings.environment.items():
        monkeypatch.setenv(name, value)
    file = place.directory / "people.csv"
    file.write_text(f"key,{canary('column@')}\n{canary('value')},{canary('other')}\n")
    result = CliRunner().invoke(command_line, [str(file) if each == "FILE" else each for each in arguments])
    assert result.exit_code in {1, 2}, result.output
    assert result.output.strip()
    assert not leaks([result.output, repr(result.exception)])
    assert not leaks(place.logged())
