import logging
from collections.abc import Iterator, Sequence
from threading import Barrier, Thread

import pytest

from eventstore import EventStore, RecordedEvent, StoreUnavailableError
from projections import (
    Commit,
    CommitConflictError,
    Committed,
    OutOfTimeError,
    Projector,
    StreamBehindError,
    Target,
    empty_record,
)
from tests.support.clients import Contacted, Graded, Tagged, clients
from tests.support.interposing import Interposed, once
from tests.support.projecting import World, check_whole


class Unreadable:
    """An event store of which only the heads can be read."""

    def __init__(self, store: EventStore) -> None:
        self.append, self.head, self.foreign = store.append, store.head, store.foreign

    def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        raise AssertionError("the stream was read")


# --- how far -------------------------------------------------------------------------------------------------------


def test_a_client_is_brought_to_the_version_asked_for(world: World) -> None:
    """And further, if there is more: the stream is read to its end."""
    world.tell("1", Graded(segment="a"), Graded(segment="b"), Graded(segment="c"))
    assert world.projector().catch_up("1", Target(2)).version == 3
    check_whole(world)


def test_zero_is_all_there_is(world: World) -> None:
    """Also when some of it came with the doorbell."""
    first = world.tell("1", Graded(segment="a"))
    world.tell("1", Graded(segment="b"))
    assert world.projector().catch_up("1", Target(0, first)).version == 2
    assert world.projector().catch_up("nobody", Target(0)) == empty_record("nobody")


def test_a_client_that_is_there_costs_one_load(world: World) -> None:
    """Nothing is read from the stream and nothing committed."""
    world.tell("1", Graded(segment="a"))
    record = world.catch_up("1")

    def no_commit() -> None:
        raise AssertionError("something was committed")

    projector = Projector(clients, Unreadable(world.events), Interposed(world.store, before_commit=no_commit))
    assert projector.catch_up("1", Target(1)) == record


def test_events_of_the_doorbell_are_used_if_they_continue_the_record(world: World) -> None:
    """In any order and more than once; the stream is not read."""
    known = world.tell("1", *[Graded(segment=str(number)) for number in range(4)])
    projector = Projector(clients, Unreadable(world.events), world.store)
    projector.catch_up("1", Target(4, [known[2], known[0], known[3], known[1], known[2]]))
    check_whole(world)


@pytest.mark.parametrize("chosen", [[1, 2], [0, 2], [0], []])
def test_the_stream_is_read_if_they_do_not(world: World, chosen: list[int]) -> None:
    """A gap, in front or between, or too few of them."""
    known = world.tell("1", *[Graded(segment=str(number)) for number in range(3)])
    world.projector().catch_up("1", Target(3, [known[index] for index in chosen]))
    check_whole(world)


def test_events_of_another_history_are_not_used(world: World) -> None:
    """What came with a doorbell has to follow the record by its hash."""
    world.tell("1", Graded(segment="a"))
    world.catch_up("1")
    second = world.tell("1", Graded(segment="b"))[0]
    forged = second._replace(data={"segment": "forged"})
    assert world.projector().catch_up("1", Target(2, [forged])).values == {"root": {"segment": "b"}}


def test_a_version_that_does_not_exist_is_an_error(world: World) -> None:
    """What is there is folded; the caller learns where the stream ends."""
    world.tell("1", Graded(segment="a"))
    with pytest.raises(StreamBehindError) as caught:
        world.projector().catch_up("1", Target(7))
    assert (caught.value.client_id, caught.value.at_least, caught.value.found) == ("1", 7, 1)
    check_whole(world)


def test_trouble_with_one_client_does_not_touch_the_others(world: World) -> None:
    """It is in that client's outcome."""
    for client_id in ("1", "2", "3"):
        world.tell(client_id, Graded(segment="a"))
    outcomes = world.projector().catch_up_all({"1": Target(1), "2": Target(5), "3": Target(1)})
    assert {client_id: type(outcome.error) for client_id, outcome in outcomes.items()} == {
        "1": type(None),
        "2": StreamBehindError,
        "3": type(None),
    }
    assert outcomes["2"].record == world.record("2")


def test_an_unexpected_error_stays_with_its_client(world: World) -> None:
    """Whatever it is, the other clients of the group go on."""

    class Torn(Unreadable):
        def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
            if client_id == "2":
                raise EOFError("torn")
            return world.events.read(client_id, after=after, until=until)

    for client_id in ("1", "2", "3"):
        world.tell(client_id, Graded(segment="a"))
    targets = {client_id: Target(1) for client_id in ("1", "2", "3")}
    outcomes = Projector(clients, Torn(world.events), world.store).catch_up_all(targets)
    assert [type(outcomes[client_id].error) for client_id in targets] == [type(None), EOFError, type(None)]
    assert outcomes["2"].record == empty_record("2")
    check_whole(world, "3")


def test_clients_are_worked_on_side_by_side_where_a_store_takes_one_at_a_time(world: World) -> None:
    """A store that commits clients one by one is used from several threads."""
    for number in range(20):
        world.tell(str(number), Graded(segment="a"), Contacted(email="b"))
    single = Interposed(world.store)
    single.group = 1
    outcomes = Projector(clients, world.events, single, workers=4).catch_up_all({str(n): Target(2) for n in range(20)})
    assert all(outcome.announced and outcome.error is None for outcome in outcomes.values())
    for number in range(20):
        check_whole(world, str(number))


def test_a_store_out_of_reach_is_raised(world: World) -> None:
    """It has nothing to do with a client."""
    world.tell("1", Graded(segment="a"))

    def fail() -> None:
        raise StoreUnavailableError("test")

    with pytest.raises(StoreUnavailableError):
        Projector(clients, world.events, Interposed(world.store, before_commit=fail)).catch_up("1", Target(1))


def test_a_long_history_is_many_commits(world: World) -> None:
    """Each holds at most 90 events and is complete in itself."""
    for _ in range(3):
        world.tell("1", *[Graded(segment=str(number)) for number in range(70)])
    seen: list[int] = []

    def look() -> None:
        record = world.store.load(["1"])["1"].record
        seen.append(record.version if record else 0)

    Projector(clients, world.events, Interposed(world.store, before_commit=look)).catch_up("1", Target(210))
    assert seen == [0, 90, 180]
    check_whole(world)


def test_large_changes_make_smaller_commits(world: World) -> None:
    """The audit of a commit has to fit a transaction; old and new values count."""
    for number in range(8):
        world.tell("1", Tagged(tags=[str(number) * 90_000]))
    sizes: list[int] = []

    class Measured(Interposed):
        def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
            sizes.append(sum(len(str(entry.changes)) for commit in commits for entry in commit.audit))
            return super().commit(commits)

    Projector(clients, world.events, Measured(world.store)).catch_up("1", Target(8))
    check_whole(world)
    assert len(sizes) > 3
    assert max(sizes) < 600_000


def test_a_call_ends_when_its_time_is_up(world: World) -> None:
    """What was committed stays, and the next call goes on from there."""
    for _ in range(4):
        world.tell("1", *[Graded(segment=str(number)) for number in range(90)])
    ticks = iter(range(1000))
    projector = world.projector(budget=1.5, clock=lambda: next(ticks))
    with pytest.raises(OutOfTimeError) as caught:
        projector.catch_up("1", Target(360))
    assert (caught.value.at_least, caught.value.found) == (360, world.record("1").version)
    assert 0 < world.record("1").version < 360
    world.catch_up("1")
    check_whole(world)


# --- two at once ---------------------------------------------------------------------------------------------------


def test_two_projectors_lose_nothing(world: World) -> None:
    """Defect 6: the one whose record changed since it loaded starts again, so no update is lost or audited twice."""
    world.tell("1", Graded(segment="a"), Contacted(email="x"))
    other = once(lambda: world.catch_up("1"))
    projector = Projector(clients, world.events, Interposed(world.store, before_commit=other))
    world.tell("1", Contacted(phone="2"))
    assert projector.catch_up("1", Target(3)).values == {
        "root": {"segment": "a"},
        "contact": {"email": "x", "phone": "2"},
    }
    check_whole(world)
    assert [entry.seq for entry in world.outbox("1")] == [1]


def test_a_projector_that_always_loses_gives_up(world: World) -> None:
    """The client can be tried again; somebody else made progress each time."""
    world.tell("1", Graded(segment="a"))

    def overtake() -> None:
        world.catch_up("1")
        world.tell("1", Graded(segment="b"))

    with pytest.raises(CommitConflictError) as caught:
        Projector(clients, world.events, Interposed(world.store, before_commit=overtake)).catch_up("1", Target(1000))
    assert caught.value.rounds == 20


def test_many_threads_on_few_clients(world: World) -> None:
    """Eight projectors race for three clients while events arrive."""
    start = Barrier(8)
    errors: list[BaseException] = []

    def race(number: int) -> None:
        try:
            start.wait()
            projector = world.projector()
            for turn in range(6):
                client_id = str((number + turn) % 3)
                known = world.tell(client_id, Graded(segment=f"{number}.{turn}"), Contacted(email=f"{turn}"))
                projector.catch_up(client_id, Target(known[-1].version, known))
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            errors.append(error)

    threads = [Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    for client_id in ("0", "1", "2"):
        check_whole(world, client_id)
        seqs = [entry.seq for entry in world.outbox(client_id)]
        assert seqs == list(range(1, len(seqs) + 1))


# --- the publisher's doorbell --------------------------------------------------------------------------------------


def test_the_publisher_is_rung_after_the_commit(world: World) -> None:
    """For the clients that have something new to tell."""
    rung: list[tuple[str, int]] = []
    projector = world.projector(on_announced=lambda ids: rung.extend((each, len(world.outbox(each))) for each in ids))
    world.tell("1", Graded(segment="a"))
    world.tell("2", Graded(segment="standard"))
    projector.catch_up_all({"1": Target(1), "2": Target(1)})
    assert rung == [("1", 1)]


def test_a_publisher_that_fails_does_not_hold_up_projecting(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its sweep finds what it missed; the log names the kind of error only."""

    def fail(client_ids: Sequence[str]) -> None:
        raise ConnectionError("canary")

    world.tell("1", Graded(segment="a"))
    with caplog.at_level(logging.DEBUG):
        assert world.projector(on_announced=fail).catch_up("1", Target(1)).version == 1
    assert "ConnectionError" in caplog.text
    assert "canary" not in caplog.text
    assert len(world.outbox("1")) == 1
