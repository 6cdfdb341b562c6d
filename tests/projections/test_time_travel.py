"""Properties of history: as of any version is the fold so far, the audit replays to it, and a difference leads there."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings

from eventstore import ANY, EventData
from projections import apply_changes, empty_record, fold
from tests.projections.test_fold_properties import assertions, facts, late
from tests.support.clients import clients
from tests.support.projecting import World

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)


@contextmanager
def projected(data: list[EventData]) -> Iterator[World]:
    """A client with these events, projected in a directory of its own."""
    with TemporaryDirectory() as directory, closing(World(Path(directory))) as world:
        world.events.append("1", data, expected_version=ANY)
        world.catch_up("1")
        yield world


@EXAMPLES
@given(facts(assertions | late, least=1))
def test_as_of_a_version_is_the_fold_of_the_events_up_to_it(data: list[EventData]) -> None:
    """And what the stored audit gives when it is replayed up to there; the last one is the stored record."""
    with projected(data) as world:
        stream = world.stream("1")
        values: dict[str, dict[str, Any]] = {}
        for event, entry in zip(stream, world.trail("1"), strict=True):
            values = apply_changes(values, entry.changes)
            seen = world.reader.as_of_version("1", event.version).record
            assert seen == fold(clients, empty_record("1"), stream[: event.version]).record
            assert seen.values == values
        assert world.record("1") == seen


@EXAMPLES
@given(facts(assertions | late, least=1))
def test_a_difference_leads_from_one_version_to_the_other(data: list[EventData]) -> None:
    """Applied to the record at the one it gives the record at the other, both ways."""
    with projected(data) as world:
        last = len(data)
        for first, second in [(1, last), (last, 1), (last // 2 + 1, last)]:
            diff = world.reader.diff("1", first, second)
            assert (diff.before.record.version, diff.after.record.version) == (first, second)
            assert apply_changes(diff.before.record.values, tuple(diff.changes)) == diff.after.record.values
