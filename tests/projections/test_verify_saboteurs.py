"""Each safeguard of verifying and healing removed in turn: the test that holds with it fails without."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import projections.looking
import projections.verify
from eventstore import RecordedEvent
from projections import Healer, Mend, SqliteDocumentStore, Target, Verified
from projections.looking import Against
from projections.told import Told
from tests.projections import test_verify as holds
from tests.support.vandal import SqliteScene


def events_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RecordedEvent, "follows", lambda *_: True)


def nobody_is_asked_what_was_heard(patch: pytest.MonkeyPatch) -> None:
    def deaf(projection: Any, client_id: str, stored: Any, _: int, report: Any) -> Told:
        return Told(projection, client_id, stored, 0, report)

    patch.setattr(projections.looking, "Told", deaf)


def who_is_behind_is_no_matter(patch: pytest.MonkeyPatch) -> None:
    def patient(*of: Any) -> Against:
        return Against(*of)._replace(projected_until="")

    patch.setattr(projections.verify, "Against", patient)


def what_was_announced_is_corrected_silently(patch: pytest.MonkeyPatch) -> None:
    announcement = Healer._announcement

    def silent(self: Healer, verified: Verified) -> list[Mend]:
        return announcement(self, verified)[:1]

    patch.setattr(Healer, "_announcement", silent)


def an_announcement_state_is_left_if_nothing_is_to_be_told(patch: pytest.MonkeyPatch) -> None:
    announcement = Healer._announcement

    def lazy(self: Healer, verified: Verified) -> list[Mend]:
        mends = announcement(self, verified)
        return mends if len(mends) > 1 else []

    patch.setattr(Healer, "_announcement", lazy)


def healing_folds_the_client_again(patch: pytest.MonkeyPatch) -> None:
    heal = Healer.heal

    def thorough(self: Healer, client_id: str) -> Any:
        healed = heal(self, client_id)
        self._projector.catch_up(client_id, Target(0, refold=True))
        return healed

    patch.setattr(Healer, "heal", thorough)


def documents_are_mended_one_by_one(patch: pytest.MonkeyPatch) -> None:
    mend = SqliteDocumentStore.mend

    def one_by_one(self: SqliteDocumentStore, client_id: str, mends: Sequence[Mend]) -> bool:
        return all(mend(self, client_id, [each]) for each in mends)

    patch.setattr(SqliteDocumentStore, "mend", one_by_one)


SABOTEURS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[SqliteScene], None]]] = [
    (events_are_not_checked, partial(holds.test_damage_is_named_and_mended, name="event's data")),
    (nobody_is_asked_what_was_heard, holds.test_a_stale_announcement_state_is_noticed_by_what_was_heard),
    (nobody_is_asked_what_was_heard, holds.test_a_lost_announcement_state_tells_everything_above_what_was_heard),
    (who_is_behind_is_no_matter, holds.test_a_client_that_every_sweep_passed_is_reported_and_caught_up),
    (what_was_announced_is_corrected_silently, holds.test_what_was_announced_wrongly_is_told_again),
    (
        an_announcement_state_is_left_if_nothing_is_to_be_told,
        partial(holds.test_damage_is_named_and_mended, name="announced beyond the events"),
    ),
    (healing_folds_the_client_again, partial(holds.test_damage_is_named_and_mended, name="audit's rule")),
    (documents_are_mended_one_by_one, holds.test_a_mend_is_done_as_a_whole_or_not_at_all),
]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SqliteScene]:
    with closing(SqliteScene(tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize(("sabotage", "check"), SABOTEURS)
def test_a_removed_safeguard_is_noticed(
    scene: SqliteScene,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    check: Callable[[SqliteScene], None],
) -> None:
    """The check fails without the safeguard."""
    sabotage(monkeypatch)
    with pytest.raises(AssertionError):
        check(scene)
