"""The testing kit: it passes what holds, and says what does not."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from eventstore import ClientId, Event, EventRegistry, StoreUnavailableError, open_events
from projections import Projection, SubSchema, UnifiedSchema
from projections.testing import START, Scenario, check_delivery, check_golden, check_order, write_golden

events = EventRegistry()


@events.register("client.contacted", version=2)
class Contacted(Event):
    email: str | None = None
    phone: str | None = None


@events.upcast("client.contacted", from_version=1)
def _(data: dict[str, object]) -> dict[str, object]:
    return {"email": data["mail"]}


class Id(ClientId):
    number: int


class Contact(SubSchema):
    email: str | None = None
    phone: str | None = None


class Person(UnifiedSchema):
    id: Id
    contact: Contact | None = None
    calls: int = 0


people = Projection("people", Person, events, version=1)


@people.on(Contacted)
def contacted(record: Person, event: Contacted) -> Person:
    if event.email == "bad":
        raise ValueError
    return record.evolve(contact={name: value for name, value in event if value is not None})


counting = Projection("counting", Person, events, version=1)


@counting.on(Contacted)
def first_wins(record: Person, event: Contacted) -> Person:
    return record if record.contact else record.evolve(contact={"email": event.email})


HISTORY = [Contacted(email="a"), Contacted(phone="1"), Contacted(email="b"), Contacted(email="c", phone="2")]


def test_a_scenario_says_what_a_rule_does() -> None:
    """Record, audit and announcement of the events that came."""
    scenario = Scenario(people, "7").given(Contacted(email="a")).when(Contacted(phone="1")).twice()
    scenario.then(contact={"email": "a", "phone": "1"}, calls=0).changed("contact.phone").announced("contact")
    scenario.superseded()
    Scenario(people, "7").given(Contacted(email="a")).when(
        Contacted(email="b"), at=START - timedelta(days=1)
    ).superseded("contact.email").changed().announced().then(contact={"email": "a"})
    Scenario(people, "7").when(Contacted(email="bad")).parked("rule_raised").then(contact=None)


def test_a_scenario_says_what_came_instead() -> None:
    """Expected and found stand in the message, and that the client is parked."""
    scenario = Scenario(people, "7").when(Contacted(email="a"))
    with pytest.raises(AssertionError, match=r"contact to be: .*'b'.*; came .*'a'"):
        scenario.then(contact={"email": "b"})
    with pytest.raises(AssertionError, match=r"\['contact.phone'\]; came \['contact.email'\]"):
        scenario.changed("contact.phone")
    with pytest.raises(AssertionError, match="to announce"):
        scenario.announced()
    with pytest.raises(AssertionError, match=r"superseded"):
        scenario.superseded("contact.email")
    with pytest.raises(AssertionError, match="came None"):
        scenario.parked("rule_raised")
    with pytest.raises(AssertionError, match="no 'adress'"):
        scenario.then(adress=None)
    with pytest.raises(AssertionError, match="parked at version 1: rule_raised"):
        Scenario(people, "7").when(Contacted(email="bad")).changed("contact.email")


def test_delivery_and_order_do_not_matter_for_assertions() -> None:
    """Also beyond the number of events of which all orders are tried."""
    check_delivery(people, "7", HISTORY * 2, seed=1)
    check_order(people, "7", HISTORY)
    check_order(people, "7", HISTORY * 2)


def test_a_rule_that_depends_on_the_order_is_found() -> None:
    """It looks at what is there instead of asserting."""
    check_delivery(counting, "7", HISTORY)
    with pytest.raises(AssertionError, match="arrival in the order"):
        check_order(counting, "7", HISTORY)


def test_an_impure_rule_is_found() -> None:
    """Folding again comes to something else."""
    calls = iter(range(1000))
    impure = Projection("impure", Person, events, version=1)

    @impure.on(Contacted)
    def count(record: Person, event: Contacted) -> Person:
        return record.evolve(calls=next(calls))

    with pytest.raises(AssertionError, match="equal live"):
        check_delivery(impure, "7", HISTORY)


def test_golden_payloads(tmp_path: Path) -> None:
    """Missing versions, payloads that are read otherwise and strange files are all named."""
    with pytest.raises(AssertionError, match=r"version 1: no golden payload\nclient.contacted version 2: no golden"):
        check_golden(events, tmp_path)
    write_golden(events, tmp_path, Contacted(email="a"))
    write_golden(events, tmp_path, Contacted(phone="1"), "phone")
    old = tmp_path / "client.contacted.v1.json"
    old.write_bytes(orjson.dumps({"payload": {"mail": "a"}, "reads_as": {"email": "a", "phone": None}}))
    check_golden(events, tmp_path)
    with pytest.raises(FileExistsError):
        write_golden(events, tmp_path, Contacted(email="b"))
    old.write_bytes(orjson.dumps({"payload": {"mail": "a"}, "reads_as": {"email": "b", "phone": None}}))
    (tmp_path / "client.contacted.v3.json").write_bytes(orjson.dumps({"payload": {}, "reads_as": {}}))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(AssertionError) as caught:
        check_golden(events, tmp_path)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "client.contacted.v1.json",
        "client.contacted.v3.json",
        "other.json",
    ]


def test_a_database_in_memory_is_gone_when_closed() -> None:
    """And refuses whoever still asks it."""
    database = open_events(None)
    database.close()
    with pytest.raises(StoreUnavailableError), database.read():
        pass
