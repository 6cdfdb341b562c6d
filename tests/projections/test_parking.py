from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from pydantic import Field, computed_field, field_validator

from eventstore import SAFE_INTEGER, StoreUnavailableError
from projections import (
    MAX_RECORD_BYTES,
    Projection,
    Projector,
    StreamBehindError,
    SubSchema,
    Target,
    UnifiedSchema,
    retry_parked,
)
from tests.support.clients import Client, Contacted, Graded, PersonId, Scored, Tagged, add_rules, events
from tests.support.interposing import Interposed, once
from tests.support.projecting import World, check_whole, parked_of


def test_a_client_parks_at_the_event_that_fails(world: World) -> None:
    """What came before is committed and announced; what comes later waits."""
    world.tell("1", Graded(segment="a"), Scored(score=-1), Graded(segment="b"))
    record = world.catch_up("1")
    parked = parked_of(record)
    assert (record.version, record.values) == (1, {"root": {"segment": "a"}})
    assert parked[:4] == (2, 3, "rule_raised", ("scored: raised ValueError",))
    assert [entry.version for entry in world.outbox("1")] == [1]
    assert world.store.parked() == [record]


def test_who_passes_a_parked_client_leaves_word(world: World) -> None:
    """`waiting_for` rises to the version that is passed, never falls."""
    world.tell("1", Scored(score=-1))
    world.catch_up("1")
    world.tell("1", Graded(segment="a"), Graded(segment="b"))
    assert parked_of(world.projector().catch_up("1", Target(3))).waiting_for == 3
    assert parked_of(world.projector().catch_up("1", Target(2))).waiting_for == 3


def test_nobody_makes_a_record_wait_for_what_does_not_exist(world: World) -> None:
    """A query may ask for any version; the record must not wait for it, and the caller is told."""
    world.tell("1", Scored(score=-1))
    for _ in range(2):
        with pytest.raises(StreamBehindError):
            world.projector().catch_up("1", Target(999))
        assert parked_of(world.record("1")).waiting_for == 1


def test_the_event_that_is_passed_while_the_client_is_unparked_is_not_lost(tmp_path: Path) -> None:
    """One projector retries the client while another passes a new event: between them, both versions are reached."""
    fixed = Projection("clients", Client, events, version=1)
    add_rules(fixed, but=Scored)
    fixed.on(Scored)(lambda record, event: record.evolve(score=event.score))
    with closing(World(tmp_path)) as world, closing(World(tmp_path, fixed)) as repaired:
        world.tell("1", Scored(score=-1))
        world.catch_up("1")

        def pass_by() -> None:
            world.tell("1", Graded(segment="late"))
            world.projector().catch_up("1", Target(2))

        store = Interposed(repaired.store, before_commit=once(pass_by))
        record = Projector(fixed, repaired.events, store).catch_up("1", Target(0, retry=True))
        assert (record.version, record.parked) == (2, None)
        check_whole(repaired)


def test_an_interrupted_way_out_of_parking_is_taken_up_again(world: World, tmp_path: Path) -> None:
    """Events behind a parked client were passed by every cursor; so the record says that it is not there yet."""
    fixed = Projection("clients", Client, events, version=1)
    add_rules(fixed, but=Scored)
    fixed.on(Scored)(lambda record, event: record.evolve(score=event.score))
    world.tell("1", Scored(score=-1))
    for _ in range(3):
        world.tell("1", *[Graded(segment=str(number)) for number in range(90)])
    world.follower().sweep()
    assert parked_of(world.record("1")).waiting_for == 271
    with closing(World(tmp_path, fixed)) as repaired:
        calls = iter(range(10))

        def die() -> None:
            if next(calls) == 2:
                raise StoreUnavailableError("killed")

        dying = Projector(fixed, repaired.events, Interposed(repaired.store, before_commit=die))
        with pytest.raises(StoreUnavailableError):
            retry_parked(dying, repaired.store)
        parked = parked_of(repaired.record("1"))
        assert (repaired.record("1").version, parked.code, parked.waiting_for) == (180, "catching_up", 271)
        assert retry_parked(repaired.projector(), repaired.store) == (1, 1)
        check_whole(repaired)


def test_other_code_retries_by_itself(world: World, tmp_path: Path) -> None:
    """The sweep of code with another fingerprint tries what older code could not digest."""
    fixed = Projection("clients", Client, events, version=1)
    add_rules(fixed, but=Scored)
    fixed.on(Scored)(lambda record, event: record.evolve(score=event.score))
    world.tell("1", Scored(score=-1), Graded(segment="a"))
    world.catch_up("1")
    assert retry_parked(world.projector(), world.store) == (0, 0)
    with closing(World(tmp_path, fixed)) as repaired:
        assert retry_parked(repaired.projector(), repaired.store) == (1, 1)
        check_whole(repaired)


def test_a_retry_by_hand_folds_again(world: World) -> None:
    """With the same code the client parks again, and is counted as tried."""
    world.tell("1", Scored(score=-1))
    world.catch_up("1")
    assert retry_parked(world.projector(), world.store, every=True) == (1, 0)
    assert parked_of(world.record("1")).code == "rule_raised"


def test_retrying_goes_through_all_parked_clients(world: World) -> None:
    """However many pages they take."""
    for number in range(230):
        world.tell(f"{number:03}", Scored(score=-1))
    world.follower().sweep()
    assert retry_parked(world.projector(), world.store, every=True) == (230, 0)


def test_a_record_that_grows_too_large_parks(world: World) -> None:
    """The event that makes it too large waits; those before it are in."""
    half = MAX_RECORD_BYTES // 2
    world.tell("1", Tagged(tags=["a" * half]), Graded(segment="b"))
    world.tell("1", Contacted(email="c" * half))
    record = world.catch_up("1")
    parked = parked_of(record)
    assert (record.version, parked.version, parked.code) == (2, 3, "record_too_large")
    assert parked.problems == (f"(whole): the record would take more than {MAX_RECORD_BYTES} bytes",)


def test_a_number_that_a_double_cannot_hold_parks(tmp_path: Path) -> None:
    """A rule may compute what no event may carry."""
    squared = Projection("clients", Client, events, version=1)
    squared.on(Scored)(lambda record, event: record.evolve(score=SAFE_INTEGER + int(event.score)))
    with closing(World(tmp_path, squared)) as world:
        world.tell("1", Scored(score=0), Scored(score=1))
        record = world.catch_up("1")
        assert (record.version, parked_of(record).code) == (1, "invalid_value")
        assert parked_of(record).problems[0].startswith("score: ")


def test_a_record_that_the_schema_cannot_read_parks(world: World, tmp_path: Path) -> None:
    """Code whose schema changed under its version says so, and goes on when it can read the record again."""

    class Stricter(Client):
        segment: int = 0  # type: ignore[assignment]  # that is what is wrong with it

    stricter = Projection("clients", Stricter, events, version=1)
    world.tell("1", Graded(segment="a"))
    world.catch_up("1")
    world.tell("1", Graded(segment="b"))
    with closing(World(tmp_path, stricter)) as broken:
        parked = parked_of(broken.projector().catch_up("1", Target(2)))
        assert (parked.version, parked.waiting_for, parked.code) == (1, 2, "unreadable_record")
        assert [problem.split(": ")[0] for problem in parked.problems] == ["segment"]
    assert retry_parked(world.projector(), world.store) == (1, 1)
    check_whole(world)


def test_an_unreadable_record_without_later_events_goes_on_too(world: World, tmp_path: Path) -> None:
    """There is no next event to wait for."""

    class Stricter(Client):
        segment: int = 0  # type: ignore[assignment]  # that is what is wrong with it

    world.tell("1", Graded(segment="a"))
    world.catch_up("1")
    with closing(World(tmp_path, Projection("clients", Stricter, events, version=1))) as broken:
        assert parked_of(broken.projector().catch_up("1", Target(0))).waiting_for == 1
    assert retry_parked(world.projector(), world.store) == (1, 1)
    check_whole(world)


def test_a_record_that_makes_a_validator_raise_parks(world: World, tmp_path: Path) -> None:
    """Whatever the schema's own code raises while a record is loaded, it raises each time."""

    class Buggy(Client):
        @field_validator("segment")
        @classmethod
        def _raises(cls, value: str) -> str:
            raise KeyError(value)

    world.tell("1", Graded(segment="a"))
    world.catch_up("1")
    world.tell("1", Graded(segment="b"))
    with closing(World(tmp_path, Projection("clients", Buggy, events, version=1))) as broken:
        parked = parked_of(broken.projector().catch_up("1", Target(2)))
        assert (parked.code, parked.problems) == ("unreadable_record", ("(whole): raised KeyError",))


def test_a_client_id_that_is_none_of_the_schema_parks(world: World) -> None:
    """Events may have been appended under a text that the schema's id class does not parse."""
    world.tell("1.2.3", Graded(segment="a"))
    parked = parked_of(world.catch_up("1.2.3"))
    assert (parked.version, parked.waiting_for, parked.code, parked.problems) == (0, 1, "invalid_client_id", ())


@pytest.mark.parametrize("target", [Target(0), Target(0, retry=True), Target(0, refold=True)])
def test_asking_for_a_client_does_not_make_it_one(world: World, target: Target) -> None:
    """Whoever asks, and for whatever text: without an event nothing is stored."""
    for client_id in ("nobody", "1.2.3"):
        assert world.projector().catch_up(client_id, target).version == 0
        with pytest.raises(StreamBehindError):
            world.projector().catch_up(client_id, target._replace(at_least=1))
    assert world.store.client_ids() == []


def test_a_value_that_cannot_be_read_back_parks(tmp_path: Path) -> None:
    """A record that is stored has to be one that can be loaded: a strict date has no JSON type."""

    class Dated(UnifiedSchema):
        id: PersonId
        born: date | None = Field(default=None, strict=True)

    projection = Projection("dated", Dated, events, version=1)
    projection.on(Graded)(lambda record, event: record.evolve(born=date(1990, 2, 28)))
    with closing(World(tmp_path, projection)) as world:
        world.tell("1", Contacted(), Graded(segment="a"), Graded(segment="b"))
        record = world.catch_up("1")
        assert (record.version, parked_of(record)[:3]) == (1, (2, 3, "invalid_record"))
        assert [problem.split(": ")[0] for problem in parked_of(record).problems] == ["born"]


def test_a_computed_field_that_raises_parks(tmp_path: Path) -> None:
    """What is announced has to be there for every record that is stored."""

    class Ratio(SubSchema):
        part: int | None = None

        @computed_field  # type: ignore[prop-decorator]  # pydantic's own way of writing it
        @property
        def share(self) -> float:
            return 1 / self.part if self.part is not None else 0

    class Shared(UnifiedSchema):
        id: PersonId
        ratio: Ratio | None = None

    projection = Projection("shared", Shared, events, version=1)
    projection.on(Scored)(lambda record, event: record.evolve(ratio={"part": int(event.score)}))
    with closing(World(tmp_path, projection)) as world:
        world.tell("1", Scored(score=4), Scored(score=0))
        record = world.catch_up("1")
        assert (record.version, parked_of(record)[:4]) == (
            1,
            (2, 2, "fold_raised", ("(whole): raised ZeroDivisionError",)),
        )
        assert [entry.contents["ratio"] for entry in world.outbox("1")] == [{"part": 4, "share": 0.25}]
