import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Barrier, Thread

import pytest

from eventstore import SAFE_INTEGER, EventStore, RecordedEvent, StoreUnavailableError
from projections import (
    MAX_RECORD_BYTES,
    Commit,
    CommitConflictError,
    Loaded,
    OutOfTimeError,
    Parked,
    Projection,
    Projector,
    Record,
    StreamBehindError,
    Target,
    empty_record,
    fold,
    retry_parked,
)
from tests.support.clients import Client, Contacted, Graded, Scored, Tagged, add_rules, clients, events, fact
from tests.support.interposing import Interposed, once
from tests.support.projecting import World, oracle


class Unreadable:
    """An event store of which only the heads can be read."""

    def __init__(self, store: EventStore) -> None:
        self.append, self.head = store.append, store.head

    def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        raise AssertionError("the stream was read")


def parked_of(record: Record) -> Parked:
    assert record.parked is not None
    return record.parked


def check_whole(world: World, client_id: str = "1") -> None:
    """Record and audit hold every event of the stream, once."""
    stream = world.stream(client_id)
    record = world.record(client_id)
    assert (record.version, record.parked) == (len(stream), None)
    assert record.values == oracle(stream)
    assert [entry.version for entry in world.trail(client_id)] == list(range(1, len(stream) + 1))


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
        def commit(self, commits: Sequence[Commit]) -> Sequence[Loaded | None]:
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


# --- parked clients ------------------------------------------------------------------------------------------------


def test_a_client_parks_at_the_event_that_fails(world: World) -> None:
    """What came before is committed and announced; what comes later waits."""
    world.tell("1", Graded(segment="a"), Scored(score=-1), Graded(segment="b"))
    record = world.catch_up("1")
    parked = parked_of(record)
    assert (record.version, record.values) == (1, {"root": {"segment": "a"}})
    assert parked[:4] == (2, 3, "rule_raised", ("scored: raised ValueError",))
    assert [entry.version for entry in world.outbox("1")] == [1]
    assert world.store.parked() == [record]


def test_who_passes_a_parked_client_leaves_word(world: World) -> None:
    """`waiting_for` rises to the version that is passed, never falls."""
    world.tell("1", Scored(score=-1))
    world.catch_up("1")
    world.tell("1", Graded(segment="a"), Graded(segment="b"))
    assert parked_of(world.projector().catch_up("1", Target(3))).waiting_for == 3
    assert parked_of(world.projector().catch_up("1", Target(2))).waiting_for == 3


def test_nobody_makes_a_record_wait_for_what_does_not_exist(world: World) -> None:
    """A query may ask for any version; the record must not wait for it, and the caller is told."""
    world.tell("1", Scored(score=-1))
    for _ in range(2):
        with pytest.raises(StreamBehindError):
            world.projector().catch_up("1", Target(999))
        assert parked_of(world.record("1")).waiting_for == 1


def test_the_event_that_is_passed_while_the_client_is_unparked_is_not_lost(tmp_path: Path) -> None:
    """One projector retries the client while another passes a new event: between them, both versions are reached."""
    fixed = Projection("clients", Client, events, version=1)
    add_rules(fixed, but=Scored)
    fixed.on(Scored)(lambda record, event: record.evolve(score=event.score))
    with closing(World(tmp_path)) as world, closing(World(tmp_path, fixed)) as repaired:
        world.tell("1", Scored(score=-1))
        world.catch_up("1")

        def pass_by() -> None:
            world.tell("1", Graded(segment="late"))
            world.projector().catch_up("1", Target(2))

        store = Interposed(repaired.store, before_commit=once(pass_by))
        record = Projector(fixed, repaired.events, store).catch_up("1", Target(0, retry=True))
        assert (record.version, record.parked) == (2, None)
        check_whole(repaired)


def test_an_interrupted_way_out_of_parking_is_taken_up_again(world: World, tmp_path: Path) -> None:
    """Events behind a parked client were passed by every cursor; so the record says that it is not there yet."""
    fixed = Projection("clients", Client, events, version=1)
    add_rules(fixed, but=Scored)
    fixed.on(Scored)(lambda record, event: record.evolve(score=event.score))
    world.tell("1", Scored(score=-1))
    for _ in range(3):
        world.tell("1", *[Graded(segment=str(number)) for number in range(90)])
    world.follower().sweep()
    assert parked_of(world.record("1")).waiting_for == 271
    with closing(World(tmp_path, fixed)) as repaired:
        calls = iter(range(10))

        def die() -> None:
            if next(calls) == 2:
                raise StoreUnavailableError("killed")

        dying = Projector(fixed, repaired.events, Interposed(repaired.store, before_commit=die))
        with pytest.raises(StoreUnavailableError):
            retry_parked(dying, repaired.store)
        parked = parked_of(repaired.record("1"))
        assert (repaired.record("1").version, parked.code, parked.waiting_for) == (180, "catching_up", 271)
        assert retry_parked(repaired.projector(), repaired.store) == (1, 1)
        check_whole(repaired)


def test_an_interrupted_refold_is_taken_up_again(world: World) -> None:
    """A record that is folded again in place is not taken for up to date before it is."""
    for _ in range(3):
        world.tell("1", *[Graded(segment=str(number)) for number in range(90)])
    world.follower().sweep()
    calls = iter(range(10))

    def die() -> None:
        if next(calls) == 1:
            raise StoreUnavailableError("killed")

    with pytest.raises(StoreUnavailableError):
        Projector(clients, world.events, Interposed(world.store, before_commit=die)).catch_up(
            "1", Target(0, refold=True)
        )
    assert (world.record("1").version, parked_of(world.record("1")).code) == (90, "catching_up")
    assert retry_parked(world.projector(), world.store) == (1, 1)
    check_whole(world)


def test_other_code_retries_by_itself(world: World, tmp_path: Path) -> None:
    """The sweep of code with another fingerprint tries what older code could not digest."""
    fixed = Projection("clients", Client, events, version=1)
    add_rules(fixed, but=Scored)
    fixed.on(Scored)(lambda record, event: record.evolve(score=event.score))
    world.tell("1", Scored(score=-1), Graded(segment="a"))
    world.catch_up("1")
    assert retry_parked(world.projector(), world.store) == (0, 0)
    with closing(World(tmp_path, fixed)) as repaired:
        assert retry_parked(repaired.projector(), repaired.store) == (1, 1)
        check_whole(repaired)


def test_a_retry_by_hand_folds_again(world: World) -> None:
    """With the same code the client parks again, and is counted as tried."""
    world.tell("1", Scored(score=-1))
    world.catch_up("1")
    assert retry_parked(world.projector(), world.store, every=True) == (1, 0)
    assert parked_of(world.record("1")).code == "rule_raised"


def test_retrying_goes_through_all_parked_clients(world: World) -> None:
    """However many pages they take."""
    for number in range(230):
        world.tell(f"{number:03}", Scored(score=-1))
    world.follower().sweep()
    assert retry_parked(world.projector(), world.store, every=True) == (230, 0)


def test_a_record_that_grows_too_large_parks(world: World) -> None:
    """The event that makes it too large waits; those before it are in."""
    half = MAX_RECORD_BYTES // 2
    world.tell("1", Tagged(tags=["a" * half]), Graded(segment="b"))
    world.tell("1", Contacted(email="c" * half))
    record = world.catch_up("1")
    parked = parked_of(record)
    assert (record.version, parked.version, parked.code) == (2, 3, "record_too_large")
    assert parked.problems == (f"(whole): the record would take more than {MAX_RECORD_BYTES} bytes",)


def test_a_number_that_a_double_cannot_hold_parks(tmp_path: Path) -> None:
    """A rule may compute what no event may carry."""
    squared = Projection("clients", Client, events, version=1)
    squared.on(Scored)(lambda record, event: record.evolve(score=SAFE_INTEGER + int(event.score)))
    with closing(World(tmp_path, squared)) as world:
        world.tell("1", Scored(score=0), Scored(score=1))
        record = world.catch_up("1")
        assert (record.version, parked_of(record).code) == (1, "invalid_value")
        assert parked_of(record).problems[0].startswith("score: ")


def test_a_record_that_the_schema_cannot_read_parks(world: World, tmp_path: Path) -> None:
    """Code whose schema changed under its version says so, and goes on when it can read the record again."""

    class Stricter(Client):
        segment: int = 0  # type: ignore[assignment]  # that is what is wrong with it

    stricter = Projection("clients", Stricter, events, version=1)
    world.tell("1", Graded(segment="a"))
    world.catch_up("1")
    world.tell("1", Graded(segment="b"))
    with closing(World(tmp_path, stricter)) as broken:
        parked = parked_of(broken.projector().catch_up("1", Target(2)))
        assert (parked.version, parked.waiting_for, parked.code) == (1, 2, "unreadable_record")
        assert [problem.split(": ")[0] for problem in parked.problems] == ["segment"]
    assert retry_parked(world.projector(), world.store) == (1, 1)
    check_whole(world)


def test_an_unreadable_record_without_later_events_goes_on_too(world: World, tmp_path: Path) -> None:
    """There is no next event to wait for."""

    class Stricter(Client):
        segment: int = 0  # type: ignore[assignment]  # that is what is wrong with it

    world.tell("1", Graded(segment="a"))
    world.catch_up("1")
    with closing(World(tmp_path, Projection("clients", Stricter, events, version=1))) as broken:
        assert parked_of(broken.projector().catch_up("1", Target(0))).waiting_for == 1
    assert retry_parked(world.projector(), world.store) == (1, 1)
    check_whole(world)


def test_a_client_id_that_is_none_of_the_schema_parks(world: World) -> None:
    """Events may have been appended under a text that the schema's id class does not parse."""
    world.tell("1.2.3", Graded(segment="a"))
    parked = parked_of(world.catch_up("1.2.3"))
    assert (parked.version, parked.waiting_for, parked.code, parked.problems) == (0, 1, "invalid_client_id", ())


def test_a_history_restored_to_an_older_state_parks(world: World, tmp_path: Path) -> None:
    """The record names an event that the stream does not have; nothing is folded on top of it."""
    world.tell("1", Graded(segment="a"), Graded(segment="b"))
    world.catch_up("1")
    restored = World(tmp_path / "restored")
    with closing(restored):
        restored.tell("1", fact(Graded(segment="a")), Graded(segment="other"), Graded(segment="c"))
        forked = Projector(clients, restored.events, world.store)
        record = forked.catch_up("1", Target(3))
        assert (record.version, parked_of(record)[:4]) == (2, (2, 3, "history_forked", ()))
        assert record.values == {"root": {"segment": "b"}}
        mended = forked.catch_up("1", Target(0, refold=True))
        assert (mended.version, mended.parked, mended.values) == (3, None, {"root": {"segment": "c"}})


def test_a_history_that_lost_its_end_parks(world: World, tmp_path: Path) -> None:
    """A stream shorter than the record is a fork, too; folding again takes the record back to what is there."""
    world.tell("1", Graded(segment="a"), Graded(segment="b"))
    world.catch_up("1")
    with closing(World(tmp_path / "restored")) as restored:
        restored.tell("1", Graded(segment="a"))
        shorter = Projector(clients, restored.events, world.store)
        assert parked_of(shorter.catch_up("1", Target(0))).code == "history_forked"
        assert shorter.catch_up("1", Target(0, refold=True)).version == 1


def test_folding_again_mends_a_damaged_record(world: World) -> None:
    """Record and audit are written anew from the history."""
    stream = world.tell("1", Contacted(email="a"), Graded(segment="b"))
    good = world.catch_up("1")
    loaded = world.store.load(["1"])["1"]
    audit = [entry._replace(changes=()) for entry in world.trail("1")]
    world.store.commit([Commit(loaded, good._replace(values={"root": {"segment": "damaged"}}), audit)])
    assert world.projector().catch_up("1", Target(0, refold=True)) == good
    assert tuple(world.trail("1")) == fold(clients, empty_record("1"), stream).audit
