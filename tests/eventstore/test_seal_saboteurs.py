"""Each safeguard of sealing removed in turn: the test that holds with it fails without."""

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from eventstore import ANY, ChainProblem, EventStore, RecordedEvent, Sealed, SealError, check_sealed
from tests.eventstore import test_seal as holds
from tests.support.events import emails
from tests.support.vandal import SqliteScene


def only_versions_are_sealed(patch: pytest.MonkeyPatch) -> None:
    def check(events: EventStore, sealed: Sealed) -> list[ChainProblem]:
        present = [event.hash for event in events.read(sealed.client_id, until=sealed.version)]
        return check_sealed(events, sealed._replace(hash=present[-1]))

    patch.setattr(holds, "check_sealed", check)


def only_what_is_there_is_checked(patch: pytest.MonkeyPatch) -> None:
    def check(events: EventStore, sealed: Sealed) -> list[ChainProblem]:
        return check_sealed(events, sealed._replace(version=0))

    patch.setattr(holds, "check_sealed", check)


def events_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RecordedEvent, "follows", lambda *_: True)


def a_seal_vouches_for_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("eventstore.seal.sha256", Constant)


def a_seal_is_written_in_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "with_name", lambda path, _: path)


def anybody_may_read_a_seal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("eventstore.seal._private", lambda path, flags: os.open(path, flags, 0o644))


class Constant:
    """A digest that is always the same."""

    def update(self, _: bytes) -> None:
        """Take a line."""

    def hexdigest(self) -> str:
        return "0" * 64


def on_the_stream(check: Callable[[list[RecordedEvent]], None]) -> Callable[[Path], None]:
    """A check that needs no directory, on a stream of the usual length."""

    def checked(directory: Path) -> None:
        with closing(SqliteScene(directory)) as scene:
            scene.events.append("1", emails(*range(holds.EVENTS)), expected_version=ANY)
            check(list(scene.events.read("1")))

    return checked


SABOTEURS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[Path], None]]] = [
    (only_versions_are_sealed, holds.test_a_history_written_anew_is_found),
    (only_what_is_there_is_checked, holds.test_the_head_is_what_is_sealed),
    (events_are_not_checked, on_the_stream(holds.test_events_after_the_seal_only_have_to_continue_it)),
    (a_seal_vouches_for_nothing, partial(holds.test_a_seal_that_was_changed_is_refused, change=holds.CHANGES[3])),
    (a_seal_is_written_in_place, holds.test_a_seal_that_cannot_be_finished_leaves_the_one_before),
    (anybody_may_read_a_seal, holds.test_a_seal_reads_back),
]


@pytest.mark.parametrize(("sabotage", "check"), SABOTEURS)
def test_a_removed_safeguard_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    check: Callable[[Path], None],
) -> None:
    """The check fails without the safeguard."""
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, SealError, pytest.fail.Exception)):
        check(tmp_path)
