"""The newcomer's path: copy the sample as the README says, make it one's own, use it, test it and bundle it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.command_line import CommandLine, Served
from tests.support.flow import KEY
from tests.worker.host import Worker

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
COPY = re.compile(r"^cp -r functions_app/sample (\w+)$", re.MULTILINE)
DOMAIN = re.compile(r"^export CLIENT_FLOW_DOMAIN=(\S+)$", re.MULTILINE)

EVENT = '''

@events.register("person.tier_reached")
class TierReached(Event):
    """The person became a member of another tier."""

    tier: str
'''
RULE = '''

@people.on(TierReached)
def reach_tier(record: Person, event: TierReached) -> Person:
    """The latest tier counts."""
    return record.evolve(membership={"tier": event.tier})
'''
SCHEMA = '''class Membership(SubSchema):
    """What the person is to us."""

    tier: str | None = None


class Person(UnifiedSchema):'''
SOURCE = '''

class TierChange(BaseModel):
    """What the loyalty system sends."""

    id: str
    person: int
    tier: str
    at: AwareDatetime


def tier_facts(change: TierChange) -> Iterator[Fact]:
    """One fact."""
    yield Fact(PersonId(number=change.person), TierReached(tier=change.tier), change.at)


loyalty = Receiver(name="loyalty", payload=TierChange, process=tier_facts, key=PayloadKey("id"))
'''
TARGET = '''

class Card(BaseModel):
    """What is printed."""

    tier: str


def to_printer(person: Person) -> Card | None:
    """Only members have a card."""
    return Card(tier=person.membership.tier) if person.membership and person.membership.tier else None


printer = Integration(
    name="printer", cares_about=("membership",), mapping=to_printer, strategy=FromSettings(mailing_api)
)
'''
TEST = """
from members.events import TierReached
from members.person import Person, PersonId, reach_tier
from members.targets import Card, to_printer


def test_a_tier_gives_a_card():
    person = Person(id=PersonId(number=1))
    assert to_printer(person) is None
    assert to_printer(reach_tier(person, TierReached(tier="gold"))) == Card(tier="gold")
"""


def edit(path: Path, *changes: tuple[str, str], more: str = "") -> None:
    """Replace what must be there, and add to the end."""
    text = path.read_text("utf-8")
    for before, after in changes:
        assert before in text, f"{path.name} does not hold {before!r}"
        text = text.replace(before, after, 1)
    path.write_text(text + more, "utf-8")


def test_from_the_readme_to_a_domain_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New event, schema, rule, source and target, then everything works with them: import, serve, test, bundle."""
    readme = (ROOT / "README.md").read_text("utf-8")
    copied, domain = COPY.search(readme), DOMAIN.search(readme)
    assert copied is not None
    assert domain is not None
    (tmp_path / "functions_app").symlink_to(ROOT / "functions_app")
    subprocess.run(["bash", "-c", copied[0]], cwd=tmp_path, check=True, timeout=30)
    (tmp_path / "functions_app").unlink()
    own = tmp_path / copied[1]

    edit(own / "events.py", more=EVENT)
    edit(
        own / "person.py",
        ("PersonMoved, events", "PersonMoved, TierReached, events"),
        ("class Person(UnifiedSchema):", SCHEMA),
        (
            "    consent: Consent | None = None\n",
            "    consent: Consent | None = None\n    membership: Membership | None = None\n",
        ),
        more=RULE,
    )
    edit(
        own / "sources.py", ("PersonIdentified, PersonMoved", "PersonIdentified, PersonMoved, TierReached"), more=SOURCE
    )
    edit(own / "targets.py", more=TARGET)
    edit(
        own / "__init__.py",
        ("import registry, shop", "import loyalty, registry, shop"),
        ("import crm, mailing", "import crm, mailing, printer"),
        ("[crm_source, shop]", "[crm_source, shop, loyalty]"),
        ("[crm, mailing]", "[crm, mailing, printer]"),
    )

    (tmp_path / "test_members.py").write_text(TEST)
    tested = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_members.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        tested, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

    monkeypatch.chdir(tmp_path)
    command = CommandLine(tmp_path / "data", {"CLIENT_FLOW_DOMAIN": domain[1], "CLIENT_FLOW_KEY": KEY})
    change = {"id": "t-1", "person": 7, "tier": "gold", "at": "2026-11-02T09:00:00Z"}
    with Served(command) as served:
        answer = post(served.url, change)
        assert answer == 202
        assert served.stop() == 0
    projected = command.run("project")
    assert projected.returncode == 0, projected.stderr
    viewed = command.run("view", "7", "--json")
    assert '"gold"' in viewed.stdout, viewed.stderr
    bundled = command.run("bundle", "build")
    assert bundled.returncode == 0, bundled.stderr
    with Worker(tmp_path / "build", {}) as worker:
        assert {"loyalty_receive_event", "printer_deliver"} <= set(worker.functions)


def post(url: str, document: dict[str, object]) -> int:
    """Deliver to the loyalty receiver as its system would."""
    headers = {"x-functions-key": KEY}
    return requests.post(f"{url}/loyalty_receive_event", json=document, headers=headers, timeout=30).status_code
