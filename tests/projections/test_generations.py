from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventstore import SqliteCheckpointStore
from projections import (
    AuditFilter,
    Commit,
    Committed,
    InvalidCursorError,
    Projection,
    Projector,
    Purpose,
    Rebuild,
    Share,
    SubSchema,
    Swept,
    Target,
    UnifiedSchema,
    UnreadableRecordError,
    inherit_cursor,
    load_progress,
    open_projections,
    retry_parked,
)
from tests.support.clients import Client, Contacted, Graded, PersonId, Scored, add_rules, events
from tests.support.generations import digestible, louder, rebuild, successor, walked
from tests.support.interposing import Interposed
from tests.support.projecting import World, parked_of


@pytest.fixture
def generations(tmp_path: Path) -> Iterator[tuple[World, World]]:
    """The same data, seen by code of version 1, and by code of version 2 that grades in capitals."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, louder())) as new:
        yield old, new


def segment(world: World, client_id: str = "1") -> Any:
    return world.reader.current(client_id).record.values["root"]["segment"]


def announced(world: World, client_id: str = "1") -> list[Any]:
    """What the outbox tells of the segment."""
    return [entry.contents["root"] for entry in world.outbox(client_id) if "root" in entry.contents]


def test_a_new_version_goes_on_where_its_predecessor_was(generations: tuple[World, World]) -> None:
    """Its sweep passes what is new; what was projected before stays readable until it is folded again."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.tell("2", Graded(segment="b"))
    old.follower().sweep()
    assert new.follower().sweep() == Swept(0, (), done=True)
    assert (segment(new, "1"), segment(new, "2")) == ("a", "b")
    old.tell("1", Contacted(email="x"))
    assert new.follower().sweep() == Swept(1, (), done=True)
    assert (segment(new, "1"), segment(new, "2")) == ("A", "b")


def test_the_first_sweep_of_a_new_version_fixes_where_it_starts(generations: tuple[World, World]) -> None:
    """Old code that goes on beside it must not take events away from it."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.follower().sweep()
    new.follower().sweep()
    old.tell("2", Graded(segment="b"))
    old.follower().sweep()
    assert new.follower().sweep() == Swept(1, (), done=True)
    assert segment(new, "2") == "B"


def test_reads_never_go_back(generations: tuple[World, World]) -> None:
    """Whichever generation is ahead is served; on a tie the newer one; old code knows nothing of newer records."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.catch_up("1")
    assert new.reader.current("1").record.version == 1
    new.catch_up("1")
    assert segment(new) == "A"
    old.tell("1", Graded(segment="b"))
    old.catch_up("1")
    assert (new.reader.current("1").record.version, segment(new)) == (2, "b")
    assert segment(old) == "b"
    new.catch_up("1")
    assert (segment(new), segment(old)) == ("B", "b")


def test_audit_and_blame_are_those_of_the_record_that_is_served(generations: tuple[World, World]) -> None:
    """And a page that was begun in one generation goes on in it when the newer one takes over."""
    old, new = generations
    for text in "abc":
        old.tell("1", Graded(segment=text))
    old.catch_up("1")
    first = new.reader.audit("1", limit=1)
    assert [change.new for change in first.entries[0].changes] == ["a"]
    (blamed,) = new.reader.blame("1")
    assert blamed.entry == old.trail("1")[2]
    new.catch_up("1")
    second = new.reader.audit("1", limit=1, cursor=first.cursor)
    assert [change.new for change in second.entries[0].changes] == ["b"]
    assert [entry.changes[0].new for entry in new.reader.audit("1").entries] == ["A", "B", "C"]
    with pytest.raises(InvalidCursorError):
        old.reader.audit("1", cursor=new.reader.audit("1", limit=1).cursor)


class Grade(SubSchema):
    """What the segment became in another schema."""

    letter: str | None = None


class Graduate(UnifiedSchema):
    """A record in which the plain value is gone."""

    id: PersonId
    grade: Grade | None = None


def test_what_the_new_schema_cannot_read_is_folded_on_the_spot(tmp_path: Path) -> None:
    """A record of the old shape is no error for want of a rebuild."""
    graduates = Projection("clients", Graduate, events, version=2)
    graduates.on(Graded)(lambda record, event: record.evolve(grade={"letter": event.segment}))
    with closing(World(tmp_path)) as old, closing(World(tmp_path, graduates)) as new:
        old.tell("1", Graded(segment="a"))
        old.catch_up("1")
        old.tell("1", Graded(segment="b"))  # nobody has projected this one yet
        view = new.reader.current("1")
        assert (view.record.version, view.record.values) == (1, {"grade": {"letter": "a"}})


def test_a_read_does_not_go_back_to_where_the_new_rules_fail(tmp_path: Path) -> None:
    """An old record that only other code can read, and whose history the new rules cannot fold, is an error that says so."""
    graduates = Projection("clients", Graduate, events, version=2)

    @graduates.on(Graded)
    def grade(record: Graduate, event: Graded) -> Graduate:
        if event.segment == "b":
            raise ValueError(event.segment)
        return record.evolve(grade={"letter": event.segment})

    with closing(World(tmp_path)) as old, closing(World(tmp_path, graduates)) as new:
        for text in "abc":
            old.tell("1", Graded(segment=text))
        old.catch_up("1")
        with pytest.raises(UnreadableRecordError, match="fail at event 2") as caught:
            new.reader.current("1")
        assert "grade: raised ValueError" in caught.value.problems


def test_a_rebuild_brings_everybody_over_and_tells_nothing(generations: tuple[World, World]) -> None:
    """Those without new events, too; the next event then tells what the rules made different."""
    old, new = generations
    for number in range(120):
        old.tell(str(number), Graded(segment="a"))
    old.follower().sweep()
    waiting = {str(number): list(old.outbox(str(number))) for number in range(120)}
    done = walked(new)
    assert (done.clients, done.events, done.announced, done.failed, done.done) == (120, 120, 0, {}, True)
    assert {segment(new, str(number)) for number in range(120)} == {"A"}
    assert {str(number): list(new.outbox(str(number))) for number in range(120)} == waiting
    old.tell("7", Contacted(email="x"))
    new.catch_up("7")
    assert announced(new, "7")[-1]["segment"] == "A"


def test_an_interrupted_rebuild_goes_on(generations: tuple[World, World]) -> None:
    """With the page after the last one that was stored; one that ended begins anew."""
    old, new = generations
    for number in range(120):
        old.tell(str(number), Graded(segment="a"))
    first = next(rebuild(new).walk())
    assert (first.clients, first.done) == (100, False)
    assert load_progress(new.checkpoints, new.projection, Purpose.FOLD, Share(1, 1)) == first
    assert [progress.clients for progress in rebuild(new).walk()] == [120, 120]
    assert [progress.clients for progress in rebuild(new).walk()] == [100, 120, 120]


def test_what_others_wait_for_is_bounded(generations: tuple[World, World]) -> None:
    """Clients are committed together up to some hundred events, so that nobody waits long for the database."""
    old, new = generations
    for number in range(60):
        old.tell(str(number), *[Graded(segment=str(each)) for each in range(30)])
    old.follower().sweep()
    sizes: list[int] = []

    class Counting(Interposed):
        def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
            sizes.append(sum(len(each.audit) for each in commits))
            return super().commit(commits)

    projector = Projector(new.projection, new.events, Counting(new.store))
    list(Rebuild(projector, new.store, new.predecessors, new.events, new.checkpoints).walk())
    assert sum(sizes) == 1800
    assert 100 <= max(sizes) <= 250


def test_shares_split_the_clients(generations: tuple[World, World]) -> None:
    """Each client is in one of them."""
    old, new = generations
    for number in range(60):
        old.tell(str(number), Graded(segment="a"))
    old.follower().sweep()
    done = [list(rebuild(new).walk(Share(number, 3)))[-1] for number in (1, 2, 3)]
    assert all(each.done and 0 < each.clients < 60 for each in done)
    assert sum(each.clients for each in done) == 60
    assert {segment(new, str(number)) for number in range(60)} == {"A"}


def test_clients_that_the_new_rules_park_hold_up_nobody(tmp_path: Path) -> None:
    """They are counted, and reads serve what the old rules came to."""
    picky = Projection("clients", Client, events, version=2)
    add_rules(picky, but=Graded)

    @picky.on(Graded)
    def graded(record: Client, event: Graded) -> Client:
        if event.segment == "a":
            raise ValueError(event.segment)
        return record.evolve(segment=event.segment)

    with closing(World(tmp_path)) as old, closing(World(tmp_path, picky)) as new:
        old.tell("1", Graded(segment="a"))
        old.tell("2", Graded(segment="b"))
        old.follower().sweep()
        done = walked(new)
        assert (done.clients, done.parked, done.failed) == (2, 1, {})
        assert parked_of(new.record("1")).version == 1
        assert (segment(new, "1"), new.record("2").version) == ("a", 1)


def test_what_nobody_announced_yet_is_left_to_the_sweep(generations: tuple[World, World]) -> None:
    """A rebuild that folded it would make the sweep pass it in silence, and the world would never hear of it."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.follower().sweep()
    new.follower().sweep()
    old.tell("1", Contacted(email="x"))
    old.tell("2", Contacted(email="y"))
    assert (walked(new).clients, new.record("1").version) == (2, 1)
    assert new.store.load(["2"])["2"].record is None
    assert len(new.outbox("1")) == 1
    new.follower().sweep()
    assert set(new.outbox("1")[-1].contents) == {"root", "contact"}
    assert set(new.outbox("2")[-1].contents) == {"contact"}


def test_who_the_new_version_spoke_for_is_brought_over_aloud(generations: tuple[World, World]) -> None:
    """Old code beside it folds on in silence, so what it passed is not what the world was told."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.catch_up("1")
    new.catch_up("1")
    walked(new, Purpose.PUBLISH_DIFFERENCES)
    old.tell("1", Contacted(email="x"))
    old.catch_up("1")
    assert len(old.outbox("1")) == 2
    assert walked(new).announced == 1
    assert new.record("1").version == 2
    assert new.outbox("1")[-1].contents == {"contact": {"email": "x", "phone": None}}


@pytest.mark.parametrize("before", [0, 1])
def test_rules_that_digest_what_the_old_ones_could_not_free_a_client(tmp_path: Path, before: int) -> None:
    """The rebuild folds what the world knows; the sweep goes on with what it does not, and announces it."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, digestible())) as new:
        old.tell("1", *[Graded(segment="a")] * before, Scored(score=-1), Contacted(email="x"))
        old.follower().sweep()
        walked(new)
        assert walked(new).parked == 0, "walking again changes nothing"
        assert (new.record("1").version, parked_of(new.record("1")).waiting_for) == (before, before + 2)
        assert len(new.outbox("1")) == before
        retry_parked(new.projector(), new.store)
        assert (new.record("1").version, new.record("1").parked) == (before + 2, None)
        assert set(new.outbox("1")[-1].contents) == {"root", "contact"}


def test_differences_of_what_old_rules_parked_are_told_and_the_rest_by_the_sweep(tmp_path: Path) -> None:
    """Up to where the world was told when asked for, what nobody could fold once the sweep does; also what came later."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, successor(2))) as new:
        old.tell("1", Graded(segment="a"), Scored(score=-1), Contacted(email="x"))
        old.follower().sweep()
        assert parked_of(old.record("1")).waiting_for == 3
        assert walked(new, Purpose.PUBLISH_DIFFERENCES).announced == 1
        assert announced(new)[-1] == {"segment": "A", "score": None}
        assert (new.record("1").version, parked_of(new.record("1")).waiting_for) == (1, 3)
        old.tell("1", Contacted(email="y"))
        old.follower().sweep()
        new.follower().sweep()
        retry_parked(new.projector(), new.store)
        assert (new.record("1").version, new.record("1").parked) == (4, None)
        assert new.outbox("1")[-1].contents == {
            "root": {"segment": "A", "score": -1.0},
            "contact": {"email": "y", "phone": None},
        }


def test_what_old_rules_parked_is_announced(generations: tuple[World, World]) -> None:
    """Once it can be folded, also if the new rules cannot fold it at first: no cursor stands for these events any more."""
    old, new = generations
    old.tell("1", Graded(segment="a"), Scored(score=-1), Contacted(email="x"))
    old.follower().sweep()
    walked(new)
    assert new.record("1").version == 1
    with closing(World(new.directory, digestible())) as fixed:
        retry_parked(fixed.projector(), fixed.store)
        assert fixed.record("1").version == 3
        assert "contact" in fixed.outbox("1")[-1].contents


def test_a_rebuild_fixes_where_the_sweep_starts(generations: tuple[World, World]) -> None:
    """Old code may go on for days after it; the new one still passes what came since."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.follower().sweep()
    walked(new)
    old.tell("1", Graded(segment="b"))
    old.follower().sweep()
    assert new.follower().sweep() == Swept(1, (), done=True)
    assert segment(new) == "B"


def test_of_two_that_start_at_once_the_first_says_where(generations: tuple[World, World]) -> None:
    """The second looked before the first had stored its cursor; old code went on in between."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.follower().sweep()
    first = inherit_cursor(new.projection, new.checkpoints, "all")
    old.tell("1", Graded(segment="b"))
    old.follower().sweep()

    class Late(SqliteCheckpointStore):
        """Does not see what was stored a moment ago."""

        def load(self, name: str) -> str | None:
            return None if name == "clients.v2:all" else super().load(name)

    with closing(open_projections(new.directory)) as database:
        assert inherit_cursor(new.projection, Late(database), "all") == first
    assert new.checkpoints.load("clients.v2:all") == first


def test_differences_are_announced_when_asked_for(generations: tuple[World, World]) -> None:
    """Of each client whose contents the new rules changed, once; nothing of the others."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.tell("2", Contacted(email="x"))
    old.follower().sweep()
    rung: list[str] = []
    *_, done = rebuild(new, Purpose.PUBLISH_DIFFERENCES, rung).walk()
    assert (done.announced, rung) == (1, ["1"])
    assert [contents["segment"] for contents in announced(new)] == ["a", "A"]
    assert [entry.projection_version for entry in new.outbox("1")] == [1, 2]
    assert len(new.outbox("2")) == 1
    assert walked(new, Purpose.PUBLISH_DIFFERENCES).announced == 0


def test_a_rollback_takes_announcing_back(generations: tuple[World, World]) -> None:
    """Old code is silent while newer code spoke last; after taking over it tells what differs, and what comes."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.tell("2", Contacted(email="x"))
    old.follower().sweep()
    walked(new)
    for client_id in "12":
        new.tell(client_id, Contacted(phone="1"))
        new.catch_up(client_id)
    old.follower().sweep()
    assert announced(old)[-1]["segment"] == "A", "newer code spoke last"
    done = walked(old, Purpose.TAKE_OVER)
    assert (done.clients, done.announced) == (2, 1)
    assert announced(old)[-1]["segment"] == "a"
    for client_id in "12":
        old.tell(client_id, Graded(segment="c"))
        old.catch_up(client_id)
        assert announced(old, client_id)[-1]["segment"] == "c"
    assert walked(old, Purpose.TAKE_OVER).announced == 0


def test_what_a_walk_announces_follows_what_was_announced(generations: tuple[World, World]) -> None:
    """Sequence numbers have no gap, and a subscriber that goes by them ends at the record."""
    old, new = generations
    old.tell("1", Graded(segment="a"))
    old.catch_up("1")
    walked(new, Purpose.PUBLISH_DIFFERENCES)
    walked(old, Purpose.TAKE_OVER)
    entries = old.outbox("1")
    assert [(entry.previous_seq, entry.seq) for entry in entries] == [(0, 1), (1, 2), (2, 3)]
    assert [contents["segment"] for contents in announced(old)] == ["a", "A", "a"]
    assert old.store.entries("1", AuditFilter(), projection_version=1) == old.trail("1")
    assert old.projector().catch_up("1", Target(0)).version == 1
