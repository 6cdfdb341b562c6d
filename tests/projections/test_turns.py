"""Progress of a walk that another version of the projection came in between of."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from projections import OvertakenError, Purpose, Share, check_generation, forget_progress, load_progress
from tests.support.clients import Graded
from tests.support.generations import louder, rebuild, walked
from tests.support.projecting import World

PEOPLE = [str(number) for number in range(150)]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[World, World]]:
    """The same data, seen by code of version 1, and by code of version 2 that grades in capitals."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, louder())) as new:
        yield old, new


def speakers(world: World) -> set[int]:
    """Which versions spoke last for the clients."""
    found = [world.store.load([client_id])[client_id].announced for client_id in PEOPLE]
    return {announced.projection_version for announced in found if announced is not None}


def start(world: World) -> None:
    check_generation(world.projection, world.checkpoints, world.events)


def fill(old: World) -> None:
    for client_id in PEOPLE:
        old.tell(client_id, Graded(segment="a"))
    old.follower().sweep()


def test_progress_does_not_outlast_the_turn(pair: tuple[World, World]) -> None:
    """A way back that was killed starts over if newer code has told its differences since; and the other way round."""
    old, new = pair
    fill(old)
    walked(new, Purpose.PUBLISH_DIFFERENCES)
    assert next(rebuild(old, Purpose.TAKE_OVER).walk()).clients == 100
    assert next(rebuild(new, Purpose.PUBLISH_DIFFERENCES).walk()).clients == 100
    assert walked(old, Purpose.TAKE_OVER).clients == len(PEOPLE)
    assert speakers(old) == {1}
    assert walked(new, Purpose.PUBLISH_DIFFERENCES).clients == len(PEOPLE)
    assert speakers(old) == {2}


def test_newer_code_that_starts_has_the_turn(pair: tuple[World, World]) -> None:
    """It need not walk to be heard: with the next event it speaks for a client that was taken back."""
    old, new = pair
    start(old)
    fill(old)
    start(new)
    walked(new, Purpose.PUBLISH_DIFFERENCES)
    assert next(rebuild(old, Purpose.TAKE_OVER).walk()).clients == 100
    start(old)
    assert next(rebuild(old, Purpose.TAKE_OVER).walk()).clients == len(PEOPLE), "goes on where it was"
    forget_progress(old.checkpoints, old.projection, Purpose.TAKE_OVER, Share(1, 1))
    assert next(rebuild(old, Purpose.TAKE_OVER).walk()).clients == 100
    start(new)
    for client_id in PEOPLE:
        old.tell(client_id, Graded(segment="b"))
        new.catch_up(client_id)
    assert speakers(old) == {2}
    assert walked(old, Purpose.TAKE_OVER).clients == len(PEOPLE)
    assert speakers(old) == {1}


def test_older_code_that_starts_beside_a_walk_is_no_matter(pair: tuple[World, World]) -> None:
    """Before a deployment old code comes and goes all the time."""
    old, new = pair
    fill(old)
    start(new)
    walk = rebuild(new).walk()
    next(walk)
    start(old)
    *_, last = walk
    assert (last.clients, last.done) == (len(PEOPLE), True)
    assert load_progress(new.checkpoints, new.projection, Purpose.FOLD, Share(1, 1)) == last


@pytest.mark.parametrize("overtaken_by", ["a start", "a walk"])
def test_a_walk_that_is_overtaken_says_so(pair: tuple[World, World], overtaken_by: str) -> None:
    """It must not end as if everybody were taken back, while newer code speaks for some."""
    old, new = pair
    fill(old)
    walk = rebuild(old, Purpose.TAKE_OVER).walk()
    next(walk)
    if overtaken_by == "a walk":
        next(rebuild(new).walk())
    else:
        start(new)
    with pytest.raises(OvertakenError, match=r"clients\.v1"):
        list(walk)
    assert load_progress(old.checkpoints, old.projection, Purpose.TAKE_OVER, Share(1, 1)) is None
