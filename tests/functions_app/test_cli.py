"""Every command of `client-flow`: what it prints for people and for programs, dry runs, and exit codes.

0 done, 1 could not be done, 2 typed wrongly, 3 done and something needs a person.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventstore import open_events
from functions_app import Runtime
from functions_app.cli import output
from tests.support.command_line import CommandLine
from tests.support.flow import open_flow
from tests.support.rest_target import Fault, RestTarget

CRM_CREDENTIALS = {"CRM_CLIENT_ID": "client-flow", "CRM_CLIENT_SECRET": "secret-of-the-crm"}
MAILING_KEY = "secret-of-the-mailing"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which no cell has to be folded."""
    monkeypatch.setattr(output.console, "width", 250)
    monkeypatch.setattr(output.errors, "width", 250)


@pytest.fixture
def crm() -> Iterator[RestTarget]:
    with RestTarget(clients={"client-flow": "secret-of-the-crm"}) as target:
        yield target


@pytest.fixture
def mailing() -> Iterator[RestTarget]:
    with RestTarget(api_key=MAILING_KEY) as target:
        yield target


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def cli(data: Path) -> CommandLine:
    return CommandLine(data)


@pytest.fixture
def connected(data: Path, crm: RestTarget, mailing: RestTarget) -> CommandLine:
    """The command line with targets to deliver to."""
    urls = {"CRM_URL": crm.url, "MAILING_URL": mailing.url, "MAILING_KEY": MAILING_KEY}
    return CommandLine(data, {**CRM_CREDENTIALS, **urls})


def runtime(cli: CommandLine) -> Runtime:
    """The application on the command line's directory."""
    return open_flow(Path(cli.environment["CLIENT_FLOW_DATA"]))


def change(change_id: str, person: int = 1, **parts: Any) -> dict[str, Any]:
    parts = parts or {"contact": {"email": f"{change_id}@example.org"}}
    return {"change_id": change_id, "person": person, "changed_at": "2026-03-01T12:00:00Z", **parts}


FAX: dict[str, Any] = {"consent": {"channel": "fax", "given": True}}  # no rule knows it: parks
MAIL: dict[str, Any] = {"consent": {"channel": "email", "given": True}}


@pytest.fixture
def told(tmp_path: Path, cli: CommandLine) -> Any:
    """Appends and projects changes."""

    def tell(*changes: Any, project: bool = True, code: int = 0) -> None:
        path = tmp_path / "changes.jsonl"
        path.write_bytes(b"\n".join(map(orjson.dumps, changes)))
        cli("append", "--source", "crm", "--key", "change_id", path, code=code)
        if project:
            runtime(cli).sweep()

    return tell


# --- append ----------------------------------------------------------------------------------------------------------


def test_append_says_what_it_did(cli: CommandLine, tmp_path: Path) -> None:
    """A line for people, one JSON document for programs; a second run adds nothing."""
    path = tmp_path / "people.csv"
    path.write_text("rec_id,given_name,surname\nrec-1-org,Ana,Ruiz\nrec-2-org,Bo,Li\n")
    result = cli("append", "--source", "registry", "--key", "rec_id", path)
    assert "2 lines: 2 events appended, 0 there before, 0 lines rejected" in result.stdout
    assert cli.json("append", "--source", "registry", "--key", "rec_id", path) == {
        "lines": 2,
        "appended": 0,
        "duplicates": 2,
        "rejected": 0,
        "read": path.stat().st_size,
    }


def test_append_lists_rejected_lines_and_ends_with_3(cli: CommandLine, tmp_path: Path) -> None:
    """Number, code and fields; more than twenty are counted."""
    path = tmp_path / "changes.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({**change(f"c-{n}"), "person": "Canary7"}) for n in range(25)))
    result = cli("append", "--source", "crm", path, code=3)
    assert "invalid_payload" in result.stdout
    assert "person: int parsing" in result.stdout
    assert "and 5 more" in result.stdout
    assert "Canary7" not in result.output
    assert cli.json("append", "--source", "crm", path, code=3)["rejected"] == 25


def test_append_renames_columns(cli: CommandLine, tmp_path: Path) -> None:
    """--column FIELD=COLUMN, as often as needed; an empty FIELD leaves the column out."""
    path = tmp_path / "people.csv"
    path.write_text("id,Vorname,note\nrec-1-org,Ana,x\n")
    columns = ["--column", "rec_id=id", "--column", "given_name=Vorname", "--column", "=note"]
    cli("append", "--source", "registry", *columns, path)
    [event] = runtime(cli).backend.events.read("1")
    assert event.data["given_name"] == "Ana"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--source", "nobody"], 1, "No such source; the domain has crm, shop, registry"),
        (["--source", "registry", "--key", "nowhere"], 1, "no column 'nowhere'"),
        (["--source", "registry", "--column", "rec_id"], 2, "FIELD=COLUMN was expected"),
        (["--source", "registry", "--column", "rec_id="], 2, "FIELD=COLUMN was expected"),
        ([], 2, "Missing option '--source'"),
    ],
    ids=str,
)
def test_append_typed_wrongly(cli: CommandLine, tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    """What was expected and what there is."""
    path = tmp_path / "people.csv"
    path.write_text("rec_id,given_name\nrec-1-org,Ana\n")
    result = cli("append", *arguments, path, code=code)
    assert says in " ".join(result.stderr.replace("│", " ").split())


def test_append_of_a_file_that_is_not_there(cli: CommandLine, tmp_path: Path) -> None:
    """It is named before anything is opened."""
    result = cli("append", "--source", "crm", tmp_path / "nowhere.jsonl", code=2)
    assert "does not exist" in " ".join(result.stderr.replace("│", " ").split())


def test_a_file_name_is_no_markup(cli: CommandLine, tmp_path: Path) -> None:
    """Brackets in it are printed as they are."""
    path = tmp_path / "[bold]x[b].jsonl"
    path.write_bytes(orjson.dumps(change("a")))
    assert "[bold]x[b].jsonl" in cli("append", "--source", "crm", path).stderr


# --- project, view, audit, blame -------------------------------------------------------------------------------------


def test_project_folds_what_is_new(cli: CommandLine, told: Any) -> None:
    """And publishes; a second run finds nothing to do."""
    told(change("a"), change("b", 2), project=False)
    assert cli.json("project") == {"events": 2, "done": True, "parked": 0}
    assert "events 0, done True, parked 0" in cli("project").stdout
    assert cli.json("lag")["deliveries"]["crm"]["waiting"] == 2


def test_project_ends_with_3_if_somebody_is_parked(cli: CommandLine, told: Any) -> None:
    """The others go on."""
    told(change("a", 1, **FAX), change("b", 2), project=False)
    assert cli.json("project", code=3)["parked"] == 1
    assert cli.json("view", "2")["version"] == 1


def test_refold_is_a_dry_run_without_yes(cli: CommandLine, told: Any) -> None:
    """With --yes one client, or all, come out as they were, from the first event on."""
    told(change("a"), change("b", 2))
    before = [cli.json("view", number) for number in (1, 2)]
    assert "Nothing was done" in cli("project", "--refold", "all").stdout
    cli("project", "--refold", "4711", "--yes", code=1)
    assert cli.json("project", "--refold", "1", "--yes") == {"clients": 1, "done": True, "parked": 0}
    assert cli.json("project", "--refold", "all", "--yes") == {"clients": 2, "done": True, "parked": 0}
    assert [cli.json("view", number) for number in (1, 2)] == before


def test_view_shows_the_record(cli: CommandLine, told: Any) -> None:
    """Now, as of a version, as of a time."""
    told(change("a"), change("b"))
    assert "b@example.org" in cli("view", 1).stdout
    assert "1, version 2" in cli("view", 1).stdout
    assert cli.json("view", 1)["record"]["contact"]["email"] == "b@example.org"
    assert cli.json("view", 1, "--version", 1)["record"]["contact"]["email"] == "a@example.org"
    first = next(iter(runtime(cli).backend.events.read("1"))).recorded_at
    assert cli.json("view", 1, "--time", first)["version"] in {1, 2}  # both may have been recorded at once
    cli("view", 1, "--time", "2020-01-01T00:00:00Z", code=1)


def test_view_says_that_a_client_is_parked(cli: CommandLine, told: Any) -> None:
    """With the version and the reason."""
    told(change("a"), change("b", **FAX))
    assert "parked at version 2: invalid_evolution" in cli("view", 1).stdout
    assert cli.json("view", 1)["parked"]["problems"] == ["consent.fax: not in the schema"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version", "0"],
        ["--version", "one"],
        ["--version", "1", "--time", "2026-01-01T00:00:00Z"],
    ],
    ids=str,
)
def test_view_typed_wrongly(cli: CommandLine, told: Any, arguments: list[str]) -> None:
    """A version that cannot be, or two questions at once."""
    told(change("a"))
    cli("view", 1, *arguments, code=2)


def test_a_time_typed_wrongly(cli: CommandLine, told: Any) -> None:
    """The form that is expected is shown."""
    told(change("a"))
    assert "2026-01-31T12:00:00Z" in cli("view", 1, "--time", "yesterday", code=1).stderr
    assert "offset" in cli("audit", 1, "--since", "2026-01-01", code=1).stderr


def test_audit_shows_what_each_event_changed(cli: CommandLine, told: Any) -> None:
    """Filtered and in pages; the cursor is printed and can be typed."""
    told(change("a"), change("b"), change("c", **MAIL))
    text = cli("audit", 1).stdout
    assert "contact.email" in text
    assert "a@example.org" in text
    assert [entry["version"] for entry in cli.json("audit", 1, "--sub-schema", "contact")["entries"]] == [1, 2]
    assert [entry["version"] for entry in cli.json("audit", 1, "--field", "email", "--source", "crm")["entries"]] == [
        1,
        2,
        3,
    ]
    assert cli.json("audit", 1, "--event-type", "person.moved")["entries"] == []
    page = cli.json("audit", 1, "--limit", 2)
    assert f"more with --cursor {page['cursor']}" in cli("audit", 1, "--limit", 2).stdout
    rest = cli.json("audit", 1, "--limit", 2, "--cursor", page["cursor"])
    assert [entry["version"] for entry in rest["entries"]] == [3]
    cli("audit", 1, "--cursor", "nonsense", code=1)
    cli("audit", 1, "--limit", 0, code=2)


def test_blame_shows_who_said_what(cli: CommandLine, told: Any) -> None:
    """Field, value, event and source."""
    told(change("a"))
    [field] = cli.json("blame", 1)["fields"]
    assert (field["field"], field["value"], field["event_id"]) == ("email", "a@example.org", "crm:a")
    assert "contact.email" in cli("blame", 1).stdout


@pytest.mark.parametrize(
    "command",
    [["view"], ["audit"], ["blame"], ["deliveries"], ["retry"], ["annul", "1", "--reason", "x", "--yes"]],
    ids=lambda command: command[0],
)
def test_a_client_without_events(cli: CommandLine, told: Any, command: list[str]) -> None:
    """Is an error, not an empty table: the id may be mistyped. A text that is no id is a usage error."""
    told(change("a"))
    name, *rest = command
    assert cli(name, "4711", *rest, code=1).stderr.strip()
    for text in ("[/x]", "a b", "\x1b[31m", ""):
        cli(name, text, *rest, code=2)


# --- operations ------------------------------------------------------------------------------------------------------


def test_annul_is_a_dry_run_without_yes(cli: CommandLine, told: Any) -> None:
    """With --yes the client goes on; annulling again says that it is done, or refuses another reason."""
    told(change("a"), change("b", **FAX), change("c"))
    assert "Nothing was done" in cli("annul", 1, 2, "--reason", "no such channel").stdout
    assert cli.json("view", 1)["parked"]["version"] == 2
    result = cli("annul", 1, 2, "--reason", "no such channel", "--by", "ops", "--yes")
    assert "Event 2 is annulled; the record is at version 4" in result.stdout
    assert cli.json("view", 1)["parked"] is None
    cli("annul", 1, 2, "--reason", "no such channel", "--by", "ops", "--yes")
    assert len(cli.json("audit", 1)["entries"]) == 4
    cli("annul", 1, 2, "--reason", "another reason", "--by", "ops", "--yes", code=1)
    [entry] = [entry for entry in cli.json("audit", 1)["entries"] if entry["version"] == 2]
    assert entry["note"] == "annulled"


def test_annul_typed_wrongly(cli: CommandLine, told: Any) -> None:
    """A reason that says nothing, a version that cannot be, an event that is not there."""
    told(change("a"))
    cli("annul", 1, 1, "--reason", " ", "--yes", code=2)
    cli("annul", 1, 0, "--reason", "x", "--yes", code=2)
    cli("annul", 1, 1, code=2)
    assert "no such event" in cli("annul", 1, 9, "--reason", "x", "--yes", code=1).stderr


def test_parked_lists_who_does_not_go_on(cli: CommandLine, told: Any) -> None:
    """And ends with 3; with 0 if nobody is parked."""
    told(change("a"))
    assert cli.json("parked") == {"parked": []}
    told(change("b", 2, **FAX), change("c", 2))
    [client] = cli.json("parked", code=3)["parked"]
    assert client["client_id"] == "2"
    assert (client["version"], client["waiting_for"], client["code"]) == (1, 2, "invalid_evolution")
    assert "consent.fax: not in the schema" in cli("parked", code=3).stdout


def test_retry_folds_parked_clients_again(cli: CommandLine, told: Any) -> None:
    """With the same rules they stay parked: 3. One that is not parked goes on."""
    told(change("a"), change("b", 2, **FAX))
    assert "1 tried, 0 go on" in cli("retry", code=3).stdout
    assert "1 tried, 0 go on" in cli("retry", 2, code=3).stdout
    assert "1 tried, 1 go on" in cli("retry", 1).stdout


def test_rejections_are_listed_replayed_and_dismissed(cli: CommandLine, told: Any) -> None:
    """3 while any are open; dismissing is a dry run without --yes; what was delivered is never shown."""
    told(change("0"))
    assert cli.json("rejections") == {"open": [], "replayed": 0}
    told({**change("a"), "person": "Canary7"}, {**change("b"), "unknown": 1}, code=3)
    listed = cli.json("rejections", code=3)["open"]
    assert [(each["number"], each["source"], each["key"], each["code"]) for each in listed] == [
        (1, "crm", "a", "invalid_payload"),
        (2, "crm", "b", "invalid_payload"),
    ]
    assert listed[0]["problems"] == ["line 1, person: int parsing"]
    assert "Canary7" not in cli("rejections", code=3).output
    assert cli.json("rejections", "--source", "shop") == {"open": [], "replayed": 0}
    assert "person" in cli("rejections", "--replay", 1, code=1).stderr
    assert "0 accepted now" in cli("rejections", "--replay-all", code=3).stdout
    assert "Nothing was done" in cli("rejections", "--dismiss", 1).stdout
    cli("rejections", "--dismiss", 1, "--yes")
    cli("rejections", "--dismiss", 1, "--yes", code=1)
    cli("rejections", "--replay", 1, code=1)
    assert [each["number"] for each in cli.json("rejections", code=3)["open"]] == [2]


def test_rejections_can_be_replayed_with_corrected_code(data: Path, cli: CommandLine, told: Any) -> None:
    """Once the domain accepts them they are events, and the list is empty."""
    told({**change("a"), "unknown": 1}, {**change("b"), "unknown": 1}, code=3)
    tolerant = CommandLine(data, {"CLIENT_FLOW_DOMAIN": "tests.support.tolerant:domain"})
    assert "accepted: 1 events" in tolerant("rejections", "--replay", 1).stdout
    assert tolerant.json("rejections", "--replay-all") == {"open": [], "replayed": 1}
    assert [event.event_id for event in runtime(cli).backend.events.read("1")] == ["crm:a", "crm:b"]


def test_lag_ends_with_3_if_something_needs_a_person(cli: CommandLine, told: Any) -> None:
    """What it is, is printed."""
    told(change("a"), project=False)
    assert cli.json("lag")["events"] == 1
    assert "events to project" in cli("lag").stdout
    told(change("b", **FAX))
    assert cli.json("lag", code=3)["problems"] == ["clients are parked"]
    assert "clients are parked" in cli("lag", code=3).stdout


# --- integrations ----------------------------------------------------------------------------------------------------


def test_deliver_is_a_dry_run_without_yes(connected: CommandLine, told: Any, crm: RestTarget) -> None:
    """--changed sends what is not there yet; --all sends it again."""
    told(change("a"), change("b", 2))
    assert "Nothing was done" in connected("deliver", "crm", "--changed").stdout
    assert crm.items("people") == {}
    assert connected.json("deliver", "crm", "--changed", "--yes") == {"rung": 2, "delivered": 2}
    assert {person["email"] for person in crm.items("people").values()} == {"a@example.org", "b@example.org"}
    assert connected.json("deliver", "crm", "--changed", "--yes") == {"rung": 2, "unchanged": 2}
    assert connected.json("deliver", "crm", "--all", "--yes") == {"rung": 2, "delivered": 2}
    assert len(crm.items("people")) == 2
    assert "2 clients rung for crm: 2 delivered" in connected("deliver", "crm", "--all", "--yes").stdout


def test_deliver_shows_what_one_client_would_get(connected: CommandLine, told: Any, crm: RestTarget) -> None:
    """--dry-run CLIENT sends nothing."""
    told(change("a"))
    shown = connected.json("deliver", "crm", "--dry-run", 1)
    assert shown["body"]["email"] == "a@example.org"
    assert "a@example.org" in connected("deliver", "crm", "--dry-run", 1).stdout
    assert crm.requests == []


def test_deliver_ends_with_3_if_something_is_left(cli: CommandLine, told: Any) -> None:
    """Without its settings the integration pauses; what is owed waits."""
    told(change("a"))
    assert "paused" in cli.json("deliver", "crm", "--changed", "--yes", code=3)
    assert cli.json("lag", code=3)["problems"] == ["integration crm is paused"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["crm"], 2),
        (["crm", "--all", "--changed"], 2),
        (["nobody", "--all"], 1),
        (["nobody", "--all", "--yes"], 1),
        (["nobody", "--dry-run", "1"], 1),
    ],
    ids=str,
)
def test_deliver_typed_wrongly(cli: CommandLine, told: Any, arguments: list[str], code: int) -> None:
    """Either --all or --changed, of an integration there is; a dry run does not hide a mistake."""
    told(change("a"))
    result = cli("deliver", *arguments, code=code)
    assert code == 2 or "crm, mailing" in result.stderr


def test_deliveries_show_states_and_log(connected: CommandLine, told: Any) -> None:
    """Of one integration or all, newest first, in pages."""
    told(change("a"), change("b", **MAIL))
    for _ in range(2):
        connected("deliver", "crm", "--all", "--yes")
    connected("deliver", "mailing", "--changed", "--yes")
    shown = connected.json("deliveries", 1)
    assert [state["integration"] for state in shown["states"]] == ["crm", "mailing"]
    assert [(entry["integration"], entry["number"]) for entry in shown["log"] if entry["integration"] == "crm"] == [
        ("crm", 2),
        ("crm", 1),
    ]
    page = connected.json("deliveries", 1, "--integration", "crm", "--limit", 1)
    rest = connected.json("deliveries", 1, "--integration", "crm", "--limit", 1, "--cursor", page["cursor"])
    assert [page["log"][0]["number"], rest["log"][0]["number"]] == [2, 1]
    text = connected("deliveries", 1).stdout
    assert "POST /people" in text
    assert (
        f"more with --cursor {page['cursor']}"
        in connected("deliveries", 1, "--integration", "crm", "--limit", 1).stdout
    )
    for secret in (*CRM_CREDENTIALS.values(), MAILING_KEY, "token-1-of-the-target"):
        assert secret == "client-flow" or secret not in text + str(shown)
    connected("deliveries", 1, "--cursor", "nonsense", code=1)


def test_pause_and_resume(connected: CommandLine, told: Any, crm: RestTarget) -> None:
    """No calls while paused, whatever is announced; after resuming the latest state arrives."""
    told(change("a"))
    assert "crm is paused" in connected("pause", "crm", "--reason", "maintenance window").stdout
    assert connected.json("lag", code=3)["deliveries"]["crm"]["paused"] == "maintenance window"
    assert connected.json("deliver", "crm", "--changed", "--yes", code=3) == {"rung": 1, "paused": 1}
    assert crm.requests == []
    assert "crm is called again" in connected("resume", "crm").stdout
    assert connected.json("deliver", "crm", "--changed", "--yes") == {"rung": 1, "delivered": 1}
    connected("pause", "nobody", code=1)
    connected("resume", "nobody", code=1)


def test_a_refused_delivery_can_be_retried(connected: CommandLine, told: Any, crm: RestTarget) -> None:
    """It is listed as refused, and delivered once the target accepts it."""
    told(change("a"))
    crm.script(Fault(status=422, body=b'{"error": "no"}'))
    assert connected.json("deliver", "crm", "--changed", "--yes", code=3) == {"rung": 1, "failed": 1}
    assert connected.json("lag", code=3)["problems"] == ["integration crm has refused deliveries"]
    assert "crm: delivered" in connected("retry", 1, "--integration", "crm").stdout
    assert len(crm.items("people")) == 1
    connected("retry", "--integration", "crm", code=2)
    connected("retry", 4711, "--integration", "crm", code=1)


# --- output ----------------------------------------------------------------------------------------------------------

HOSTILE = "\x1b[31mred\x07 [bold]no[/bold] [/] :smile: \u202eevil\r\n"


def test_what_came_from_outside_is_printed_harmlessly(connected: CommandLine, told: Any) -> None:
    """No control character reaches the terminal, nothing is read as markup or emoji; JSON escapes it all."""
    told(change("a", contact={"email": HOSTILE}), change("b", 2, name={"given": HOSTILE, "family": "[/]"}))
    connected("deliver", "crm", "--changed", "--yes")
    for arguments in (["view", 1], ["view", 2], ["audit", 1], ["blame", 1], ["deliver", "crm", "--dry-run", 1]):
        text = connected(*arguments).stdout
        assert not set(text) & set("\x1b\x07\r\u202e")
        assert "[31mred" in text.replace("\n", "").replace(" ", "")
    text = connected("view", 1).stdout
    assert "[bold]no[/bold] [/] :smile:" in text
    assert connected.json("view", 1)["record"]["contact"]["email"] == HOSTILE


def test_a_hostile_event_key_is_refused_or_printed_harmlessly(cli: CommandLine, told: Any) -> None:
    """Control characters cannot be part of a key; brackets can, and stay what they are."""
    told(change("[bold]k[/]"), {**change("x"), "change_id": "\x1b[31m"}, code=3)
    text = cli("audit", 1).stdout + cli("rejections", code=3).stdout
    assert "\x1b" not in text
    assert cli.json("blame", 1)["fields"][0]["event_id"] == "crm:[bold]k[/]"


def test_json_is_one_document_on_standard_output(cli: CommandLine, told: Any) -> None:
    """Progress goes to standard error, so that a program can read what it is told."""
    told(change("a"), project=False)
    result = cli("project", "--json")
    assert result.stdout.count("\n") == 1
    assert "events" in result.stderr


# --- the whole -------------------------------------------------------------------------------------------------------


def test_help_names_every_command(cli: CommandLine) -> None:
    """And each has a help of its own."""
    text = cli("--help").stdout
    for name in (
        *("demo", "serve", "append", "project", "view", "audit", "blame", "annul", "parked", "retry"),
        *("deliveries", "deliver", "pause", "resume", "rejections", "lag", "access"),
    ):
        assert f" {name} " in text
        assert "Usage" in cli(name, "--help").stdout
    cli("nothing", code=2)


def test_a_domain_that_is_not_there(data: Path) -> None:
    """One line that names the setting, no traceback."""
    result = CommandLine(data, {"CLIENT_FLOW_DOMAIN": "nowhere:domain"})("serve", code=1)
    assert "CLIENT_FLOW_DOMAIN=nowhere:domain" in result.stderr
    assert not data.exists()


def test_data_of_a_newer_version_is_left_alone(data: Path, cli: CommandLine) -> None:
    """The error says which version it has and which are known, and nothing is changed."""
    database = open_events(data)
    database.write(lambda connection: connection.execute("PRAGMA user_version=99"))
    database.close()
    result = cli("lag", code=1)
    assert "events.db has schema version 99" in " ".join(result.stderr.split())


def test_a_data_directory_that_is_not_there(tmp_path: Path) -> None:
    """A mistyped one must not pass for one without clients: only what brings events makes it, and never from a file."""
    nowhere, file = tmp_path / "nowhere", tmp_path / "file"
    file.write_text("no directory")
    for data, command in ((nowhere, "lag"), (nowhere, "verify"), (file, "lag"), (file, "serve")):
        said = CommandLine(data)(command, code=1).stderr
        assert said.startswith(f"There is no data directory {data}."[:60])
        assert not nowhere.exists()
    crm = tmp_path / "crm.jsonl"
    crm.write_text("")
    CommandLine(nowhere)("append", "--source", "crm", crm)
    CommandLine(nowhere)("verify")


def test_changed_code_under_an_old_version_is_refused(data: Path, cli: CommandLine, told: Any) -> None:
    """Records must not change under people's feet: the version of the projection has to be raised."""
    told(change("a"))
    changed = CommandLine(data, {"CLIENT_FLOW_DOMAIN": "tests.support.tolerant:changed"})
    for command in (["project"], ["serve"], ["rebuild"], ["rebuild", "--workers", "2"]):
        result = changed(*command, code=1)
        (said,) = [line for line in result.stderr.splitlines() if "Raise the projection's version" in line]
        assert said.startswith("The code differs from what people.v1 was projected with")
    changed("project", "--accept-fingerprint")
    changed("project")
    cli("project", code=1)
