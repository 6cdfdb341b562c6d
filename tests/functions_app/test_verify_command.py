"""Verify and heal an application from the command line and by the hour, whatever somebody does to its files."""

from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests

from eventstore import SqliteEventStore, open_events
from functions_app import Delivered
from functions_app.cli import output
from functions_app.lag import Status, measure_lag
from functions_app.verifying import all_clients, sample, verify_a_few, verify_clients
from tests.support.command_line import CommandLine
from tests.support.flow import Clock, listening, open_flow, serving
from tests.support.people import CANARY, PEOPLE, people, run, spoil, vandalise
from tests.support.waiting import PATIENCE


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


# --- verify and heal -------------------------------------------------------------------------------------------------


def test_a_sound_application_verifies(cli: CommandLine) -> None:
    """All clients and events are counted; nothing differs; the exit code says so."""
    found = cli.json("verify")
    counts = {"clients": PEOPLE, "events": 3 * PEOPLE, "without_events": 0, "not_folded": 0}
    assert found == {**counts, "differing": 0, "left": 0, "results": []}
    assert cli("verify").stdout == f"{PEOPLE} clients, {3 * PEOPLE} events: 0 clients differ\n"


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


def documents(data: Path) -> list[Any]:
    """Everything that is stored of clients beside their events."""
    return [run(data / "projections.db", f"SELECT * FROM {table}") for table in ("records", "audit", "announced")]


def test_documents_without_events_are_found_and_kept(data: Path, cli: CommandLine) -> None:
    """Whatever is stored of a client was written after an event of it, so it is the event that is missing."""
    run(
        data / "projections.db",
        "INSERT INTO audit SELECT generation, 'nobody', version, body FROM audit WHERE client_id = '1'",
    )
    before = documents(data)
    found = cli.json("verify", "--heal", "--yes", code=3)
    assert (found["without_events"], found["left"]) == (1, 1)
    [result] = found["results"]
    problem = "is missing, though something later knows of it"
    event = {"kind": "event", "number": 1, "path": "(whole)", "problem": problem}
    assert result == {"client_id": "nobody", "found": [event], "left": [event]}
    assert documents(data) == before
    assert "holds no client" not in cli("verify", code=3).stderr


def test_a_lost_event_store_is_told_and_nothing_is_removed(data: Path, cli: CommandLine) -> None:
    """Records and audit are then all there is; healing must not finish what the loss began."""
    for file in data.glob("events.db*"):
        file.unlink()
    before = documents(data)
    assert all(before)
    result = cli("verify", "--heal", "--yes", code=3)
    assert "The event store holds no client at all" in result.stderr
    assert f"{PEOPLE} clients, 0 events: {PEOPLE} clients differ, {PEOPLE} still" in result.stdout
    assert documents(data) == before


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
    """They may have been given what was wrong: each is due to be looked at again, though it was owed nothing."""
    spoil(data)
    deliveries = open_flow(data).backend.deliveries
    for integration in [state.integration for state in deliveries.of_client("5")]:
        held = deliveries.load("5", integration)
        assert held is not None
        deliveries.save(held.state._replace(delivered=held.state.wanted, due_at=None), held.tag)
    before = deliveries.of_client("5")
    assert before
    assert not any(state.due_at for state in before)
    cli("verify", "--heal", "--yes")
    assert all(state.due_at for state in deliveries.of_client("5"))


def test_lost_events_retract_nothing(data: Path, cli: CommandLine) -> None:
    """Events that were lost by a restore must not make targets forget the client, nor its record go."""
    vandalise(data, "DELETE FROM events WHERE client_id = '5'")
    before = open_flow(data).backend.deliveries.of_client("5")
    cli("verify", "--heal", "--yes", code=3)
    assert open_flow(data).backend.deliveries.of_client("5") == before
    cli("view", "5")


def test_events_of_a_machine_whose_clock_is_late_are_no_difference(data: Path) -> None:
    """What waits for the sweep may have been recorded before what the sweep comes to first, by clocks that differ."""
    clock = Clock()
    runtime = open_flow(data, clock=clock, events=SqliteEventStore(open_events(data), clock=clock))
    for person, ahead in [(5, 10.0), (6, 9.5)]:
        clock.ahead = timedelta(minutes=ahead)
        change = {
            "change_id": "late",
            "person": person,
            "changed_at": "2026-03-01T12:00:00Z",
            "contact": {"phone": "2"},
        }
        runtime.intake.accept(runtime.domain.source("crm"), Delivered(change, key=f"late-{person}"))
    clock.ahead = timedelta(hours=1)
    assert [portion.differing for portion in verify_clients(runtime, [["5", "6"]])] == [[]]


def test_what_a_new_version_has_not_folded_is_counted(data: Path) -> None:
    """Nothing differs where there is nothing to compare, and that is said; a rebuild makes it go away."""
    new = CommandLine(data, {"CLIENT_FLOW_DOMAIN": "tests.support.newer:domain"})
    found = new.json("verify")
    assert (found["clients"], found["not_folded"], found["differing"]) == (PEOPLE, PEOPLE, 0)
    assert f"{PEOPLE} of them this version of the projection has not folded yet" in new("verify").stdout
    new("rebuild")
    assert new.json("verify")["not_folded"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seal", "FILE", "--heal", "--yes"], "--seal and --heal"),
        (["5", "--seal", "FILE"], "--seal and CLIENT"),
        (["--seal", "FILE", "--export", "FILE"], "--export and --seal"),
        (["--export", "FILE", "--workers", 2], "--export and --workers"),
        (["--export", "FILE", "--values"], "--export and --values"),
        (["5", "--acknowledge", "--heal", "--yes"], "--acknowledge and --heal"),
        (["--acknowledge"], "--acknowledge needs CLIENT"),
        (["5", "--sample", 1], "CLIENT and --sample"),
        (["--seed", 0], "--seed needs --sample"),
        (["--yes"], "--yes needs --heal"),
    ],
)
def test_options_that_would_be_ignored_are_refused(tmp_path: Path, options: list[Any], said: str) -> None:
    """Before anything is opened, and so before anything is done or entered in the access log."""
    file = tmp_path / "file"
    file.touch()
    cli = CommandLine(tmp_path / "data")
    given = [file if option == "FILE" else option for option in options]
    assert said in cli("verify", *given, code=2).stderr
    assert not (tmp_path / "data").exists()


def test_ctrl_c_ends_all_processes_without_a_word(tmp_path: Path) -> None:
    """One of two workers is at work then, and the other most likely just starting."""
    cli = CommandLine(people(tmp_path, 201), {"CLIENT_FLOW_DOMAIN": "tests.support.interrupting:domain"})
    process = cli.start("verify", "--workers", 2, session=True)
    output, _ = process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "KeyboardInterrupt" not in output
