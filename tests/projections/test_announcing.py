from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import Field

from eventstore import ANY, Event
from projections import (
    ABSENT,
    ROOT,
    FieldChange,
    OutboxEntry,
    Projection,
    SubSchema,
    Target,
    UnifiedSchema,
    announce,
    empty_record,
    fold,
)
from tests.support.clients import (
    Client,
    Contacted,
    ContactRemoved,
    Graded,
    PersonId,
    Scored,
    Tagged,
    Visited,
    add_rules,
    clients,
    events,
    fact,
)
from tests.support.projecting import World, recorded


@pytest.fixture
def generations(tmp_path: Path) -> Iterator[tuple[World, World]]:
    """The same data, seen by code of version 1, and of version 2 whose rule grades in capitals."""
    newer = Projection("clients", Client, events, version=2)
    add_rules(newer, but=Graded)
    newer.on(Graded)(lambda record, event: record.evolve(segment=event.segment.upper()))
    with closing(World(tmp_path)) as old, closing(World(tmp_path, newer)) as new:
        yield old, new


def published(world: World) -> list[OutboxEntry]:
    """Take the entries out of the outbox as the publisher does."""
    entries = list(world.outbox("1"))
    world.store.delete(entries)
    return entries


def test_a_commit_announces_what_it_changed(world: World) -> None:
    """The entry holds the contents of the changed sub-schemas with defaults, the changes, and where it belongs."""
    traced = replace(fact(Tagged(tags=["x"])), correlation_id="c1", traceparent="00-1")
    world.events.append("1", [fact(Graded(segment="gold")), traced], expected_version=ANY)
    record = world.catch_up("1")
    assert published(world) == [
        OutboxEntry(
            client_id="1",
            projection="clients",
            projection_version=1,
            seq=1,
            previous_seq=0,
            version=2,
            recorded_at=record.recorded_at,
            contents={"profile": {"language": "en", "tags": ["x"]}, "root": {"score": None, "segment": "gold"}},
            changes=(FieldChange(ROOT, "segment", ABSENT, "gold"), FieldChange("profile", "tags", ABSENT, ["x"])),
            correlation_id="c1",
            traceparent="00-1",
        )
    ]


def test_announcements_are_numbered(world: World) -> None:
    """Each names the one before."""
    for segment in ("a", "b", "c"):
        world.tell("1", Graded(segment=segment))
        world.catch_up("1")
    assert [(entry.seq, entry.previous_seq, entry.version) for entry in world.outbox("1")] == [
        (1, 0, 1),
        (2, 1, 2),
        (3, 2, 3),
    ]


@pytest.mark.parametrize(
    "told",
    [
        [Visited()],
        [Graded(segment="standard")],
        [Graded(segment="a"), Graded(segment="standard")],
        [Contacted()],
    ],
)
def test_a_commit_that_leaves_the_contents_alone_announces_nothing(world: World, told: list[Event]) -> None:
    """No rule, the default asserted, back to where it was, or nothing asserted: the world knows all that already."""
    world.tell("1", *told)
    world.catch_up("1")
    assert world.outbox("1") == []
    assert world.store.load(["1"])["1"].announced is None


def test_superseded_changes_are_not_announced(world: World) -> None:
    """They are not changes of the record."""
    world.tell("1", fact(Graded(segment="new"), minute=2), fact(Graded(segment="old"), minute=1), Scored(score=1))
    world.catch_up("1")
    assert [change.field for change in world.outbox("1")[0].changes] == ["segment", "score"]


def test_a_removed_sub_schema_is_announced_as_none(world: World) -> None:
    """Subscribers are told that it is gone."""
    world.tell("1", Contacted(email="a"))
    world.catch_up("1")
    world.tell("1", ContactRemoved())
    world.catch_up("1")
    assert [entry.contents for entry in world.outbox("1")] == [
        {"contact": {"email": "a", "phone": None}},
        {"contact": None},
    ]


def test_a_new_generation_announces_what_it_made_different(generations: tuple[World, World]) -> None:
    """Its first commit compares with what the world was told, not with a record of its own that was not there."""
    old, new = generations
    old.tell("1", Contacted(email="a"), Graded(segment="gold"))
    old.catch_up("1")
    published(old)
    new.catch_up("1")
    (entry,) = published(new)
    assert (entry.seq, entry.projection_version, entry.contents) == (2, 2, {"root": {"score": None, "segment": "GOLD"}})


def test_old_code_beside_new_code_does_not_contradict_it(generations: tuple[World, World]) -> None:
    """Once the newer generation spoke for a client, the older keeps its record but announces nothing."""
    old, new = generations
    old.tell("1", Graded(segment="gold"))
    old.catch_up("1")
    new.catch_up("1")
    published(new)
    old.tell("1", Graded(segment="silver"))
    assert old.catch_up("1").values == {ROOT: {"segment": "silver"}}
    assert published(old) == []
    new.catch_up("1")
    assert [entry.contents["root"] for entry in published(new)] == [{"score": None, "segment": "SILVER"}]


def test_a_silent_fold_announces_nothing(world: World) -> None:
    """The next commit tells all of it."""
    world.tell("1", Graded(segment="gold"))
    assert world.projector().catch_up("1", Target(1, silent_until=1)).version == 1
    assert world.outbox("1") == []
    world.tell("1", Contacted(email="a"))
    world.catch_up("1")
    assert set(world.outbox("1")[0].contents) == {"root", "contact"}


def test_a_record_folded_again_is_silent_until_it_is_there(world: World) -> None:
    """The commits on the way tell nothing, and the last one only what differs: nothing."""
    world.tell("1", *[Graded(segment=str(number)) for number in range(100)])
    world.tell("1", *[Scored(score=number) for number in range(100)])
    world.catch_up("1")
    published(world)
    world.projector().catch_up_all({"1": Target(0, refold=True)})
    assert published(world) == []


def test_a_sub_schema_that_is_new_in_the_code_is_no_news(world: World) -> None:
    """Where nobody asserted it yet, it is what it was for the world: not there."""
    world.tell("1", Graded(segment="gold"))
    world.catch_up("1")
    announced = world.store.load(["1"])["1"].announced
    assert announced is not None

    class Loyalty(SubSchema):
        points: int = 0

    class Wider(Client):
        loyalty: Loyalty | None = None

    wider = Projection("clients", Wider, events, version=2)
    add_rules(wider)  # type: ignore[arg-type]  # a schema with one sub-schema more
    folded = fold(wider, empty_record("1"), world.stream("1"))
    assert announce(wider, folded, announced) is None


def test_a_sub_schema_that_the_code_dropped_is_announced_as_gone(world: World) -> None:
    """If the world was told something of it."""
    world.tell("1", Contacted(email="a"), Graded(segment="gold"))
    world.catch_up("1")

    class Narrow(UnifiedSchema):
        id: PersonId
        segment: str = "standard"
        score: float | None = None
        profile: dict[str, str] = Field(default_factory=dict)

    narrow = Projection("clients", Narrow, events, version=2)
    narrow.on(Graded)(lambda record, event: record.evolve(segment=event.segment))
    told = announce(narrow, fold(narrow, empty_record("1"), world.stream("1")), world.store.load(["1"])["1"].announced)
    assert told is not None
    assert told[1].contents["contact"] is None
    assert "address" not in told[1].contents


def test_what_a_whole_float_is_read_back_as_is_no_difference() -> None:
    """Announcements compare contents as every backend gives them back."""
    folded = fold(clients, empty_record("1"), recorded("1", Scored(score=2.0)))
    first = announce(clients, folded, None)
    assert first is not None
    loaded = folded._replace(model=clients.build("1", {ROOT: {"score": 2}}))
    assert announce(clients, loaded, first[0]) is None
