"""Each safeguard of generations removed in turn: the test that holds with it fails without."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

import projections.follower
import projections.projector
import projections.pruning
import projections.rebuild
import projections.sqlite
from eventstore import ClientPage, SqliteCheckpointStore, StoreUnavailableError
from projections import (
    Passed,
    Projector,
    Rebuild,
    Served,
    SqlitePredecessors,
    SqliteProjectionStore,
    UnknownClientError,
)
from tests.projections import test_generations as generations_hold
from tests.projections import test_pruning as pruning_holds
from tests.support.clients import Contacted, Graded
from tests.support.generations import louder, walked
from tests.support.interposing import Interposed, once
from tests.support.projecting import World

Pair = tuple[World, World]
Sabotage = Callable[[pytest.MonkeyPatch, World], None]


def a_rebuild_that_dies_goes_on(pair: Pair) -> None:
    """Whoever dies at a page begins with that page again."""
    old, new = pair
    for number in range(120):
        old.tell(str(number), Graded(segment="a"))
    old.follower().sweep()

    def die() -> None:
        raise StoreUnavailableError("killed")

    dying = Projector(new.projection, new.events, Interposed(new.store, before_commit=once(die)))
    with pytest.raises(StoreUnavailableError):
        list(Rebuild(dying, new.store, new.predecessors, new.events, new.checkpoints).walk())
    walked(new)
    assert len(new.store.client_ids()) == 120


def everybody_removed_is_complete(pair: Pair) -> None:
    """As the test of pruning, on a hundred and twenty clients."""
    old, _ = pair
    for number in range(120):
        old.tell(str(number), Graded(segment="a"), Contacted(email="x"))
    old.follower().sweep()
    pruning_holds.test_nothing_is_removed_before_everybody_is_there(pair)


def cursors_are_not_copied(patch: pytest.MonkeyPatch, _: World) -> None:
    def own(projection: Any, checkpoints: Any, partition: str) -> Any:
        return checkpoints.load(f"{projection.generation}:{partition}")

    patch.setattr(projections.follower, "inherit_cursor", own)


def a_rebuild_copies_no_cursors(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.rebuild, "inherit_cursor", lambda *_: None)


def the_last_to_start_says_where(patch: pytest.MonkeyPatch, _: World) -> None:
    def create(self: SqliteCheckpointStore, name: str, cursor: str) -> str:
        self.save(name, cursor)
        return cursor

    patch.setattr(SqliteCheckpointStore, "create", create)


def reads_know_their_own_generation_only(patch: pytest.MonkeyPatch, new: World) -> None:
    def own(self: SqliteProjectionStore, client_id: str) -> Served | None:
        record = self.load([client_id])[client_id].record
        return None if record is None else Served(new.projection.version, record)

    patch.setattr(SqliteProjectionStore, "newest", own)


def the_newer_generation_is_served_even_if_behind(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.sqlite, "newest_of", lambda records: max(Served(*each) for each in records))


def a_rebuild_folds_to_the_end(patch: pytest.MonkeyPatch, new: World) -> None:
    def passed(_: SqlitePredecessors, client_ids: Sequence[str]) -> dict[str, Passed]:
        heads = {client_id: new.events.head(client_id).version for client_id in client_ids}
        return {client_id: Passed(version, version) for client_id, version in heads.items()}

    patch.setattr(SqlitePredecessors, "passed", passed)


def nobody_is_spoken_for(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(Projector, "_is_spoken_for", lambda *_: False)


def what_old_rules_parked_is_not_marked(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.projector, "on_its_way", lambda record, _: record._replace(parked=None))


def progress_is_stored_before_the_work(patch: pytest.MonkeyPatch, new: World) -> None:
    clients = new.events.clients

    def eager(partition: str, *, after: str | None, limit: int) -> ClientPage:
        page = clients(partition, after=after, limit=limit)
        progress = {"cursors": {partition: page.cursor}}
        new.checkpoints.save("clients.v2:rebuild:1of1", orjson.dumps(progress).decode())
        return page

    patch.setattr(new.events, "clients", eager)


def differences_are_not_announced(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.rebuild, "announce", lambda *_: None)


def nobody_looks_before_removing(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.pruning, "_is_complete", lambda *_: True)


SABOTEURS: list[tuple[Sabotage, Callable[[Pair], None]]] = [
    (cursors_are_not_copied, generations_hold.test_a_new_version_goes_on_where_its_predecessor_was),
    (a_rebuild_copies_no_cursors, generations_hold.test_a_rebuild_fixes_where_the_sweep_starts),
    (the_last_to_start_says_where, generations_hold.test_of_two_that_start_at_once_the_first_says_where),
    (reads_know_their_own_generation_only, generations_hold.test_reads_never_go_back),
    (the_newer_generation_is_served_even_if_behind, generations_hold.test_reads_never_go_back),
    (a_rebuild_folds_to_the_end, generations_hold.test_what_nobody_announced_yet_is_left_to_the_sweep),
    (nobody_is_spoken_for, generations_hold.test_a_client_that_the_new_version_spoke_for_is_left_to_those_who_announce),
    (what_old_rules_parked_is_not_marked, generations_hold.test_what_old_rules_parked_is_announced),
    (progress_is_stored_before_the_work, a_rebuild_that_dies_goes_on),
    (differences_are_not_announced, generations_hold.test_differences_are_announced_when_asked_for),
    (differences_are_not_announced, generations_hold.test_a_rollback_takes_announcing_back),
    (nobody_looks_before_removing, everybody_removed_is_complete),
]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """The same data, seen by code of version 1, and by code of version 2 that grades in capitals."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, louder())) as new:
        yield old, new


@pytest.mark.parametrize("check", [a_rebuild_that_dies_goes_on, everybody_removed_is_complete])
def test_with_every_safeguard_it_holds(pair: Pair, check: Callable[[Pair], None]) -> None:
    """The checks that are no tests elsewhere."""
    check(pair)


@pytest.mark.parametrize(("sabotage", "check"), SABOTEURS)
def test_a_removed_safeguard_is_noticed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, sabotage: Sabotage, check: Callable[[Pair], None]
) -> None:
    """The check fails without the safeguard."""
    sabotage(monkeypatch, pair[1])
    with pytest.raises((AssertionError, pytest.fail.Exception, UnknownClientError)):
        check(pair)
