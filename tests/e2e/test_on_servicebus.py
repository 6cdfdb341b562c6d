"""The whole flow with its announcements on Service Bus, while broker and network fail and targets hang."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import orjson
import pytest

from functions_app import Delivered, Domain, Runtime
from functions_app.bus_entities import bus_entities
from functions_app.provision_bus import provision_bus
from functions_app.sample import domain as sample
from functions_app.sample.targets import to_crm
from integrations import (
    Integration,
    IntegrationError,
    RESTIntegration,
    ServiceBusSubscriptions,
    ServiceBusTopic,
    open_administration,
)
from tests.e2e.test_flow import accept, contact
from tests.support.flow import Clock, open_flow, serving
from tests.support.rest_target import Fault, RestTarget
from tests.support.servicebus import EMPTY
from tests.support.waiting import wait_until
from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.errors import LOCK_LOST

pytestmark = [pytest.mark.e2e, pytest.mark.servicebus_wire]

TOPIC = sample.projection.name
PEOPLE = range(1, 6)
CLAIM = timedelta(seconds=31)  # after which a call without answer can no longer land
BUSY_FOR_GOOD = 5  # more often than the SDK tries


@pytest.fixture
def broker() -> Iterator[Broker]:
    with leaked_sockets_ignored(), fast_polling(), Broker(EMPTY) as broker:
        yield broker


def path(subscription: str) -> str:
    return f"{TOPIC}/subscriptions/{subscription}"


def integration(name: str, target: RestTarget, *, creates: bool = False, timeout: float = 5.0) -> Integration:
    """Sends whole persons, under our id or under one that the target gives."""
    create, update = ("POST /people", "PUT /people/{remote}") if creates else (None, "PUT /people/{client_id}")
    lookup = "GET /people?number={number}" if creates else None
    rest = RESTIntegration(
        target.url, create=create, update=update, lookup=lookup, timeout=timeout, sleep=lambda _: None
    )
    return Integration(name=name, cares_about=("identity", "contact"), mapping=to_crm, strategy=rest)


def domain(*integrations: Integration) -> Domain:
    """The sample's events and rules with other targets."""
    return Domain(
        events=sample.events, projection=sample.projection, receivers=sample.receivers, integrations=integrations
    )


@pytest.fixture
def opened(broker: Broker, data: Path) -> Iterator[Callable[[Domain, Clock], Runtime]]:
    """Opens a domain on SQLite with its topic on the broker, provisioned with a subscription for an outsider."""
    topic = ServiceBusTopic(broker.connection_string, TOPIC)
    subscriptions = ServiceBusSubscriptions(broker.connection_string, TOPIC)

    def open_domain(domain: Domain, clock: Clock) -> Runtime:
        outsider = integration("outsider", RestTarget())
        with open_administration(broker.connection_string) as administration:
            provision_bus(administration, bus_entities(TOPIC, [*domain.integrations, outsider]))
        return open_flow(data, domain, clock=clock, topic=topic, subscriptions=subscriptions)

    yield open_domain
    topic.close()
    subscriptions.close()


class Run:
    """A run of changes and faults drawn from a seed, one after the other in one thread."""

    def __init__(
        self, broker: Broker, runtime: Runtime, clock: Clock, targets: Mapping[str, RestTarget], seed: int
    ) -> None:
        self.broker, self.runtime, self.clock, self.targets = broker, runtime, clock, targets
        self.random = Random(seed)
        self.emails: dict[int, str] = {}
        self.order = list(range(len(self.troubles())))

    def step(self, number: int) -> None:
        """One change, some trouble, and whatever doorbells ring."""
        person, email = self.random.choice(PEOPLE), f"{number}@x.example"
        change = {"change_id": f"c-{number}", "person": person, "contact": {"email": email}}
        when = f"2026-03-01T12:{number:02}:00Z"
        self.runtime.intake.accept(self.runtime.domain.source("crm"), Delivered({**change, "changed_at": when}))
        self.emails[person] = email
        if number % len(self.order) == 0:
            self.random.shuffle(self.order)
        self.troubles()[self.order[number % len(self.order)]]()
        self.runtime.follower.sweep()  # publishes as it commits; what fails there waits in the outbox
        for name in self.targets:
            self.ring(name)
        if self.random.random() < 0.3:
            self.later()

    def troubles(self) -> list[Callable[[], object]]:
        """What can happen in a step."""
        name, target = self.random.choice(list(self.targets.items()))
        return [
            lambda: None,
            lambda: self.broker.inject("stored", "drop", TOPIC),
            self.busy,
            lambda: self.broker.inject("settle", "reject", path(name), condition=LOCK_LOST),
            lambda: self.broker.inject("settled", "drop", path(name)),
            self.broker.restart,
            lambda: self.broker.expire_locks(path(name)),
            self.purge,
            lambda: target.script(Fault(drop="after")),
            lambda: target.script(Fault(status=503)),
        ]

    def busy(self) -> None:
        """The service refuses a send more often than the SDK tries."""
        self.broker.inject("send", "reject", TOPIC, times=BUSY_FOR_GOOD)

    def purge(self) -> None:
        """Every doorbell that was rung is lost."""
        for name in self.targets:
            self.broker.purge(path(name))

    def ring(self, name: str) -> None:
        """Deliver what the integration's subscription announces."""
        if self.broker.messages(path(name)):
            subscriptions = self.runtime.backend.subscriptions
            with suppress(IntegrationError):  # it comes again
                for received in subscriptions.receive(name, limit=10):
                    self.runtime.deliverer.deliver(received.message.session_id, name)
                    subscriptions.complete(received)

    def later(self) -> None:
        """The timers run after a while; trouble with the topic leaves the rest to the next time."""
        self.clock.ahead += 3 * CLAIM
        with suppress(IntegrationError):
            self.runtime.sweep()
        self.runtime.deliverer.deliver_due()

    def settle(self) -> None:
        """The trouble is over, and the timers have run a few times."""
        self.broker.clear_faults()
        for _ in range(4):
            self.later()


def announced(broker: Broker) -> dict[str, list[dict[str, Any]]]:
    """What the outsider was told, by client, in the order in which it lies in the subscription."""
    subscriptions = ServiceBusSubscriptions(broker.connection_string, TOPIC)
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    while received := subscriptions.receive("outsider", limit=100):
        for each in received:
            told[each.message.session_id].append(orjson.loads(each.message.body)["data"])
            subscriptions.complete(each)
    subscriptions.close()
    return told


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_doubled_or_reversed(
    broker: Broker, opened: Callable[[Domain, Clock], Runtime], seed: int
) -> None:
    """Cut sends, a busy service, lost locks, restarts, purged subscriptions, lost answers: all end at the latest record."""
    clock = Clock()
    with (
        RestTarget(honour_idempotency=True, honour_client_seq=True) as crm,
        RestTarget(honour_idempotency=True, honour_client_seq=True) as billing,
    ):
        targets = {"crm": crm, "billing": billing}
        both = [integration(name, target, creates=name == "crm") for name, target in targets.items()]
        runtime = opened(domain(*both), clock)
        run = Run(broker, runtime, clock, targets, seed)
        for number in range(len(run.order)):
            run.step(number)
        run.busy()  # so that something is left to the sweep
        run.step(len(run.order))
        run.settle()

        records = {str(person): email for person, email in run.emails.items()}
        for client_id, email in records.items():
            assert runtime.reader.current(client_id).model.contact.email == email  # type: ignore[attr-defined]
        for target in targets.values():
            people = list(target.items("people").values())
            assert {str(item["number"]): item["email"] for item in people} == records
            assert len(people) == len(records)
            seqs, effects = defaultdict(list), defaultdict(set)
            for request in target.requests:
                if request.method == "GET":
                    continue  # a look-up
                seqs[request.json["number"]].append(int(request.headers["client-seq"]))
                effects[request.headers["idempotency-key"]].add(request.body)
            assert all(each == sorted(each) for each in seqs.values())
            assert all(len(bodies) == 1 for bodies in effects.values())
        told = announced(broker)
    assert set(told) == set(records)
    for client_id, messages in told.items():
        heard: list[dict[str, Any]] = []
        for each in messages:
            if not heard or each["seq"] > heard[-1]["seq"]:
                heard.append(each)
        assert [each["seq"] for each in heard] == list(range(1, len(heard) + 1))
        assert heard[-1]["changed"]["contact"]["email"] == records[client_id]


def test_a_target_that_hangs_delays_nobody(broker: Broker, opened: Callable[[Domain, Clock], Runtime]) -> None:
    """Calls that hang to their timeout, then 429 with Retry-After, then recovery: all others go on, nothing is lost."""
    clock, release, people = Clock(), Event(), range(1, 13)
    with RestTarget(honour_client_seq=True) as slow, RestTarget() as quick:
        two = domain(integration("slow", slow, timeout=1.0), integration("quick", quick))
        runtime = opened(two, clock)
        with serving(runtime, loops=True) as flow:
            slow.script(*[Fault(hold=release) for _ in people])
            for person in people:
                accept(flow, contact(f"a-{person}", f"a{person}@x.example", person=person))
            wait_until("the other target has them all", lambda: len(quick.items("people")) == len(people))
            assert slow.items("people") == {}
            wait_until("every call has hung", lambda: len(slow.requests) == len(people))
            wait_until("every call has timed out", lambda: waiting(runtime, "slow") == len(people))
            release.set()
            slow.wait_until_idle()

            slow.script(Fault(status=429, headers={"Retry-After": "60"}), Fault(status=429))
            for person in people:
                accept(flow, contact(f"b-{person}", f"b{person}@x.example", day=2, person=person))
            clock.ahead += CLAIM
            wait_until("it is paused", lambda: runtime.backend.deliveries.load_pause("slow").pause.until is not None)
            wait_until("the other has them all again", lambda: emails(quick) == {f"b{n}@x.example" for n in people})

            def recovered() -> bool:
                clock.ahead += CLAIM
                return emails(slow) == {f"b{n}@x.example" for n in people}

            wait_until("it has the latest of all", recovered)
            assert flow.get("lag").json()["deliveries"]["slow"]["failed"] == 0
    for name in ("slow", "quick"):
        assert broker.messages(f"{path(name)}/$deadletterqueue") == []


def emails(target: RestTarget) -> set[str]:
    return {item["email"] for item in target.items("people").values()}


def waiting(runtime: Runtime, name: str) -> int:
    """States whose last call has ended without an answer."""
    return sum(state.attempts > 0 for state in runtime.backend.deliveries.due(name, limit=1000))
