"""Removing what earlier generations left, and the check before it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from projections import (
    IncompleteGenerationError,
    Prunable,
    RecordReader,
    prunable,
    prune,
    retry_parked,
)
from tests.support.clients import Contacted, Graded, Scored
from tests.support.generations import digestible, louder, walked
from tests.support.projecting import World


@pytest.fixture
def generations(tmp_path: Path) -> Iterator[tuple[World, World]]:
    """A hundred and twenty clients that version 1 projected, and code of version 2."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, louder())) as new:
        for number in range(120):
            old.tell(str(number), Graded(segment="a"), Contacted(email="x"))
        old.follower().sweep()
        yield old, new


def removed(world: World, *, audit: bool = False) -> int:
    """Prune; how many documents went."""
    return sum(documents for _, documents in prune(world.store, world.predecessors, audit=audit))


def test_nothing_is_removed_before_everybody_is_there(generations: tuple[World, World]) -> None:
    """One client that is not complete keeps the records of all."""
    old, new = generations
    assert prunable(new.store, new.predecessors) == Prunable(120, 120)
    walked(new)
    old.tell("7", Graded(segment="b"))
    old.catch_up("7")
    with pytest.raises(IncompleteGenerationError, match="1 of 120 clients") as caught:
        removed(new)
    assert (caught.value.incomplete, caught.value.clients) == (1, 120)
    assert len(old.store.client_ids()) == 120
    new.catch_up("7")
    assert removed(new) == 120
    assert old.store.client_ids() == []


def test_the_audit_stays_unless_it_is_asked_for(generations: tuple[World, World]) -> None:
    """Then it goes as well, also after the records are gone; the running generation keeps all it has."""
    old, new = generations
    walked(new)
    before = {number: (new.record(str(number)), new.trail(str(number))) for number in range(120)}
    assert removed(new) == 120
    assert len(old.trail("7")) == 2
    assert prunable(new.store, new.predecessors) == Prunable(0, 0)
    assert removed(new, audit=True) == 240
    assert old.trail("7") == []
    assert {number: (new.record(str(number)), new.trail(str(number))) for number in range(120)} == before


def test_a_removal_that_was_cut_off_is_finished(generations: tuple[World, World]) -> None:
    """What is left is found again."""
    _, new = generations
    walked(new)
    first = next(prune(new.store, new.predecessors, audit=True))
    assert first == (100, 300)
    assert removed(new, audit=True) == 60


def test_parked_clients_are_not_complete(tmp_path: Path) -> None:
    """Parked by the new rules, or marked as on their way to what the old ones could not digest."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, digestible())) as new:
        old.tell("1", Graded(segment="a"), Scored(score=-1))
        old.follower().sweep()
        walked(new)
        assert prunable(new.store, new.predecessors) == Prunable(1, 1)
        retry_parked(new.projector(), new.store)
        assert prunable(new.store, new.predecessors) == Prunable(1, 0)


def test_reads_are_the_same_after_it(generations: tuple[World, World]) -> None:
    """Records, audit and announcements of the running generation do not depend on its predecessors."""
    _, new = generations
    walked(new)
    reader = RecordReader(new.projection, new.events, new.store, new.store)
    before = (reader.current("7"), reader.audit("7"), reader.blame("7"), new.outbox("7"))
    removed(new, audit=True)
    assert (reader.current("7"), reader.audit("7"), reader.blame("7"), new.outbox("7")) == before
