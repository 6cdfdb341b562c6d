"""Pauses: asked for by the target, by wrong credentials, by an operator; and the one call that ends them."""

from threading import Event, Thread

import pytest

from integrations import FOREVER, DeliveryResult, Effect, Outcome, Pause, Verdict
from tests.integrations.world import OK, Clock, World

THROTTLED = Outcome(verdict=Verdict.RETRY, code="http_429", retry_after=120.0, status=429)
DENIED = Outcome(verdict=Verdict.PAUSE, code="http_403", status=403)
DENIED_SECONDS = 900.0
CACHE = 5.0


def announce_many(world: World, count: int) -> None:
    for number in range(1, count + 1):
        world.announce(f"c{number}", f"{number}@x")


def pause(world: World) -> Pause:
    return world.store.load_pause("crm").pause


def test_retry_after_pauses_the_integration(world: World, clock: Clock) -> None:
    """A target that asks for peace gets it from all clients until its time is over."""
    announce_many(world, 3)
    world.target.script(THROTTLED)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.RETRYING
    assert world.deliverer.deliver("c2", "crm") is DeliveryResult.PAUSED
    clock.advance(119)
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.PAUSED: 1}}
    assert len(world.target.calls) == 1
    clock.advance(1)
    assert world.deliverer.deliver("c2", "crm") is DeliveryResult.DELIVERED
    assert pause(world) == Pause("crm")
    assert world.deliverer.deliver("c3", "crm") is DeliveryResult.DELIVERED


def test_a_pause_reaches_other_processes(world: World, clock: Clock) -> None:
    """Another process notices the pause, at the latest when its five seconds of memory are over."""
    announce_many(world, 3)
    other = world.another_deliverer()
    assert other.deliver("c3", "crm") is DeliveryResult.DELIVERED
    world.target.script(THROTTLED)
    world.deliverer.deliver("c1", "crm")
    clock.advance(CACHE)
    assert other.deliver("c2", "crm") is DeliveryResult.PAUSED


def test_denied_credentials_pause_and_fail_no_client(world: World, clock: Clock) -> None:
    """401 and 403 are nobody's fault: no client is listed as failed, everything waits and then arrives."""
    announce_many(world, 2)
    world.target.script(DENIED)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.PAUSED
    assert list(world.store.failed("crm")) == []
    assert pause(world).reason == "http_403"
    clock.advance(DENIED_SECONDS)
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.DELIVERED: 1}}
    clock.advance(10)
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.DELIVERED: 1}}
    assert {world.state(client_id).delivered for client_id in ("c1", "c2")} == {1}


def test_one_client_that_is_denied_does_not_starve_the_others(world: World, clock: Clock) -> None:
    """After the pause the others come first, so that each round brings them all along."""
    announce_many(world, 5)
    for _ in range(3):
        world.target.script(DENIED)
        world.deliverer.retry("c1", "crm")
        clock.advance(DENIED_SECONDS)
        world.deliverer.deliver_due()
        clock.advance(0.5)
    assert [world.state(f"c{number}").delivered for number in (2, 3, 4, 5)] == [1, 1, 1, 1]


def test_one_caller_probes_when_a_pause_ends(world: World, clock: Clock) -> None:
    """While the trial call is under way, everybody else stays away, in this process and in others."""
    announce_many(world, 3)
    other = world.another_deliverer()
    world.target.script(THROTTLED)
    world.deliverer.deliver("c1", "crm")
    other.deliver("c2", "crm")
    clock.advance(121)
    world.target.entered.clear()
    world.target.hold = Event()
    probe = Thread(target=world.deliverer.deliver, args=("c2", "crm"))
    probe.start()
    assert world.target.entered.wait(10)
    assert world.deliverer.deliver("c3", "crm") is DeliveryResult.PAUSED
    assert other.deliver("c3", "crm") is DeliveryResult.PAUSED
    world.target.hold.set()
    probe.join(10)
    assert world.deliverer.deliver("c3", "crm") is DeliveryResult.DELIVERED


def test_a_probe_is_won_by_one_of_those_who_remember_the_pause(world: World, clock: Clock) -> None:
    """A process that saw the pause a moment ago, and that it ends now, does not call beside the one that probes."""
    announce_many(world, 3)
    other = world.another_deliverer()
    world.target.script(THROTTLED)
    world.deliverer.deliver("c1", "crm")
    clock.advance(118)
    assert other.deliver("c3", "crm") is DeliveryResult.PAUSED
    clock.advance(3)
    world.target.during = lambda: results.append(other.deliver("c3", "crm"))
    results: list[DeliveryResult] = []
    assert world.deliverer.deliver("c2", "crm") is DeliveryResult.DELIVERED
    assert results == [DeliveryResult.PAUSED]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(verdict=Verdict.RETRY, code="http_503", effect=Effect.POSSIBLE),
        Outcome(verdict=Verdict.RETRY, code="http_429", retry_after=1.0),
        DENIED,
    ],
)
def test_a_failed_probe_keeps_the_pause(world: World, clock: Clock, outcome: Outcome) -> None:
    """A trial that the target cannot take leaves everybody waiting for the next one."""
    announce_many(world, 3)
    world.target.script(THROTTLED, outcome)
    world.deliverer.deliver("c1", "crm")
    clock.advance(121)
    world.deliverer.deliver("c2", "crm")
    clock.advance(20)
    assert world.deliverer.deliver("c3", "crm") is DeliveryResult.PAUSED
    assert len(world.target.calls) == 2
    clock.advance(DENIED_SECONDS)
    assert world.deliverer.deliver("c3", "crm") is DeliveryResult.DELIVERED
    assert pause(world) == Pause("crm")


def test_a_refused_body_ends_a_pause(world: World, clock: Clock) -> None:
    """A target that refuses one body is there for the others."""
    announce_many(world, 2)
    world.target.script(THROTTLED, Outcome(verdict=Verdict.FAILED, code="http_400"))
    world.deliverer.deliver("c1", "crm")
    clock.advance(121)
    world.deliverer.deliver("c2", "crm")
    assert pause(world) == Pause("crm")


def test_a_probe_without_a_call_is_given_back(world: World, clock: Clock) -> None:
    """If the probing client has nothing to send, the next one may try at once."""
    announce_many(world, 2)
    world.deliverer.deliver("c1", "crm")
    world.announce("c1", "1@x")
    world.target.script(THROTTLED)
    world.deliverer.deliver("c2", "crm")
    clock.advance(121)
    assert world.deliverer.deliver("c1", "crm") is DeliveryResult.UNCHANGED
    clock.advance(2)
    assert world.deliverer.deliver("c2", "crm") is DeliveryResult.DELIVERED


def test_a_probe_that_died_is_replaced(world: World, clock: Clock) -> None:
    """A process that ends during its trial call does not keep the pause up for ever."""
    announce_many(world, 3)
    world.target.script(THROTTLED, KeyboardInterrupt())  # ends the call like a killed process
    world.deliverer.deliver("c1", "crm")
    clock.advance(121)
    with pytest.raises(KeyboardInterrupt):
        world.deliverer.deliver("c2", "crm")
    assert world.deliverer.deliver("c3", "crm") is DeliveryResult.PAUSED
    clock.advance(30)
    assert world.deliverer.deliver("c3", "crm") is DeliveryResult.DELIVERED


def test_an_operator_pauses_until_resumed(world: World, clock: Clock) -> None:
    """What is announced meanwhile waits, however long, and arrives after `resume`."""
    world.deliverer.pause("crm", "maintenance")
    announce_many(world, 2)
    clock.advance(10 * 86_400)
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.PAUSED: 1}}
    assert pause(world) == Pause("crm", FOREVER, "maintenance")
    world.deliverer.resume("crm")
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.DELIVERED: 2}}


def test_an_operator_outranks_the_target(world: World) -> None:
    """A pause by an operator during a call is neither shortened by Retry-After nor ended by success."""
    announce_many(world, 2)
    world.target.during = lambda: world.another_deliverer().pause("crm", "stop")
    world.target.script(THROTTLED)
    world.deliverer.deliver("c1", "crm")
    assert pause(world) == Pause("crm", FOREVER, "stop")


def test_an_operator_outranks_a_probe(world: World, clock: Clock) -> None:
    """A trial call that succeeds does not end a pause that an operator set during it."""
    announce_many(world, 2)
    world.target.script(THROTTLED, OK)
    world.deliverer.deliver("c1", "crm")
    clock.advance(121)
    world.target.during = lambda: world.another_deliverer().pause("crm", "stop")
    world.deliverer.deliver("c2", "crm")
    assert pause(world).reason == "stop"


def test_resume_ends_a_pause_of_the_target(world: World) -> None:
    """An operator who knows better need not wait."""
    announce_many(world, 2)
    world.target.script(THROTTLED)
    world.deliverer.deliver("c1", "crm")
    world.deliverer.resume("crm")
    assert world.deliverer.deliver("c2", "crm") is DeliveryResult.DELIVERED


def test_a_pause_of_one_integration_is_not_that_of_another(world: World) -> None:
    """Pauses are kept by integration."""
    world.deliverer.pause("crm", "stop")
    assert world.store.load_pause("mailing").pause.until is None
