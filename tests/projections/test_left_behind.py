"""Clients that something keeps from getting there, while a rebuild walks over all of them."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from eventstore import StoreRefusedError, StoreUnavailableError
from projections import Commit, Committed, Progress, Projector, Purpose, Rebuild, Share, load_progress
from tests.support.clients import Graded
from tests.support.generations import louder, walked
from tests.support.interposing import Interposed, once
from tests.support.projecting import World

PEOPLE = sorted(str(number) for number in range(120))


@pytest.fixture
def new(tmp_path: Path) -> Iterator[World]:
    """A hundred and twenty clients that version 1 projected, seen by code of version 2."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, louder())) as new:
        for client_id in PEOPLE:
            old.tell(client_id, Graded(segment="a"))
        old.follower().sweep()
        yield new


class Contended(Interposed):
    """A store on which somebody else is always faster with some clients."""

    contended: Sequence[str] = ()

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        won = [each for each in commits if each.record.client_id not in self.contended]
        results = dict(zip([each.record.client_id for each in won], super().commit(won), strict=True))
        return [results.get(each.record.client_id) for each in commits]


class Refusing(Interposed):
    """A store that refuses to announce anything of one client."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        refused = {each.record.client_id for each in commits if each.outbox is not None} & {PEOPLE[3]}
        taken = [each for each in commits if each.record.client_id not in refused]
        results = dict(zip([each.record.client_id for each in taken], super().commit(taken), strict=True))
        return [results.get(each.record.client_id, StoreRefusedError(413, 0)) for each in commits]


def walk_beside(new: World, *contended: str, purpose: Purpose = Purpose.FOLD) -> Iterator[Progress]:
    """A walk during which these clients cannot be committed."""
    store = Contended(new.store)
    store.contended = contended
    projector = Projector(new.projection, new.events, store)
    return Rebuild(projector, store, new.predecessors, new.events, new.checkpoints, purpose).walk()


def stored(new: World) -> Progress | None:
    return load_progress(new.checkpoints, new.projection, Purpose.FOLD, Share(1, 1))


def test_a_walk_after_one_that_left_clients_behind_does_only_those(new: World) -> None:
    """The first one is not done; the next one is, and lists nobody again."""
    *_, last = walk_beside(new, PEOPLE[3], PEOPLE[110])
    assert (last.clients, set(last.failed), last.done) == (118, {PEOPLE[3], PEOPLE[110]}, False)
    assert stored(new) == last
    steps = list(walk_beside(new, PEOPLE[110]))
    assert [(step.clients, list(step.failed), step.done) for step in steps] == [(119, [PEOPLE[110]], False)]
    steps = list(walk_beside(new))
    assert [(step.clients, step.failed, step.done) for step in steps] == [(120, {}, False), (120, {}, True)]
    assert len(new.store.client_ids()) == 120


def test_a_killed_walk_remembers_who_was_left_behind(new: World) -> None:
    """Whether it is killed before its end, or while it does those that were left."""
    assert list(next(walk_beside(new, PEOPLE[3])).failed) == [PEOPLE[3]]

    def die() -> None:
        raise StoreUnavailableError("killed")

    dying = Interposed(new.store, before_commit=once(die))
    projector = Projector(new.projection, new.events, dying)
    with pytest.raises(StoreUnavailableError):
        list(Rebuild(projector, dying, new.predecessors, new.events, new.checkpoints).walk())
    assert [step.clients for step in walk_beside(new)] == [100, 120, 120]
    assert len(new.store.client_ids()) == 120


def test_a_walk_that_leaves_too_many_behind_stops(new: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something is wrong then; once it is mended the walk goes on where it stopped, and nobody is missing."""
    monkeypatch.setattr("projections.rebuild._LEFT_BEHIND", 50)
    steps = list(walk_beside(new, *PEOPLE))
    assert [(step.clients, len(step.failed), step.done) for step in steps] == [(0, 100, False)]
    assert [step.clients for step in walk_beside(new)] == [100, 120, 120]
    assert len(new.store.client_ids()) == 120


def test_who_is_left_behind_is_told_nothing_yet(new: World) -> None:
    """The difference is announced once the client is there, as that of all others."""
    *_, last = walk_beside(new, PEOPLE[3], purpose=Purpose.PUBLISH_DIFFERENCES)
    assert (last.announced, len(new.outbox(PEOPLE[3]))) == (119, 1)
    assert walked(new, Purpose.PUBLISH_DIFFERENCES).announced == 120
    assert {len(new.outbox(client_id)) for client_id in PEOPLE} == {2}


def test_what_the_database_refuses_to_announce_is_told(new: World) -> None:
    """It counts as failed, with the reason; the walk is not done, and no client is counted as announced that was not."""
    failed: list[tuple[str, str]] = []
    store = Refusing(new.store)
    walk = Rebuild(
        Projector(new.projection, new.events, store),
        store,
        new.predecessors,
        new.events,
        new.checkpoints,
        Purpose.PUBLISH_DIFFERENCES,
        on_failed=lambda found: failed.extend((client_id, type(error).__name__) for client_id, error in found.items()),
    )
    *_, last = walk.walk()
    assert (last.clients, last.announced, last.done) == (119, 119, False)
    assert failed == [(PEOPLE[3], "StoreRefusedError")]
    assert "413" in last.failed[PEOPLE[3]]


def test_who_loses_for_long_is_tried_again(new: World) -> None:
    """More rounds than one call takes; and an announcement that somebody else was faster with is made again."""
    losing = count(1)

    class Losing(Contended):
        def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
            lost = any(each.record.client_id == PEOPLE[3] for each in commits) and next(losing) <= 25
            self.contended = [PEOPLE[3]] if lost else []
            return super().commit(commits)

    store = Losing(new.store)
    projector = Projector(new.projection, new.events, store)
    *_, last = Rebuild(projector, store, new.predecessors, new.events, new.checkpoints).walk()
    assert (last.clients, last.failed, last.done) == (120, {}, True)
    losing = count(24)
    walk = Rebuild(projector, store, new.predecessors, new.events, new.checkpoints, Purpose.PUBLISH_DIFFERENCES).walk()
    *_, last = walk
    assert (last.announced, last.done) == (120, True)
    assert len(new.outbox(PEOPLE[3])) == 2
