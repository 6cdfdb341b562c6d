import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import Event, FeedPage, RecordedEvent, StoreUnavailableError, utc_text
from projections import FeedFollower, Projector, Swept, Target, empty_record, fold
from tests.support.clients import Contacted, ContactRemoved, Graded, Scored, Tagged, clients, fact
from tests.support.projecting import RECORDED_AT, World, oracle, parked_of

CURSOR = "clients.v1:all"


def checked(world: World, client_id: str) -> None:
    """The record is what the oracle says, and the audit is complete."""
    stream = world.stream(client_id)
    record = world.record(client_id)
    assert record.values == oracle(stream)
    assert record.version == len(stream)
    assert tuple(world.trail(client_id)) == fold(clients, empty_record(client_id), stream).audit


def test_a_sweep_passes_what_is_there(world: World) -> None:
    """All clients reach the end of their streams, and the next sweep has nothing to do."""
    for client_id in ("1", "2"):
        world.tell(client_id, Graded(segment="a"), Contacted(email="b"))
    pages: list[int] = []
    assert world.follower(page=3).sweep(on_page=pages.append) == Swept(4, (), done=True)
    assert pages == [3, 1]
    checked(world, "1")
    checked(world, "2")
    assert world.follower().sweep() == Swept(0, (), done=True)


def test_events_that_were_restored_from_a_backup(tmp_path: Path) -> None:
    """New events are folded although the cursor had passed more; who was beyond the backup is parked, not passed."""
    with closing(World(tmp_path)) as world:
        world.tell("1", Graded(segment="a"))
        world.tell("2", Graded(segment="a"))
    shutil.copytree(tmp_path, tmp_path / "backup")
    with closing(World(tmp_path)) as world:
        world.tell("2", Graded(segment="lost"))
        world.follower().sweep()
    for file in tmp_path.glob("events.db*"):
        file.unlink()
    shutil.copy(tmp_path / "backup" / "events.db", tmp_path)
    with closing(World(tmp_path)) as world:
        world.tell("1", Graded(segment="b"))
        world.tell("2", Graded(segment="c"))
        assert world.follower().sweep().done
        checked(world, "1")
        assert [(record.client_id, parked_of(record).code) for record in world.store.parked()] == [
            ("2", "history_forked")
        ]


def test_a_backlog_costs_few_commits(world: World) -> None:
    """A client is brought to the end of its stream where it first appears, so its later pages cost nothing."""
    for turn in range(10):
        for client_id in ("1", "2"):
            world.tell(client_id, Graded(segment=str(turn)))
    commits: list[int] = []

    class Counting(Projector):
        def catch_up_all(self, targets: Any) -> Any:
            commits.append(len(targets))
            return super().catch_up_all(targets)

    FeedFollower(Counting(clients, world.events, world.store), world.events, world.checkpoints, page=4).sweep()
    assert sum(commits) == 2
    checked(world, "1")


def test_the_cursor_stays_before_a_page_that_failed(world: World) -> None:
    """An error of one client keeps the page; what the others did of it is done, and it is read again."""
    world.tell("1", Graded(segment="a"))
    world.tell("2", Graded(segment="a"))
    missing = world.stream("2")[0]._replace(version=5)

    class Ahead:
        """A feed that shows an event of client 2 before its stream can be read up to there."""

        def partitions(self) -> Sequence[str]:
            return world.events.partitions()

        def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
            page = world.events.feed(partition, after=after, limit=limit)
            return FeedPage([*page.events, missing], page.cursor) if page.events else page

    swept = FeedFollower(world.projector(), Ahead(), world.checkpoints).sweep()
    assert (swept.events, swept.done, len(swept.errors)) == (0, False, 1)
    assert world.checkpoints.load(CURSOR) is None
    checked(world, "1")
    assert world.follower().sweep() == Swept(2, (), done=True)


def test_a_store_out_of_reach_keeps_the_cursor(world: World) -> None:
    """It is raised, and the page is read again after a restart."""
    world.tell("1", Graded(segment="a"))

    class Down(Projector):
        def catch_up_all(self, targets: Any) -> Any:
            raise StoreUnavailableError("test")

    down = Down(clients, world.events, world.store)
    with pytest.raises(StoreUnavailableError):
        FeedFollower(down, world.events, world.checkpoints).sweep()
    assert world.checkpoints.load(CURSOR) is None
    assert world.follower().sweep().events == 1


def test_a_parked_client_is_passed_and_waited_for(world: World) -> None:
    """One client that fails does not hold up the others; its record remembers how far it was passed."""
    world.tell("1", Scored(score=-1))
    world.tell("2", Graded(segment="a"))
    world.tell("1", Graded(segment="b"))
    assert world.follower(page=1).sweep() == Swept(3, (), done=True)
    parked = world.record("1").parked
    assert parked is not None
    assert (parked.version, parked.waiting_for) == (1, 2)
    checked(world, "2")


def test_a_sweep_can_be_stopped(world: World) -> None:
    """Before any page; it goes on where it was."""
    for number in range(4):
        world.tell(str(number), Graded(segment="a"))
    answers = iter([False, False, True])
    assert world.follower(page=1).sweep(stop=lambda: next(answers)) == Swept(2, (), done=False)
    assert world.follower(page=1).sweep() == Swept(2, (), done=True)


def test_each_generation_has_its_cursor(world: World) -> None:
    """The name says projection, version and partition of the feed."""
    world.tell("1", Graded(segment="a"))
    world.follower().sweep()
    assert world.checkpoints.load(CURSOR) is not None
    assert world.checkpoints.load("clients.v2:all") is None


events = st.one_of(
    st.builds(Graded, segment=st.sampled_from("abc")),
    st.builds(Contacted, email=st.sampled_from("xy"), phone=st.none() | st.sampled_from("12")),
    st.builds(ContactRemoved),
    st.builds(Tagged, tags=st.lists(st.sampled_from("tu"), max_size=1)),
)
told = st.tuples(st.sampled_from(["1", "2"]), events, st.integers(0, 9))
rung = st.lists(
    st.tuples(st.sampled_from(["1", "2"]), st.lists(st.integers(0, 30), min_size=1, max_size=4)), max_size=6
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rounds=st.lists(st.tuples(st.lists(told, max_size=6), rung, st.booleans()), min_size=1, max_size=4))
def test_however_doorbells_ring_a_sweep_makes_it_right(
    tmp_path_factory: pytest.TempPathFactory,
    rounds: list[tuple[list[tuple[str, Event, int]], list[tuple[str, list[int]]], bool]],
) -> None:
    """I4: doorbells come in any order, in any batches, twice or never; after a sweep record and audit are right.

    And I7: the last announcement of each sub-schema is what the record holds.
    """
    with closing(World(tmp_path_factory.mktemp("world"))) as world:
        for facts, doorbells, sweeps in rounds:
            for client_id, event, minute in facts:
                world.tell(client_id, fact(event, minute=minute))
            for client_id, chosen in doorbells:
                stream = world.stream(client_id)
                known: list[RecordedEvent] = [stream[index] for index in chosen if index < len(stream)]
                if known:
                    world.projector().catch_up(client_id, Target(max(event.version for event in known), known))
            if sweeps:
                world.follower(page=2).sweep()
        assert world.follower(page=3).sweep().done
        for client_id in world.store.client_ids():
            checked(world, client_id)
            record = world.record(client_id)
            told_last = dict(clients.contents(clients.build(client_id, {})))
            entries = world.outbox(client_id)
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
            for entry in entries:
                told_last |= entry.contents
            assert told_last == clients.contents(clients.build(client_id, record.values))
            assert all(entry.recorded_at == utc_text(RECORDED_AT) for entry in entries)
