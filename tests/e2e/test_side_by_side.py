"""Old and new code as two processes on one data set under load, and the way back to the old one."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from functions_app.embedded import open_embedded
from functions_app.sample import domain
from integrations import ReceivedMessage, SqliteTopic, open_deliveries
from tests.e2e.test_processes import contact, emails, get, post
from tests.support.command_line import CommandLine, Served
from tests.support.rest_target import RestTarget
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

PEOPLE = 5
ROUNDS = 4


class Outsider:
    """A subscriber of its own, who takes everything there is and keeps what has the highest seq."""

    def __init__(self, data: Path) -> None:
        self._database = open_deliveries(data)
        self._topic = SqliteTopic(self._database)
        self._topic.subscribe("outsider", domain.projection.layout.names)
        self._bodies: dict[str, set[bytes]] = defaultdict(set)
        self._highest: dict[str, int] = defaultdict(int)
        self.contacts: dict[str, Any] = {}

    def listen(self) -> None:
        while received := self._topic.receive("outsider", limit=100):
            for each in received:
                self._hear(each)
                self._topic.complete(each)

    def _hear(self, received: ReceivedMessage) -> None:
        self._bodies[received.message.message_id].add(received.message.body)
        told = orjson.loads(received.message.body)["data"]
        if told["seq"] > self._highest[told["client_id"]]:
            self._highest[told["client_id"]] = told["seq"]
            if "contact" in told["changed"]:
                self.contacts[told["client_id"]] = told["changed"]["contact"]["email"]

    def check(self) -> None:
        """No message id has two bodies."""
        self.listen()
        assert {len(bodies) for bodies in self._bodies.values()} == {1}

    def close(self) -> None:
        self._database.close()


def test_old_and_new_code_side_by_side_and_back(data: Path, environment: Mapping[str, str], crm: RestTarget) -> None:
    """No read goes back while both run, no message id has two bodies, and everybody ends at the final record."""
    old = CommandLine(data, environment)
    new = CommandLine(data, {**environment, "CLIENT_FLOW_DOMAIN": "tests.support.newer:domain"})
    open_embedded(data, domain).close()
    outsider = Outsider(data)
    seen: dict[tuple[str, int], int] = defaultdict(int)
    people = range(1, PEOPLE + 1)

    def look(name: str, served: Served, person: int, at_least: int) -> str:
        found = get(served, f"clients/{person}?min_version={at_least}")
        assert found["version"] >= max(at_least, seen[name, person])
        seen[name, person] = found["version"]
        return str(found["record"]["contact"]["email"])

    with Served(old) as before:
        for person in people:
            assert post(before, contact(f"a-{person}", f"p{person}@x.example", person)).status_code == 202
        with Served(new) as after:
            for number in range(1, ROUNDS + 1):
                for person in people:
                    change = contact(f"b-{number}-{person}", f"p{person}-{number}@x.example", person)
                    change["changed_at"] = f"2026-03-02T12:00:{number:02}Z"
                    assert post((before, after)[number % 2], change).status_code == 202
                    email = f"p{person}-{number}@x.example"
                    assert look("old", before, person, number + 1) == email
                    assert look("new", after, person, number + 1) == email.upper()
            assert after.stop() == 0
        assert before.stop() == 0
    final = [f"p{person}-{ROUNDS}@x.example" for person in people]
    done = old.run("rebuild", "--take-over", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    with Served(old) as served:
        assert [look("old", served, person, ROUNDS + 1) for person in people] == final
        wait_until("the target has the final records", lambda: emails(crm) == final, seconds=60)
        wait_until("nothing is left", lambda: not get(served, "lag")["deliveries"]["crm"]["waiting"], seconds=60)
    outsider.check()
    assert [outsider.contacts[str(person)] for person in people] == final
    outsider.close()
