from contextlib import closing
from pathlib import Path

import pytest

from eventstore import StoreUnavailableError
from projections import Commit, Projector, Target, empty_record, fold, retry_parked
from tests.support.clients import Contacted, Graded, clients, fact
from tests.support.interposing import Interposed
from tests.support.projecting import World, check_whole, parked_of


def test_an_interrupted_refold_is_taken_up_again(world: World) -> None:
    """A record that is folded again in place is not taken for up to date before it is."""
    for _ in range(3):
        world.tell("1", *[Graded(segment=str(number)) for number in range(90)])
    world.follower().sweep()
    calls = iter(range(10))

    def die() -> None:
        if next(calls) == 1:
            raise StoreUnavailableError("killed")

    with pytest.raises(StoreUnavailableError):
        Projector(clients, world.events, Interposed(world.store, before_commit=die)).catch_up(
            "1", Target(0, refold=True)
        )
    assert (world.record("1").version, parked_of(world.record("1")).code) == (90, "catching_up")
    assert retry_parked(world.projector(), world.store) == (1, 1)
    check_whole(world)


def test_a_history_restored_to_an_older_state_parks(world: World, tmp_path: Path) -> None:
    """The record names an event that the stream does not have; nothing is folded on top of it."""
    world.tell("1", Graded(segment="a"), Graded(segment="b"))
    world.catch_up("1")
    restored = World(tmp_path / "restored")
    with closing(restored):
        restored.tell("1", fact(Graded(segment="a")), Graded(segment="other"), Graded(segment="c"))
        forked = Projector(clients, restored.events, world.store)
        record = forked.catch_up("1", Target(3))
        assert (record.version, parked_of(record)[:4]) == (2, (2, 3, "history_forked", ()))
        assert record.values == {"root": {"segment": "b"}}
        mended = forked.catch_up("1", Target(0, refold=True))
        assert (mended.version, mended.parked, mended.values) == (3, None, {"root": {"segment": "c"}})


def test_a_history_that_lost_its_end_parks(world: World, tmp_path: Path) -> None:
    """A stream shorter than the record is a fork, too; folding again takes the record back to what is there."""
    world.tell("1", Graded(segment="a"), Graded(segment="b"))
    world.catch_up("1")
    with closing(World(tmp_path / "restored")) as restored:
        restored.tell("1", Graded(segment="a"))
        shorter = Projector(clients, restored.events, world.store)
        assert parked_of(shorter.catch_up("1", Target(0))).code == "history_forked"
        assert shorter.catch_up("1", Target(0, refold=True)).version == 1


def test_folding_again_mends_a_damaged_record(world: World) -> None:
    """Record and audit are written anew from the history."""
    stream = world.tell("1", Contacted(email="a"), Graded(segment="b"))
    good = world.catch_up("1")
    loaded = world.store.load(["1"])["1"]
    audit = [entry._replace(changes=()) for entry in world.trail("1")]
    world.store.commit([Commit(loaded, good._replace(values={"root": {"segment": "damaged"}}), audit)])
    assert world.projector().catch_up("1", Target(0, refold=True)) == good
    assert tuple(world.trail("1")) == fold(clients, empty_record("1"), stream).audit
