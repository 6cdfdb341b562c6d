"""Each safeguard removed in turn: the check that is to notice passes with it and fails without."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eventstore import ChangeFeed, FeedPage, StoreUnavailableError
from projections import (
    Commit,
    Committed,
    FeedFollower,
    Loaded,
    Projection,
    Projector,
    Target,
    empty_record,
    fold,
    retry_parked,
)
from tests.support.clients import Client, Contacted, Graded, Scored, add_rules, clients, events, fact
from tests.support.interposing import Interposed, once
from tests.support.projecting import World, oracle, recorded


def die() -> None:
    """Stands for a process that ends here."""
    raise StoreUnavailableError("killed")


# --- the record's tag is no condition of the commit ----------------------------------------------------------------


class WithoutTags(Interposed):
    """Commits on top of whatever is there."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        self._before_commit()
        present = self._store.load([each.record.client_id for each in commits])
        return self._store.commit([each._replace(loaded=present[each.record.client_id]) for each in commits])


def no_update_is_lost(world: World, store: Callable[..., Interposed]) -> None:
    """A projector that was overtaken does not put its older record over the newer one."""
    world.tell("1", Graded(segment="a"))

    def overtake() -> None:
        world.tell("1", Contacted(email="b"))
        world.follower().sweep()

    Projector(clients, world.events, store(world.store, before_commit=once(overtake))).catch_up("1", Target(1))
    world.follower().sweep()
    assert world.record("1").values == oracle(world.stream("1"))


# --- the cursor is saved before the work ---------------------------------------------------------------------------


class EagerFeed:
    """Saves the cursor as soon as a page is read."""

    def __init__(self, world: World) -> None:
        self._world = world

    def partitions(self) -> Sequence[str]:
        return self._world.events.partitions()

    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
        page = self._world.events.feed(partition, after=after, limit=limit)
        self._world.checkpoints.save(f"{clients.generation}:{partition}", page.cursor)
        return page


def nothing_is_skipped(world: World, feed: ChangeFeed) -> None:
    """A sweep that dies while it works on a page reads that page again."""
    world.tell("1", Graded(segment="a"))
    dying = Projector(clients, world.events, Interposed(world.store, before_commit=die))
    with pytest.raises(StoreUnavailableError):
        FeedFollower(dying, feed, world.checkpoints).sweep()
    FeedFollower(world.projector(), feed, world.checkpoints).sweep()
    assert world.store.load(["1"])["1"].record is not None


# --- announcement state is not written -----------------------------------------------------------------------------


class Forgetful(Interposed):
    """Writes outbox entries without the state that the next announcement compares with."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        return super().commit([each._replace(announced=None) for each in commits])


def announcements_are_numbered(world: World, store: Callable[..., Interposed]) -> None:
    """Each change is announced once, under the next number."""
    projector = Projector(clients, world.events, store(world.store))
    world.tell("1", Graded(segment="a"))
    projector.catch_up("1", Target(1))
    world.tell("1", Contacted(email="b"))
    projector.catch_up("1", Target(2))
    assert [(entry.seq, set(entry.contents)) for entry in world.outbox("1")] == [(1, {"root"}), (2, {"contact"})]


# --- the outbox is written after the transaction -------------------------------------------------------------------


class TwoTransactions(Interposed):
    """Commits the record, and only then, if it still lives, the announcement."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        stored = super().commit([each._replace(outbox=None) for each in commits])
        repeated = [
            each._replace(loaded=made, audit=())
            for each, made in zip(commits, stored, strict=True)
            if isinstance(made, Loaded) and each.outbox
        ]
        self._store.commit(repeated)
        return stored


def every_change_is_announced(world: World, store: Callable[..., Interposed]) -> None:
    """Whoever dies right after a commit leaves the announcement of what was committed."""
    world.tell("1", Graded(segment="a"))
    with pytest.raises(StoreUnavailableError):
        Projector(clients, world.events, store(world.store, after_commit=die)).catch_up("1", Target(1))
    world.follower().sweep()
    assert [entry.contents["root"] for entry in world.outbox("1")] == [{"score": None, "segment": "a"}]


# --- provenance is not compared ------------------------------------------------------------------------------------


def always_applying() -> Projection[Client]:
    """Rules that let the event that comes last win."""
    projection = Projection("clients", Client, events, version=1)
    add_rules(projection)
    for event_type, rule in projection.rules.items():
        projection.rules[event_type] = rule._replace(late="apply")
    return projection


def order_does_not_matter(projection: Projection[Client]) -> None:
    """Facts with distinct times give the same values, whichever comes first."""
    facts = [fact(Graded(segment="a"), minute=1), fact(Graded(segment="b"), minute=2)]
    results = [fold(projection, empty_record("1"), recorded("1", *order)).record for order in (facts, facts[::-1])]
    assert results[0].values == results[1].values


# --- a client on its way out of parking is not marked --------------------------------------------------------------


class Unmarked(Interposed):
    """Writes records without saying that they are still catching up."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        return super().commit(
            [
                each._replace(record=each.record._replace(parked=None))
                if each.record.parked and each.record.parked.code == "catching_up"
                else each
                for each in commits
            ]
        )


# --- who passes a parked client leaves no word ---------------------------------------------------------------------


class Silent(Interposed):
    """Reports the raising of `waiting_for` as written, and writes nothing."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        (commit,) = commits
        before = commit.loaded.record
        if before and before.parked and commit.record.parked and commit.record.version == before.version:
            return [commit.loaded]
        return super().commit(commits)


def nothing_behind_a_parked_client_is_lost(
    world: World, passing: Callable[..., Interposed], freeing: Callable[..., Interposed]
) -> None:
    """One projector passes events behind a parked client; another frees it and dies on the way."""
    fixed = Projection("clients", Client, events, version=1)
    add_rules(fixed, but=Scored)
    fixed.on(Scored)(lambda record, event: record.evolve(score=event.score))
    world.tell("1", Scored(score=-1))
    world.catch_up("1")
    for _ in range(2):
        known = world.tell("1", *[Graded(segment=str(number)) for number in range(90)])
        Projector(clients, world.events, passing(world.store)).catch_up("1", Target(known[-1].version))
    with pytest.raises(StoreUnavailableError):
        retry_parked(Projector(fixed, world.events, freeing(world.store, after_commit=die)), world.store)
    repaired = Projector(fixed, world.events, world.store)
    retry_parked(repaired, world.store)
    assert world.record("1").version == 181


def sabotaged_store(
    check: Callable[[World, Callable[..., Interposed]], None], saboteur: type[Interposed]
) -> tuple[Callable[[World], None], Callable[[World], None]]:
    return (lambda world: check(world, Interposed)), (lambda world: check(world, saboteur))


def waiting(world: World, store: Callable[..., Interposed]) -> None:
    nothing_behind_a_parked_client_is_lost(world, passing=store, freeing=Interposed)


def freeing(world: World, store: Callable[..., Interposed]) -> None:
    nothing_behind_a_parked_client_is_lost(world, passing=Interposed, freeing=store)


CHECKS: dict[str, tuple[Callable[[World], None], Callable[[World], None]]] = {
    "no condition on the record's tag": sabotaged_store(no_update_is_lost, WithoutTags),
    "cursor saved before the work": (
        lambda world: nothing_is_skipped(world, world.events),
        lambda world: nothing_is_skipped(world, EagerFeed(world)),
    ),
    "announcement state not written": sabotaged_store(announcements_are_numbered, Forgetful),
    "outbox in a transaction of its own": sabotaged_store(every_change_is_announced, TwoTransactions),
    "no comparison with provenance": (
        lambda world: order_does_not_matter(clients),
        lambda world: order_does_not_matter(always_applying()),
    ),
    "waiting_for not raised": sabotaged_store(waiting, Silent),
    "catching up not marked": sabotaged_store(freeing, Unmarked),
}


@pytest.mark.parametrize("safeguard", CHECKS)
def test_a_removed_safeguard_is_noticed(tmp_path: Path, safeguard: str) -> None:
    """The check holds as the code is, and fails without the safeguard."""
    intact, sabotaged = CHECKS[safeguard]
    for name, check in (("intact", intact), ("sabotaged", sabotaged)):
        world = World(tmp_path / name)
        try:
            if name == "intact":
                check(world)
            else:
                with pytest.raises(AssertionError):
                    check(world)
        finally:
            world.close()
