"""Properties of the fold: whatever the events, their order and how they are cut into portions."""

import pickle
from itertools import pairwise, permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import Event, EventData, RecordedEvent, canonical_json
from projections import AuditEntry, Record, apply_changes, empty_record, fold
from tests.support.clients import (
    AddressRemoved,
    Contacted,
    ContactRemoved,
    ContactReplaced,
    Corrected,
    Graded,
    Moved,
    Scored,
    Tagged,
    Visited,
    clients,
    fact,
)
from tests.support.projecting import oracle, recorded

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)

words = st.sampled_from(["", "a", "b", "ñ"])
maybe = st.none() | words
assertions = st.one_of(
    st.builds(Contacted, email=maybe, phone=maybe),
    st.builds(ContactReplaced, email=maybe),
    st.builds(ContactRemoved),
    st.builds(Moved, street=words, city=words),
    st.builds(AddressRemoved),
    st.builds(Tagged, tags=st.lists(words, max_size=2)),
    st.builds(Graded, segment=words),
    st.builds(Scored, score=st.sampled_from([0, 1, 1.0, 2.5])),
    st.builds(Visited),
)
late = st.builds(Corrected, email=words)
minutes = st.integers(0, 5)


def facts(events: st.SearchStrategy[Event], *, least: int = 0, most: int = 12) -> st.SearchStrategy[list[EventData]]:
    """Events with times that may repeat and go back."""
    return st.lists(
        st.builds(lambda event, minute: fact(event, minute=minute), events, minutes), min_size=least, max_size=most
    )


def at_once(stream: list[RecordedEvent]) -> Record:
    return fold(clients, empty_record("1"), stream).record


def said(record: Record) -> dict[tuple[str, str], str]:
    """When each field was said what it is."""
    return {
        (name, field): assertion.occurred_at
        for name, fields in record.provenance.items()
        for field, assertion in fields.items()
    }


@EXAMPLES
@given(st.lists(assertions, min_size=1, max_size=5))
def test_every_order_of_facts_gives_the_same_values(told: list[Event]) -> None:
    """With distinct times it does not matter in which order sources deliver: all permutations are tried."""
    data = [fact(event, minute=minute) for minute, event in enumerate(told)]
    results = [at_once(recorded("1", *order)) for order in permutations(data)]
    assert all(result.values == results[0].values for result in results)
    assert all(said(result) == said(results[0]) for result in results)


@EXAMPLES
@given(facts(assertions))
def test_the_fold_agrees_with_the_oracle(data: list[EventData]) -> None:
    """Picking the newest assertion of each field out of the whole history comes to the same, ties included."""
    stream = recorded("1", *data)
    assert at_once(stream).values == oracle(stream)


@EXAMPLES
@given(facts(assertions | late), st.lists(st.integers(0, 12), max_size=4))
def test_portions_do_not_matter(data: list[EventData], cuts: list[int]) -> None:
    """Record and audit are the same in whatever portions the events are folded."""
    stream = recorded("1", *data)
    record = empty_record("1")
    audit: list[AuditEntry] = []
    for start, end in pairwise([0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]):
        portion = fold(clients, record, stream[start:end])
        record, audit = portion.record, [*audit, *portion.audit]
    whole = fold(clients, empty_record("1"), stream)
    assert (record, tuple(audit)) == (whole.record, whole.audit)


@EXAMPLES
@given(facts(assertions | late))
def test_replaying_the_audit_gives_the_record_at_every_version(data: list[EventData]) -> None:
    """The trail holds every change, with the value before and after."""
    stream = recorded("1", *data)
    values: dict[str, dict[str, Any]] = {}
    for event, entry in zip(stream, fold(clients, empty_record("1"), stream).audit, strict=True):
        assert all(values.get(c.sub_schema, {}).get(c.field, c.old) == c.old for c in entry.changes)
        values = apply_changes(values, entry.changes)
        assert values == at_once(stream[: event.version]).values


@EXAMPLES
@given(facts(assertions | late))
def test_the_model_is_what_the_values_give(data: list[EventData]) -> None:
    """Whoever loads the record has the same model as who folded it; so contents and announcements agree."""
    whole = fold(clients, empty_record("1"), recorded("1", *data))
    loaded = clients.build("1", whole.record.values)
    assert canonical_json(clients.contents(loaded)) == canonical_json(clients.contents(whole.model))


@EXAMPLES
@given(facts(assertions | late, most=6), facts(assertions | late, most=6))
def test_a_fold_changes_nothing_it_was_given(before: list[EventData], after: list[EventData]) -> None:
    """Neither the record nor the model that rules evolve from."""
    start = fold(clients, empty_record("1"), recorded("1", *before))
    frozen = pickle.dumps(start.record), start.model.model_dump_json()
    fold(clients, start.record, recorded("1", *after, first=len(before) + 1), model=start.model)
    assert (pickle.dumps(start.record), start.model.model_dump_json()) == frozen
