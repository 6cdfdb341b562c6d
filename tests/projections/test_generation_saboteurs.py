"""Each safeguard of generations removed in turn: the test that holds with it fails without."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

import projections.follower
import projections.generation
import projections.progress
import projections.projector
import projections.pruning
import projections.rebuild
import projections.sqlite
import projections.sqlite_predecessors
from eventstore import ClientPage, SqliteCheckpointStore, StoreUnavailableError
from projections import (
    Passed,
    Projector,
    Prunable,
    Purpose,
    Rebuild,
    Served,
    SqlitePredecessors,
    SqliteProjectionStore,
    UnknownClientError,
    prune,
)
from projections.announcing import announce
from projections.passed import passed_of
from tests.projections import test_generations as generations_hold
from tests.projections import test_pruning as pruning_holds
from tests.projections import test_three_generations as three_hold
from tests.projections import test_turns as turns_hold
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


def who_was_overtaken_does_not_say_it_announced(pair: Pair) -> None:
    """Old code announces an event before the difference could be told; the sweep tells what differs from there."""
    old, new = pair
    old.tell("1", Graded(segment="a"))
    old.catch_up("1")
    walked(new)

    def overtake() -> None:
        old.tell("1", Contacted(email="x"))
        old.catch_up("1")

    store = Interposed(new.store, before_commit=once(overtake))
    projector, purpose = new.projector(), Purpose.PUBLISH_DIFFERENCES
    *_, done = Rebuild(projector, store, new.predecessors, new.feed, new.checkpoints, purpose).walk()
    assert done.announced == 0
    new.follower().sweep()
    assert [(entry.seq, set(entry.contents)) for entry in new.outbox("1")] == [
        (1, {"root"}),
        (2, {"contact"}),
        (3, {"root"}),
    ]


def what_was_passed_in_silence_is_told(_: Pair) -> None:
    """As the test of three generations."""
    with closing(three_hold.Story()) as story:
        three_hold.test_what_was_passed_in_silence_is_not_taken_for_told(story)


def nothing_is_passed_by_others_before_the_first_sweep(_: Pair) -> None:
    """As the test of three generations."""
    with closing(three_hold.Story()) as story:
        three_hold.test_a_generation_has_its_cursor_before_it_folds_a_client(story)


def who_fell_behind_meanwhile_keeps_its_record(pair: Pair) -> None:
    """Old code that still runs against all advice makes a client incomplete after the first look."""
    old, new = pair
    for number in range(120):
        old.tell(str(number), Graded(segment="a"))
    old.follower().sweep()
    walked(new)
    removing = prune(new.store, new.predecessors)
    next(removing)
    late = old.store.client_ids()[-1]
    old.tell(late, Graded(segment="b"))
    old.catch_up(late)
    list(removing)
    assert old.store.client_ids() == [late]


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


def whoever_is_furthest_told(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.sqlite_predecessors, "passed_of", lambda left, _: passed_of(left, 0))


def a_generation_is_born_without_cursors(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.generation, "inherit_cursor", lambda *_: None)


def nobody_speaks_aloud(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(Projector, "_speaks_for", lambda *_: False)


def whoever_had_a_turn_goes_on(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.rebuild, "take_turn", lambda *_, **__: "1 1")
    patch.setattr(projections.rebuild, "present_turn", lambda *_: "1 1")
    patch.setattr(projections.progress, "present_turn", lambda *_: "1 1")


def newer_code_starts_unnoticed(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.generation, "take_turn", lambda *_: None)


def what_old_rules_parked_is_not_marked(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.projector, "on_its_way", lambda record, _: record._replace(parked=None))


def progress_is_stored_before_the_work(patch: pytest.MonkeyPatch, new: World) -> None:
    clients = new.events.clients

    def eager(partition: str, *, after: str | None, limit: int) -> ClientPage:
        page = clients(partition, after=after, limit=limit)
        progress = {"turn": "1 2", "cursors": {partition: page.cursor}}
        new.checkpoints.save("clients.v2:rebuild:1of1", orjson.dumps(progress).decode())
        return page

    patch.setattr(new.events, "clients", eager)


def progress_is_not_stored(patch: pytest.MonkeyPatch, new: World) -> None:
    patch.setattr(projections.rebuild, "save_progress", lambda *_: None)


def a_rebuild_announces(patch: pytest.MonkeyPatch, _: World) -> None:
    commit = Projector._commit

    def aloud(self: Projector, loaded: Any, step: Any, *, silent: bool) -> Any:
        return commit(self, loaded, step, silent=False)

    patch.setattr(Projector, "_commit", aloud)


def old_code_speaks_beside_newer(patch: pytest.MonkeyPatch, _: World) -> None:
    def speaking(projection: Any, folded: Any, before: Any) -> Any:
        return announce(projection, folded, before and before._replace(projection_version=projection.version))

    patch.setattr(projections.projector, "announce", speaking)


def announcing_is_not_taken_back(patch: pytest.MonkeyPatch, _: World) -> None:
    def timid(projection: Any, folded: Any, before: Any) -> Any:
        announcement = announce(projection, folded, before)
        if announcement is None:
            return None
        told, entry = announcement
        return told._replace(projection_version=projection.version + 1), entry

    patch.setattr(projections.rebuild, "announce", timid)


def transactions_have_no_bound(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.rebuild, "_TOGETHER", 10**9)


def lost_commits_are_not_noticed(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(Interposed, "commit", lambda self, commits: self._store.commit(commits) and commits)


def differences_are_not_announced(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.rebuild, "announce", lambda *_: None)


def nobody_looks_before_removing(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.pruning, "_is_complete", lambda *_: True)


def nobody_looks_again_while_removing(patch: pytest.MonkeyPatch, _: World) -> None:
    looked = projections.pruning.prunable

    def blind(*arguments: Any, **options: Any) -> Prunable:
        found = looked(*arguments, **options)
        patch.setattr(projections.pruning, "_is_complete", lambda *_: True)
        return found

    patch.setattr(projections.pruning, "prunable", blind)


def parked_counts_as_complete(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(projections.pruning, "_is_complete", lambda record, passed: record is not None and record.version > 0)


def the_audit_goes_unasked(patch: pytest.MonkeyPatch, _: World) -> None:
    remove = SqlitePredecessors.remove

    def all_of_it(self: SqlitePredecessors, client_ids: Sequence[str], *, audit: bool) -> int:
        return remove(self, client_ids, audit=True)

    patch.setattr(SqlitePredecessors, "remove", all_of_it)


def elsewhere(check: Callable[[Path], None]) -> Callable[[Pair], None]:
    """A check that has data of its own."""

    def checked(pair: Pair) -> None:
        assert pair[0].directory is not None
        check(pair[0].directory / "elsewhere")

    return checked


def on_many(check: Callable[[Pair], None]) -> Callable[[Pair], None]:
    """A check of pruning, on the clients of its own fixture."""

    def filled(pair: Pair) -> None:
        old, _ = pair
        for number in range(120):
            old.tell(str(number), Graded(segment="a"), Contacted(email="x"))
        old.follower().sweep()
        check(pair)

    return filled


SABOTEURS: list[tuple[Sabotage, Callable[[Pair], None]]] = [
    (cursors_are_not_copied, generations_hold.test_a_new_version_goes_on_where_its_predecessor_was),
    (a_rebuild_copies_no_cursors, generations_hold.test_a_rebuild_fixes_where_the_sweep_starts),
    (the_last_to_start_says_where, generations_hold.test_of_two_that_start_at_once_the_first_says_where),
    (reads_know_their_own_generation_only, generations_hold.test_reads_never_go_back),
    (the_newer_generation_is_served_even_if_behind, generations_hold.test_reads_never_go_back),
    (a_rebuild_folds_to_the_end, generations_hold.test_what_nobody_announced_yet_is_left_to_the_sweep),
    (whoever_is_furthest_told, what_was_passed_in_silence_is_told),
    (a_generation_is_born_without_cursors, nothing_is_passed_by_others_before_the_first_sweep),
    (nobody_speaks_aloud, generations_hold.test_who_the_new_version_spoke_for_is_brought_over_aloud),
    (whoever_had_a_turn_goes_on, turns_hold.test_progress_does_not_outlast_the_turn),
    (newer_code_starts_unnoticed, turns_hold.test_newer_code_that_starts_has_the_turn),
    (what_old_rules_parked_is_not_marked, generations_hold.test_what_old_rules_parked_is_announced),
    (progress_is_stored_before_the_work, a_rebuild_that_dies_goes_on),
    (differences_are_not_announced, generations_hold.test_differences_are_announced_when_asked_for),
    (differences_are_not_announced, generations_hold.test_a_rollback_takes_announcing_back),
    (progress_is_not_stored, generations_hold.test_an_interrupted_rebuild_goes_on),
    (a_rebuild_announces, generations_hold.test_a_rebuild_brings_everybody_over_and_tells_nothing),
    (old_code_speaks_beside_newer, generations_hold.test_a_rollback_takes_announcing_back),
    (announcing_is_not_taken_back, generations_hold.test_a_rollback_takes_announcing_back),
    (transactions_have_no_bound, generations_hold.test_what_others_wait_for_is_bounded),
    (lost_commits_are_not_noticed, who_was_overtaken_does_not_say_it_announced),
    (nobody_looks_before_removing, on_many(pruning_holds.test_nothing_is_removed_before_everybody_is_there)),
    (nobody_looks_again_while_removing, who_fell_behind_meanwhile_keeps_its_record),
    (parked_counts_as_complete, elsewhere(pruning_holds.test_parked_clients_are_not_complete)),
    (the_audit_goes_unasked, on_many(pruning_holds.test_the_audit_stays_unless_it_is_asked_for)),
]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """The same data, seen by code of version 1, and by code of version 2 that grades in capitals."""
    with closing(World(tmp_path)) as old, closing(World(tmp_path, louder())) as new:
        yield old, new


@pytest.mark.parametrize(
    "check",
    [
        a_rebuild_that_dies_goes_on,
        who_was_overtaken_does_not_say_it_announced,
        who_fell_behind_meanwhile_keeps_its_record,
    ],
)
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
