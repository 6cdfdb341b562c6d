"""The commands as processes of their own: the demo, and a server that is told to stop, killed, and helped by others."""

from collections.abc import Mapping
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals
from typing import Any

import orjson
import pytest
import requests

from tests.support.command_line import CommandLine, Served
from tests.support.flow import JSON, KEY
from tests.support.rest_target import RestTarget
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

HEADERS = {"x-functions-key": KEY, **JSON}


@pytest.fixture
def cli(data: Path, environment: Mapping[str, str]) -> CommandLine:
    return CommandLine(data, environment)


def contact(change_id: str, email: str, person: int = 1) -> dict[str, Any]:
    return {
        "change_id": change_id,
        "person": person,
        "changed_at": "2026-03-01T12:00:00Z",
        "contact": {"email": email},
    }


def post(served: Served, document: Any) -> requests.Response:
    return requests.post(f"{served.url}/crm_receive_event", data=orjson.dumps(document), headers=HEADERS, timeout=30)


def get(served: Served, path: str) -> Any:
    return requests.get(f"{served.url}/{path}", headers=HEADERS, timeout=30).json()


def emails(target: RestTarget) -> list[str]:
    return sorted(person["email"] for person in target.items("people").values())


def test_the_demo_tells_the_whole_story(tmp_path: Path) -> None:
    """It ends by itself with 0, shows every part, writes nothing to standard error, and leaves nothing behind."""
    cli = CommandLine(tmp_path / "unused", {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)})
    done = cli.run("demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    position = -1
    for part in (
        "Serving the sample",
        "Received",
        "(there before)",
        "invalid_payload",
        "signature_wrong",
        "Events",
        "The record of 1001",
        "ana.diaz@shop.example",
        "Audit",
        "superseded",
        "Blame",
        "1002 is parked",
        "invalid_evolution",
        "leaves it parked: True",
        "bo@crm.example",
        "Deliveries",
        "retry",
        "DELETE",
        "What the CRM has",
        "What the mailing system has",
    ):
        found = done.stdout.find(part, position + 1)
        assert found > position, f"{part!r} does not follow"
        position = found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_a_server_that_is_told_to_stop_ends_well(cli: CommandLine, crm: RestTarget, number: Signals) -> None:
    """Exit code 0, no traceback; what was accepted right before is delivered by the next one."""
    with Served(cli) as served:
        assert post(served, contact("c-1", "a@example.org")).status_code == 202
        assert served.stop(number) == 0
    assert "Traceback" not in "".join(served.lines)
    with Served(cli) as served:
        wait_until("the person is delivered", lambda: emails(crm) == ["a@example.org"])
        assert get(served, "clients/1")["version"] == 1


def test_a_server_that_is_killed_loses_nothing(cli: CommandLine, crm: RestTarget) -> None:
    """Every delivery that was answered with 202 is there and goes all the way, once."""
    with Served(cli) as served:
        batch = [contact(f"c-{number}", f"{number}@example.org", number) for number in range(1, 41)]
        assert post(served, batch).status_code == 207
        served.stop(SIGKILL)
    with Served(cli) as served:
        wait_until("all are delivered", lambda: len(emails(crm)) == 40, seconds=60)
        assert post(served, batch).json()["results"][7]["events"][0]["duplicate"] is True
        wait_until("nothing is left", lambda: not get(served, "lag")["deliveries"]["crm"]["waiting"], seconds=60)
        assert emails(crm) == sorted(f"{number}@example.org" for number in range(1, 41))
        assert len(get(served, "clients/7/audit")["entries"]) == 1


def test_what_another_process_appends_is_projected_and_delivered(
    cli: CommandLine, crm: RestTarget, tmp_path: Path
) -> None:
    """A bulk import beside a running server; both see one application."""
    path = tmp_path / "changes.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(contact(f"f-{n}", f"{n}@example.org", n)) for n in range(1, 11)))
    with Served(cli) as served:
        done = cli.run("append", "--source", "crm", "--key", "change_id", path, "--json")
        assert done.returncode == 0, done.stderr
        assert orjson.loads(done.stdout)["appended"] == 10
        wait_until("all are delivered", lambda: len(emails(crm)) == 10)
        assert get(served, "clients/3")["record"]["contact"]["email"] == "3@example.org"
        assert post(served, contact("f-3", "3@example.org", 3)).json()["events"][0]["duplicate"] is True
        assert cli.json("view", 3) == get(served, "clients/3")


def test_a_key_is_made_up_and_shown_when_none_is_set(data: Path, environment: Mapping[str, str]) -> None:
    """It opens the functions; without it they stay shut."""
    settings = {name: value for name, value in environment.items() if name != "CLIENT_FLOW_KEY"}
    with Served(CommandLine(data, settings)) as served:
        [line] = [line for line in served.lines if line.startswith("x-functions-key: ")]
        key = line.split()[1]
        assert len(key) >= 32
        assert requests.get(f"{served.url}/lag", timeout=30).status_code == 401
        assert requests.get(f"{served.url}/lag", headers={"x-functions-key": key}, timeout=30).status_code == 200


def test_a_port_that_is_taken_is_one_line(cli: CommandLine) -> None:
    """Exit code 1 and what to change, no traceback."""
    with Served(cli) as served:
        port = served.url.rpartition(":")[2].partition("/")[0]
        second = cli.run("serve", "--port", port)
    assert second.returncode == 1
    assert f"Cannot listen on 127.0.0.1, port {port}" in " ".join(second.stderr.split())
    assert "Traceback" not in second.stderr
