"""Query functions over HTTP: record, as of, audit, blame, deliveries, lag and health."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from functions_app import Delivered
from functions_app.lag import Health, measure_lag
from functions_app.progress import NotedCheckpoints
from functions_app.sample import domain as sample
from integrations import LogEntry, SqliteDeliveryStore, open_deliveries
from projections import FeedFollower
from tests.support.flow import Clock, Flow, listening, open_flow, serving

DAY = "2026-03-0{}T12:00:00Z"


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """The sample with one person's history, projected but not delivered."""
    with serving(open_flow(tmp_path_factory.mktemp("queries"))) as running:
        changes: list[dict[str, Any]] = [
            {"change_id": "c-1", "name": {"given": "Ana", "family": "Ruiz"}, "contact": {"email": "a1@example.org"}},
            {"change_id": "c-2", "contact": {"email": "a2@example.org", "phone": "+34 1"}},
            {"change_id": "c-3", "consent": {"channel": "email", "given": True}},
        ]
        for change in changes:
            day = DAY.format(change["change_id"][-1])
            assert running.post("crm", {"person": 1, "changed_at": day, **change}).status_code == 202
        running.fire("sweep")
        yield running


def refused(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document."""
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    return document


# --- the record ------------------------------------------------------------------------------------------------------


def test_the_record_is_shown_by_sub_schema(flow: Flow) -> None:
    """With its version, when that was recorded, and the generation that made it; never cached on the way."""
    answer = flow.get("clients/1")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    record = answer.json()
    assert record["record"] == {
        "identity": {"given_name": "Ana", "surname": "Ruiz", "date_of_birth": None, "social_security_id": None},
        "address": None,
        "contact": {"email": "a2@example.org", "phone": "+34 1"},
        "consent": {"email": True, "phone": None},
    }
    assert (record["client_id"], record["version"], record["generation"]) == ("1", 4, "people.v1")
    assert record["recorded_at"] == flow.events()[3].recorded_at
    assert record["parked"] is None


def test_a_writer_reads_what_it_wrote(flow: Flow) -> None:
    """With min_version the record is brought there first, though nothing projects on its own here."""
    change = {"change_id": "ryw", "person": 2, "changed_at": DAY.format(1), "contact": {"email": "b@example.org"}}
    [event] = flow.post("crm", change).json()["events"]
    refused(flow.get("clients/2"), 404, "unknown_client")
    record = flow.get("clients/2", min_version=event["version"]).json()
    assert record["version"] == event["version"]
    assert record["record"]["contact"]["email"] == "b@example.org"


def test_a_version_that_does_not_exist_yet_is_a_conflict(flow: Flow) -> None:
    """409: waiting may help, the record as it is would be a lie."""
    document = refused(flow.get("clients/1", min_version=99), 409, "version_ahead")
    assert "99" in document["detail"]


def test_a_question_leaves_nothing_behind(flow: Flow) -> None:
    """Asking for a version of somebody who is not there, under whatever text, makes no record and parks nobody."""
    for client_id in ("4711", "no-number"):
        refused(flow.get(f"clients/{client_id}", min_version=1), 409, "version_ahead")
        refused(flow.get(f"clients/{client_id}"), 404, "unknown_client")


def test_a_version_behind_a_parked_event_tells_why(flow: Flow) -> None:
    """409 with the event at which the client is parked."""
    change = {"person": 3, "changed_at": DAY.format(1)}
    flow.post("crm", {**change, "change_id": "p-1", "consent": {"channel": "fax", "given": True}})
    flow.post("crm", {**change, "change_id": "p-2", "contact": {"email": "c@example.org"}})
    document = refused(flow.get("clients/3", min_version=2), 409, "parked")
    assert document["parked"]["version"] == 1
    assert document["parked"]["code"] == "invalid_evolution"
    assert document["parked"]["problems"] == ["consent.fax: not in the schema"]
    assert flow.get("clients/3").json()["parked"]["waiting_for"] == 2


@pytest.mark.parametrize("path", ["", "/audit", "/blame", "/deliveries", "/as-of?version=1"])
def test_nobody_is_not_found(flow: Flow, path: str) -> None:
    """404 for a client without events, whatever is asked about it."""
    refused(flow.get(f"clients/4711{path}"), 404, "unknown_client")


@pytest.mark.parametrize("client", ["a b", "x' OR '1'='1", "~zz", "a" * 97, "é"])
@pytest.mark.parametrize("path", ["", "/audit", "/blame", "/deliveries", "/as-of?version=1"])
def test_a_text_that_is_no_client_id_is_refused(flow: Flow, client: str, path: str) -> None:
    """Defect 7: a quote in an id is neither an error of the query nor a question about everybody."""
    with listening() as heard:
        answer = flow.get(f"clients/{quote(client, safe='')}{path}")
        document = refused(answer, 422, "invalid_client_id")
        assert client not in document["detail"]
    assert client not in "\n".join(line for line in heard.lines if "urllib3" not in line)


# --- as it was -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "email", "consent"), [(2, "a1@example.org", None), (3, "a2@example.org", None)])
def test_the_record_as_of_a_version(flow: Flow, version: int, email: str, consent: Any) -> None:
    """As it was right after that event."""
    record = flow.get("clients/1/as-of", version=version).json()
    assert record["version"] == version
    assert record["record"]["contact"]["email"] == email
    assert record["record"]["consent"] == consent


def test_the_record_as_of_a_time(flow: Flow) -> None:
    """As it was known then: the time of recording counts, not that of the facts; any offset is understood."""
    second = datetime.fromisoformat(flow.events()[1].recorded_at)
    for moment in (second.isoformat(), second.astimezone().isoformat(), second.isoformat().replace("+00:00", "Z")):
        record = flow.get("clients/1/as-of", time=moment).json()
        assert record["version"] == 2
        assert record["record"]["contact"]["email"] == "a1@example.org"
    refused(flow.get("clients/1/as-of", time="2020-01-01T00:00:00Z"), 404, "unknown_client")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"version": "0"},
        {"version": "-1"},
        {"version": "1.5"},
        {"version": "\N{SUPERSCRIPT TWO}"},
        {"version": "9" * 40},
        {"version": "1", "time": "2026-01-01T00:00:00Z"},
        {"time": "yesterday"},
        {"time": "2026-01-01T00:00:00"},
        {"time": "2026-02-30T00:00:00Z"},
        {"time": "0001-01-01T00:00:00+14:00"},
        {"time": "9999-12-31T23:59:59-14:00"},
    ],
    ids=str,
)
def test_as_of_needs_one_version_or_one_time(flow: Flow, parameters: dict[str, str]) -> None:
    """400 for anything else, without repeating what came."""
    document = refused(flow.get("clients/1/as-of", **parameters), 400, "invalid_parameter")
    assert not any(len(value) > 2 and value in document["detail"] for value in parameters.values())


# --- audit, blame, deliveries ----------------------------------------------------------------------------------------


def test_the_audit_trail_has_an_entry_for_each_event(flow: Flow) -> None:
    """Old and new value, event, rule, source and times."""
    entries = flow.get("clients/1/audit").json()["entries"]
    assert [entry["version"] for entry in entries] == [1, 2, 3, 4]
    third = entries[2]
    assert (third["event_id"], third["event_type"]) == ("crm:c-2", "person.contact_changed")
    assert (third["rule"], third["source"]) == ("change_contact", "crm")
    assert third["occurred_at"] == "2026-03-02T12:00:00.000000Z"
    assert third["recorded_at"] == flow.events()[2].recorded_at
    assert third["changes"] == [
        {"sub_schema": "contact", "field": "email", "old": "a1@example.org", "new": "a2@example.org"},
        {"sub_schema": "contact", "field": "phone", "new": "+34 1"},
    ]


@pytest.mark.parametrize(
    ("filters", "versions"),
    [
        ({"sub_schema": "contact"}, [2, 3]),
        ({"sub_schema": "contact", "field": "phone"}, [3]),
        ({"field": "email"}, [2, 3, 4]),
        ({"event_type": "person.identified"}, [1]),
        ({"source": "crm"}, [1, 2, 3, 4]),
        ({"source": "shop"}, []),
        ({"sub_schema": "contact", "source": "shop"}, []),
    ],
    ids=str,
)
def test_the_audit_trail_is_filtered(flow: Flow, filters: dict[str, str], versions: list[int]) -> None:
    """By sub-schema, field, event type and source, alone and together."""
    entries = flow.get("clients/1/audit", **filters).json()["entries"]
    assert [entry["version"] for entry in entries] == versions


def test_the_audit_trail_is_filtered_by_time(flow: Flow) -> None:
    """From a recorded time on, up to another, which is not included."""
    times = [event.recorded_at for event in flow.events()[:4]]

    def versions(**filters: str) -> list[int]:
        return [entry["version"] for entry in flow.get("clients/1/audit", **filters).json()["entries"]]

    assert versions(since=times[2]) == [number for number in range(1, 5) if times[number - 1] >= times[2]]
    assert versions(until=times[2]) == [number for number in range(1, 5) if times[number - 1] < times[2]]
    assert versions(since="2020-01-01T00:00:00Z", until="2020-01-02T00:00:00Z") == []


def test_the_audit_trail_comes_in_pages(flow: Flow) -> None:
    """Each page's cursor continues after it, for the same question only."""
    versions: list[int] = []
    cursor = None
    for _ in range(3):
        page = flow.get("clients/1/audit", limit=2, field="email", **({"cursor": cursor} if cursor else {})).json()
        versions += [entry["version"] for entry in page["entries"]]
        cursor = page["cursor"]
        if cursor is None:
            break
        refused(flow.get("clients/1/audit", cursor=cursor, field="phone"), 400, "invalid_cursor")
        refused(flow.get("clients/2/audit", cursor=cursor, field="email"), 400, "invalid_cursor")
    assert versions == [2, 3, 4]
    assert cursor is None


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        ("clients/1/audit", {"limit": "many"}, "invalid_parameter"),
        ("clients/1/audit", {"limit": "-1"}, "invalid_parameter"),
        ("clients/1/audit", {"since": "yesterday"}, "invalid_parameter"),
        ("clients/1/audit", {"until": "2026-01-01"}, "invalid_parameter"),
        ("clients/1/audit", {"cursor": "nonsense"}, "invalid_cursor"),
        ("clients/1/audit", {"cursor": "\N{SNOWMAN}"}, "invalid_cursor"),
        ("clients/1/deliveries", {"limit": "x"}, "invalid_parameter"),
        ("clients/1/deliveries", {"cursor": "nonsense"}, "invalid_cursor"),
        ("clients/1", {"min_version": "x"}, "invalid_parameter"),
        ("clients/1", {"min_version": "-1"}, "invalid_parameter"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_named(flow: Flow, path: str, parameters: dict[str, str], code: str) -> None:
    """400, never a page of something else."""
    refused(flow.get(path, **parameters), 400, code)


def test_blame_names_the_event_behind_each_field(flow: Flow) -> None:
    """The last assertion of each field, with source and rule."""
    fields = {
        f"{each['sub_schema']}.{each['field']}": (each["value"], each["event_id"], each["version"], each["rule"])
        for each in flow.get("clients/1/blame").json()["fields"]
    }
    assert fields == {
        "identity.given_name": ("Ana", "crm:c-1:1", 1, "identify"),
        "identity.surname": ("Ruiz", "crm:c-1:1", 1, "identify"),
        "contact.email": ("a2@example.org", "crm:c-2", 3, "change_contact"),
        "contact.phone": ("+34 1", "crm:c-2", 3, "change_contact"),
        "consent.email": (True, "crm:c-3", 4, "give_consent"),
    }


def test_a_page_of_deliveries_is_bounded(tmp_path: Path) -> None:
    """However many are asked for, at most 500 come at once, with a cursor."""
    runtime = open_flow(tmp_path)
    runtime.intake.accept(sample.source("crm"), Delivered(_contact(1, "a")))
    runtime.sweep()
    store = runtime.backend.deliveries
    for number in range(1, 503):
        held = store.load("1", "crm")
        assert held is not None
        entry = LogEntry("1", "crm", number, "2026-03-01T12:00:00.000000Z", 1, "send", "retry", "http_503")
        assert store.save(held.state._replace(entries=number), held.tag, entry=entry) is not None
    with serving(runtime) as flow:
        page = flow.get("clients/1/deliveries", limit=999_999_999).json()
        assert len(page["log"]) == 500
        rest = flow.get("clients/1/deliveries", limit=0, cursor=page["cursor"]).json()
        assert len(rest["log"]) == 1


def test_deliveries_show_where_the_client_stands(flow: Flow) -> None:
    """What each integration wants and has; without its settings an integration pauses and says what is missing."""
    states = {each["integration"]: each for each in flow.get("clients/1/deliveries").json()["states"]}
    assert set(states) == {"crm", "mailing"}
    assert states["crm"]["wanted"] >= 1
    assert states["crm"]["delivered"] == 0
    flow.fire("deliver_due")
    page = flow.get("clients/1/deliveries", integration="crm").json()
    assert [(entry["integration"], entry["verdict"], entry["code"]) for entry in page["log"]] == [
        ("crm", "pause", "setting_missing")
    ]
    assert "CRM_URL" in page["log"][0]["answer"]
    flow.runtime.deliverer.resume("crm")
    flow.runtime.deliverer.resume("mailing")


# --- lag and health --------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quiet(tmp_path: Path, clock: Clock) -> Iterator[Flow]:
    """The sample without any client."""
    with serving(open_flow(tmp_path, clock=clock)) as running:
        yield running


def _contact(person: int, change_id: str) -> dict[str, Any]:
    return {
        "person": person,
        "change_id": change_id,
        "changed_at": DAY.format(1),
        "contact": {"email": "x@example.org"},
    }


def _health(flow: Flow, clock: Clock) -> tuple[int, str]:
    clock.ahead += timedelta(seconds=6)  # a measurement is good for five
    answer = requests.get(f"{flow.url}/health", timeout=10)  # needs no key
    return answer.status_code, answer.json()["status"]


def test_lag_counts_what_waits(quiet: Flow, clock: Clock) -> None:
    """Events to project, their age, and what is to be published and delivered."""
    assert quiet.get("lag").json() == {
        "events": 0,
        "seconds": 0.0,
        "stalled": False,
        "parked": 0,
        "unpublished": 0,
        "overdue": False,
        "deliveries": {
            name: {"waiting": 0, "seconds": 0.0, "failed": 0, "paused": None} for name in ("crm", "mailing")
        },
        "differing": 0,
        "status": "ok",
        "problems": [],
    }
    quiet.post("crm", [_contact(1, "a"), _contact(2, "b")])
    clock.ahead += timedelta(seconds=100)
    lag = quiet.get("lag").json()
    assert lag["events"] == 2
    assert 90 < lag["seconds"] < 110
    quiet.fire("sweep")
    lag = quiet.get("lag").json()
    assert (lag["events"], lag["seconds"], lag["unpublished"]) == (0, 0.0, 0)
    assert lag["deliveries"]["crm"]["waiting"] == 2
    assert (lag["status"], lag["problems"]) == ("ok", [])


def _status(flow: Flow) -> tuple[str, list[str]]:
    lag = flow.get("lag").json()
    return lag["status"], lag["problems"]


def test_health_is_red_while_projecting_is_stalled(quiet: Flow, clock: Clock) -> None:
    """When the oldest event has waited for more than five minutes and nobody moves the cursor."""
    quiet.post("crm", _contact(1, "a"))
    assert _health(quiet, clock) == (200, "ok")
    clock.ahead += timedelta(minutes=6)
    assert _health(quiet, clock) == (503, "red")
    assert _status(quiet) == ("red", ["projecting is stalled"])
    quiet.fire("sweep")
    assert _health(quiet, clock) == (200, "ok")


def test_health_is_yellow_while_a_backlog_is_worked_off(quiet: Flow, clock: Clock) -> None:
    """Old events behind a cursor that moves are no standstill; once it has not moved for five minutes, they are."""
    quiet.post("crm", [_contact(number, str(number)) for number in range(1, 4)])
    clock.ahead += timedelta(minutes=6)
    follower = FeedFollower(
        quiet.runtime.projector,
        quiet.runtime.backend.feed,
        NotedCheckpoints(quiet.runtime.backend.checkpoints, clock),
        page=1,
    )
    left = iter([False, True])
    follower.sweep(stop=lambda: next(left))
    assert _health(quiet, clock) == (200, "yellow")
    assert _status(quiet) == ("yellow", ["projecting is behind"])
    clock.ahead += timedelta(minutes=6)
    assert _health(quiet, clock) == (503, "red")
    quiet.fire("sweep")
    assert _health(quiet, clock) == (200, "ok")


def test_health_is_red_while_announcements_wait(tmp_path: Path, clock: Clock) -> None:
    """An outbox entry that nobody has published for more than five minutes."""
    database = open_deliveries(tmp_path / "closed")
    closed = SqliteDeliveryStore(database)
    database.close()
    broken = open_flow(tmp_path / "data", clock=clock, deliveries=closed)
    broken.intake.accept(sample.source("crm"), Delivered(_contact(1, "a")))
    broken.sweep()
    with serving(open_flow(tmp_path / "data", clock=clock)) as flow:
        assert flow.get("lag").json()["unpublished"] == 1
        assert _health(flow, clock) == (200, "ok")
        clock.ahead += timedelta(minutes=6)
        assert _health(flow, clock) == (503, "red")
        assert _status(flow) == ("red", ["announcements are not published"])
        flow.fire("sweep")
        assert _health(flow, clock) == (200, "ok")


def test_a_lag_that_cannot_be_told_stops_nobody(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Projecting goes on while the deliveries are out of reach; health says that a store is."""
    database = open_deliveries(tmp_path / "closed")
    closed = SqliteDeliveryStore(database)
    database.close()
    with serving(open_flow(tmp_path / "data", clock=clock, deliveries=closed)) as flow:
        flow.post("crm", _contact(1, "a"))
        assert flow.fire("sweep").status_code == 202
        assert flow.get("clients/1").json()["version"] == 1
        assert requests.get(f"{flow.url}/health", timeout=10).status_code == 503
    assert "cannot be told: StoreUnavailableError" in caplog.text


def test_a_problem_is_logged_by_the_sweep(quiet: Flow, caplog: pytest.LogCaptureFixture) -> None:
    """So that logs alone are enough to be alarmed by."""
    quiet.fire("sweep")
    assert "Status" not in caplog.text
    quiet.runtime.deliverer.pause("mailing", "its owner asked for it")
    quiet.fire("sweep")
    assert "Status red: integration mailing is paused" in caplog.text


def test_health_is_yellow_while_deliveries_are_behind(tmp_path: Path, clock: Clock) -> None:
    """When the first of them has been due for more than a quarter of an hour."""
    runtime = open_flow(tmp_path, clock=clock)  # without a host, whose timer might deliver
    runtime.intake.accept(sample.source("crm"), Delivered(_contact(1, "a")))
    runtime.sweep()
    health = Health(lambda: runtime)
    assert health.status() == "ok"
    clock.ahead += timedelta(minutes=16)
    assert health.status() == "yellow"
    assert measure_lag(runtime).problems == ["deliveries to crm are behind", "deliveries to mailing are behind"]


def test_health_is_measured_at_most_every_five_seconds(quiet: Flow, clock: Clock) -> None:
    """Anybody may ask, so asking must not cost a database more than that."""
    assert _health(quiet, clock) == (200, "ok")
    quiet.runtime.deliverer.pause("mailing", "its owner asked for it")
    assert requests.get(f"{quiet.url}/health", timeout=10).json() == {"status": "ok"}
    assert _status(quiet)[0] == "red"  # whoever may look into it sees it at once
    assert _health(quiet, clock) == (503, "red")


def test_health_is_yellow_while_a_client_is_parked(quiet: Flow, clock: Clock) -> None:
    """Until somebody annuls the event: all other clients go on."""
    change = {"person": 1, "changed_at": DAY.format(1), "change_id": "p", "consent": {"channel": "fax", "given": True}}
    quiet.post("crm", change)
    quiet.fire("sweep")
    assert _health(quiet, clock) == (200, "yellow")
    assert _status(quiet) == ("yellow", ["clients are parked"])
    quiet.runtime.annul("1", 1, reason="there is no such channel", by="test")
    assert _health(quiet, clock) == (200, "ok")


def test_health_is_red_while_an_integration_is_paused(quiet: Flow, clock: Clock) -> None:
    """Whoever paused it; the lag tells which and why, health does not."""
    quiet.runtime.deliverer.pause("mailing", "its owner asked for it")
    assert _health(quiet, clock) == (503, "red")
    lag = quiet.get("lag").json()
    assert (lag["status"], lag["problems"]) == ("red", ["integration mailing is paused"])
    assert lag["deliveries"]["mailing"]["paused"] == "its owner asked for it"
    quiet.runtime.deliverer.resume("mailing")
    assert _health(quiet, clock) == (200, "ok")


def test_queries_need_the_key_and_health_does_not(flow: Flow) -> None:
    """Personal data is never shown to anybody; whether all is well is."""
    for path in ("clients/1", "clients/1/audit", "clients/1/blame", "clients/1/deliveries", "lag"):
        assert requests.get(f"{flow.url}/{path}", timeout=10).status_code == 401
    answer = requests.get(f"{flow.url}/health", timeout=10)
    assert set(answer.json()) == {"status"}
