"""History for people: seals, differences between versions, exported trails."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from functions_app import ExportError
from functions_app.cli import output
from functions_app.export import check_export
from tests.support.command_line import CommandLine
from tests.support.flow import open_flow, serving
from tests.support.people import PEOPLE, people, run, vandalise


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which no cell has to be folded."""
    monkeypatch.setattr(output.console, "width", 250)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return people(tmp_path)


@pytest.fixture
def cli(data: Path) -> CommandLine:
    return CommandLine(data)


# --- seals -----------------------------------------------------------------------------------------------------------


def test_a_seal_finds_what_verifying_alone_cannot(data: Path, cli: CommandLine, tmp_path: Path) -> None:
    """A client cut to nothing, documents included, leaves no trace but in the seal."""
    seal = tmp_path / "seal"
    assert cli.json("seal", seal)["clients"] == PEOPLE
    assert cli.json("verify", "--seal", seal)["results"] == []
    vandalise(data, "DELETE FROM events WHERE client_id = '7'")
    for table in ("records", "audit", "announced", "outbox"):
        run(data / "projections.db", f"DELETE FROM {table} WHERE client_id = '7'")
    assert cli.json("verify")["differing"] == 0
    found = cli.json("verify", "--seal", seal, code=3)
    assert found["results"] == [{"client_id": "7", "version": 1, "problem": "missing"}]


def test_events_after_the_seal_are_no_difference(data: Path, cli: CommandLine, tmp_path: Path) -> None:
    """Nor are clients that came later."""
    seal = tmp_path / "seal"
    cli("seal", seal)
    path = tmp_path / "more.jsonl"
    path.write_bytes(
        orjson.dumps({"change_id": "n", "person": 99, "changed_at": "2026-03-01T12:00:00Z", "contact": {}})
    )
    cli("append", "--source", "crm", "--key", "change_id", path, code=0)
    assert cli.json("verify", "--seal", seal)["results"] == []


def test_sealing_asks_for_nothing_but_streams(data: Path, cli: CommandLine, tmp_path: Path) -> None:
    """Whose documents are left without events is no matter to a seal, so it does not look for them."""
    run(data / "projections.db", "ALTER TABLE audit RENAME TO elsewhere")
    assert cli.json("seal", tmp_path / "seal")["clients"] == PEOPLE


def test_a_file_that_cannot_be_written_is_said(cli: CommandLine, tmp_path: Path) -> None:
    """In one line, with exit code 1."""
    assert "cannot be written" in cli("seal", tmp_path / "nowhere" / "seal", code=1).output
    assert "cannot be written" in cli("export", "5", tmp_path / "nowhere" / "x", code=1).output


# --- diff ------------------------------------------------------------------------------------------------------------


def test_two_versions_are_compared(cli: CommandLine) -> None:
    """Field by field, absent values without a key; the other way round old and new change places."""
    forth = cli.json("diff", "5", 1, 3)
    assert (forth["client_id"], forth["from"], forth["to"]) == ("5", 1, 3)
    assert forth["changes"] == [
        {"sub_schema": "consent", "field": "email", "new": True},
        {"sub_schema": "contact", "field": "email", "old": "a@example.org", "new": "b@example.org"},
    ]
    back = cli.json("diff", "5", 3, 1)
    assert [(change.get("old"), change.get("new")) for change in back["changes"]] == [
        (change.get("new"), change.get("old")) for change in forth["changes"]
    ]
    assert cli.json("diff", "5", 2, 2)["changes"] == []
    assert cli.json("diff", "5", 2, 99)["to"] == 3
    assert "contact.email" in cli("diff", "5", 1, 2).output
    cli("diff", "nobody", 1, 2, code=1)


def test_two_versions_are_compared_over_http(data: Path, cli: CommandLine) -> None:
    """The same document as on the command line; parameters that are missing are named."""
    with serving(open_flow(data)) as flow:
        answer = flow.get("clients/5/diff", **{"from": 1, "to": 3})
        assert (answer.status_code, answer.json()) == (200, cli.json("diff", "5", 1, 3))
        assert flow.get("clients/5/diff", to=3).status_code == 400
        assert "to" in flow.get("clients/5/diff", **{"from": 3}).json()["detail"]
        assert flow.get("clients/99/diff", **{"from": 1, "to": 3}).status_code == 404


# --- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def export(cli: CommandLine, tmp_path: Path) -> Path:
    path = tmp_path / "export.jsonl"
    cli("export", "5", path)
    return path


def test_an_export_is_a_whole_trail(export: Path, cli: CommandLine) -> None:
    """Each event with what it did, the record, where the integrations stand; it fits together without a database."""
    kinds = [orjson.loads(line)["kind"] for line in export.read_bytes().splitlines()]
    assert kinds[:8] == ["trail", "event", "audit", "event", "audit", "event", "audit", "record"]
    assert kinds[-1] == "end"
    assert export.stat().st_mode & 0o077 == 0
    found = CommandLine(export.parent / "elsewhere").json("verify", "--export", export)
    assert (found["client_id"], found["events"], found["version"], found["problems"]) == ("5", 3, 3, [])
    assert not (export.parent / "elsewhere").exists()


def test_nobody_has_no_export(cli: CommandLine, tmp_path: Path) -> None:
    """An error, and no file."""
    cli("export", "nobody", tmp_path / "x", code=1)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines[:3], *lines[4:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:1], lines[1].replace(b"a@example", b"z@example"), *lines[2:]],
        lambda lines: [b"nonsense\n", *lines],
        lambda lines: lines[1:],
        lambda _: [],
    ],
)
def test_a_changed_export_is_refused(export: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """By the hash over the whole, before anything in it is believed."""
    export.write_bytes(b"".join(change(export.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ExportError):
        check_export(export)


def forge(path: Path, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change lines and work the hash over the whole out anew."""
    documents = [orjson.loads(line) for line in path.read_bytes().splitlines()][:-1]
    edit(documents)
    body = b"".join(orjson.dumps(document) + b"\n" for document in documents)
    end = {"kind": "end", "lines": len(documents), "hash": sha256(body).hexdigest()}
    path.write_bytes(body + orjson.dumps(end) + b"\n")


def _set(line: int, *path: Any) -> Callable[[list[dict[str, Any]]], None]:
    def edit(documents: list[dict[str, Any]]) -> None:
        inner: Any = documents[line]
        for part in path[:-2]:
            inner = inner[part]
        inner[path[-2]] = path[-1]

    return edit


def _put_record_before_last_event(documents: list[dict[str, Any]]) -> None:
    """As it was then."""
    record, audit = documents.pop(7), documents[4]
    del record["values"]["consent"]
    documents.insert(5, {**record, "version": audit["version"], "event_hash": audit["event_hash"]})


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (_set(1, "data", "email", "z"), "event 1: changed"),
        (lambda documents: documents.pop(3), "event 2: missing"),
        (lambda documents: documents.pop(4), "audit 2: missing"),
        (_set(4, "changes", 0, "new", "z"), "record: contact is not what replaying the audit gives"),
        (_set(4, "event_hash", "z"), "audit 2: is not about the event before it"),
        (_set(7, "values", "contact", "email", "z"), "record: contact is not what replaying the audit gives"),
        (_set(7, "version", 2), "record: is not at the version of the last audit entry"),
        (_set(7, "client_id", "6"), "record: a line is of another client"),
        (lambda documents: documents[7].pop("values"), "record: a line does not have the form of its kind"),
        *[
            (_set(4, name, "2026-01-01T00:00:00.000000Z"), f"audit 2: {name} is not what the event says")
            for name in ("event_id", "event_type", "source", "occurred_at", "recorded_at")
        ],
        (lambda documents: documents.pop(7), "record: missing"),
        (lambda documents: documents.insert(7, documents[7]), "record: there are several"),
        (_put_record_before_last_event, "record: is not at the version of the last audit entry"),
        (_set(7, "kind", "recrod"), "recrod: a line of a kind that no export has"),
        (lambda documents: documents.insert(1, documents[0]), "trail: a line of a kind that no export has"),
    ],
)
def test_a_forged_export_does_not_fit_together(export: Path, cli: CommandLine, edit: Any, problem: str) -> None:
    """Whoever works the hash over the whole out anew still has to make events, audit and record agree."""
    forge(export, edit)
    assert problem in check_export(export).problems
    assert cli.json("verify", "--export", export, code=3)["problems"]


def test_a_time_that_lies_ahead_fits_together(data: Path, cli: CommandLine, tmp_path: Path) -> None:
    """The audit then holds the time that counted, which is not the one in the event."""
    path = tmp_path / "more.jsonl"
    change = {"change_id": "n", "person": 5, "changed_at": "2126-03-01T12:00:00Z", "contact": {"phone": "2"}}
    path.write_bytes(orjson.dumps(change))
    cli("append", "--source", "crm", "--key", "change_id", path)
    cli("project")
    assert cli.json("audit", "5")["entries"][-1]["note"] == "clamped"
    cli("export", "5", tmp_path / "export")
    assert cli.json("verify", "--export", tmp_path / "export")["problems"] == []


def test_before_a_rebuild_an_export_holds_what_is_served(data: Path, tmp_path: Path) -> None:
    """A new version of the rules has no record yet; the one that readers get is exported, with its audit."""
    new, path = CommandLine(data, {"CLIENT_FLOW_DOMAIN": "tests.support.newer:domain"}), tmp_path / "export"
    assert new.json("export", "5", path)["version"] == 3
    documents = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert documents[0]["generation"] == "people.v1"
    assert [document["kind"] for document in documents].count("audit") == 3
    found = new.json("verify", "--export", path)
    assert (found["version"], found["problems"]) == (3, [])
    new("rebuild")
    new("export", "5", path)
    assert orjson.loads(path.read_bytes().splitlines()[0])["generation"] == "people.v2"
    assert new.json("verify", "--export", path)["problems"] == []


def test_an_export_without_a_record_says_so(data: Path, cli: CommandLine, tmp_path: Path) -> None:
    """Events that nobody has folded yet are whole all the same."""
    path = tmp_path / "more.jsonl"
    change = {"change_id": "n", "person": 99, "changed_at": "2026-03-01T12:00:00Z", "contact": {"phone": "2"}}
    path.write_bytes(orjson.dumps(change))
    cli("append", "--source", "crm", "--key", "change_id", path)
    assert "1 events, no record" in cli("export", "99", tmp_path / "export").stdout
    assert "1 events, no record; it is whole" in cli("verify", "--export", tmp_path / "export").stdout
    assert cli.json("verify", "--export", tmp_path / "export")["version"] is None


def test_a_forger_of_nothing_is_not_found(export: Path) -> None:
    """The forging itself is no problem, so what the tests above find is the forgery."""
    forge(export, lambda _: None)
    assert check_export(export).problems == ()
