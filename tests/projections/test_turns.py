"""Walks that another version of the projection comes in between of: what they had done by then may be undone."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from eventstore import StoreRefusedError
from projections import (
    Commit,
    Committed,
    OvertakenError,
    Projector,
    Purpose,
    Rebuild,
    Share,
    check_generation,
    load_progress,
)
from tests.support.clients import Graded
from tests.support.generations import louder, rebuild, walked
from tests.support.interposing import Interposed
from tests.support.projecting import World

PEOPLE = sorted(str(number) for number in range(120))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[World, World]]:
    """A hundred and twenty clients that version 1 projected and version 2 speaks for."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, louder())) as new:
        for client_id in PEOPLE:
            old.tell(client_id, Graded(segment="a"))
        old.follower().sweep()
        walked(new, Purpose.PUBLISH_DIFFERENCES)
        yield old, new


def speakers(world: World) -> set[int]:
    """The versions that spoke last for somebody."""
    loaded = world.store.load(PEOPLE).values()
    return {each.announced.projection_version for each in loaded if each.announced is not None}


def test_a_way_back_that_newer_code_undid_begins_again(pair: tuple[World, World]) -> None:
    """It was cut off, newer code told everybody anew, and then it is typed again: old code speaks for all."""
    old, new = pair
    assert next(rebuild(old, Purpose.TAKE_OVER).walk()).clients == 100
    assert speakers(new) == {1, 2}
    assert walked(new, Purpose.PUBLISH_DIFFERENCES).done
    assert load_progress(old.checkpoints, old.projection, Purpose.TAKE_OVER, Share(1, 1)) is None
    assert walked(old, Purpose.TAKE_OVER).announced == 120
    assert speakers(old) == {1}


def test_a_walk_that_nobody_came_in_between_of_goes_on(pair: tuple[World, World]) -> None:
    """Older code that starts meanwhile, or the same version on another machine, is no matter."""
    old, new = pair
    next(rebuild(new, Purpose.FOLD).walk(Share(1, 1)))
    check_generation(old.projection, old.checkpoints, old.events)
    check_generation(new.projection, new.checkpoints, new.events)
    next(rebuild(new, Purpose.FOLD).walk(Share(1, 2)))
    progress = load_progress(new.checkpoints, new.projection, Purpose.FOLD, Share(1, 1))
    assert progress is not None
    assert progress.clients == 100


@pytest.mark.parametrize("restarted", [True, False])
def test_a_walk_notices_that_it_was_overtaken(pair: tuple[World, World], restarted: bool) -> None:
    """Newer code that starts, or walks, while old code takes announcing back: the page is not counted, and it says so."""
    old, new = pair
    way_back = rebuild(old, Purpose.TAKE_OVER).walk()
    next(way_back)
    if restarted:
        check_generation(new.projection, new.checkpoints, new.events)
    else:
        next(rebuild(new).walk())
    with pytest.raises(OvertakenError) as raised:
        list(way_back)
    assert raised.value.generation == "clients.v1"


class Refusing(Interposed):
    """A store that refuses for good what concerns one client."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        taken = [each for each in commits if each.record.client_id != PEOPLE[3]]
        results = iter(super().commit(taken))
        refused = StoreRefusedError(413, 0)
        return [refused if each.record.client_id == PEOPLE[3] else next(results) for each in commits]


def test_who_cannot_be_told_is_left_behind(tmp_path: Path) -> None:
    """A difference that the database refuses for good is not counted as told, and says why."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, louder())) as new:
        for client_id in PEOPLE:
            old.tell(client_id, Graded(segment="a"))
        old.follower().sweep()
        walked(new)
        store = Refusing(new.store)
        heard: list[str] = []
        walk = Rebuild(
            Projector(new.projection, new.events, store),
            store,
            new.predecessors,
            new.events,
            new.checkpoints,
            Purpose.PUBLISH_DIFFERENCES,
            on_failed=heard.extend,
        ).walk()
        *_, last = walk
        assert (last.announced, [*last.failed], last.done) == (119, [PEOPLE[3]], False)
        assert last.failed[PEOPLE[3]].startswith("StoreRefusedError: ")
        assert heard == [PEOPLE[3]]
        assert walked(new, Purpose.PUBLISH_DIFFERENCES).announced == 120
