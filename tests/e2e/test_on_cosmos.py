"""The whole flow with everything that is kept on Cosmos DB; the topic is the local one."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventstore import Sealed, check_sealed, open_seal, write_seal
from functions_app import Delivered, Runtime, Settings, telemetry
from functions_app.demo_target import DemoTarget
from functions_app.embedded import open_embedded
from functions_app.intake import Trace
from functions_app.lag import measure_lag
from functions_app.sample import domain
from functions_app.verifying import all_clients, verify_clients
from projections import (
    PROJECTIONS_CONTAINER,
    CosmosProjectionStore,
    Mend,
    Projection,
    Projector,
    Rebuild,
    RecordReader,
    Target,
)
from tests.support.cosmos import Containers, containers_in, on_cosmos
from tests.support.newer import louder
from tests.support.telemetry import Exported, exported
from tests.wire.cosmos import CosmosServer

__all__ = ["exported"]

pytestmark = [pytest.mark.e2e, pytest.mark.cosmos_wire]


def change(number: int, person: int, **parts: Any) -> Delivered:
    """A change in the CRM."""
    when = f"2026-11-02T09:{number:02}:00Z"
    return Delivered({"change_id": f"crm-{number}", "person": person, "changed_at": when, **parts})


@pytest.fixture
def server(database: str | None) -> Iterator[CosmosServer | None]:
    """The wire server, None if an account is named."""
    if database is not None:
        yield None
        return
    with CosmosServer(ranges=3) as server:
        yield server


@pytest.fixture
def containers(server: CosmosServer | None, database: str | None) -> Iterator[Containers]:
    """Containers in which nothing is stored yet."""
    if server is None:
        with containers_in(str(database)) as containers:
            yield containers
        return
    with Containers(server) as containers:
        yield containers


@pytest.fixture
def target() -> Iterator[DemoTarget]:
    target = DemoTarget(0)
    with target.running():
        yield target


@pytest.fixture
def runtime(containers: Containers, target: DemoTarget, tmp_path: Path) -> Runtime:
    settings = {
        "CRM_URL": target.url,
        "CRM_CLIENT_ID": "client-flow",
        "CRM_CLIENT_SECRET": "secret",
        "MAILING_URL": target.url,
        "MAILING_KEY": "key",
    }
    backend = on_cosmos(open_embedded(tmp_path, domain), containers.open, domain.projection)
    return Runtime(domain, Settings(settings), backend)


def test_from_a_change_to_the_call(runtime: Runtime, server: CosmosServer | None, target: DemoTarget) -> None:
    """Append, project across a split, publish, deliver, park, annul and retract: as on one machine."""
    crm = domain.source("crm")
    name, contact = {"given": "Ana", "family": "Diaz"}, {"email": "ana@x.example"}
    for person in range(1, 6):
        consent = {"channel": "email", "given": True}
        first = runtime.intake.accept(crm, change(person, person, name=name, contact=contact, consent=consent))
        assert [(accepted.event.version, accepted.duplicate) for accepted in first] == [
            (1, False),
            (2, False),
            (3, False),
        ]
    again = runtime.intake.accept(
        crm, change(1, 1, name=name, contact=contact, consent={"channel": "email", "given": True})
    )
    assert all(accepted.duplicate for accepted in again)
    assert runtime.sweep().done
    if server is not None:  # nobody can tell an account when to split
        server.split("flow", "events", "0")
    runtime.intake.accept(crm, change(11, 1, consent={"channel": "email", "given": False}))
    runtime.intake.accept(crm, change(12, 2, consent={"channel": "post", "given": True}))
    runtime.intake.accept(crm, change(13, 2, contact={"email": "new@x.example"}))
    assert runtime.sweep().done

    (parked,) = runtime.backend.projections.parked()
    assert (parked.client_id, parked.version) == ("2", 3)
    assert runtime.annul("2", 4, reason="no such channel", by="a test").parked is None
    runtime.deliverer.deliver_due()

    assert runtime.sweep().events == 1  # the annulment
    assert not measure_lag(runtime).events
    assert sorted(person["number"] for person in target.people.values()) == [1, 2, 3, 4, 5]
    assert {key: subscriber["email"] for key, subscriber in target.subscribers.items()} == {
        "2": "new@x.example",
        **{str(person): "ana@x.example" for person in (3, 4, 5)},
    }
    assert len(runtime.reader.audit("1").entries) == 4
    assert runtime.reader.as_of_version("1", 3).record.values["consent"] == {"email": True}
    assert runtime.reader.current("1").record.values["consent"] == {"email": False}


COSTS = {
    # stage: requests, and the most request units they are estimated at; a change is three events
    "append, known client": (1, 18),
    "append, unknown client": (2, 20),
    "append, duplicate": (2, 5),
    "catch up, three events from the doorbell": (2, 60),
    "catch up, three events from the stream": (3, 65),
    "publish": (
        4,
        40,
    ),  # read the outbox; read and raise what is owed, for both integrations together; empty the outbox
    "deliver crm": (4, 45),
    "deliver mailing": (4, 45),
    "record": (1, 4),
    "audit page": (1, 30),
}


def test_one_trace_goes_through(runtime: Runtime, exported: Exported) -> None:
    """From the request to the call, over what Cosmos DB keeps of events, outbox and deliveries."""
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with telemetry.received("crm", {"traceparent": caller}):
        trace = Trace(traceparent=telemetry.current_traceparent())
        runtime.intake.accept(domain.source("crm"), change(1, 1, contact={"email": "ana@x.example"}), trace)
    assert runtime.sweep().done
    for received in runtime.backend.subscriptions.receive("crm", limit=10):
        runtime.deliverer.answer("1", "crm", received.message.body)
    spans = {span.name: f"{span.context.trace_id:032x}" for span in exported.spans}
    names = ("receive crm", "append", "catch-up", "publish", "deliver crm", "POST")
    assert {spans[name] for name in names} == {caller.split("-")[1]}


def test_a_read_costs_one_request_more_for_its_entry(runtime: Runtime, server: CosmosServer | None) -> None:
    """The access log takes one request, wherever the reference of the client lies."""
    if server is None:
        pytest.skip("an account does not count the requests")
    runtime.accesses.record("key", "record", "1")
    with server.meter.measure() as used:
        runtime.accesses.record("key", "record", "2")
    assert used.data_requests.total() == 1
    assert [entry.client_ref for entry in runtime.backend.access.entries()] == [
        runtime.references.client("2"),
        runtime.references.client("1"),
    ]


class Stages:
    """One round of the flow for client 1, stage by stage."""

    def __init__(self, runtime: Runtime, server: CosmosServer) -> None:
        self.runtime, self.server = runtime, server
        self.projector = Projector(domain.projection, runtime.backend.events, runtime.backend.projections)
        self.crm = domain.source("crm")
        self.number = 0

    def cost(self, work: Callable[[], object]) -> tuple[int, float]:
        """Requests and request units of some work."""
        with self.server.meter.measure() as used:
            work()
        return used.data_requests.total(), used.total_request_units

    def change(self, person: int = 1) -> Delivered:
        """Another change of three facts."""
        self.number += 1
        name, contact = {"given": f"Ana {self.number}", "family": "D"}, {"email": f"a{self.number}@x.example"}
        consent = {"channel": "email", "given": True}
        return change(self.number, person, name=name, contact=contact, consent=consent)

    def accept(self, delivered: Delivered) -> Target:
        """Append a change, and say how far that asks the client to come."""
        events = [accepted.event for accepted in self.runtime.intake.accept(self.crm, delivered)]
        return Target(events[-1].version, events)

    def round(self) -> dict[str, tuple[int, float]]:
        """What each stage costs."""
        backend, reader, deliverer = self.runtime.backend, self.runtime.reader, self.runtime.deliverer
        costs = {}
        first, second = self.change(), self.change()
        costs["append, known client"] = self.cost(lambda: self.accept(first))
        costs["append, unknown client"] = self.cost(lambda: self.accept(self.change(1000 + self.number)))
        costs["append, duplicate"] = self.cost(lambda: self.accept(first))
        self.projector.catch_up("1", Target(0))
        target = self.accept(second)
        costs["catch up, three events from the doorbell"] = self.cost(lambda: self.projector.catch_up("1", target))
        target = self.accept(self.change())._replace(known=())
        costs["catch up, three events from the stream"] = self.cost(lambda: self.projector.catch_up("1", target))
        self.runtime.publisher.publish(["1"])
        for name in ("crm", "mailing"):
            deliverer.deliver("1", name)  # from here on, whether it is paused is known for five seconds
        self.projector.catch_up("1", self.accept(self.change()))
        costs["publish"] = self.cost(lambda: self.runtime.publisher.publish(["1"]))
        for name in ("crm", "mailing"):
            costs[f"deliver {name}"] = self.cost(partial(deliverer.deliver, "1", name))
        costs["record"] = self.cost(lambda: reader.current("1"))
        costs["audit page"] = self.cost(lambda: reader.audit("1", limit=50))
        assert not backend.projections.pending("1")
        return costs


def test_what_each_stage_costs(runtime: Runtime, server: CosmosServer | None) -> None:
    """Requests and request units of each stage; a longer history, more generations and idle clients change no request."""
    if server is None:
        pytest.skip("an account does not count the requests")
    stages = Stages(runtime, server)
    stages.round()
    few = stages.round()
    assert {stage: requests for stage, (requests, _) in few.items()} == {
        stage: requests for stage, (requests, _) in COSTS.items()
    }
    assert {stage: units for stage, (_, units) in few.items() if units > COSTS[stage][1]} == {}

    for _ in range(2):
        stages.round()  # twice the history
    for person in range(2000, 2030):
        stages.accept(stages.change(person))  # idle clients
    newer = Projection(domain.projection.name, domain.projection.schema, domain.projection.events, version=2)
    with Containers(server) as containers:
        Projector(
            newer,
            runtime.backend.events,
            CosmosProjectionStore(containers.open(PROJECTIONS_CONTAINER), newer),
        ).catch_up_all({str(person): Target(9, silent_until=9) for person in (1, *range(2000, 2030))})
    many = stages.round()
    assert {stage: requests for stage, (requests, _) in many.items()} == {
        stage: requests for stage, (requests, _) in few.items()
    }
    assert {stage: units for stage, (_, units) in many.items() if units > COSTS[stage][1]} == {}


def test_a_rebuild_on_cosmos(runtime: Runtime, containers: Containers, server: CosmosServer | None) -> None:
    """Everybody is brought over, at three requests a client however many events it has; once more at one; reads cost one."""
    if server is None:
        pytest.skip("an account does not count the requests")
    crm = domain.source("crm")
    for person in range(1, 41):
        runtime.intake.accept(crm, change(person, person, contact={"email": "ana@x.example"}))
    for number in range(41, 60):
        runtime.intake.accept(crm, change(number, 40, contact={"email": f"ana{number}@x.example"}))
    assert runtime.sweep().done
    newer = on_cosmos(runtime.backend, containers.open, louder)
    reader = RecordReader(louder, newer.events, newer.projections, newer.projections)
    assert reader.current("7").record.values == {"contact": {"email": "ana@x.example"}}
    projector = Projector(louder, newer.events, newer.projections)
    with server.meter.measure() as used:
        *_, done = Rebuild(projector, newer.projections, newer.predecessors, newer.feed, newer.checkpoints).walk()
    assert (done.clients, done.failed, done.done) == (40, {}, True)
    assert used.data_requests.total() <= 3 * 40 + 30
    assert used.total_request_units <= 32 * 40 + 8 * 19
    with server.meter.measure() as used:
        list(Rebuild(projector, newer.projections, newer.predecessors, newer.feed, newer.checkpoints).walk())
    assert used.data_requests.total() <= 1 * 40 + 25
    assert used.total_request_units <= 5 * 40 + 50
    with server.meter.measure() as used:
        assert reader.current("7").record.values == {"contact": {"email": "ANA@X.EXAMPLE"}}
    assert used.data_requests.total() == 1


def test_an_application_on_cosmos_verifies_and_seals(
    runtime: Runtime, server: CosmosServer | None, tmp_path: Path
) -> None:
    """All clients across partitions, at six requests each beside listing them; a spoilt record is mended."""
    if server is None:
        pytest.skip("an account does not count the requests")
    crm = domain.source("crm")
    for person in range(1, 21):
        runtime.intake.accept(crm, change(person, person, contact={"email": "ana@x.example"}))
    assert runtime.sweep().done
    with server.meter.measure() as used:
        found = list(verify_clients(runtime, all_clients(runtime)))
    assert (sum(portion.clients for portion in found), sum(len(portion.differing) for portion in found)) == (20, 0)
    assert used.data_requests.total() <= 6 * 20 + 30

    heads = [Sealed(client_id, *runtime.backend.events.head(client_id)[:2]) for client_id in ("1", "2")]
    write_seal(tmp_path / "seal", heads, sealed_at="2026-01-31T12:00:00.000000Z")
    assert [check_sealed(runtime.backend.events, sealed) for sealed in open_seal(tmp_path / "seal")[1]] == [[], []]

    record = runtime.backend.documents.documents(["7"])["7"][0]
    wrong = {**record.body, "values": {}}
    assert runtime.backend.documents.mend("7", [Mend("record", 0, wrong, record.tag)])
    (spoilt,) = [result for portion in verify_clients(runtime, [["6", "7"]], heal=True) for result in portion.differing]
    assert (spoilt.client_id, spoilt.left) == ("7", ())
    assert runtime.reader.current("7").record.values == {"contact": {"email": "ana@x.example"}}
