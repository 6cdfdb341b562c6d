"""What was wrong with the system before this one, as far as it concerns projections; more of it beside what it is about.

Lost updates (6): test_projector. Rules that match by chance (11): test_rules. Optional sub-schemas and postponed
annotations (25): test_schema. Ids in queries (7): the contract of the projection store.
"""

from collections.abc import Callable

import pytest

from eventstore import StoreUnavailableError
from projections import ABSENT, FieldChange, Projection, Projector, Target, empty_record, fold
from tests.support.clients import Client, Contacted, ContactReplaced, Graded, clients, events, fact
from tests.support.interposing import Interposed
from tests.support.projecting import World, oracle, recorded


def killed() -> None:
    raise StoreUnavailableError("killed")


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_a_crash_around_the_commit_loses_no_audit(world: World, moment: str) -> None:
    """Defect 1: there is no moment at which the record is saved and its audit is not."""
    world.tell("1", Graded(segment="a"), Contacted(email="b"))
    interrupt: dict[str, Callable[[], None]] = {moment: killed}
    with pytest.raises(StoreUnavailableError):
        Projector(clients, world.events, Interposed(world.store, **interrupt)).catch_up("1", Target(2))
    loaded = world.store.load(["1"])["1"].record
    assert [entry.version for entry in world.trail("1")] == list(range(1, (loaded.version if loaded else 0) + 1))
    world.catch_up("1")
    assert [len(entry.changes) for entry in world.trail("1")] == [1, 1]


def test_an_announcement_outlives_the_publisher(world: World) -> None:
    """Defect 2: what could not be published stays in the outbox."""
    world.tell("1", Graded(segment="a"))
    world.projector(on_announced=lambda ids: killed()).catch_up("1", Target(1))
    assert world.store.waiting() == ["1"]
    assert [entry.contents["root"] for entry in world.outbox("1")] == [{"score": None, "segment": "a"}]


def test_the_audit_of_an_event_is_whole_or_not_there(world: World) -> None:
    """Defect 3: all changed fields of an event are one entry."""
    world.tell("1", Contacted(email="a", phone="1"))
    world.catch_up("1")
    (entry,) = world.trail("1")
    assert [change.field for change in entry.changes] == ["email", "phone"]


def test_an_older_fact_that_arrives_late_does_not_win(world: World) -> None:
    """Defect 4: the event's own time decides, not the moment of its arrival."""
    world.tell("1", fact(Contacted(email="new"), minute=2))
    world.catch_up("1")
    world.tell("1", fact(Contacted(email="old"), minute=1))
    assert world.catch_up("1").values == {"contact": {"email": "new"}}


def test_a_redelivered_event_undoes_nothing(world: World) -> None:
    """Defect 5: A, B, and A again is A and B, with two audit entries."""
    a, b = fact(Graded(segment="a")), fact(Graded(segment="b"))
    for each in (a, b, a):
        delivered = world.tell("1", each)
        world.projector().catch_up("1", Target(delivered[-1].version, delivered))
    assert world.record("1").values == {"root": {"segment": "b"}}
    assert [entry.version for entry in world.trail("1")] == [1, 2]


def test_a_field_that_disappears_is_audited() -> None:
    """Defect 12: removal and explicit null are changes of their own, told apart from each other."""
    projection = Projection("clients", Client, events, version=1)
    projection.on(Contacted)(lambda record, event: record.evolve(contact={"email": event.email}))
    projection.on(ContactReplaced)(lambda record, event: record.evolve(contact=None))
    stream = recorded("1", Contacted(email="a"), Contacted(email=None), ContactReplaced())
    result = fold(projection, empty_record("1"), stream)
    assert [entry.changes for entry in result.audit] == [
        (FieldChange("contact", "email", ABSENT, "a"),),
        (FieldChange("contact", "email", "a", None),),
        (FieldChange("contact", "email", None, ABSENT),),
    ]


def test_an_audit_entry_says_where_it_comes_from(world: World) -> None:
    """Defect 13: event id, version, source and both times are in it."""
    (event,) = world.tell("1", fact(Graded(segment="a"), minute=3, key="k", source="shop"))
    world.catch_up("1")
    (entry,) = world.trail("1")
    assert (entry.event_id, entry.version, entry.source) == ("shop:k", 1, "shop")
    assert (entry.occurred_at, entry.recorded_at) == (event.occurred_at, event.recorded_at)
    assert entry.occurred_at < entry.recorded_at


def test_an_error_in_a_rule_is_not_swallowed(world: World) -> None:
    """Defect 24: a rule that raises parks its client in the open, and its events wait instead of vanishing."""
    projection = Projection("clients", Client, events, version=1)

    @projection.on(Graded)
    def graded(record: Client, event: Graded) -> Client:
        raise RuntimeError("a bug")

    world.tell("1", Contacted(email="a"), Graded(segment="b"))
    record = Projector(projection, world.events, world.store).catch_up("1", Target(2))
    assert world.store.parked() == [record]
    assert record.parked is not None
    assert record.parked.problems == ("graded: raised RuntimeError",)
    assert world.projector().catch_up("1", Target(2)).values == {"root": {"segment": "b"}}  # the fixed code
    assert oracle(world.stream("1"))["root"] == {"segment": "b"}
