"""Each read of what is known of a client and each operator command leaves an entry before it takes place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions_app import Runtime
from functions_app.references import references_for
from functions_app.sqlite_access import SqliteAccessLog, open_access
from tests.functions_app.test_admission import CHANGE
from tests.support.command_line import CommandLine
from tests.support.flow import Flow, open_flow, serving


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    with serving(open_flow(tmp_path)) as flow:
        flow.post("crm", CHANGE)
        flow.fire("sweep")
        yield flow


def entered(runtime: Runtime) -> list[tuple[str, str, str | None]]:
    return [(entry.who, entry.what, entry.client_ref) for entry in runtime.backend.access.entries()][::-1]


def test_reads_of_a_client_are_entered(flow: Flow) -> None:
    """Also of one that does not exist; lag and health are about nobody, and what is no client id is not looked up."""
    for path in ("1", "1/as-of?version=1", "1/audit", "1/blame", "1/deliveries", "4711", "1/audit?limit=x"):
        flow.get(f"clients/{path}")
    flow.get("clients/a b")
    flow.get("lag")
    flow.get("health")
    client = flow.runtime.references.client("1")
    assert entered(flow.runtime) == [
        *(("key", what, client) for what in ("record", "record_as_of", "audit", "blame", "deliveries")),
        ("key", "record", flow.runtime.references.client("4711")),
        ("key", "audit", client),
    ]


def test_receiving_is_no_access(flow: Flow) -> None:
    """What sources tell has its own trail."""
    assert entered(flow.runtime) == []


@pytest.fixture
def without_log(tmp_path: Path) -> Iterator[Flow]:
    """An application whose access log cannot be written."""
    database = open_access(tmp_path / "closed")
    database.close()
    with serving(open_flow(tmp_path / "data", access=SqliteAccessLog(database))) as flow:
        flow.post("crm", CHANGE)
        flow.fire("sweep")
        yield flow


def test_what_cannot_be_entered_is_not_read(without_log: Flow, caplog: pytest.LogCaptureFixture) -> None:
    """503 without a word of the record, and a line in the log; what is about nobody goes on."""
    for path in ("", "/audit", "/blame", "/deliveries", "/as-of?version=1"):
        answer = without_log.get(f"clients/1{path}")
        assert (answer.status_code, answer.json()["code"]) == (503, "access_not_recorded")
        assert answer.headers["Retry-After"] == "1"
        assert "example.org" not in answer.text
    assert without_log.get("lag").status_code == 200
    assert "An access could not be recorded and is refused: StoreUnavailableError" in caplog.text


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def cli(data: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("LOGNAME", "operator")
    runtime = open_flow(data)
    with serving(runtime) as flow:
        flow.post(
            "crm", [CHANGE, {**CHANGE, "change_id": "c-2", "person": 2, "consent": {"channel": "fax", "given": True}}]
        )
        flow.fire("sweep")
        assert flow.post("crm", {"nothing": 1}).status_code == 422
    return CommandLine(data)


def accesses(cli: CommandLine, *arguments: object) -> list[dict[str, Any]]:
    """What `client-flow access` lists, oldest first, without the listing itself."""
    entries: list[dict[str, Any]] = cli.json("access", *arguments)["entries"]
    return entries[1:][::-1]


def test_commands_are_entered(cli: CommandLine, data: Path) -> None:
    """Who typed it, what it did and to whom; reads of a client, too. What only shows what would be done is not."""
    one, two = (references_for(open_flow(data).settings).client(client) for client in ("1", "2"))
    cli("view", 1)
    cli("audit", 1)
    cli("blame", 1)
    cli("deliveries", 1)
    cli("deliver", "crm", "--dry-run", 1)
    cli("retry", code=3)
    cli("retry", 1, "--integration", "crm")
    cli("annul", 2, 2, "--reason", "no such channel")  # a dry run
    cli("annul", 2, 2, "--reason", "no such channel", "--yes")
    cli("pause", "crm")
    cli("resume", "crm")
    cli("project", "--refold", 1)  # a dry run
    cli("project", "--refold", 1, "--yes")
    cli("project", "--refold", "all", "--yes")
    cli("rejections", "--replay", 1, code=1)
    cli("rejections", "--replay-all")
    cli("rejections", "--dismiss", 1, "--yes", code=1)
    cli("deliver", "crm", "--changed")  # a dry run
    cli("deliver", "crm", "--changed", "--yes", code=3)
    cli("lag", code=3)
    found = accesses(cli)
    assert {entry["who"] for entry in found} == {"cli:operator"}
    assert [(entry["what"], entry["client_ref"]) for entry in found] == [
        ("view", one),
        ("audit", one),
        ("blame", one),
        ("deliveries", one),
        ("deliver --dry-run to crm", one),
        ("retry", None),
        ("retry --integration crm", one),
        ("annul version 2", two),
        ("pause crm", None),
        ("resume crm", None),
        ("project --refold", one),
        ("project --refold all", None),
        ("rejections --replay 1", None),
        ("rejections --replay-all", None),
        ("rejections --dismiss 1", None),
        ("deliver --changed to crm", None),
    ]


def test_the_log_is_listed_by_client_and_by_time(cli: CommandLine) -> None:
    """Newest first, as a table or as JSON; looking into it is entered, too."""
    cli("view", 1)
    cli("view", 2)
    cli("audit", 2)
    assert [entry["what"] for entry in accesses(cli, 2)] == ["view", "audit"]
    [_, newest] = cli.json("access", "--limit", 2)["entries"]
    assert newest["what"] == "access"
    before = cli.json("access", "--until", newest["at"])["entries"]
    assert before
    assert all(entry["at"] < newest["at"] for entry in before)
    assert cli.json("access", "--since", "2200-01-01T00:00:00Z") == {"entries": []}
    assert "cli:operator" in cli("access").stdout
    cli("access", "--since", "yesterday", code=1)


def test_what_cannot_be_entered_is_not_done(cli: CommandLine, data: Path) -> None:
    """Exit code 1 and nothing done, when the access log can be opened but not written, as on a full disk."""
    database = open_access(data)
    database.write(
        lambda connection: connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON access BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    )
    database.close()
    output = cli("pause", "crm", code=1).output
    assert "could not be recorded" in output
    pause = (
        open_flow(data).backend.deliveries.load_pause("crm").pause
    )  # the host itself may pause what lacks its settings
    assert pause.reason != "paused by an operator"
