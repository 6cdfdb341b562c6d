from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import ANY, EventData, EventIdReusedError, InvalidEventError
from projections import (
    ABSENT,
    ANNULMENT,
    ROOT,
    AnnulmentError,
    AuditEntry,
    FieldChange,
    Projection,
    Record,
    Target,
    annul,
    annulled_version,
    apply_changes,
    retry_parked,
)
from tests.support.clients import NOON, Client, Contacted, Graded, Scored, Visited, add_rules, events, fact
from tests.support.projecting import World, oracle


def annul_at(world: World, version: int, *, client_id: str = "1") -> None:
    annul(world.events, client_id, version, reason="test", by="me", now=NOON + timedelta(minutes=30))


def replayed(trail: Sequence[AuditEntry]) -> dict[int, dict[str, dict[str, object]]]:
    """The values after each version, by replaying the audit."""
    values: dict[str, dict[str, object]] = {}
    after = {}
    for entry in trail:
        after[entry.version] = values = apply_changes(values, entry.changes)
    return after


def test_an_annulled_failure_is_passed_over_at_its_place(world: World) -> None:
    """The client goes on; the audit says that the event was annulled."""
    world.tell("1", Graded(segment="a"), Scored(score=-1), Graded(segment="b"))
    assert world.catch_up("1").parked is not None
    annul_at(world, 2)
    record = world.catch_up("1", known=world.stream("1")[3:])
    assert (record.version, record.parked, record.annulled) == (4, None, (2,))
    assert record.values == {ROOT: {"segment": "b"}}
    assert [(entry.version, entry.rule, entry.note) for entry in world.trail("1")] == [
        (1, "graded", None),
        (2, None, "annulled"),
        (3, "graded", None),
        (4, "annulment", None),
    ]


def test_an_annulment_takes_an_effect_back_where_it_stands(world: World) -> None:
    """Its own audit entry holds the difference; the entries before it stay."""
    world.tell("1", Graded(segment="a"), Graded(segment="b"), Contacted(email="x"))
    world.catch_up("1")
    before = world.trail("1")
    annul_at(world, 2)
    record = world.catch_up("1")
    assert (record.values[ROOT], record.annulled) == ({"segment": "a"}, (2,))
    assert record.provenance[ROOT]["segment"].version == 1
    assert world.trail("1")[:3] == before
    assert world.trail("1")[3].changes == (FieldChange(ROOT, "segment", "b", "a"),)


def test_an_annulled_superseded_fact_changes_nothing(world: World) -> None:
    """What had no effect leaves none to take back."""
    world.tell("1", fact(Graded(segment="new"), minute=2), fact(Graded(segment="old"), minute=1))
    world.catch_up("1")
    annul_at(world, 2)
    assert world.catch_up("1").values[ROOT] == {"segment": "new"}
    assert world.trail("1")[2].changes == ()


def test_what_an_annulled_fact_superseded_comes_back(world: World) -> None:
    """The history is folded without it, so an older fact that had lost against it holds."""
    world.tell("1", fact(Graded(segment="new"), minute=2), fact(Graded(segment="old"), minute=1))
    world.catch_up("1")
    annul_at(world, 1)
    assert world.catch_up("1").values[ROOT] == {"segment": "old"}


def test_earlier_versions_stay_what_they_were(world: World) -> None:
    """Before the annulment the annulled event counts, as of a version as much as in the audit."""
    world.tell("1", Graded(segment="a"), Graded(segment="b"))
    annul_at(world, 2)
    world.catch_up("1")
    assert [world.reader.as_of_version("1", version).record.values[ROOT]["segment"] for version in (1, 2, 3)] == [
        "a",
        "b",
        "a",
    ]


def test_annulling_twice_is_annulling_once(world: World) -> None:
    """The same call returns the event that is there; another reason is refused."""
    world.tell("1", Graded(segment="a"))
    annul_at(world, 1)
    annul_at(world, 1)
    assert [event.event_type for event in world.stream("1")] == ["client.graded", ANNULMENT]
    assert annulled_version(world.stream("1")[1]) == 1
    with pytest.raises(EventIdReusedError):
        annul(world.events, "1", 1, reason="another", by="me", now=NOON)


@pytest.mark.parametrize("version", [-1, 0, 2, 99, 2**70])
def test_what_is_not_there_cannot_be_annulled(world: World, version: int) -> None:
    """Nothing is stored."""
    world.tell("1", Visited())
    with pytest.raises(AnnulmentError, match="no such event"):
        annul_at(world, version)
    assert len(world.stream("1")) == 1


def test_a_client_without_events_has_none_to_annul(world: World) -> None:
    """An unknown client is no other case."""
    with pytest.raises(AnnulmentError):
        annul_at(world, 1, client_id="nobody")


def test_an_annulment_cannot_be_annulled(world: World) -> None:
    """The annulled fact can be appended again."""
    world.tell("1", Visited())
    annul_at(world, 1)
    with pytest.raises(AnnulmentError, match="append the annulled fact again"):
        annul_at(world, 2)


def test_an_annulment_has_to_be_storable(world: World) -> None:
    """Reason and time are checked like any event."""
    world.tell("1", Visited())
    with pytest.raises(InvalidEventError, match="offset"):
        annul(world.events, "1", 1, reason="", by="", now=NOON.replace(tzinfo=None))
    with pytest.raises(InvalidEventError, match="reason"):
        annul(world.events, "1", 1, reason="\ud800", by="", now=NOON)


def test_a_taken_back_event_may_be_what_a_later_one_needs(tmp_path: Path) -> None:
    """Then the client parks at the annulment, and goes on when the later one is annulled as well."""
    needy = Projection("clients", Client, events, version=1)
    add_rules(needy, but=Scored)

    @needy.on(Scored)
    def scored(record: Client, event: Scored) -> Client:
        if record.contact is None:
            raise LookupError("no contact")
        return record.evolve(score=event.score)

    with closing(World(tmp_path, needy)) as world:
        world.tell("1", Contacted(email="x"), Scored(score=1))
        annul_at(world, 1)
        parked = world.catch_up("1").parked
        assert parked is not None
        assert (parked.version, parked.code) == (3, "rule_raised")
        assert parked.problems[0] == "(whole): without the annulled event, version 2 fails"
        annul_at(world, 2)
        record = world.catch_up("1", known=world.stream("1")[3:])
        assert (record.version, record.parked, record.values, record.annulled) == (4, None, {}, (1, 2))
        assert [entry.note for entry in world.trail("1")] == [None, None, None, None]


def test_an_annulment_behind_a_backlog_is_noticed(world: World) -> None:
    """A sweep that reads whole streams instead of what is on its pages still tries the parked client again."""
    world.tell("1", Scored(score=-1))
    world.follower(page=1).sweep()
    assert world.record("1").parked is not None
    annul_at(world, 1)
    world.follower(page=1).sweep()
    assert (world.record("1").version, world.record("1").parked) == (2, None)


def test_an_annulment_that_no_doorbell_told_of_is_found_by_a_retry(world: World) -> None:
    """Retrying by hand reads the stream to its end."""
    world.tell("1", Scored(score=-1))
    world.catch_up("1")
    annul_at(world, 1)
    assert retry_parked(world.projector(), world.store, every=True) == (1, 1)
    assert world.record("1").values == {}


def test_only_the_failing_event_is_passed_over(world: World) -> None:
    """Another event of the same portion that is annulled too had taken effect, and is taken back where that is said."""
    world.tell("1", Graded(segment="a"), Scored(score=-1), Graded(segment="b"))
    for version in (1, 2):
        annul_at(world, version)
    world.catch_up("1")
    assert [(entry.note, len(entry.changes)) for entry in world.trail("1")] == [
        (None, 1),
        ("annulled", 0),
        (None, 1),
        (None, 0),
        (None, 0),
    ]
    assert world.trail("1")[0].changes == (FieldChange(ROOT, "segment", ABSENT, "a"),)


assertion = st.builds(
    lambda segment, minute: fact(Graded(segment=segment), minute=minute), st.sampled_from("abc"), st.integers(0, 9)
)
failure = st.builds(lambda: fact(Scored(score=-1)))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(st.tuples(assertion | failure, st.booleans()), min_size=1, max_size=7),
    batches=st.lists(st.integers(1, 14), max_size=3),
)
def test_annulments_at_any_place(
    tmp_path_factory: pytest.TempPathFactory, data: list[tuple[EventData, bool]], batches: list[int]
) -> None:
    """The record is what the history without the annulled events comes to, whenever the projector came by.

    The audit does not depend on that either, and replays to the record at each version.
    """
    world = World(tmp_path_factory.mktemp("world"))
    eventually = World(tmp_path_factory.mktemp("world"))
    try:
        annulled = {
            version for version, (event, chosen) in enumerate(data, 1) if chosen or event.event_type == "client.scored"
        }
        stream = [event for event, _ in data]
        for place in (world, eventually):
            place.events.append("1", stream, expected_version=ANY)
        for version in sorted(annulled):
            annul_at(eventually, version)
        for version in sorted(annulled):
            if version in batches:
                world.projector().catch_up("1", Target(0, retry=True))
            annul_at(world, version)
        ends: list[Record] = [place.projector().catch_up("1", Target(0, retry=True)) for place in (world, eventually)]
        assert ends[0].parked is None
        assert ends[0] == ends[1]
        assert world.trail("1") == eventually.trail("1")
        kept = [event for event in world.stream("1")[: len(stream)] if event.version not in annulled]
        assert ends[0].values == oracle(kept)
        history = replayed(world.trail("1"))
        assert history[ends[0].version] == ends[0].values
        for version, values in history.items():
            assert world.reader.as_of_version("1", version).record.values == values
    finally:
        world.close()
        eventually.close()
