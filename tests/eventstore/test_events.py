"""Event data, recorded events and the hash chain."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from eventstore import (
    ANY,
    Event,
    EventData,
    InvalidEventError,
    RecordedEvent,
    SqliteEventStore,
    field_problems,
    open_events,
    utc_text,
)
from tests.support.events import NOON, EmailChanged, events, is_intact

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


def data(**changes: Any) -> EventData:
    fields: dict[str, Any] = {
        "event_id": "crm:1",
        "event_type": "client.email_changed",
        "schema_version": 2,
        "source": "crm",
        "occurred_at": NOON,
        "data": {"email": "a@x.example"},
    }
    return EventData(**(fields | changes))


@pytest.mark.parametrize("key", ["", "k" * 201, "a\nb", "a\0", "\ud800", "\u200b", "\x7f"])
def test_a_key_is_short_and_printable(key: str) -> None:
    """Empty, over-long and unprintable keys are refused by name."""
    with pytest.raises(InvalidEventError) as caught:
        events.event_data(EmailChanged(email="a"), source="crm", key=key, occurred_at=NOON)
    assert caught.value.problems[0].path == "key"


@pytest.mark.parametrize("key", ["a", "k" * 200, "a:b:0", "ñ 7", "../x"])
def test_any_printable_key_will_do(key: str) -> None:
    """The id is source and key, joined by a colon."""
    made = events.event_data(EmailChanged(email="a"), source="crm", key=key, occurred_at=NOON)
    assert made.event_id == f"crm:{key}"


@pytest.mark.parametrize("source", ["", "CRM", "c r m", "7crm", "c" * 33, "crm\n", "ñ", "a:b", "flow"])
def test_a_source_is_a_short_plain_word(source: str) -> None:
    """Anything but lower-case letters, digits, `-` and `_`, and the reserved source, is refused by name."""
    with pytest.raises(InvalidEventError) as caught:
        events.event_data(EmailChanged(email="a"), source=source, key="1", occurred_at=NOON)
    assert caught.value.problems[0].path == "source"


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 31, 12),  # noqa: DTZ001 - naive on purpose
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=5))),
    ],
)
def test_a_time_without_a_place_in_utc_is_refused(moment: datetime) -> None:
    """Naive times, and those that leave the calendar when brought to UTC, are refused by name."""
    with pytest.raises(InvalidEventError) as caught:
        events.event_data(EmailChanged(email="a"), source="crm", key="1", occurred_at=moment)
    assert [problem.path for problem in caught.value.problems] == ["occurred_at"]


@pytest.mark.parametrize("name", ["correlation_id", "traceparent"])
@pytest.mark.parametrize("value", ["", "x" * 201, "a\r\nb", "\ud800"])
def test_what_identifies_the_request_is_short_and_printable(name: str, value: str) -> None:
    """A header that was taken over cannot smuggle in lines or megabytes."""
    with pytest.raises(InvalidEventError) as caught:
        data(**{name: value})
    assert [problem.path for problem in caught.value.problems] == [name]


def test_event_data_made_by_hand_is_checked_too() -> None:
    """All that is wrong with the envelope is told at once; the payload is normalized."""
    with pytest.raises(InvalidEventError) as caught:
        data(event_id="shop:1", occurred_at=datetime(2026, 1, 1), correlation_id="")  # noqa: DTZ001 - on purpose
    assert [problem.path for problem in caught.value.problems] == ["event_id", "occurred_at", "correlation_id"]
    with pytest.raises(InvalidEventError, match=r"reason: a lone surrogate"):
        data(data={"reason": "\ud800"})
    made = data(data={"b": 2.0, "a": 1}, occurred_at=NOON.astimezone(timezone(timedelta(hours=-5))))
    assert (made.json, made.occurred_at.tzinfo) == (b'{"a":1,"b":2}', UTC)


def test_event_data_that_is_equal_compares_equal() -> None:
    """Two requests with the same content are the same request."""
    assert data() == data()
    assert data() != data(data={"email": "b@x.example"})


@PROPERTY
@given(st.lists(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))])), min_size=2, max_size=5))
def test_the_order_of_texts_is_the_order_of_times(moments: list[datetime]) -> None:
    """Fixed width, UTC: comparing texts compares times, and a text reads back."""
    usable = [moment for moment in moments if 1 < moment.year < 9999]
    assert [utc_text(m) for m in sorted(usable)] == sorted(utc_text(m) for m in usable)
    assert [datetime.fromisoformat(utc_text(m)) for m in usable] == usable


def test_a_naive_time_has_no_utc_text() -> None:
    """Guessing the offset of this machine would be wrong on the next."""
    with pytest.raises(ValueError, match="offset"):
        utc_text(datetime(2026, 1, 31))  # noqa: DTZ001 - naive on purpose


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> list[RecordedEvent]:
    database = open_events(tmp_path_factory.mktemp("stream"))
    store = SqliteEventStore(database)
    asked = [data(event_id=f"crm:{n}", correlation_id="r", traceparent="t", data={"n": n}) for n in range(3)]
    stored = list(store.append("c1", asked, expected_version=ANY).events)
    database.close()
    return stored


CHANGED: dict[str, st.SearchStrategy[Any]] = {
    "client_id": st.sampled_from(["c2", "C1", ""]),
    "version": st.integers(-5, 50),
    "schema_version": st.integers(-5, 50),
    "data": st.dictionaries(st.text("abn", max_size=2), st.integers(0, 5), max_size=2),
    "correlation_id": st.none() | st.text("ab", max_size=3),
    "traceparent": st.none() | st.text("ab", max_size=3),
}


@PROPERTY
@given(st.data())
def test_any_change_of_a_field_breaks_the_chain(stream: list[RecordedEvent], draw: st.DataObject) -> None:
    """An event with one field changed, or after another predecessor, does not follow."""
    previous, event, _ = stream
    name = draw.draw(st.sampled_from(RecordedEvent._fields))
    value = draw.draw(CHANGED.get(name, st.text(st.characters(exclude_categories=["Cs"]), max_size=30)))
    changed = event._replace(**{name: value})
    assert event.follows(previous.hash)
    assert changed.follows(previous.hash) == (changed == event)
    assert not event.follows(draw.draw(st.sampled_from(["", event.hash, previous.hash[:-1], previous.hash.upper()])))


def test_a_lost_moved_or_inserted_event_shows(stream: list[RecordedEvent]) -> None:
    """The chain holds for the stream as it is and for no other arrangement of it."""
    first, second, third = stream
    assert is_intact(stream)
    for broken in ([second, third], [first, third], [second, first, third], [first, first, second, third]):
        assert not is_intact(broken)


def test_problems_of_a_model_come_with_its_limits() -> None:
    """A reader learns what was expected, and never what came."""

    class Ordered(Event):
        sku: str = Field(min_length=3)
        n: int = Field(ge=1, le=9)
        tags: dict[str, int] = Field(default_factory=dict)

    with pytest.raises(ValidationError) as caught:
        Ordered.model_validate({"sku": "zz", "n": 77, "tags": {"ana@x.example": "seven"}, "more": 1})
    assert field_problems(caught.value) == (
        ("sku", "string too short, min length 3"),
        ("n", "less than equal, le 9"),
        ("tags.*", "int parsing"),
        ("more", "extra forbidden"),
    )
