"""Receivers over real HTTP: what they accept, and that bad input gets a clear answer and leaves nothing behind."""

import hmac
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import orjson
import pytest
import requests

from functions_app import Runtime
from functions_app.receivers import MAX_BATCH
from tests.support import accounts
from tests.support.flow import (
    JSON,
    KEY,
    SHOP_SECRET,
    Flow,
    Listener,
    impatient_events,
    listening,
    open_flow,
    serving,
    shop_signature,
)

CANARY = "Canary7"  # planted in every value: it may be in no answer and in no log line
KEYED = {"x-functions-key": KEY, **JSON}

Expect = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """The sample, receiving only."""
    with serving(open_flow(tmp_path_factory.mktemp("people"))) as flow:
        yield flow


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """The domain with other keys and signatures, receiving only."""
    with serving(open_flow(tmp_path_factory.mktemp("notes"), accounts.domain, accounts.SECRETS)) as flow:
        yield flow


@pytest.fixture
def heard() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def refused(heard: Listener) -> Expect:
    """Checks that an answer is a problem document that says what it should and gives nothing away."""

    def check(
        flow: Flow, answer: Callable[[], requests.Response], status: int, code: str, *fields: str
    ) -> dict[str, Any]:
        before = len(flow.events())
        reply = answer()
        document: dict[str, Any] = reply.json()
        assert (reply.status_code, document["status"], document["code"]) == (status, status, code)
        assert reply.headers["Content-Type"].startswith("application/problem+json")
        assert document["type"] == f"urn:problem-type:client-flow:{code}"
        assert document["title"]
        assert sorted(each["field"] for each in document.get("errors", [])) == sorted(fields)
        assert all(each["problem"] for each in document.get("errors", []))
        assert CANARY.lower() not in (reply.text + str(reply.headers) + heard.text).lower()
        assert len(flow.events()) == before
        return document

    return check


def change(**fields: Any) -> dict[str, Any]:
    """A change as the CRM sends it, with some fields replaced."""
    change: dict[str, Any] = {
        "change_id": f"{CANARY}-1",
        "person": 7,
        "changed_at": "2026-01-01T00:00:00Z",
        "contact": {"email": f"{CANARY}@example.org"},
    }
    return {**change, **fields}


def note(number: str, note: Any = None, **fields: Any) -> dict[str, Any]:
    """What the sources of the other domain send."""
    return {"number": number, "note": note, **fields}


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_an_accepted_delivery_is_stored_before_the_answer(people: Flow) -> None:
    """202 tells client, version, event id and type of each event, and they are in the store already."""
    body = change(change_id="accept-1", person=1, name={"given": "Ana", "family": "Díaz"})
    answer = people.post("crm", body)
    assert answer.status_code == 202
    assert answer.json()["events"] == [
        {
            "client_id": "1",
            "version": version,
            "event_id": f"crm:accept-1:{version}",
            "event_type": event_type,
            "duplicate": False,
        }
        for version, event_type in enumerate(["person.identified", "person.contact_changed"], 1)
    ]
    stored = list(people.runtime.backend.events.read("1"))
    assert [event.event_id for event in stored] == ["crm:accept-1:1", "crm:accept-1:2"]
    assert stored[0].source == "crm"
    assert stored[0].occurred_at == "2026-01-01T00:00:00.000000Z"


def test_a_repeat_changes_nothing_and_says_so(people: Flow) -> None:
    """Defect 23: a sender that repeats what was accepted makes no copy; it is told the versions that are there."""
    first = people.post("crm", change(change_id="again-1", person=2)).json()["events"]
    again = people.post("crm", change(change_id="again-1", person=2))
    assert again.status_code == 202
    assert again.json()["events"] == [{**each, "duplicate": True} for each in first]
    assert len(list(people.runtime.backend.events.read("2"))) == 1


def test_a_repeated_id_with_other_content_is_refused(people: Flow, refused: Expect) -> None:
    """422: which of the two is true cannot be known, so the first stays."""
    people.post("crm", change(change_id="reused-1", person=3))
    other = change(change_id="reused-1", person=3, contact={"email": f"{CANARY}2@example.org"})
    refused(people, lambda: people.post("crm", other), 422, "event_id_reused", "event_id")


def test_parallel_repeats_are_stored_once(people: Flow) -> None:
    """Of eight deliveries of one change at once one is new, and all tell the same version."""
    barrier = Barrier(8)
    answers: list[requests.Response] = []

    def deliver() -> None:
        barrier.wait(10)
        answers.append(people.post("crm", change(change_id="parallel-1", person=4)))

    threads = [Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    events = [answer.json()["events"][0] for answer in answers]
    assert [event["version"] for event in events] == [1] * 8
    assert sorted(event["duplicate"] for event in events) == [False] + [True] * 7


def test_correlation_id_and_trace_context_are_kept(people: Flow) -> None:
    """Headers that tie events to a request are stored with them; malformed ones are left out."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    people.post("crm", change(change_id="t-1", person=5), {"x-correlation-id": "order-77", "traceparent": trace})
    people.post("crm", change(change_id="t-2", person=5), {"x-correlation-id": "a b", "traceparent": "zz"})
    good, bad = people.runtime.backend.events.read("5")
    assert (good.correlation_id, good.traceparent) == ("order-77", trace)
    assert (bad.correlation_id, bad.traceparent) == (None, None)


@pytest.mark.parametrize("number", ["a/b", "..", ".", "a b", 'it\'s "it"', "~", "%2F", "a.b", "名前", "-_", "\t"])
def test_any_text_can_be_part_of_a_client_id(notes: Flow, number: str) -> None:
    """Defect 8: slashes, dots, spaces and quotes are escaped, and the client is found under the text that was answered."""
    [event] = notes.post("keyless", note(number, "here")).json()["events"]
    assert not set(event["client_id"]) & set("/ '\"%")
    assert str(accounts.AccountId(country="ES", number=number)) == event["client_id"]
    record = notes.get(f"clients/{event['client_id']}", min_version=event["version"]).json()
    assert record["record"] == {"notes": {"last": "here"}}


def test_composed_and_decomposed_unicode_are_one_client(notes: Flow) -> None:
    """Both spellings of é name the same client."""
    spellings = ["caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"]
    events = [notes.post("keyless", note(number)).json()["events"][0] for number in spellings]
    assert events[0]["client_id"] == events[1]["client_id"]
    assert events[1]["version"] == events[0]["version"] + 1


# --- bodies that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "empty_body", id="empty"),
        pytest.param(b" \n", "empty_body", id="blank"),
        pytest.param(b'{"person": ' + CANARY.encode(), "malformed_json", id="cut off"),
        pytest.param(b"'" + CANARY.encode() + b"'", "malformed_json", id="no json"),
        pytest.param(b'{"person": NaN}', "malformed_json", id="nan"),
        pytest.param(b'{"person": -Infinity}', "malformed_json", id="infinity"),
        pytest.param(b'{"person": 1e999}', "malformed_json", id="beyond double"),
        pytest.param(b'{"person": ' + b"9" * 5000 + b"}", "malformed_json", id="thousands of digits"),
        pytest.param(b'{"contact": "' + CANARY.encode() + b'\xff"}', "malformed_json", id="no utf-8"),
        pytest.param('{"person": 1}'.encode("utf-16"), "malformed_json", id="utf-16"),
        pytest.param(b"\xef\xbb\xbf{}", "malformed_json", id="byte order mark"),
        pytest.param(b'{"change_id": "\\ud800' + CANARY.encode() + b'"}', "malformed_json", id="lone surrogate"),
        pytest.param(b'{"a": "' + CANARY.encode() + b'", "a": 2}', "malformed_json", id="key twice"),
        pytest.param(b"[" * 33 + b"]" * 33, "malformed_json", id="deep"),
        pytest.param(b'{"a":' * 50_000, "malformed_json", id="very deep"),
        pytest.param(b"{} {}", "malformed_json", id="two documents"),
    ],
)
def test_a_body_that_is_no_json_is_refused(people: Flow, refused: Expect, body: bytes, code: str) -> None:
    """Defect 20: 400 says where, and quotes nothing."""
    refused(people, lambda: people.send("crm", body, KEYED), 400, code)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content-Type": "text/plain"}, id="text"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, id="form"),
        pytest.param({"Content-Type": "application/json; charset=latin-1"}, id="charset"),
        pytest.param({"Content-Encoding": "gzip"}, id="compressed"),
        pytest.param({"Content-Type": ""}, id="none"),
    ],
)
def test_another_content_type_is_refused(people: Flow, refused: Expect, headers: dict[str, str]) -> None:
    """415, even if the bytes could be read as JSON."""
    body = orjson.dumps(change())
    refused(people, lambda: people.send("crm", body, {**KEYED, **headers}), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json"]
)
def test_every_spelling_of_json_is_accepted(people: Flow, media_type: str) -> None:
    """The type may have parameters, capital letters or a +json suffix."""
    body = orjson.dumps(change(change_id=f"type-{media_type}", person=6))
    assert people.send("crm", body, {**KEYED, "Content-Type": media_type}).status_code == 202


def test_a_body_over_the_limit_of_its_receiver_is_refused(notes: Flow, refused: Expect) -> None:
    """413 with both numbers; one byte less is read."""
    padded = orjson.dumps(note("limit")).ljust(2048)
    assert notes.send("keyless", padded, KEYED).status_code == 202
    document = refused(notes, lambda: notes.send("keyless", padded + b" ", KEYED), 413, "body_too_large")
    assert "2049" in document["detail"]
    assert "2048" in document["detail"]


def test_a_body_over_the_limit_of_the_host_is_refused(people: Flow, refused: Expect) -> None:
    """A megabyte is the most that anybody gets to send."""
    refused(people, lambda: people.send("crm", b" " * (1024 * 1024 + 1), KEYED), 413, "body_too_large")


# --- fields that are wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"unknown": CANARY}, ["unknown"], id="unknown field"),
        pytest.param({f"{CANARY}@example.org": 1}, ["*"], id="a name that is data"),
        pytest.param({"person": CANARY}, ["person"], id="no number"),
        pytest.param({"person": None}, ["person"], id="null"),
        pytest.param({"person": 7.5}, ["person"], id="no whole number"),
        pytest.param({"person": 0}, ["person"], id="too small"),
        pytest.param({"contact": CANARY}, ["contact"], id="no object"),
        pytest.param({"contact": {"email": 7, "phone": [CANARY]}}, ["contact.email", "contact.phone"], id="two fields"),
        pytest.param({"contact": {"fax": CANARY}}, ["contact.fax"], id="unknown inside"),
        pytest.param({"name": {"given": CANARY}}, ["name.family"], id="missing inside"),
        pytest.param({"changed_at": "2026-02-30T00:00:00Z"}, ["changed_at"], id="impossible date"),
        pytest.param({"changed_at": "2026-02-03T25:00:00Z"}, ["changed_at"], id="impossible hour"),
        pytest.param({"changed_at": "2026-02-03T00:00:00"}, ["changed_at"], id="no offset"),
        pytest.param({"changed_at": CANARY}, ["changed_at"], id="no time"),
        pytest.param(
            {"name": {"given": "A", "family": "B", "born": "1990-13-01"}}, ["name.born"], id="impossible birth"
        ),
        pytest.param({"consent": {"channel": CANARY, "given": "perhaps"}}, ["consent.given"], id="no decision"),
    ],
)
def test_a_bad_field_is_named_and_its_value_is_not(
    people: Flow, refused: Expect, fields: dict[str, Any], named: list[str]
) -> None:
    """Defects 11 and 20: 422 names every bad field by its path; never a 500, never the payload in an error."""
    refused(people, lambda: people.post("crm", change(**fields)), 422, "invalid_payload", *named)


def test_every_missing_field_is_named(people: Flow, refused: Expect) -> None:
    """All at once, so that the sender corrects them in one go."""
    refused(people, lambda: people.post("crm", {}), 422, "invalid_payload", "change_id", "person", "changed_at")


@pytest.mark.parametrize("document", [7, CANARY, None, True], ids=str)
def test_a_document_that_is_no_object_is_refused(people: Flow, refused: Expect, document: Any) -> None:
    """A scalar is no delivery."""
    refused(people, lambda: people.post("crm", document), 422, "invalid_payload", "(whole)")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param(2**53, "note", id="beyond 2^53"),
        pytest.param(-(2**53), "note", id="beyond -2^53"),
        pytest.param({"deep": [1, {"er": 2**60}]}, "note.deep.1.er", id="beyond 2^53, deep inside"),
        pytest.param({f"{CANARY}@example.org": 2**60}, "note.*", id="under a name that is data"),
        pytest.param(f"{CANARY}\0", "note", id="nul"),
        pytest.param({"list": [f"{CANARY}\0"]}, "note.list.0", id="nul, deep inside"),
        pytest.param({f"{CANARY}\0": 1}, "note.*", id="nul in a name"),
    ],
)
def test_a_value_that_a_backend_could_not_keep_is_refused(
    notes: Flow, refused: Expect, content: Any, named: str
) -> None:
    """Free-form data is checked to the last leaf, and the path leads there."""
    refused(notes, lambda: notes.post("keyless", note("value", content)), 422, "invalid_event", named)


def test_the_largest_safe_integers_are_kept(notes: Flow) -> None:
    """2^53 - 1 is the last whole number that a double keeps apart from its neighbours."""
    numbers = [2**53 - 1, -(2**53) + 1]
    assert notes.post("keyless", note("safe", numbers)).status_code == 202
    assert notes.get("clients/ES.safe", min_version=1).json()["record"]["notes"]["last"] == numbers


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"number": ""}, "number", id="empty part"),
        pytest.param({"number": "n", "country": ""}, "country", id="empty other part"),
        pytest.param({"number": CANARY * 20}, "(whole)", id="too long"),
        pytest.param({"number": "/" * 40}, "(whole)", id="too long once escaped"),
    ],
)
def test_a_client_id_that_is_none_is_refused(notes: Flow, refused: Expect, fields: dict[str, Any], named: str) -> None:
    """The part that is empty is named; 96 characters are the limit of the whole."""
    refused(notes, lambda: notes.post("keyless", fields), 422, "invalid_payload", named)


def test_a_processor_that_raises_refuses_the_delivery(notes: Flow, refused: Expect) -> None:
    """Defect 24: it is not swallowed. Only the class of the error is told: its message may quote the payload."""
    document = refused(notes, lambda: notes.post("keyless", note(CANARY, "raise")), 422, "processor_raised", "(whole)")
    assert "RuntimeError" in document["errors"][0]["problem"]


def test_a_time_that_has_no_utc_form_is_refused(notes: Flow, refused: Expect) -> None:
    """The first moment of the year 1 east of Greenwich lies before all time."""
    body = note("time", at="0001-01-01T00:00:00+14:00")
    refused(notes, lambda: notes.post("keyless", body), 422, "invalid_event", "occurred_at")


# --- event keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "named"),
    [
        pytest.param(None, "meta.id", id="nothing there"),
        pytest.param({"revision": 1}, "meta.id", id="first part missing"),
        pytest.param({"id": CANARY}, "meta.revision", id="second part missing"),
        pytest.param({"id": "", "revision": 1}, "meta.id", id="empty"),
    ],
)
def test_a_missing_key_field_is_refused(notes: Flow, refused: Expect, meta: Any, named: str) -> None:
    """400 and the name of the field: without it a repeat could not be told from a new fact."""
    refused(notes, lambda: notes.post("nested", note("key", meta=meta)), 400, "event_key_missing", named)


def test_a_key_of_several_fields_is_unambiguous(notes: Flow) -> None:
    """`a-1` with `2` and `a` with `1-2` would be one text if they were simply joined."""
    first = notes.post("nested", note("joined", meta={"id": "a-1", "revision": 2})).json()["events"][0]
    second = notes.post("nested", note("joined", meta={"id": "a", "revision": 12})).json()["events"][0]
    tilde = notes.post("nested", note("joined", meta={"id": "a~", "revision": 12})).json()["events"][0]
    assert [first["event_id"], second["event_id"], tilde["event_id"]] == [
        "nested:a~-1-2",
        "nested:a-12",
        "nested:a~~-12",
    ]
    assert [first["version"], second["version"], tilde["version"]] == [1, 2, 3]


def test_a_key_can_come_in_a_header(notes: Flow, refused: Expect) -> None:
    """Whatever the case of its name; without the header the answer is 400."""
    answer = notes.post("by_header", note("header"), {"x-DELIVERY": "d-1"})
    assert answer.json()["events"][0]["event_id"] == "by_header:d-1"
    assert notes.post("by_header", note("header"), {"X-Delivery": "d-1"}).json()["events"][0]["duplicate"]
    refused(notes, lambda: notes.post("by_header", note("header")), 400, "event_key_missing", "X-Delivery")


def test_the_items_of_a_batch_are_not_repeats_of_each_other(notes: Flow) -> None:
    """With the key in a header all items share it, so their position tells them apart; a repeat is still a repeat."""
    batch = [note("batch", "same"), note("batch", "same"), note("batch", "other")]
    for duplicate in (False, True):
        results = notes.post("by_header", batch, {"X-Delivery": "d-2"}).json()["results"]
        events = [result["events"][0] for result in results]
        assert [(event["version"], event["duplicate"]) for event in events] == [
            (version, duplicate) for version in (1, 2, 3)
        ]


def test_without_a_key_every_delivery_is_new(notes: Flow) -> None:
    """The source said that it has none, so the same body twice is two events."""
    versions = [notes.post("keyless", note("none", "same")).json()["events"][0]["version"] for _ in range(2)]
    assert versions == [1, 2]


@pytest.mark.parametrize("key", ["k" * 201, "a\tb"], ids=["too long", "not printable"])
def test_a_key_that_cannot_be_stored_is_refused(notes: Flow, refused: Expect, key: str) -> None:
    """At most 200 printable characters."""
    answer = lambda: notes.post("by_header", note("odd"), {"X-Delivery": key})  # noqa: E731 - one expression
    refused(notes, answer, 422, "invalid_event", "key")


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_gets_a_result_for_each_item(people: Flow, heard: Listener) -> None:
    """207: what is good is stored, what is bad is named, in the order of the items."""
    people.post("crm", change(change_id="b-0", person=20))
    batch = [
        change(change_id="b-1", person=20),
        change(change_id="b-2", person=20, unknown=CANARY),
        change(change_id="b-0", person=20),
        change(change_id="b-1", person=20, contact={"phone": CANARY}),
        CANARY,
        change(change_id="b-3", person=21),
        change(change_id="", person=21),
    ]
    answer = people.post("crm", batch)
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(7))
    assert [result["status"] for result in results] == [202, 422, 202, 422, 422, 202, 400]
    assert [result["problem"]["code"] for result in results if "problem" in result] == [
        "invalid_payload",
        "event_id_reused",
        "invalid_payload",
        "event_key_missing",
    ]
    assert results[2]["events"][0]["duplicate"] is True
    assert CANARY not in json.dumps([result.get("problem") for result in results]) + heard.text
    assert [event.event_id for event in people.runtime.backend.events.read("20")] == ["crm:b-0", "crm:b-1"]
    assert [event.event_id for event in people.runtime.backend.events.read("21")] == ["crm:b-3"]


def test_a_batch_keeps_the_order_of_each_client(people: Flow) -> None:
    """Two hundred items of two clients, more than one transaction takes, get ascending versions in their order."""
    batch = [change(change_id=f"o-{n}", person=30 + n % 2) for n in range(400)]
    results = people.post("crm", batch).json()["results"]
    for person in (0, 1):
        versions = [result["events"][0]["version"] for result in results[person::2]]
        assert versions == list(range(1, 201))


def test_a_batch_may_be_empty_but_not_endless(people: Flow, refused: Expect) -> None:
    """Nothing is a list, too; more than a thousand items are refused as a whole."""
    assert people.post("crm", []).json() == {"results": []}
    too_many: list[Any] = [{}] * (MAX_BATCH + 1)
    refused(people, lambda: people.post("crm", too_many), 413, "batch_too_large")


# --- who may send ----------------------------------------------------------------------------------------------------


def test_without_the_key_nothing_is_read(people: Flow, refused: Expect) -> None:
    """401 for a receiver that is not signed."""
    for headers in (JSON, {**JSON, "x-functions-key": "wrong"}):
        refused(people, lambda headers=headers: people.send("crm", b"{", headers), 401, "unauthorized")


def test_an_unknown_source_is_not_found(people: Flow, refused: Expect) -> None:
    """404, and so is reading from a function that only takes."""
    refused(people, lambda: people.post("nobody", {}), 404, "not_found")
    refused(people, lambda: people.get("crm_receive_event"), 404, "not_found")


def shop_body(**fields: Any) -> bytes:
    """A customer as the shop's webhook sends it."""
    customer = {"id": 1, "updated_at": "2026-01-01T00:00:00-05:00", "tags": "vip, person-40", "email": "a@example.org"}
    return orjson.dumps({**customer, **fields})


def test_a_signed_webhook_needs_no_key(people: Flow) -> None:
    """HMAC-SHA256 in base64 over the raw body, as the shop signs it."""
    body = shop_body()
    answer = people.send("shop", body, shop_signature(body))
    assert answer.status_code == 202
    assert answer.json()["events"][0]["event_id"] == "shop:1-2026-01-01T00:00:00-05:00:1"


def _hex_signature(body: bytes, secret: str = accounts.SECRET) -> str:
    return hmac.digest(secret.encode(), body, "sha256").hex()


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        pytest.param(None, "signature_missing", id="missing"),
        pytest.param("", "signature_missing", id="empty"),
        pytest.param(shop_signature(b"another body")["X-Shopify-Hmac-Sha256"], "signature_wrong", id="of another body"),
        pytest.param(
            shop_signature(shop_body(), CANARY)["X-Shopify-Hmac-Sha256"], "signature_wrong", id="of another secret"
        ),
        pytest.param(_hex_signature(shop_body(), "secret-of-the-shop"), "signature_malformed", id="in hexadecimal"),
        pytest.param(CANARY, "signature_malformed", id="no signature"),
        pytest.param("AAAA", "signature_malformed", id="too short"),
    ],
)
def test_a_bad_signature_is_refused(people: Flow, refused: Expect, signature: str | None, code: str) -> None:
    """401 before the body is looked at; a function key does not help."""
    headers = {**KEYED} if signature is None else {**KEYED, "X-Shopify-Hmac-Sha256": signature}
    refused(people, lambda: people.send("shop", shop_body(), headers), 401, code)


def test_the_signature_is_checked_before_the_body_is_parsed(people: Flow, refused: Expect) -> None:
    """Somebody who cannot sign learns nothing about what a body should look like."""
    headers = {**JSON, "X-Shopify-Hmac-Sha256": shop_signature(b"{}")["X-Shopify-Hmac-Sha256"]}
    refused(people, lambda: people.send("shop", CANARY.encode(), headers), 401, "signature_wrong")


def test_a_signature_in_hexadecimal(notes: Flow, refused: Expect) -> None:
    """With prefix, of the present or the previous secret; base64 is not accepted there."""
    for number, secret in enumerate((accounts.SECRET, accounts.OLD_SECRET)):
        body = orjson.dumps(note("hexed", meta={"id": number}))
        headers = {**JSON, "X-Hub-Signature-256": f"sha256={_hex_signature(body, secret)}"}
        assert notes.send("hexed", body, headers).status_code == 202
    base64 = shop_signature(body, accounts.SECRET)["X-Shopify-Hmac-Sha256"]
    for wrong in (base64, f"sha256={base64}", _hex_signature(body)):
        headers = {**JSON, "X-Hub-Signature-256": wrong}
        refused(notes, lambda headers=headers: notes.send("hexed", body, headers), 401, "signature_malformed")


def test_a_signed_time_bounds_replays(notes: Flow, refused: Expect) -> None:
    """A signature over time and body is good for five minutes."""
    body = orjson.dumps(note("stamped", meta={"id": 1}))

    def headers(moment: int) -> Mapping[str, str]:
        stamp = str(moment)
        return {**JSON, "X-Timestamp": stamp, "X-Signature": _hex_signature(f"{stamp}.".encode() + body)}

    now = int(time.time())
    assert notes.send("stamped", body, headers(now)).status_code == 202
    refused(notes, lambda: notes.send("stamped", body, headers(now - 400)), 401, "signature_expired")
    forged = {**headers(now - 400), "X-Timestamp": str(now)}
    refused(notes, lambda: notes.send("stamped", body, forged), 401, "signature_wrong")


def test_a_secret_that_is_not_set_closes_the_receiver(notes: Flow, refused: Expect) -> None:
    """503 names the setting; it does not let anybody in, and the other receivers work."""
    document = refused(notes, lambda: notes.send("unset", b"{}", JSON), 503, "not_configured")
    assert "A_SETTING_NOBODY_SET" in document["detail"]
    assert notes.post("keyless", note("others")).status_code == 202


# --- trouble with the store ------------------------------------------------------------------------------------------


def _impatient(directory: Path) -> Runtime:
    return open_flow(directory, events=impatient_events(directory))


def test_a_database_locked_by_another_process_is_503(tmp_path: Path, refused: Expect) -> None:
    """With Retry-After; once it is free, the same delivery is accepted."""
    with serving(_impatient(tmp_path)) as flow:
        other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answers: list[requests.Response] = []

        def deliver() -> requests.Response:
            answers.append(flow.post("crm", change(person=50)))
            return answers[-1]

        refused(flow, deliver, 503, "store_unavailable")
        assert int(answers[0].headers["Retry-After"]) >= 1
        other.execute("ROLLBACK")
        other.close()
        assert deliver().status_code == 202


def test_a_full_disk_is_503_and_keeps_what_was_there(tmp_path: Path, refused: Expect) -> None:
    """Nothing of the delivery is stored; when there is room again, it is."""
    runtime = _impatient(tmp_path)
    database: Any = runtime.backend.events
    with serving(runtime) as flow:
        flow.post("crm", change(change_id="before", person=51))
        writer = database._database._writer
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count={pages}")
        large = change(change_id="large", person=51, contact={"email": CANARY * 10_000})
        refused(flow, lambda: flow.post("crm", large), 503, "store_unavailable")
        assert flow.post("crm", large).headers["Retry-After"]
        writer.execute("PRAGMA max_page_count=100000")
        assert flow.post("crm", large).status_code == 202
        assert [event.event_id for event in flow.events()] == ["crm:before", "crm:large"]


def test_no_secret_and_no_value_is_logged_when_all_goes_well(people: Flow, heard: Listener) -> None:
    """Accepted deliveries leave no trace of their content in any log line, not even at DEBUG."""
    body = shop_body(email=f"{CANARY}@example.org", id=77)
    assert people.send("shop", body, shop_signature(body)).status_code == 202
    assert people.post("crm", change(change_id=CANARY, person=60)).status_code == 202
    assert CANARY not in heard.text
    assert SHOP_SECRET not in heard.text
    assert KEY not in heard.text
