"""History for people: verify and heal an application, seals, differences between versions, exported trails."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import requests

from functions_app import ExportError
from functions_app.cli import output
from functions_app.export import check_export
from functions_app.lag import Status, measure_lag
from functions_app.verifying import all_clients, sample, verify_a_few
from tests.support.command_line import CommandLine
from tests.support.flow import Clock, listening, open_flow, serving

PEOPLE = 12
CANARY = "canary7@example.org"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which no cell has to be folded."""
    monkeypatch.setattr(output.console, "width", 250)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve persons with three events each, projected."""
    path = tmp_path / "changes.jsonl"
    path.write_bytes(
        b"\n".join(
            orjson.dumps({"change_id": f"{person}-{number}", "person": person, **change})
            for person in range(1, PEOPLE + 1)
            for number, change in enumerate(
                (
                    {"changed_at": "2026-03-01T12:00:00Z", "contact": {"email": "a@example.org", "phone": "1"}},
                    {"changed_at": "2026-03-02T12:00:00Z", "contact": {"email": "b@example.org"}},
                    {"changed_at": "2026-03-03T12:00:00Z", "consent": {"channel": "email", "given": True}},
                )
            )
        )
    )
    directory = tmp_path / "data"
    cli = CommandLine(directory)
    cli("append", "--source", "crm", "--key", "change_id", path)
    open_flow(directory).sweep()
    return directory


@pytest.fixture
def cli(data: Path) -> CommandLine:
    return CommandLine(data)


def spoil(data: Path, client_id: str = "5", value: str = CANARY) -> None:
    """Change an e-mail address in a record."""
    run(
        data / "projections.db",
        "UPDATE records SET body = json_set(body, '$.values.contact.email', ?) WHERE client_id = ?",
        value,
        client_id,
    )


def run(database: Path, *statements: Any) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statements[0], statements[1:])


def vandalise(data: Path, statement: str, *parameters: Any) -> None:
    """Change events, which the database refuses until its triggers are gone."""
    for trigger in ("events_never_change", "events_never_vanish", "events_only_continue"):
        run(data / "events.db", f"DROP TRIGGER IF EXISTS {trigger}")
    run(data / "events.db", statement, *parameters)


# --- verify and heal -------------------------------------------------------------------------------------------------


def test_a_sound_application_verifies(cli: CommandLine) -> None:
    """All clients and events are counted; nothing differs; the exit code says so."""
    found = cli.json("verify")
    assert found == {"clients": PEOPLE, "events": 3 * PEOPLE, "differing": 0, "left": 0, "results": []}


def test_a_difference_is_named_mended_and_healthy_again(data: Path, cli: CommandLine) -> None:
    """Document and field, without the value; a dry run changes nothing; health is red until it is mended."""
    spoil(data)
    found = cli.json("verify", code=3)
    assert (found["differing"], found["left"]) == (1, 1)
    [result] = found["results"]
    assert result["client_id"] == "5"
    assert result["found"] == [{"kind": "record", "number": 0, "path": "values.contact.email", "problem": "differs"}]
    assert CANARY not in cli("verify", "5", "--heal", code=3).output
    assert CANARY in cli("verify", "5", "--values", code=3).output
    assert cli.json("lag", code=3)["problems"] == ["clients differ from their events"]
    assert "mended" in cli("verify", "--heal", "--yes").output
    assert cli.json("verify")["differing"] == 0
    assert cli.json("lag")["differing"] == 0


def test_nobody_cannot_be_verified(cli: CommandLine) -> None:
    """A client of whom nothing is stored is a mistake in typing, not a sound client."""
    assert "No event of this client" in cli("verify", "99", code=1).output


def test_workers_find_the_same(data: Path, cli: CommandLine) -> None:
    """Two processes of their own, which open what the environment describes."""
    spoil(data)
    assert cli.json("verify", "--workers", 2, code=3) == cli.json("verify", code=3)


def test_a_sample_is_chosen_by_its_seed(cli: CommandLine, data: Path) -> None:
    """The same seed verifies the same clients, another one others; never more than there are."""
    pages = list(all_clients(open_flow(data)))
    assert sample(pages, 5, seed=1) == sample(pages, 5, seed=1)
    assert len({tuple(sorted(sample(pages, 5, seed=seed))) for seed in range(20)}) > 5
    assert sorted(sample(pages, 99, seed=1)) == sorted(str(person) for person in range(1, PEOPLE + 1))
    assert cli.json("verify", "--sample", 3, "--seed", 1)["clients"] == 3


def test_every_client_is_as_likely_as_another() -> None:
    """Whatever page it stands on."""
    pages = [[str(number) for number in range(start, start + 5)] for start in range(0, 20, 5)]
    chosen = [client_id for seed in range(2000) for client_id in sample(pages, 4, seed=seed)]
    assert all(300 < chosen.count(str(number)) < 500 for number in range(20))


def test_documents_without_events_are_found_and_removed(data: Path, cli: CommandLine) -> None:
    """Leftovers of a client of whom there is no event."""
    run(
        data / "projections.db",
        "INSERT INTO audit SELECT generation, 'nobody', version, body FROM audit WHERE client_id = '1'",
    )
    [result] = cli.json("verify", code=3)["results"]
    assert (result["client_id"], len(result["found"])) == ("nobody", 3)
    cli("verify", "--heal", "--yes")
    assert cli.json("verify")["differing"] == 0


def test_what_nothing_mends_can_be_acknowledged(data: Path, cli: CommandLine) -> None:
    """A broken chain keeps health red until a person says that it is known; something new is red again."""
    vandalise(data, "UPDATE events SET source = 'x' WHERE client_id = '5' AND version = 2")
    cli("verify", "--heal", "--yes", code=3)
    assert cli.json("lag", code=3)["differing"] == 1
    cli("verify", "5", "--acknowledge")
    cli("verify", code=3)
    assert cli.json("lag")["differing"] == 0
    vandalise(data, "UPDATE events SET source = 'x' WHERE client_id = '5' AND version = 3")
    cli("verify", code=3)
    assert cli.json("lag", code=3)["differing"] == 1


def test_the_sweep_verifies_a_few_clients_an_hour(data: Path) -> None:
    """Not more often, whoever asks; in time everybody's turn comes; the log names nobody and no value."""
    clock = Clock()
    runtime = open_flow(data, clock=clock)
    assert verify_a_few(runtime, Random(1)) == 0
    for person in range(1, PEOPLE + 1):
        spoil(data, str(person))
    assert verify_a_few(runtime, Random(1)) == 0, "an hour has not passed"
    clock.ahead = timedelta(hours=1, minutes=1)
    with listening() as heard:
        assert verify_a_few(open_flow(data, clock=clock), Random(1)) == 10
    assert CANARY not in heard.text
    clock.ahead = timedelta()
    assert verify_a_few(open_flow(data, clock=clock), Random(1)) > 0, "a clock that was ahead stops nobody"
    lag = measure_lag(runtime)
    assert (lag.status, lag.problems[0]) == (Status.RED, "clients differ from their events")


def test_the_timer_turns_health_red(data: Path) -> None:
    """The sweep that runs anyway finds it; health asks nobody for anything else."""
    spoil(data)
    for person in range(1, PEOPLE + 1):
        spoil(data, str(person))
    runtime = open_flow(data)
    with serving(runtime) as flow:
        assert measure_lag(runtime).status != Status.RED
        flow.fire("sweep")
        assert requests.get(f"{flow.url}/health", timeout=10).status_code == 503


def test_healing_rings_the_targets_of_a_wrong_record(data: Path, cli: CommandLine) -> None:
    """They may have been given what was wrong: each is due to be looked at again."""
    spoil(data)
    runtime = open_flow(data)
    before = {state.integration: state for state in runtime.backend.deliveries.of_client("5")}
    cli("verify", "--heal", "--yes")
    after = {state.integration: state for state in runtime.backend.deliveries.of_client("5")}
    assert after.keys() >= before.keys()
    assert all(state.due_at is not None for state in after.values())


def test_removing_a_leftover_record_retracts_nothing(data: Path, cli: CommandLine) -> None:
    """Events that were lost by a restore must not make targets forget the client."""
    vandalise(data, "DELETE FROM events WHERE client_id = '5'")
    before = open_flow(data).backend.deliveries.of_client("5")
    cli("verify", "--heal", "--yes")
    assert open_flow(data).backend.deliveries.of_client("5") == before
    cli("view", "5", code=1)


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
    ],
)
def test_a_forged_export_does_not_fit_together(export: Path, cli: CommandLine, edit: Any, problem: str) -> None:
    """Whoever works the hash over the whole out anew still has to make events, audit and record agree."""
    forge(export, edit)
    assert problem in check_export(export).problems
    assert cli.json("verify", "--export", export, code=3)["problems"]


def test_a_forger_of_nothing_is_not_found(export: Path) -> None:
    """The forging itself is no problem, so what the tests above find is the forgery."""
    forge(export, lambda _: None)
    assert check_export(export).problems == ()
