"""The sample domain: what its sources mean, what its targets get, and that it can be copied and be somebody's own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import pytest

import functions_app.sample
from eventstore import Event
from functions_app import Fact, InputRefusedError, Runtime
from functions_app.intake import Delivered
from functions_app.sample import domain
from tests.support.command_line import COMMAND
from tests.support.flow import open_flow

BODIES = files("functions_app.sample") / "bodies"


def facts(source: str, document: Any) -> list[Fact]:
    """What a source tells with a payload."""
    declared = domain.source(source)
    return list(declared.process(declared.payload.model_validate(document)))


def shown(found: list[Fact]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Client, class of the event, and what it tells."""
    return [
        (
            str(fact.client_id),
            type(fact.event).__name__,
            {name: value for name, value in fact.event if value is not None},
        )
        for fact in found
    ]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return open_flow(tmp_path)


def test_a_change_of_the_crm_tells_what_changed() -> None:
    """A fact for each part, at the time of the change."""
    found = facts("crm", orjson.loads((BODIES / "crm.jsonl").read_text("utf-8").splitlines()[0]))
    assert shown(found) == [
        ("1001", "PersonIdentified", {"given_name": "Ana", "surname": "Díaz", "date_of_birth": date(1990, 2, 28)}),
        ("1001", "ContactChanged", {"email": "ana@crm.example", "phone": "+34 600 000 001"}),
    ]
    assert {fact.occurred_at for fact in found} == {datetime(2026, 11, 2, 8, tzinfo=UTC)}


def test_a_change_of_the_crm_without_parts_tells_nothing() -> None:
    """It is accepted all the same."""
    assert facts("crm", {"change_id": "x", "person": 1, "changed_at": "2026-01-01T00:00:00Z"}) == []


@pytest.mark.parametrize(("given", "event"), [(True, "ConsentGiven"), (False, "ConsentWithdrawn")])
def test_a_decision_of_the_crm(given: bool, event: str) -> None:  # noqa: FBT001 - a case, not an option
    """Given and withdrawn are two kinds of event."""
    body = {"change_id": "x", "person": 1, "changed_at": "2026-01-01T00:00:00Z"}
    [(_, kind, told)] = shown(facts("crm", {**body, "consent": {"channel": "email", "given": given}}))
    assert (kind, told) == (event, {"channel": "email"})


SHOP: dict[str, Any] = orjson.loads((BODIES / "shop.json").read_bytes())


def test_a_customer_of_the_shop_tells_everything_it_knows() -> None:
    """What is not used of the public shape is ignored."""
    assert shown(facts("shop", SHOP)) == [
        ("1001", "PersonIdentified", {"given_name": "Ana", "surname": "Díaz"}),
        ("1001", "ContactChanged", {"email": "ana.diaz@shop.example", "phone": "+34600000002"}),
        (
            "1001",
            "PersonMoved",
            {"street": "Calle Mayor 1", "city": "Madrid", "postcode": "28013", "state": "M"},
        ),
    ]


@pytest.mark.parametrize(
    ("state", "event"),
    [("subscribed", ["ConsentGiven"]), ("unsubscribed", ["ConsentWithdrawn"]), ("pending", []), ("not_subscribed", [])],
)
def test_consent_in_the_shop_has_its_own_time(state: str, event: list[str]) -> None:
    """Only a decision tells something, as of when it was made."""
    consent = {"state": state, "opt_in_level": "single_opt_in", "consent_updated_at": "2026-01-01T00:00:00Z"}
    found = facts("shop", {**SHOP, "email_marketing_consent": consent})[3:]
    assert [type(fact.event).__name__ for fact in found] == event
    assert all(fact.occurred_at == datetime(2026, 1, 1, tzinfo=UTC) for fact in found)


@pytest.mark.parametrize("tags", ["", "vip", "person-", "person-x", "person-1, person-2", None])
def test_a_customer_that_is_nobody_is_refused(runtime: Runtime, tags: str | None) -> None:
    """Without exactly one link to a person nobody knows whose record it is."""
    with pytest.raises(InputRefusedError) as caught:
        runtime.intake.accept(domain.source("shop"), Delivered({**SHOP, "tags": tags}))
    assert [path for path, _ in caught.value.problems] == ["tags"]


def test_a_row_of_the_registry_tells_who_and_where() -> None:
    """Number and street are one text; a row without address tells none."""
    row = {"rec_id": "rec-12-dup-3", "given_name": "imogen", "date_of_birth": "19620814", "changed_at": None}
    assert shown(facts("registry", row)) == [
        ("12", "PersonIdentified", {"given_name": "imogen", "date_of_birth": date(1962, 8, 14)})
    ]
    moved = shown(facts("registry", {**row, "street_number": "14", "address_1": "kestrel street", "postcode": "2615"}))
    assert moved[1] == ("12", "PersonMoved", {"street": "14 kestrel street", "postcode": "2615"})


@pytest.mark.parametrize("rec_id", ["", "rec-1", "rec--org", "rec-x-org", "rec-1-dup-", "x rec-1-org", "rec-1-org\n"])
def test_a_row_of_nobody_is_refused(runtime: Runtime, rec_id: str) -> None:
    """The number of the person is in the name of the entry."""
    with pytest.raises(InputRefusedError) as caught:
        runtime.intake.accept(domain.source("registry"), Delivered({"rec_id": rec_id}, key="k"))
    assert [path for path, _ in caught.value.problems] == ["rec_id"]


def test_an_old_event_is_read_as_a_new_one() -> None:
    """Version 1 had one name; the last word is the surname."""

    def upcast(name: str) -> Event:
        return domain.events.decode("person.identified", 1, {"name": name})

    assert upcast("Ana María Díaz").model_dump(exclude_none=True) == {"given_name": "Ana María", "surname": "Díaz"}
    assert upcast("Cher").model_dump(exclude_none=True) == {"surname": "Cher"}


def test_an_address_is_replaced_as_a_whole(runtime: Runtime) -> None:
    """Half of the old one and half of the new one would be a place where nobody lives."""
    intake, source = runtime.intake, domain.source("registry")
    row = {"rec_id": "rec-1-org", "changed_at": "2026-01-01T00:00:00Z"}
    intake.accept(source, Delivered({**row, "street_number": "1", "suburb": "weston", "postcode": "2615"}))
    intake.accept(source, Delivered({**row, "suburb": "harrow", "changed_at": "2026-01-02T00:00:00Z"}))
    runtime.sweep()
    record = runtime.reader.current("1").model.model_dump()
    assert {name: value for name, value in record["address"].items() if value} == {"city": "harrow"}


def test_who_gets_what(runtime: Runtime) -> None:
    """The CRM everybody, without consent; the mailing system only those who agreed, until they withdraw."""
    runtime.intake.accept(
        domain.source("crm"),
        Delivered(orjson.loads((BODIES / "crm.jsonl").read_text("utf-8").splitlines()[0])),
    )
    runtime.sweep()

    def bodies() -> dict[str, Any]:
        return {name: runtime.deliverer.dry_run("1001", name).body for name in ("crm", "mailing")}

    assert bodies()["mailing"] is None
    assert bodies()["crm"]["surname"] == "Díaz"
    assert "consent" not in bodies()["crm"]
    for day, given in ((3, True), (4, False)):
        consent = {
            "change_id": f"c-{day}",
            "person": 1001,
            "changed_at": f"2026-11-0{day}T00:00:00Z",
            "consent": {"channel": "email", "given": given},
        }
        runtime.intake.accept(domain.source("crm"), Delivered(consent))
        runtime.sweep()
        assert bodies()["mailing"] == ({"email": "ana@crm.example"} if given else None)


def test_the_sample_can_be_copied(tmp_path: Path) -> None:
    """Under another name, with one setting, it takes events, makes records and shows them; none of ours is loaded."""
    shutil.copytree(Path(functions_app.sample.__file__).parent, tmp_path / "ours")
    person = tmp_path / "ours" / "person.py"
    person.write_text(person.read_text("utf-8").replace('Projection("people"', 'Projection("members"'), "utf-8")
    body = BODIES / "crm.jsonl"
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "CLIENT_FLOW_DOMAIN": "ours:domain",
        "CLIENT_FLOW_DATA": str(tmp_path / "data"),
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    appended = run(COMMAND, "append", "--source", "crm", "--key", "change_id", str(body), "--json")
    assert (appended.returncode, orjson.loads(appended.stdout)["appended"]) == (3, 9), appended.stderr
    assert run(COMMAND, "project", "--json").returncode == 3
    viewed = run(COMMAND, "view", "1001", "--json")
    assert viewed.returncode == 0, viewed.stderr
    record = orjson.loads(viewed.stdout)
    assert record["generation"] == "members.v1"
    assert record["record"]["identity"]["surname"] == "Díaz"
    loaded = run(
        sys.executable,
        "-c",
        "import sys, functions_app.function_app; print([m for m in sys.modules if m.startswith('functions_app.sample')])",
    )
    assert loaded.stdout.strip() == "[]", loaded.stderr
