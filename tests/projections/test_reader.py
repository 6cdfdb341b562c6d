from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest

from eventstore import utc_text
from projections import (
    ROOT,
    WHOLE,
    Assertion,
    AuditFilter,
    AuditPage,
    Commit,
    InvalidCursorError,
    UnknownClientError,
    UnreadableRecordError,
    empty_record,
    fold,
)
from tests.support.clients import NOON, Client, Contacted, Graded, Moved, Scored, Visited, clients, fact
from tests.support.projecting import World


class Clock:
    """Time that goes on by a minute with every look."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest.fixture
def ticking(tmp_path: Path) -> Iterator[World]:
    """A world in which each append is a minute after the one before."""
    with closing(World(tmp_path, clock=Clock())) as world:
        yield world


def versions(page: AuditPage) -> list[int]:
    return [entry.version for entry in page.entries]


def test_the_current_record_comes_with_its_model(world: World) -> None:
    """As last committed."""
    world.tell("1", Graded(segment="gold"))
    record = world.catch_up("1")
    view = world.reader.current("1")
    assert view.record == record
    assert isinstance(view.model, Client)
    assert view.model.segment == "gold"


def test_a_client_without_record_is_unknown(world: World) -> None:
    """Even if it has events that nobody projected yet."""
    world.tell("1", Graded(segment="gold"))
    for ask in (world.reader.current, world.reader.blame):
        with pytest.raises(UnknownClientError) as caught:
            ask("1")
        assert caught.value.client_id == "1"


def test_a_record_that_does_not_fit_the_schema_is_an_error_without_values(world: World) -> None:
    """It names the field."""
    record = empty_record("1")._replace(version=1, values={"contact": {"email": ["canary"]}})
    world.store.commit([Commit(world.store.load(["1"])["1"], record)])
    with pytest.raises(UnreadableRecordError, match=r"contact\.email") as caught:
        world.reader.current("1")
    assert "canary" not in str(caught.value)


def test_as_of_a_version_is_the_fold_of_the_events_up_to_it(world: World) -> None:
    """For every version, also beyond a commit's worth of events, and beyond the end."""
    world.tell("1", *[fact(Graded(segment=str(number)), minute=number % 7) for number in range(95)])
    stream = world.stream("1")
    for version in (1, 2, 50, 90, 91, 95):
        assert (
            world.reader.as_of_version("1", version).record == fold(clients, empty_record("1"), stream[:version]).record
        )
    assert world.reader.as_of_version("1", 2**80).record.version == 95


def test_as_of_a_time_is_what_was_known_then(ticking: World) -> None:
    """The last event recorded at that time or before counts, whenever the fact became true."""
    first = ticking.tell("1", fact(Graded(segment="a"), minute=-10))[0]
    second = ticking.tell("1", fact(Graded(segment="b"), minute=-20))[0]
    assert ticking.reader.as_of_time("1", first.recorded_at).record.version == 1
    assert ticking.reader.as_of_time("1", second.recorded_at).record.version == 2
    between = utc_text(datetime.fromisoformat(second.recorded_at) - timedelta(microseconds=1))
    assert ticking.reader.as_of_time("1", between).record.version == 1


@pytest.mark.parametrize("version", [0, -1])
def test_before_the_first_event_there_was_no_client(ticking: World, version: int) -> None:
    """Neither by version nor by time."""
    ticking.tell("1", Graded(segment="a"))
    with pytest.raises(UnknownClientError):
        ticking.reader.as_of_version("1", version)
    with pytest.raises(UnknownClientError):
        ticking.reader.as_of_time("1", utc_text(NOON))


def test_the_audit_is_read_in_pages(world: World) -> None:
    """The cursor continues a page; there is none after the last."""
    world.tell("1", *[Graded(segment=str(number)) for number in range(7)])
    world.catch_up("1")
    first = world.reader.audit("1", limit=3)
    second = world.reader.audit("1", limit=3, cursor=first.cursor)
    third = world.reader.audit("1", limit=3, cursor=second.cursor)
    assert [versions(first), versions(second), versions(third)] == [[1, 2, 3], [4, 5, 6], [7]]
    assert third.cursor is None
    assert world.reader.audit("1", limit=7).cursor is None


@pytest.mark.parametrize(("limit", "expected"), [(0, 1), (-5, 1), (10_000, 500)])
def test_the_size_of_a_page_is_bounded(world: World, limit: int, expected: int) -> None:
    """Whatever is asked for."""
    for _ in range(6):
        world.tell("1", *[Visited() for _ in range(90)])
    world.catch_up("1")
    assert len(world.reader.audit("1", limit=limit).entries) == expected


def test_a_cursor_belongs_to_its_query(world: World) -> None:
    """Another client, another filter, or something made up is refused."""
    world.tell("1", *[Graded(segment=str(number)) for number in range(3)])
    world.catch_up("1")
    cursor = world.reader.audit("1", limit=1).cursor
    assert cursor is not None
    scope = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[0]
    made_up = [[scope], [scope, -1], [scope, True], [scope, "1"], [scope, 2**63], {"a": 1}, 7]
    wrong = ["", "nonsense", "ñ", *(urlsafe_b64encode(orjson.dumps(each)).decode() for each in made_up)]
    for each in wrong:
        with pytest.raises(InvalidCursorError):
            world.reader.audit("1", cursor=each)
    with pytest.raises(InvalidCursorError):
        world.reader.audit("2", cursor=cursor)
    with pytest.raises(InvalidCursorError):
        world.reader.audit("1", AuditFilter(field="segment"), cursor=cursor)


def test_blame_names_who_said_each_value(world: World) -> None:
    """With the audit entry of the event, also where a late fact lost against it."""
    world.tell(
        "1",
        fact(Contacted(email="new", phone="1"), minute=5, source="shop"),
        fact(Contacted(email="old"), minute=1, source="crm"),
        fact(Moved(street="s", city="c"), minute=2),
        fact(Scored(score=1), minute=3),
    )
    world.catch_up("1")
    blamed = {(blame.sub_schema, blame.field): blame for blame in world.reader.blame("1")}
    assert list(blamed) == [("address", WHOLE), ("contact", "email"), ("contact", "phone"), (ROOT, "score")]
    email = blamed["contact", "email"]
    assert (email.value, email.asserted) == ("new", Assertion(utc_text(NOON + timedelta(minutes=5)), 1))
    assert email.entry == world.trail("1")[0]
    assert blamed[ROOT, "score"].entry == world.trail("1")[3]


def test_blame_does_without_an_entry_that_is_gone(world: World) -> None:
    """An audit that does not hold the event leaves the entry out."""
    record = fold(clients, empty_record("1"), world.tell("1", Scored(score=1))).record
    world.store.commit([Commit(world.store.load(["1"])["1"], record)])
    assert [blame.entry for blame in world.reader.blame("1")] == [None]
