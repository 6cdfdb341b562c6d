"""From the HTTP body to the REST call: receivers, projector, topic and integrations on one host, with real targets."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import orjson
import pytest

from integrations import SqliteTopic, open_deliveries
from projections import Target
from tests.support.flow import Clock, Flow, is_quiet, listening, open_flow, serving, shop_signature
from tests.support.rest_target import Fault, RestTarget
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

CANARY = "Canary7"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flow(data: Path, environment: Mapping[str, str], clock: Clock) -> Iterator[Flow]:
    """The sample with all its loops running."""
    with serving(open_flow(data, environment=environment, clock=clock), loops=True) as running:
        yield running


def change(change_id: str, person: int = 1, day: int = 1, **parts: Any) -> dict[str, Any]:
    """A change as the CRM sends it."""
    return {"change_id": change_id, "person": person, "changed_at": f"2026-03-{day:02}T12:00:00Z", **parts}


def contact(change_id: str, email: str, **more: Any) -> dict[str, Any]:
    return change(change_id, **more, contact={"email": email})


def consent(change_id: str, *, given: bool, channel: str = "email", **more: Any) -> dict[str, Any]:
    return change(change_id, **more, consent={"channel": channel, "given": given})


def accept(flow: Flow, *changes: Any) -> None:
    """Deliver changes that must all be accepted."""
    for each in changes:
        answer = flow.post("crm", each)
        assert answer.status_code == 202, answer.text


def sent(target: RestTarget) -> list[tuple[str, str]]:
    """Method and path of all calls so far, without look-ups."""
    return [(request.method, request.path) for request in list(target.requests) if request.method != "GET"]


def test_a_body_becomes_a_rest_call(flow: Flow, data: Path, crm: RestTarget, mailing: RestTarget) -> None:
    """Event, record, audit entry, topic message and REST call come of one POST, and all tell of the same event."""
    outsider = SqliteTopic(open_deliveries(data))
    outsider.subscribe("outsider", ["identity"])
    body = orjson.dumps(
        change(
            "c-1", name={"given": "Ana", "family": "Díaz", "born": "1990-02-28"}, contact={"email": "ana@example.org"}
        )
    )
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = flow.post("crm", orjson.loads(body), {"x-correlation-id": "request-7", "traceparent": trace})
    events = answer.json()["events"]
    assert [event["version"] for event in events] == [1, 2]
    flow.settle()

    stored = list(flow.runtime.backend.events.read("1"))
    assert [event.event_id for event in stored] == ["crm:c-1:1", "crm:c-1:2"]
    record = flow.get("clients/1").json()
    assert record["version"] == 2
    assert record["record"]["identity"]["surname"] == "Díaz"
    entries = flow.get("clients/1/audit").json()["entries"]
    assert [entry["event_hash"] for entry in entries] == [event.hash for event in stored]
    [received] = outsider.receive("outsider", limit=10)
    announced = orjson.loads(received.message.body)
    assert announced["specversion"] == "1.0"
    assert announced["correlationid"] == "request-7"
    assert announced["traceparent"] == trace
    assert announced["data"]["changed"]["identity"]["given_name"] == "Ana"
    assert (announced["data"]["seq"], announced["data"]["previous_seq"], announced["data"]["version"]) == (1, 0, 2)
    assert received.message.session_id == "1"
    assert crm.items("people") == {
        "1": {
            "number": 1,
            "given_name": "Ana",
            "surname": "Díaz",
            "born": "1990-02-28",
            "email": "ana@example.org",
            "phone": None,
            "street": None,
            "city": None,
            "postcode": None,
        }
    }
    assert mailing.requests == []
    [entry] = flow.get("clients/1/deliveries").json()["log"]
    assert (entry["integration"], entry["action"], entry["verdict"]) == ("crm", "send", "delivered")


def test_a_later_change_goes_to_the_id_that_the_target_gave(flow: Flow, crm: RestTarget) -> None:
    """POST creates, its answer's id is kept, PUT changes; every call can be recognised as a repeat by the target."""
    accept(flow, contact("c-1", "a@example.org"))
    flow.settle()
    accept(flow, contact("c-2", "b@example.org", day=2))
    flow.settle()
    assert sent(crm) == [("POST", "/people"), ("PUT", "/people/1")]
    assert crm.items("people")["1"]["email"] == "b@example.org"
    calls = [request.headers for request in crm.requests if request.method != "GET"]
    assert len({call["idempotency-key"] for call in calls}) == 2
    assert [call["client-seq"] for call in calls] == ["1", "2"]
    assert len(crm.token_requests) == 1


def test_repeats_make_no_difference(flow: Flow, crm: RestTarget) -> None:
    """Defect 5: A, B, A again leaves B; nothing is stored, audited or sent a second time."""
    first, second = contact("c-1", "a@example.org"), contact("c-2", "b@example.org", day=2)
    accept(flow, first, second)
    flow.settle()
    before = (flow.get("clients/1").json(), flow.get("clients/1/audit").json(), sent(crm))
    accept(flow, first, second, first)
    flow.settle()
    assert (flow.get("clients/1").json(), flow.get("clients/1/audit").json(), sent(crm)) == before
    assert before[0]["record"]["contact"]["email"] == "b@example.org"


def test_a_late_event_does_not_win(flow: Flow, crm: RestTarget) -> None:
    """Defect 4: it is in the history and in the audit as superseded; the target is not called for it."""
    accept(flow, contact("c-2", "new@example.org", day=9))
    flow.settle()
    accept(flow, change("c-1", day=3, contact={"email": "old@example.org", "phone": "+34 1"}))
    flow.settle()
    record = flow.get("clients/1").json()["record"]
    assert record["contact"] == {"email": "new@example.org", "phone": "+34 1"}
    changes = flow.get("clients/1/audit").json()["entries"][1]["changes"]
    assert [(each["field"], each.get("superseded", False)) for each in changes] == [("email", True), ("phone", False)]
    assert crm.items("people")["1"]["email"] == "new@example.org"


def test_any_order_of_arrival_gives_the_same_record_and_the_same_calls_end(flow: Flow, crm: RestTarget) -> None:
    """Three facts about six persons, each person in another order."""
    facts: list[dict[str, Any]] = [
        {"name": {"given": "A", "family": "First"}, "contact": {"email": "one@example.org"}},
        {"contact": {"email": "two@example.org", "phone": "2"}},
        {"name": {"given": "C", "family": "Third"}, "consent": {"channel": "email", "given": True}},
    ]
    for person, order in enumerate(permutations(range(3)), 1):
        accept(flow, *(change(f"o-{person}-{n}", person, day=n + 1, **facts[n]) for n in order))
    flow.settle()
    records = [flow.get(f"clients/{person}").json()["record"] for person in range(1, 7)]
    assert all(record == records[0] for record in records)
    assert records[0]["contact"] == {"email": "two@example.org", "phone": "2"}
    people = crm.items("people").values()
    assert len(people) == 6
    assert {(person["surname"], person["email"]) for person in people} == {("Third", "two@example.org")}


def test_a_signed_webhook_goes_all_the_way(flow: Flow, crm: RestTarget) -> None:
    """A customer in the shop's public shape becomes identity, contact and address of a person."""
    body = orjson.dumps(
        {
            "id": 706405506930370084,
            "updated_at": "2026-03-03T11:20:41-05:00",
            "tags": "person-1",
            "first_name": "Ana",
            "last_name": "Díaz",
            "email": "ana@shop.example",
            "default_address": {"address1": "Calle Mayor 1", "city": "Madrid", "zip": "28013", "province_code": "M"},
            "addresses": [],
            "note": None,
        }
    )
    assert flow.send("shop", body, shop_signature(body)).status_code == 202
    flow.settle()
    person = crm.items("people")["1"]
    assert (person["surname"], person["street"], person["postcode"]) == ("Díaz", "Calle Mayor 1", "28013")


def test_withdrawn_consent_takes_the_person_off_the_list(flow: Flow, crm: RestTarget, mailing: RestTarget) -> None:
    """Each integration hears only of what it cares about: the CRM is not called about consent."""
    accept(flow, contact("c-1", "a@example.org"), consent("c-2", given=True, day=2))
    flow.settle()
    assert mailing.items("subscribers") == {"1": {"email": "a@example.org"}}
    calls = sent(crm)
    accept(flow, consent("c-3", given=False, day=3))
    flow.settle()
    assert mailing.items("subscribers") == {}
    assert sent(mailing) == [("PUT", "/subscribers/1"), ("DELETE", "/subscribers/1")]
    assert sent(crm) == calls
    accept(flow, consent("c-4", given=True, day=4))
    flow.settle()
    assert mailing.items("subscribers") == {"1": {"email": "a@example.org"}}


def test_a_parked_client_waits_and_the_others_go_on(flow: Flow, crm: RestTarget) -> None:
    """Nothing is skipped: what came after the failing event is applied once it is annulled, in order."""
    accept(
        flow,
        contact("c-1", "a@example.org"),
        consent("c-2", given=True, channel="fax", day=2),
        contact("c-3", "b@example.org", day=3),
        contact("d-1", "other@example.org", person=2),
    )
    flow.settle()
    parked = flow.get("clients/1").json()["parked"]
    assert (parked["version"], parked["code"]) == (2, "invalid_evolution")
    wait_until("what came later is waited for", lambda: flow.get("clients/1").json()["parked"]["waiting_for"] == 3)
    assert flow.get("clients/1").json()["record"]["contact"]["email"] == "a@example.org"
    assert {person["email"] for person in crm.items("people").values()} == {"a@example.org", "other@example.org"}

    assert flow.runtime.projector.catch_up("1", Target(0, retry=True)).parked is not None
    flow.runtime.annul("1", 2, reason="there is no such channel", by="tests")
    flow.settle()
    record = flow.get("clients/1").json()
    assert record["parked"] is None
    assert record["record"]["contact"]["email"] == "b@example.org"
    notes = [entry["note"] for entry in flow.get("clients/1/audit").json()["entries"]]
    assert notes[1] == "annulled"
    assert {person["email"] for person in crm.items("people").values()} == {"b@example.org", "other@example.org"}


def test_a_target_that_is_down_loses_nothing_and_delays_nobody(
    flow: Flow, crm: RestTarget, mailing: RestTarget
) -> None:
    """While the CRM answers 503 the mailing system hears at once; then the CRM gets the latest state only."""
    crm.script(Fault(status=503), Fault(status=503))
    accept(flow, contact("c-1", "a@example.org"), consent("c-2", given=True))
    wait_until("the mailing system has it", lambda: mailing.items("subscribers") == {"1": {"email": "a@example.org"}})
    accept(flow, contact("c-3", "b@example.org", day=2))
    flow.settle()
    assert [person["email"] for person in crm.items("people").values()] == ["b@example.org"]
    log = flow.get("clients/1/deliveries", integration="crm").json()["log"]
    assert log[0]["verdict"] == "delivered"
    assert {entry["verdict"] for entry in log[1:]} <= {"retry", "delivered"}
    assert "retry" in {entry["verdict"] for entry in log}


def test_an_answer_that_got_lost_makes_no_second_person(flow: Flow, crm: RestTarget, clock: Clock) -> None:
    """The target did what was asked and the connection broke: the retry looks the person up before creating it."""
    crm.script(Fault(drop="after"))
    accept(flow, contact("c-1", "a@example.org"))
    wait_until("the call was made", lambda: bool(flow.get("clients/1/deliveries").json().get("log")))
    assert flow.get("clients/1/deliveries").json()["log"][0]["verdict"] == "retry"
    clock.ahead += timedelta(minutes=1)  # nothing is sent before a call without an answer cannot land any more
    flow.settle()
    assert ("GET", "/people?number=1") in [(request.method, request.path) for request in crm.requests]
    assert [person["email"] for person in crm.items("people").values()] == ["a@example.org"]


def test_a_restart_in_the_middle_loses_nothing(
    data: Path, environment: Mapping[str, str], crm: RestTarget, mailing: RestTarget
) -> None:
    """Stored but not projected, projected but not delivered, delivered in part: the next process does the rest."""
    with serving(open_flow(data, environment=environment)) as flow:  # receives only
        accept(flow, contact("c-1", "a@example.org"), consent("c-2", given=True))
    crm.script(*[Fault(status=503)] * 2)
    with serving(open_flow(data, environment=environment), loops=True) as flow:
        wait_until("the mailing system has it", lambda: "1" in mailing.items("subscribers"))
    with serving(open_flow(data, environment=environment), loops=True) as flow:
        flow.settle()
        assert flow.get("clients/1").json()["version"] == 2
        accept(flow, contact("c-1", "a@example.org"))
        assert len(flow.get("clients/1/audit").json()["entries"]) == 2
    assert [person["email"] for person in crm.items("people").values()] == ["a@example.org"]
    assert sent(mailing) == [("PUT", "/subscribers/1")]


def test_two_hosts_on_one_directory_are_one_application(
    data: Path, environment: Mapping[str, str], crm: RestTarget
) -> None:
    """Events posted to either become one history, one record and calls that end in the same state."""
    first, second = (open_flow(data, environment=environment) for _ in range(2))
    with serving(first, loops=True) as one, serving(second, loops=True) as two:
        for number in range(10):
            flow = (one, two)[number % 2]
            accept(flow, contact(f"c-{number}", f"{number}@example.org", day=number + 1, person=number % 3 + 1))
        wait_until("both are quiet", lambda: is_quiet(first) and is_quiet(second))
        for person, last in ((1, 9), (2, 7), (3, 8)):
            assert one.get(f"clients/{person}").json() == two.get(f"clients/{person}").json()
            assert one.get(f"clients/{person}").json()["record"]["contact"]["email"] == f"{last}@example.org"
    emails = sorted(person["email"] for person in crm.items("people").values())
    assert emails == ["7@example.org", "8@example.org", "9@example.org"]


def test_no_value_and_no_secret_is_logged_anywhere_on_the_way(
    data: Path, environment: Mapping[str, str], crm: RestTarget
) -> None:
    """Accepted, refused, parked, failed and retried: no log line of any stage holds what was in a payload."""
    crm.script(Fault(status=500, body=CANARY.encode()), Fault(status=422, body=CANARY.encode()))
    with listening() as heard, serving(open_flow(data, environment=environment), loops=True) as flow:
        name = {"given": CANARY, "family": CANARY}
        accept(flow, change(CANARY, name=name, contact={"email": f"{CANARY}@example.org"}))
        accept(flow, consent(f"{CANARY}-2", given=True, channel=CANARY, person=2))
        flow.post("crm", {**change("x"), CANARY + " ": CANARY})
        flow.post("crm", change(CANARY, contact={"email": CANARY, "phone": CANARY}))
        wait_until("everything was tried", lambda: flow.get("lag").json()["deliveries"]["crm"]["failed"] == 1)
        flow.fire("sweep")
        flow.fire("deliver_due")
    assert CANARY.lower() not in heard.text.lower()
    for secret in (*environment.values(), "token-1-of-the-target"):
        if "secret" in secret or "token" in secret or secret.startswith("key"):
            assert secret not in heard.text
