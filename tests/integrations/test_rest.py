"""The REST strategy against a real server."""

import logging
import socket
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest
from pydantic import SecretStr

from integrations import (
    ApiKey,
    Delivery,
    Effect,
    IntegrationDefinitionError,
    Outcome,
    Response,
    RESTIntegration,
    Verdict,
)
from tests.support.rest_target import Fault, RestTarget

CANARY = "canary-3b8"
BODY = {"email": "a@x"}


def delivery(
    *, remote: str | None = None, seq: int = 1, uncertain: bool = False, client_id: str = "CC.1", key: str = "k1"
) -> Delivery:
    return Delivery(client_id, seq, remote, key, uncertain)


def crm(target: RestTarget, **changed: Any) -> RESTIntegration:
    """Creates by POST, updates and retracts by reference; does not wait between tries."""
    options: dict[str, Any] = {
        "create": "POST /contacts",
        "update": "PUT /contacts/{remote}",
        "retract": "DELETE /contacts/{remote}",
        "sleep": lambda _: None,
    }
    return RESTIntegration(target.url, **{**options, **changed})


def ending(outcome: Outcome) -> tuple[Verdict, str, Effect]:
    return outcome.verdict, outcome.code, outcome.effect


def test_create_update_retract(rest: RestTarget) -> None:
    """The reference that the create returned addresses the update and the retraction."""
    strategy = crm(rest)
    created = strategy.send(BODY, delivery())
    assert (created.verdict, created.remote, created.status) == (Verdict.DELIVERED, "1", 201)
    assert strategy.send({"email": "b@x"}, delivery(remote="1", seq=2)).verdict is Verdict.DELIVERED
    assert rest.items("contacts") == {"1": {"email": "b@x"}}
    assert strategy.retract(delivery(remote="1", seq=3)).verdict is Verdict.DELIVERED
    assert rest.items("contacts") == {}
    assert [f"{each.method} {each.path}" for each in rest.requests] == [
        "POST /contacts",
        "PUT /contacts/1",
        "DELETE /contacts/1",
    ]


def test_headers_tell_repeats_and_order(rest: RestTarget) -> None:
    """Each call names its key and its seq, and sends canonical JSON."""
    crm(rest).send({"b": 1, "a": "é"}, delivery(seq=7, key="key-7"))
    (request,) = rest.requests
    assert request.headers["idempotency-key"] == "key-7"
    assert request.headers["client-seq"] == "7"
    assert request.headers["content-type"] == "application/json"
    assert request.body == '{"a":"é","b":1}'.encode()


def test_the_outcome_carries_what_the_log_needs(rest: RestTarget) -> None:
    """Method, path and answer can be read in the delivery log."""
    outcome = crm(rest).send(BODY, delivery())
    assert outcome.request == "POST /contacts"
    assert outcome.answer == '{"id":"1","email":"a@x"}'


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_delivers(rest: RestTarget, status: int) -> None:
    """Any 2xx is success."""
    rest.script(Fault(status=status))
    assert crm(rest).send(BODY, delivery()).verdict is Verdict.DELIVERED
    assert len(rest.requests) == 1


@pytest.mark.parametrize(
    ("status", "effect"),
    [
        (408, Effect.NONE),
        (425, Effect.NONE),
        (429, Effect.NONE),
        (500, Effect.POSSIBLE),
        (503, Effect.POSSIBLE),
        (502, Effect.PENDING),
        (504, Effect.PENDING),
    ],
)
def test_trouble_is_retried(rest: RestTarget, status: int, effect: Effect) -> None:
    """Throttling and server errors are retried; what a gateway answers may still be applied behind it."""
    rest.script(*[Fault(status=status)] * 3)  # for the tries inside the call
    assert ending(crm(rest).send(BODY, delivery())) == (Verdict.RETRY, f"http_{status}", effect)


@pytest.mark.parametrize("status", [400, 405, 413, 415, 422, 451])
def test_other_client_errors_refuse_the_body(rest: RestTarget, status: int) -> None:
    """The body is refused, once and without another try."""
    rest.script(Fault(status=status, body=b"no"))
    outcome = crm(rest).send(BODY, delivery())
    assert ending(outcome) == (Verdict.FAILED, f"http_{status}", Effect.NONE)
    assert outcome.answer == "no"
    assert len(rest.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_denied_access_pauses(rest: RestTarget, status: int) -> None:
    """Without another credential to try, the integration pauses."""
    rest.script(Fault(status=status))
    assert ending(crm(rest).send(BODY, delivery())) == (Verdict.PAUSE, f"http_{status}", Effect.NONE)
    assert len(rest.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(rest: RestTarget, status: int) -> None:
    """A redirect sends neither body nor secrets elsewhere; the address is wrong for everybody, so the integration pauses."""
    with RestTarget() as elsewhere:
        rest.script(Fault(status=status, headers={"Location": elsewhere.url + "/contacts"}))
        outcome = crm(rest, auth=ApiKey(SecretStr(CANARY))).send(BODY, delivery())
        assert ending(outcome) == (Verdict.PAUSE, f"http_{status}", Effect.NONE)
        assert elsewhere.requests == []
        assert len(rest.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17.0),
        (
            {"Retry-After": "Sat, 31 Jan 2026 12:02:00 GMT", "Date": "Sat, 31 Jan 2026 12:00:00 GMT"},
            120.0,
        ),
        (
            {"Retry-After": "Sat, 31 Jan 2026 12:00:00 GMT", "Date": "Sat, 31 Jan 2026 12:02:00 GMT"},
            0.0,
        ),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_understood(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds and dates count, anything else does not."""
    answer = Response(429, {name.lower(): value for name, value in headers.items()}, b"")
    assert answer.retry_after == seconds


def test_retry_after_is_passed_on_at_once(rest: RestTarget) -> None:
    """A target that names a time is not asked again before; the deliverer pauses."""
    rest.script(Fault(status=503, headers={"Retry-After": "3"}))
    assert crm(rest).send(BODY, delivery()).retry_after == 3.0
    assert len(rest.requests) == 1


def test_what_had_no_effect_is_tried_again_inside_the_call(rest: RestTarget) -> None:
    """A target that is not ready for the call gets it a moment later; the pauses grow."""
    rest.script(Fault(status=425), Fault(status=425))
    pauses: list[float] = []
    strategy = crm(rest, sleep=pauses.append, random=lambda: 1.0)
    assert strategy.send(BODY, delivery()).verdict is Verdict.DELIVERED
    assert pauses == [0.2, 0.8]
    assert len({each.headers["idempotency-key"] for each in rest.requests}) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_may_have_had_an_effect_is_not_repeated_inside_the_call(rest: RestTarget, status: int) -> None:
    """It is left to the next attempt, which knows the doubt."""
    rest.script(Fault(status=status))
    assert crm(rest).send(BODY, delivery()).verdict is Verdict.RETRY
    assert len(rest.requests) == 1


def test_tries_end_with_the_time(rest: RestTarget) -> None:
    """Ten seconds are the end of a call, however short its tries are."""
    rest.script(*[Fault(status=425)] * 3)
    now = [0.0]

    def sleep(_: float) -> None:
        now[0] += 9.5

    strategy = crm(rest, clock=lambda: now[0], sleep=sleep, random=lambda: 1.0)
    assert strategy.send(BODY, delivery()).code == "http_425"
    assert len(rest.requests) == 2


def test_nobody_there_is_certain(rest: RestTarget) -> None:
    """A connection that cannot be made had no effect, and is tried three times."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    pauses: list[float] = []
    strategy = RESTIntegration(f"http://127.0.0.1:{port}", create="POST /contacts", sleep=pauses.append)
    assert ending(strategy.send(BODY, delivery())) == (Verdict.RETRY, "unreachable", Effect.NONE)
    assert len(pauses) == 2


def test_a_broken_handshake_is_certain(rest: RestTarget) -> None:
    """Where no secure connection can be made, nothing was sent."""
    strategy = RESTIntegration(rest.url.replace("http", "https"), create="POST /contacts", sleep=lambda _: None)
    assert ending(strategy.send(BODY, delivery())) == (Verdict.RETRY, "tls", Effect.NONE)
    assert rest.requests == []


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_lost_connection_is_uncertain(rest: RestTarget, drop: Any) -> None:
    """Without an answer nobody knows whether the call took effect; it is not repeated."""
    rest.script(Fault(drop=drop))
    assert ending(crm(rest).send(BODY, delivery())) == (Verdict.RETRY, "connection_lost", Effect.PENDING)
    assert len(rest.requests) == 1
    assert len(rest.items("contacts")) == (drop == "after")


def test_a_timeout_is_uncertain(rest: RestTarget) -> None:
    """A target that does not answer in time may still apply the call."""
    answer = Event()
    rest.script(Fault(hold=answer))
    assert ending(crm(rest, timeout=0.05).send(BODY, delivery())) == (Verdict.RETRY, "timeout", Effect.PENDING)
    answer.set()


def test_an_earlier_create_is_looked_up(rest: RestTarget) -> None:
    """After a create without an answer the target is asked first, and what is there is updated."""
    strategy = crm(rest, lookup="GET /contacts?email={email}")
    rest.script(Fault(drop="after"))
    assert strategy.send(BODY, delivery()).effect is Effect.PENDING
    outcome = strategy.send(BODY, delivery(uncertain=True))
    assert (outcome.verdict, outcome.remote) == (Verdict.DELIVERED, "1")
    assert rest.items("contacts") == {"1": BODY}
    assert [each.method for each in rest.requests] == ["POST", "GET", "PUT"]


@pytest.mark.parametrize("fault", [Fault(), Fault(status=404)])
def test_a_lookup_that_finds_nothing_creates(rest: RestTarget, fault: Fault) -> None:
    """If the earlier create never landed, it is made now."""
    rest.script(fault)
    outcome = crm(rest, lookup="GET /contacts?email={email}").send(BODY, delivery(uncertain=True))
    assert outcome.remote == "1"
    assert [each.method for each in rest.requests] == ["GET", "POST"]


def test_a_lookup_is_made_only_in_doubt(rest: RestTarget) -> None:
    """A first create and a known reference need none."""
    strategy = crm(rest, lookup="GET /contacts?email={email}")
    strategy.send(BODY, delivery())
    strategy.send(BODY, delivery(remote="1", uncertain=True))
    assert [each.method for each in rest.requests] == ["POST", "PUT"]


def test_an_ambiguous_lookup_is_refused(rest: RestTarget) -> None:
    """Which of two is the client is not guessed."""
    rest.put("contacts", "8", BODY)
    rest.put("contacts", "9", BODY)
    outcome = crm(rest, lookup="GET /contacts?email={email}").send(BODY, delivery(uncertain=True))
    assert ending(outcome) == (Verdict.FAILED, "lookup_ambiguous", Effect.NONE)
    assert len(rest.requests) == 1


def test_a_lookup_without_answer_has_no_effect(rest: RestTarget) -> None:
    """A question that got lost leaves the target as it was: nobody has to wait for it to land."""
    rest.script(Fault(drop="after"))
    outcome = crm(rest, lookup="GET /contacts?email={email}").send(BODY, delivery(uncertain=True))
    assert ending(outcome) == (Verdict.RETRY, "connection_lost", Effect.NONE)


def test_a_lookup_that_fails_creates_nothing(rest: RestTarget) -> None:
    """As long as the target cannot be asked, nothing is created; the question itself had no effect."""
    rest.script(*[Fault(status=500)] * 3)
    outcome = crm(rest, lookup="GET /contacts?email={email}").send(BODY, delivery(uncertain=True))
    assert ending(outcome) == (Verdict.RETRY, "lookup_500", Effect.NONE)
    assert rest.items("contacts") == {}


def test_an_update_of_something_gone_creates_next_time(rest: RestTarget) -> None:
    """A 404 forgets the reference, so that the next attempt creates."""
    rest.script(Fault(status=404))
    outcome = crm(rest).send(BODY, delivery(remote="77"))
    assert (outcome.verdict, outcome.code, outcome.remote_gone) == (Verdict.RETRY, "remote_gone", True)


def test_a_conflict_that_names_what_is_there_is_adopted(rest: RestTarget) -> None:
    """A 409 to a create that carries the reference makes the next attempt an update."""
    rest.script(Fault(status=409, body=b'{"id": 42}'), Fault(status=409))
    adopted = crm(rest).send(BODY, delivery())
    assert (adopted.verdict, adopted.code, adopted.remote) == (Verdict.RETRY, "exists", "42")
    assert ending(crm(rest).send(BODY, delivery())) == (Verdict.FAILED, "http_409", Effect.NONE)


def test_retracting_what_is_gone_is_done(rest: RestTarget) -> None:
    """A 404 to a retraction is what was wanted."""
    outcome = crm(rest).retract(delivery(remote="77"))
    assert (outcome.verdict, outcome.code) == (Verdict.DELIVERED, "gone")


def test_retracting_without_a_reference(rest: RestTarget) -> None:
    """Without a reference it is looked up; if that is impossible, the retraction is listed as failed."""
    rest.put("contacts", "5", {"external": "CC.1"})
    assert ending(crm(rest).retract(delivery(uncertain=True))) == (Verdict.FAILED, "no_reference", Effect.NONE)
    found = crm(rest, lookup="GET /contacts?external={client_id}")
    assert found.retract(delivery(uncertain=True)).verdict is Verdict.DELIVERED
    assert rest.items("contacts") == {}
    assert found.retract(delivery(uncertain=True)).verdict is Verdict.DELIVERED


def test_a_target_without_retraction_says_so(rest: RestTarget) -> None:
    """A retraction that was not declared is listed, not passed over."""
    assert ending(crm(rest, retract=None).retract(delivery(remote="1"))) == (Verdict.FAILED, "no_retract", Effect.NONE)


def test_one_call_can_serve_both(rest: RestTarget) -> None:
    """A target that takes the client id in its address needs no create and no reference."""
    strategy = RESTIntegration(rest.url, update="PUT /contacts/{client_id}", retract="DELETE /contacts/{client_id}")
    strategy.send(BODY, delivery())
    assert rest.items("contacts") == {"CC.1": BODY}
    strategy.retract(delivery())
    assert rest.items("contacts") == {}


def test_a_response_processor_decides(rest: RestTarget) -> None:
    """What 2xx, 404, 409, 410 and 412 mean can be the user's own."""
    seen: list[tuple[str, int]] = []

    def process(purpose: str, response: Response, _: Delivery) -> Outcome:
        seen.append((purpose, response.status))
        return Outcome(verdict=Verdict.DELIVERED, code="mine", remote="own")

    rest.script(*[Fault(status=status) for status in (200, 404, 409, 410, 412, 400)])
    strategy = crm(rest, response_processor=process)
    outcomes = [strategy.send(BODY, delivery()) for _ in range(6)]
    assert seen == [("create", status) for status in (200, 404, 409, 410, 412)]
    assert [outcome.remote for outcome in outcomes] == ["own"] * 5 + [None]


def test_a_response_processor_that_raises_does_not_repeat_the_call(rest: RestTarget) -> None:
    """The call was made: it is listed with the kind of the error rather than made again and again."""

    def process(*_: object) -> Outcome:
        raise LookupError(CANARY)

    outcome = crm(rest, response_processor=process).send(BODY, delivery())
    assert ending(outcome) == (Verdict.FAILED, "processor_raised", Effect.POSSIBLE)
    assert outcome.answer == "LookupError"


@pytest.mark.parametrize(
    ("body", "remote"),
    [
        (b'{"id": "x/y"}', "x/y"),
        (b'{"id": 42}', "42"),
        (b'{"id": true}', None),
        (b'{"id": ""}', None),
        (b'{"id": {"x": 1}}', None),
        (b'["id"]', None),
        (b"not json", None),
        (b"", None),
        (b'{"id": "' + b"x" * 600 + b'"}', None),
    ],
)
def test_references_are_texts_and_numbers(rest: RestTarget, body: bytes, remote: str | None) -> None:
    """Anything else in the answer is no reference; the delivery counts all the same."""
    rest.script(Fault(status=201, body=body))
    outcome = crm(rest).send(BODY, delivery())
    assert (outcome.verdict, outcome.remote) == (Verdict.DELIVERED, remote)


def test_a_reference_can_stand_deeper(rest: RestTarget) -> None:
    """Dots lead into objects."""
    rest.script(Fault(status=201, body=b'{"data": {"key": "k"}}'))
    assert crm(rest, remote_field="data.key").send(BODY, delivery()).remote == "k"


@pytest.mark.parametrize("remote", ["..", "."])
def test_a_reference_cannot_lead_elsewhere(rest: RestTarget, remote: str) -> None:
    """A target or a value that gives dots for a reference gets no call."""
    outcome = crm(rest).send(BODY, delivery(remote=remote))
    assert ending(outcome) == (Verdict.FAILED, "resource_value", Effect.NONE)
    assert rest.requests == []


def test_slashes_stay_inside_their_segment(rest: RestTarget) -> None:
    """Path traversal by values is not possible."""
    crm(rest).send(BODY, delivery(remote="../../admin?x=1#y"))
    assert rest.requests[0].path == "/contacts/..%2F..%2Fadmin%3Fx%3D1%23y"


def test_long_answers_are_cut(rest: RestTarget) -> None:
    """Of a response over 64 KB only the beginning is read, and less of it logged; the delivery counts."""
    rest.script(Fault(status=200, body=b'{"id": "1", "text": "' + b"x" * 1_000_000 + b'"}'))
    outcome = crm(rest).send(BODY, delivery())
    assert (outcome.verdict, outcome.remote) == (Verdict.DELIVERED, None)
    assert len(outcome.answer) < 2200


def test_a_response_of_64_kb_is_read_whole(rest: RestTarget) -> None:
    """The limit itself is allowed."""
    seen: list[Response] = []

    def process(_: str, response: Response, __: Delivery) -> Outcome:
        seen.append(response)
        return Outcome(verdict=Verdict.DELIVERED, code="ok")

    rest.script(Fault(status=200, body=b"x" * 65_536), Fault(status=200, body=b"x" * 65_537))
    strategy = crm(rest, response_processor=process)
    strategy.send(BODY, delivery())
    strategy.send(BODY, delivery())
    assert [(len(response.body), response.truncated) for response in seen] == [(65_536, False), (65_536, True)]


@pytest.fixture
def broken() -> Iterator[str]:
    """A server that promises more than it sends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{}")

        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


def test_an_answer_that_breaks_off_counts_by_its_status(broken: str) -> None:
    """Once the target said 201 the client is there, whatever became of the rest."""
    strategy = RESTIntegration(broken, create="POST /contacts")
    assert strategy.send(BODY, delivery()).verdict is Verdict.DELIVERED


def test_connections_are_reused(rest: RestTarget) -> None:
    """Many calls of several integrations need one connection, as long as they come one after the other."""
    for _ in range(5):
        crm(rest).send(BODY, delivery())
    assert rest.connections == 1


def test_cookies_are_not_kept(rest: RestTarget) -> None:
    """What one call was told to remember is not shown to the target by the next."""
    rest.script(Fault(status=200, headers={"Set-Cookie": f"session={CANARY}"}))
    strategy = crm(rest)
    strategy.send(BODY, delivery())
    strategy.send(BODY, delivery())
    assert "cookie" not in rest.requests[1].headers


def test_addresses_do_not_reach_the_log(rest: RestTarget, caplog: pytest.LogCaptureFixture) -> None:
    """Not even at the finest level does a log line hold references or values of a client."""
    with caplog.at_level(logging.DEBUG):
        crm(rest, lookup="GET /contacts?email={email}").send({"email": CANARY}, delivery(uncertain=True))
        crm(rest).send({"email": CANARY}, delivery(remote=CANARY))
    assert len(rest.requests) == 3
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retract": "DELETE /contacts/{remote}"},
        {"update": "PUT /contacts/{remote}"},
        {"create": "POST /contacts/{remote}"},
        {"create": "contacts"},
    ],
)
def test_a_declaration_that_cannot_work_is_refused(options: dict[str, str]) -> None:
    """Without a call that can be the first one, the application does not start."""
    with pytest.raises(IntegrationDefinitionError):
        RESTIntegration("https://crm.example", **options)  # type: ignore[arg-type]  # options by name


@pytest.mark.parametrize("url", ["http://crm.example", "https://user:pw@crm.example", "ftp://crm.example"])
def test_secrets_do_not_travel_in_the_open(url: str) -> None:
    """Http to other machines and credentials in the URL are refused."""
    with pytest.raises(IntegrationDefinitionError):
        RESTIntegration(url, create="POST /contacts")
