"""Deliveries from the outside: what the target gets, what is written down, what comes next."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event, Thread

import pytest

from eventstore import SqliteDatabase, StoreUnavailableError
from integrations import (
    Deliverer,
    Delivery,
    DeliveryResult,
    Effect,
    IncompleteError,
    Integration,
    Outcome,
    UnknownDeliveryError,
    UnknownIntegrationError,
    Verdict,
)
from tests.integrations.world import OK, Client, Clock, Mail, TargetDouble, World, client, mail

CLAIM = 30.0
DENIED_PAUSE = 900.0


def retry(code: str = "http_500", *, effect: Effect = Effect.POSSIBLE, retry_after: float | None = None) -> Outcome:
    return Outcome(verdict=Verdict.RETRY, code=code, effect=effect, retry_after=retry_after)


UNANSWERED = retry("timeout", effect=Effect.PENDING)
REFUSED = Outcome(verdict=Verdict.FAILED, code="http_400", status=400)
DENIED = Outcome(verdict=Verdict.PAUSE, code="http_403", status=403)


def test_the_record_arrives_and_its_state_says_so(world: World) -> None:
    """A due delivery sends the mapped record with its seq and is done."""
    seq = world.announce("c1", "a@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    (sent,) = world.target.calls
    assert (sent.body, sent.delivery.seq, sent.delivery.client_id) == ({"email": "a@x"}, seq, "c1")
    state = world.state()
    assert (state.wanted, state.delivered, state.due_at, state.claimed_until) == (seq, seq, None, None)


def test_nothing_wanted_is_nothing_sent(world: World) -> None:
    """A doorbell for a client nobody announced, or that is done, calls nobody."""
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.IDLE
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.IDLE
    assert len(world.target.calls) == 1


def test_an_equal_body_is_not_sent_again(world: World) -> None:
    """A change that does not show in the mapping counts as delivered without a call and without a log entry."""
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    seq = world.announce("c1", "a@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.UNCHANGED
    assert len(world.target.calls) == 1
    assert world.state().delivered == seq
    assert len(world.log()) == 1


def test_the_reference_of_the_target_is_remembered(world: World) -> None:
    """What one call learns, the next one is told; an answer without a reference does not forget it."""
    world.target.script(Outcome(verdict=Verdict.DELIVERED, code="ok", remote="r-7"), OK)
    for email in ("a@x", "b@x", "c@x"):
        world.announce("c1", email)
        world.deliverer.deliver("c1", "crm")
    assert [sent.delivery.remote for sent in world.target.calls] == [None, "r-7", "r-7"]


def test_a_record_that_maps_to_nothing_is_retracted(world: World) -> None:
    """None after something was delivered is a retraction; afterwards the client starts anew."""
    world.target.script(Outcome(verdict=Verdict.DELIVERED, code="ok", remote="r-7"))
    for email in ("a@x", None, "b@x"):
        world.announce("c1", email)
        assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert world.target.bodies == [{"email": "a@x"}, None, {"email": "b@x"}]
    assert [sent.delivery.remote for sent in world.target.calls] == [None, "r-7", None]


def test_nothing_delivered_needs_no_retraction(world: World) -> None:
    """A record that never mapped to anything is done without a call."""
    world.announce("c1", None)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.UNCHANGED
    assert world.target.calls == []


def test_a_client_without_record_is_retracted(world: World) -> None:
    """A record that is gone leaves nothing at the target."""
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "b@x")
    del world.records["c1"]
    world.deliverer.deliver("c1", "crm")
    assert world.target.bodies == [{"email": "a@x"}, None]


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 2.0), (2, 4.0), (5, 32.0), (12, 900.0)])
def test_the_wait_grows_exponentially(world: World, clock: Clock, attempt: int, seconds: float) -> None:
    """Two seconds after the first attempt, twice as long after each, never more than 15 minutes."""
    world.announce("c1", "a@x")
    world.target.script(*[retry(effect=Effect.NONE)] * attempt)
    for _ in range(attempt):
        world.deliverer.deliver("c1", "crm")
        before = clock.now
        clock.now = before.fromisoformat(world.state().due_at or "")
    assert (clock.now - before).total_seconds() == seconds


def test_a_newer_announcement_does_not_hasten_a_retry(world: World, clock: Clock) -> None:
    """While the target is in trouble, changes of the record wait with it; then the newest state goes."""
    world.announce("c1", "a@x")
    world.target.script(retry(effect=Effect.NONE))
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "b@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.WAITING
    clock.advance(2.0)
    world.deliverer.deliver("c1", "crm")
    assert world.target.bodies == [{"email": "a@x"}, {"email": "b@x"}]


def test_a_refused_body_waits_for_another_one(world: World) -> None:
    """A refused body is listed and not sent again; a corrected record goes at once."""
    world.announce("c1", "bad")
    world.target.script(REFUSED)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.FAILED
    assert [state.client_id for state in world.store.failed("crm")] == ["c1"]
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.FAILED
    world.announce("c1", "bad")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.FAILED
    assert len(world.target.calls) == 1
    world.announce("c1", "good@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert list(world.store.failed("crm")) == []


def test_going_back_to_what_was_delivered_ends_a_failure(world: World) -> None:
    """If the record returns to what the target has, nothing is refused any more and nothing is sent."""
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "bad")
    world.target.script(REFUSED)
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "a@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.UNCHANGED
    assert world.state().failed_code is None
    assert len(world.target.calls) == 2


def test_retry_sends_a_refused_body_again(world: World) -> None:
    """The command tries the same body once more, as a new request for the target."""
    world.announce("c1", "bad")
    world.target.script(REFUSED)
    world.deliverer.deliver("c1", "crm")
    assert world.deliverer.retry("c1", "crm") is DeliveryResult.DELIVERED
    first, second = world.target.calls
    assert first.body == second.body
    assert first.delivery.idempotency_key != second.delivery.idempotency_key


def test_retry_does_not_wait(world: World) -> None:
    """The command also tries what would wait for its next attempt."""
    world.announce("c1", "a@x")
    world.target.script(retry(effect=Effect.NONE))
    world.deliverer.deliver("c1", "crm")
    assert world.deliverer.retry("c1", "crm") is DeliveryResult.DELIVERED


def test_retry_needs_something_to_retry(world: World) -> None:
    """A client the integration never heard of is an error."""
    with pytest.raises(UnknownDeliveryError):
        world.deliverer.retry("c1", "crm")


def test_an_unknown_integration_is_named(world: World) -> None:
    """A misspelt name is an error that lists the known ones."""
    with pytest.raises(UnknownIntegrationError, match="crm"):
        world.deliverer.deliver("c1", "cmr")


def test_a_repeated_call_has_the_same_key(world: World, clock: Clock) -> None:
    """A retry of the same body for the same announcement can be recognised by the target; another body is another call."""
    world.announce("c1", "a@x")
    world.target.script(UNANSWERED)
    world.deliverer.deliver("c1", "crm")
    clock.advance(CLAIM)
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "b@x")
    world.deliverer.deliver("c1", "crm")
    first, second, third = (sent.delivery.idempotency_key for sent in world.target.calls)
    assert first == second != third


def test_a_call_without_answer_keeps_its_claim(world: World, clock: Clock) -> None:
    """Such a call may still land: nothing is sent before its time is over, then the next one is told."""
    world.announce("c1", "a@x")
    world.target.script(UNANSWERED)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.RETRYING
    world.announce("c1", "b@x")
    clock.advance(CLAIM - 1)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.CLAIMED
    assert list(world.store.due("crm", before=clock.text)) == []
    clock.advance(1)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert [sent.delivery.uncertain for sent in world.target.calls] == [False, True]


@pytest.mark.parametrize("effect", [Effect.POSSIBLE, Effect.PENDING])
def test_after_doubt_an_equal_body_is_sent(world: World, clock: Clock, effect: Effect) -> None:
    """If a call may have changed the target, going back to the body delivered before it is sent, not skipped."""
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "b@x")
    world.target.script(retry(effect=effect))
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "a@x")
    clock.advance(CLAIM)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert world.target.bodies[-1] == {"email": "a@x"}
    assert not world.state().uncertain


def test_after_a_call_that_surely_had_no_effect_an_equal_body_is_skipped(world: World, clock: Clock) -> None:
    """A call that never left does not make the target's state doubtful."""
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "b@x")
    world.target.script(retry("unreachable", effect=Effect.NONE))
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "a@x")
    clock.advance(CLAIM)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.UNCHANGED


def test_a_create_without_answer_is_retracted_too(world: World, clock: Clock) -> None:
    """If the record maps to nothing after a create that may have landed, the target is told to drop it."""
    world.announce("c1", "a@x")
    world.target.script(UNANSWERED)
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", None)
    clock.advance(CLAIM)
    world.deliverer.deliver("c1", "crm")
    assert world.target.bodies == [{"email": "a@x"}, None]


def test_two_deliverers_make_one_call(world: World) -> None:
    """While one is calling, another process finds the claim and leaves."""
    world.announce("c1", "a@x")
    world.target.hold = Event()
    first = Thread(target=world.deliverer.deliver, args=("c1", "crm"))
    first.start()
    assert world.target.entered.wait(10)
    assert world.another_deliverer().deliver("c1", "crm") is DeliveryResult.CLAIMED
    world.target.hold.set()
    first.join(10)
    assert len(world.target.calls) == 1
    assert world.state().delivered == 1


def test_of_two_who_see_the_same_work_one_calls(database: SqliteDatabase, clock: Clock) -> None:
    """If both have read record and state before either claims, the claim decides; the other one leaves."""
    both = Barrier(2)

    def mapping(record: Client) -> Mail | None:
        both.wait(10)
        return mail(record)

    world = World(database, clock, mapping=mapping)
    world.announce("c1", "a@x")
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda each: each.deliver("c1", "crm"), [world.deliverer, world.another_deliverer()]))
    assert len(world.target.calls) == 1
    assert DeliveryResult.DELIVERED in results
    assert len(set(results)) == 2


def test_what_is_announced_during_a_call_follows_at_once(world: World) -> None:
    """If wanted moved on while the target was called, the same caller goes on with the newer record."""
    world.announce("c1", "a@x")
    world.target.during = lambda: world.announce("c1", "b@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    assert world.target.bodies == [{"email": "a@x"}, {"email": "b@x"}]
    assert [sent.delivery.seq for sent in world.target.calls] == [1, 2]
    assert world.state().delivered == 2


def test_a_client_that_changes_all_the_time_does_not_hold_its_caller(world: World) -> None:
    """After some rounds the caller leaves; the rest stays due."""
    emails = iter(range(100))

    def change() -> None:
        world.announce("c1", f"{next(emails)}@x")
        world.target.during = change

    change()
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.WAITING
    assert 1 < len(world.target.calls) < 20
    assert world.state().due_at is not None


def test_a_call_that_outlived_its_claim_is_made_good_for(world: World, clock: Clock) -> None:
    """If somebody else delivered meanwhile, the late call may have undone that, so one more send follows."""
    world.announce("c1", "a@x")

    def overtaken() -> None:
        clock.advance(CLAIM + 1)
        world.announce("c1", "b@x")
        assert world.another_deliverer().deliver("c1", "crm") is DeliveryResult.DELIVERED

    world.target.during = overtaken
    world.deliverer.deliver("c1", "crm")
    assert world.target.bodies == [{"email": "a@x"}, {"email": "b@x"}, {"email": "b@x"}]
    assert [entry.number for entry in world.log()] == [1, 2, 3]
    assert world.state().due_at is None


def test_a_call_that_outlived_its_claim_leaves_the_next_one_alone(world: World, clock: Clock) -> None:
    """While somebody else is calling, the end of the late call does not end that claim."""
    slow = TargetDouble()
    slow.hold = Event()
    integration = replace(world.integration, strategy=slow)
    other = Thread(target=world.another_deliverer(integrations=[integration]).deliver, args=("c1", "crm"))

    def overtaken() -> None:
        clock.advance(CLAIM + 1)
        other.start()
        assert slow.entered.wait(10)

    world.announce("c1", "a@x")
    world.target.during = overtaken
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.CLAIMED
    assert world.another_deliverer().deliver("c1", "crm") is DeliveryResult.CLAIMED
    slow.hold.set()
    other.join(10)
    assert len(slow.calls) == 2  # one more, since the late call may have landed after the first
    assert world.state().due_at is None


def test_a_client_erased_during_a_call_stays_erased(world: World, database: SqliteDatabase) -> None:
    """If the state is gone when the call ends, nothing of the client is written again."""

    def erase() -> None:
        database.write(lambda connection: connection.execute("DELETE FROM deliveries"))

    world.announce("c1", "a@x")
    world.target.during = erase
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.IDLE
    assert list(world.store.of_client("c1")) == []
    assert world.log() == []


def test_a_record_that_does_not_fit_its_schema_fails_that_client(database: SqliteDatabase, clock: Clock) -> None:
    """A stored record that the running schema refuses is listed, not raised to everybody."""
    world = World(database, clock)

    def read(_: str) -> Client:
        return Client.model_validate({"id": {"number": "1"}, "contact": {"email": 7}})

    deliverer = Deliverer([world.integration], world.store, world.store, read, clock=clock)
    world.announce("c1", "a@x")
    assert deliverer.deliver("c1", "crm") is DeliveryResult.FAILED
    assert world.state().failed_code == "record_invalid"
    assert deliverer.dry_run("c1", "crm") == ("failed", None, "record_invalid")


def test_a_mapping_that_raises_fails_that_client_alone(database: SqliteDatabase, clock: Clock) -> None:
    """An error in the mapping is listed with its kind, without its message; the next record is tried."""

    def picky(record: Client) -> Mail:
        if record.contact is None:
            raise LookupError("canary-value")
        return Mail(email=record.contact.email or "")

    world = World(database, clock, mapping=picky)
    world.announce("c1", None)
    world.announce("c2", "a@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.FAILED
    assert world.deliverer.deliver("c2", "crm") is DeliveryResult.DELIVERED
    (entry,) = world.log("c1")
    assert (entry.action, entry.verdict, entry.code, entry.answer) == ("map", "failed", "mapping_raised", "LookupError")
    assert world.state("c1").failed_code == "mapping_raised"
    world.announce("c1", "b@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED


def test_a_mapping_without_a_model_fails(database: SqliteDatabase, clock: Clock) -> None:
    """A mapping that gives a dict is told what was expected."""
    world = World(database, clock, mapping=lambda _: {"email": "a@x"})  # type: ignore[arg-type, return-value]  # the mistake under test
    world.announce("c1", "a@x")
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.FAILED
    assert "pydantic model" in world.log()[0].answer


def test_a_strategy_that_raises_is_retried(world: World, clock: Clock) -> None:
    """A bug in a strategy loses nothing: logged by its kind, the target's state in doubt, tried again."""
    world.announce("c1", "a@x")
    world.target.script(RuntimeError("canary-value"))
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.RETRYING
    (entry,) = world.log()
    assert (entry.code, entry.answer) == ("strategy_raised", "RuntimeError")
    clock.advance(CLAIM)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED


def test_every_attempt_leaves_an_entry(world: World, clock: Clock) -> None:
    """What was tried, when, for which announcement and with which result can be read later."""
    world.announce("c1", "a@x")
    world.target.script(retry(), REFUSED)
    world.deliverer.deliver("c1", "crm")
    clock.advance(10)
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", None)
    world.target.script(OK)
    world.deliverer.deliver("c1", "crm")
    assert [(e.number, e.seq, e.action, e.verdict, e.code) for e in world.log()] == [
        (1, 1, "send", "retry", "http_500"),
        (2, 1, "send", "failed", "http_400"),
        (3, 2, "retract", "delivered", "ok"),
    ]
    assert world.log()[0].body == '{"email":"a@x"}'


def test_the_log_masks_and_cuts(world: World) -> None:
    """Fields named like secrets and long texts do not fill the log."""
    world.announce("c1", "a@x")
    world.target.script(
        Outcome(
            verdict=Verdict.FAILED, code="http_400", answer='{"access_token": "canary", "text": "' + "x" * 9000 + '"}'
        )
    )
    world.deliverer.deliver("c1", "crm")
    (entry,) = world.log()
    assert "canary" not in entry.answer
    assert len(entry.answer) < 2100


def test_many_clients_are_swept(world: World) -> None:
    """The sweep delivers what no doorbell announced, up to its limit, and tells the results."""
    for number in range(30):
        world.announce(f"c{number}", f"{number}@x")
    assert world.deliverer.deliver_due(limit=20) == {"crm": {DeliveryResult.DELIVERED: 20}}
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.DELIVERED: 10}}
    assert world.deliverer.deliver_due() == {"crm": {}}
    assert len(world.target.calls) == 30


def test_a_sweep_ends_when_its_time_is_over(world: World, clock: Clock) -> None:
    """No client is begun after the given time; the others stay due."""
    for number in range(3):
        world.announce(f"c{number}", "a@x")
    world.target.during = lambda: clock.advance(60)
    assert world.deliverer.deliver_due(seconds=20) == {"crm": {DeliveryResult.DELIVERED: 1}}
    assert len(world.store.due("crm")) == 2


def test_a_slow_target_holds_few_threads(database: SqliteDatabase, clock: Clock) -> None:
    """Who finds all places taken leaves at once; those who have one take the client over."""
    world = World(database, clock, max_in_flight=1)
    world.announce("c1", "a@x")
    world.announce("c2", "b@x")
    world.target.hold = Event()
    first = Thread(target=world.deliverer.deliver, args=("c1", "crm"))
    first.start()
    assert world.target.entered.wait(10)
    assert world.deliverer.deliver("c2", "crm") is DeliveryResult.BUSY
    world.target.hold.set()
    first.join(10)
    assert world.state("c2").delivered == 1


def test_places_are_given_back_after_errors(database: SqliteDatabase, clock: Clock) -> None:
    """Trouble with the database does not use up the places for calls."""
    world = World(database, clock, max_in_flight=1)
    world.announce("c1", "a@x")

    world.unavailable = True
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            world.deliverer.deliver("c1", "crm")
    with pytest.raises(IncompleteError) as raised:
        world.deliverer.deliver_due()
    assert list(raised.value.failures) == ["c1"]
    world.unavailable = False
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED


def test_a_slow_integration_does_not_delay_another(world: World, database: SqliteDatabase) -> None:
    """While one target hangs, the sweep serves the other one."""
    slow, fast = TargetDouble(), TargetDouble()
    slow.hold = fast.entered
    integrations = [
        Integration(name=name, cares_about=("contact",), mapping=world.integration.mapping, strategy=strategy)
        for name, strategy in (("slow", slow), ("fast", fast))
    ]
    world.announce("c1", "a@x")
    world.store.raise_wanted("c1", {"slow": 1, "fast": 1}, at=world.clock.text)
    results = world.another_deliverer(integrations=integrations).deliver_due()
    assert results == {"slow": {DeliveryResult.DELIVERED: 1}, "fast": {DeliveryResult.DELIVERED: 1}}


def test_ringing_starts_a_new_integration(world: World) -> None:
    """Clients that were announced before the integration existed are sent when rung."""
    world.records["c1"] = world.records["c2"] = client("1", "a@x")
    assert world.deliverer.ring("crm", ["c1", "c2"]) == 2
    world.deliverer.deliver_due()
    assert len(world.target.calls) == 2


def test_ringing_sends_what_the_mapping_changed(world: World) -> None:
    """Without `resend` only bodies that differ from what was delivered are sent."""
    for client_id in ("c1", "c2"):
        world.announce(client_id, "a@x")
        world.deliverer.deliver(client_id, "crm")
    changed = Integration(
        name="crm",
        cares_about=("contact",),
        mapping=lambda record: Mail(email="new") if str(record.id) == "c1" else Mail(email="a@x"),
        strategy=world.target,
    )
    deliverer = world.another_deliverer(integrations=[changed])
    deliverer.ring("crm", ["c1", "c2"])
    assert deliverer.deliver_due() == {"crm": {DeliveryResult.DELIVERED: 1, DeliveryResult.UNCHANGED: 1}}


def test_resending_sends_everything(world: World) -> None:
    """With `resend` an equal body goes out, as a new request for the target."""
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    world.deliverer.ring("crm", ["c1"], resend=True)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
    first, second = world.target.calls
    assert first.body == second.body
    assert first.delivery.idempotency_key != second.delivery.idempotency_key


def test_ringing_during_a_call_is_not_lost(world: World) -> None:
    """A client rung while it is delivered is looked at again afterwards."""
    world.announce("c1", "a@x")
    world.target.during = lambda: world.deliverer.ring("crm", ["c1"], resend=True)
    world.deliverer.deliver("c1", "crm")
    assert world.target.bodies == [{"email": "a@x"}, {"email": "a@x"}]


def test_a_dry_run_tells_and_does_nothing(world: World) -> None:
    """What would be sent can be seen before it is."""
    world.announce("c1", "a@x")
    before = world.state()
    run = world.deliverer.dry_run("c1", "crm")
    assert (run.action, run.body, run.code) == ("send", {"email": "a@x"}, None)
    assert (world.target.calls, world.state(), world.log()) == ([], before, [])
    world.deliverer.deliver("c1", "crm")
    assert world.deliverer.dry_run("c1", "crm").action == "unchanged"
    assert world.deliverer.dry_run("c2", "crm").action == "unchanged"
    world.records["c1"] = world.records["c1"].evolve(contact=None)
    assert world.deliverer.dry_run("c1", "crm").action == "retract"


def test_order_never_goes_backwards(world: World, clock: Clock) -> None:
    """Whatever fails in between, the seqs a target sees of one client never decrease and delivered only grows."""
    outcomes = [UNANSWERED, OK, retry(), REFUSED, OK, UNANSWERED, retry(effect=Effect.NONE), OK]
    world.target.script(*outcomes)
    delivered = [0]
    for number in range(40):
        if number % 3 == 0:
            world.announce("c1", f"{number}@x")
        world.deliverer.deliver("c1", "crm")
        delivered.append(world.state().delivered)
        clock.advance(7)
    seqs = [sent.delivery.seq for sent in world.target.calls]
    assert seqs == sorted(seqs)
    assert delivered == sorted(delivered)
    assert world.target.bodies[-1] == {"email": "39@x"}


def test_what_a_strategy_is_told_is_complete(world: World) -> None:
    """A strategy gets client, seq, reference, key and doubt, and nothing else."""
    world.announce("c1", "a@x")
    world.deliverer.deliver("c1", "crm")
    delivery = world.target.calls[0].delivery
    assert delivery == Delivery("c1", 1, None, delivery.idempotency_key, uncertain=False)
    assert len(delivery.idempotency_key) == 32
