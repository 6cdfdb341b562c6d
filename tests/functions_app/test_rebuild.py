"""The command rebuild: a new version of the rules on the data of the old one, and the way back."""

from contextlib import closing
from pathlib import Path
from signal import SIGKILL
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from functions_app.cli import app
from functions_app.embedded import open_embedded
from functions_app.rebuild_status import note_start, progress_of, unfinished
from functions_app.runtime import Runtime
from functions_app.settings import Settings
from projections import Progress, Purpose, Share, forget_progress
from projections.progress import save_progress
from projections.turns import present_turn
from tests.support.command_line import CommandLine
from tests.support.newer import domain as newer
from tests.support.waiting import PATIENCE, wait_until

PEOPLE = 130
ALL = Share(1, 1)
NEWER = {"CLIENT_FLOW_DOMAIN": "tests.support.newer:domain"}
LETHAL = {"CLIENT_FLOW_DOMAIN": "tests.support.lethal:domain"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Persons with an e-mail address each, projected by the sample."""
    path = tmp_path / "changes.jsonl"
    changes = [
        {
            "change_id": str(person),
            "person": person,
            "changed_at": "2026-03-01T12:00:00Z",
            "contact": {"email": f"p{person}@x.example"},
        }
        for person in range(1, PEOPLE + 1)
    ]
    path.write_bytes(b"\n".join(map(orjson.dumps, changes)))
    cli = CommandLine(tmp_path / "data")
    cli("append", "--source", "crm", "--key", "change_id", path)
    cli("project")
    return tmp_path / "data"


def email(cli: CommandLine, person: int) -> Any:
    return cli.json("view", person)["record"]["contact"]["email"]


def how_far(cli: CommandLine) -> int:
    """Clients that a walk that is under way has done."""
    status = orjson.loads(CliRunner().invoke(app, ["rebuild", "--status", "--json"], env=cli.environment).stdout)
    return int(status.get("clients", 0))


def told(runtime: Runtime, client_id: str) -> list[Any]:
    """What the topic was told of a person's contact, by those who listen as the CRM does."""
    bodies = [
        orjson.loads(received.message.body)["data"]
        for received in runtime.backend.subscriptions.receive("crm", limit=1000)
    ]
    return [body["changed"]["contact"]["email"] for body in bodies if body["client_id"] == client_id]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_rebuild_brings_the_new_rules_to_everybody(data: Path, workers: int) -> None:
    """Reads work before, old code reads its own, and progress can be asked for."""
    old, new = CommandLine(data), CommandLine(data, NEWER)
    assert new("rebuild", "--status").stdout.startswith("people.v2: no walk was begun")
    assert new.json("rebuild", "--status")["begun"] is False
    assert email(new, 3) == "p3@x.example"
    done = new.run("rebuild", "--workers", workers, "--json")
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout) == {
        "generation": "people.v2",
        "purpose": "rebuild",
        "clients": PEOPLE,
        "events": PEOPLE,
        "announced": 0,
        "parked": 0,
        "failed": 0,
        "failures": [],
        "done": True,
    }
    assert {email(new, person) for person in (1, PEOPLE)} == {"P1@X.EXAMPLE", f"P{PEOPLE}@X.EXAMPLE"}
    assert email(old, 1) == "p1@x.example"
    assert new.json("rebuild", "--status", "--workers", workers)["done"]
    new("verify")


def test_a_new_version_is_not_behind_before_it_starts(data: Path) -> None:
    """Its lag counts from where its predecessor is, and a sweep of its own does no work that is done."""
    new = CommandLine(data, NEWER)
    lag = new.json("lag")
    assert (lag["events"], lag["status"]) == (0, "ok")
    assert new.json("project") == {"events": 0, "done": True, "parked": 0}
    assert new.json("lag")["status"] == "ok"


def test_shards_are_for_several_machines(data: Path) -> None:
    """Each does its part; a part that does not exist is refused."""
    new = CommandLine(data, NEWER)
    done = [new.json("rebuild", "--shard", f"{number}/3")["clients"] for number in (1, 2, 3)]
    assert sum(done) == PEOPLE
    assert "as 1/4" in new("rebuild", "--shard", "4/3", code=2).stderr


def test_a_killed_rebuild_goes_on(data: Path) -> None:
    """After SIGKILL, what was stored is not done again, and everybody gets there."""
    new = CommandLine(data, NEWER)
    process = new.start("rebuild", "--max-rate", 25)
    wait_until("a page is done", lambda: how_far(new) > 0)
    process.send_signal(SIGKILL)
    process.communicate()
    before = new.json("rebuild", "--status", code=3)
    assert 0 < before["clients"] < PEOPLE
    assert new.json("rebuild")["clients"] == PEOPLE
    assert email(new, PEOPLE) == f"P{PEOPLE}@X.EXAMPLE"


def test_who_was_left_behind_is_done_by_the_next_call(data: Path) -> None:
    """Shown with the reason; only they are done again."""
    new = CommandLine(data, NEWER)
    with closing(Runtime(newer, Settings({}), open_embedded(data, newer))) as runtime:
        _ = runtime.projector
        noted = dict.fromkeys(["3", "7"], "CommitConflictError: Lost 20 rounds.")
        left = Progress(clients=PEOPLE - 2, failed=noted, cursors={"all": None})
        note_start(runtime, Purpose.FOLD, ALL, 1)
        checkpoints = runtime.backend.checkpoints
        turn = present_turn(newer.projection, checkpoints)
        save_progress(checkpoints, newer.projection, Purpose.FOLD, ALL, left, turn)
    shown = new.json("rebuild", "--status", code=3)
    assert (shown["failed"], shown["done"], shown["total"]) == (2, False, PEOPLE)
    assert shown["failures"] == [{"client_id": client_id, "why": why} for client_id, why in noted.items()]
    text = new("rebuild", "--status", code=3).stdout
    assert f"clients {PEOPLE - 2} of {PEOPLE}" in text
    assert "Lost 20 rounds" in text
    done = new.json("rebuild")
    assert (done["clients"], done["failed"], done["done"]) == (PEOPLE, 0, True)
    assert [email(new, person) for person in (3, 4, 7)] == ["P3@X.EXAMPLE", "p4@x.example", "P7@X.EXAMPLE"]


def test_workers_end_with_the_one_who_started_them(data: Path) -> None:
    """After SIGKILL of the command, nobody goes on walking behind the back of the next one."""
    new = CommandLine(data, NEWER)
    process = new.start("rebuild", "--workers", 2, "--max-rate", 50)
    wait_until("a page is done", lambda: how_far(new) > 0)
    process.send_signal(SIGKILL)
    process.communicate(timeout=PATIENCE)  # ends when the last process that holds the output has ended
    assert 0 < new.json("rebuild", "--status", code=3)["clients"] < PEOPLE
    assert new.json("rebuild", "--workers", 2)["clients"] == PEOPLE


def test_a_worker_that_is_killed_is_said(data: Path) -> None:
    """In one line, by those who rebuild and by those who verify; the command that is run again does it all."""
    lethal, new = CommandLine(data, LETHAL), CommandLine(data, NEWER)
    assert "worker process ended" in lethal("rebuild", "--workers", 2, code=1).stderr
    new("rebuild")
    assert "worker process ended" in lethal("verify", "--workers", 2, code=1).stderr
    assert new.json("verify", "--workers", 2)["clients"] == PEOPLE


def test_differences_and_the_way_back_are_told(data: Path) -> None:
    """Only with --yes; the way back with the old code, which newer code had silenced."""
    old, new = CommandLine(data), CommandLine(data, NEWER)
    listening = Runtime(newer, Settings({}), open_embedded(data, newer))
    assert told(listening, "7") == ["p7@x.example"]
    assert "Nothing was done" in new("rebuild", "--publish-differences").stdout
    assert told(listening, "7") == []
    assert new.json("rebuild", "--publish-differences", "--yes")["announced"] == PEOPLE
    assert told(listening, "7") == ["P7@X.EXAMPLE"]
    old("rebuild")
    assert told(listening, "7") == []
    assert old.json("rebuild", "--take-over", "--yes")["announced"] == PEOPLE
    assert told(listening, "7") == ["p7@x.example"]
    listening.close()


def test_what_old_versions_left_is_removed_once_everybody_is_complete(data: Path) -> None:
    """Refused before; shown without --yes; then records, and audit when asked."""
    new = CommandLine(data, NEWER)
    shown = new("rebuild", "--prune", code=3)
    assert f"{PEOPLE} of them are behind" in " ".join(shown.stderr.split())
    assert f"{PEOPLE} of {PEOPLE} clients" in " ".join(new("rebuild", "--prune", "--yes", code=1).stderr.split())
    new("rebuild")
    assert f"{PEOPLE} clients is removed" in " ".join(new("rebuild", "--prune").stdout.split())
    assert new.json("rebuild", "--prune", "--yes") == {"clients": PEOPLE, "documents": PEOPLE}
    assert new.json("rebuild", "--prune", "--with-audit", "--yes") == {"clients": PEOPLE, "documents": PEOPLE}
    assert email(new, 3) == "P3@X.EXAMPLE"
    new("verify")


def test_the_status_is_that_of_the_walk_that_was_begun(data: Path) -> None:
    """Whoever asks need not know in how many processes it runs."""
    new = CommandLine(data, NEWER)
    new("rebuild", "--shard", "1/2", "--workers", 2)
    shown = new.json("rebuild", "--status", code=3)
    assert (0 < shown["clients"] < PEOPLE, shown["done"]) == (True, False)
    assert [(each["share"], each["begun"]) for each in shown["shares"]] == [
        ("1/4", True),
        ("2/4", True),
        ("2/2", False),
    ]
    new("rebuild", "--shard", "2/2")
    shown = new.json("rebuild", "--status")
    assert (shown["clients"], shown["total"], shown["done"]) == (PEOPLE, PEOPLE, True)
    assert {email(new, person) for person in range(1, PEOPLE + 1)} == {f"P{n}@X.EXAMPLE" for n in range(1, PEOPLE + 1)}


def test_a_share_that_is_done_is_not_done_again_with_the_others(data: Path) -> None:
    """A call goes on where the one before was interrupted; only if nothing was left it begins again."""
    new = CommandLine(data, NEWER)
    new("rebuild", "--workers", 2)
    shares = [Share(1, 2), Share(2, 2)]
    with closing(Runtime(newer, Settings({}), open_embedded(data, newer))) as runtime:
        assert unfinished(runtime, Purpose.FOLD, shares) == []
        forget_progress(runtime.backend.checkpoints, newer.projection, Purpose.FOLD, shares[1])
        assert unfinished(runtime, Purpose.FOLD, shares) == shares[1:]
        before = progress_of(runtime, Purpose.FOLD, shares[:1]).clients
    going_on = new("rebuild", "--workers", 2)
    assert f"Goes on after {before} clients" in going_on.stderr
    assert "Goes on" not in new("rebuild", "--workers", 2).stderr
    assert new.json("rebuild", "--status")["clients"] == PEOPLE


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--publish-differences", "--with-audit", "--yes"], "--with-audit"),
        (["--status", "--prune", "--yes"], "--prune"),
        (["--status", "--with-audit", "--yes"], "--with-audit"),
        (["--take-over", "--prune", "--yes"], "--take-over"),
    ],
)
def test_options_that_contradict_each_other_are_refused(data: Path, options: list[str], named: str) -> None:
    """Above all nothing is removed that nobody asked to remove."""
    new = CommandLine(data, NEWER)
    new("rebuild")
    assert named in new("rebuild", *options, code=2).stderr
    assert email(CommandLine(data), 7) == "p7@x.example"
