"""The whole flow with everything that is kept on Cosmos DB; the topic is the local one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstore import (
    EVENTS_CONTAINER,
    INTAKE_CONTAINER,
    CosmosChangeFeed,
    CosmosCheckpointStore,
    CosmosEventStore,
    CosmosRejectionStore,
    Sealed,
    check_sealed,
    open_seal,
    write_seal,
)
from functions_app import Accepted, Delivered, Runtime, Settings
from functions_app.backend import Backend
from functions_app.demo_target import DemoTarget
from functions_app.embedded import open_embedded
from functions_app.lag import measure_lag
from functions_app.sample import domain
from functions_app.verifying import all_clients, verify_clients
from integrations import DELIVERIES_CONTAINER, CosmosDeliveryStore
from projections import PROJECTIONS_CONTAINER, CosmosDocumentStore, CosmosProjectionStore, Mend, Target
from tests.support.cosmos import Containers
from tests.wire.cosmos import CosmosServer

pytestmark = [pytest.mark.e2e, pytest.mark.cosmos_wire]


def change(number: int, person: int, **parts: Any) -> Delivered:
    """A change in the CRM."""
    when = f"2026-11-02T09:{number:02}:00Z"
    return Delivered({"change_id": f"crm-{number}", "person": person, "changed_at": when, **parts})


@pytest.fixture
def server() -> Iterator[CosmosServer]:
    with CosmosServer(ranges=3) as server:
        yield server


@pytest.fixture
def target() -> Iterator[DemoTarget]:
    target = DemoTarget(0)
    with target.running():
        yield target


@pytest.fixture
def runtime(server: CosmosServer, target: DemoTarget, tmp_path: Path) -> Iterator[Runtime]:
    local = open_embedded(tmp_path, domain)
    with Containers(server) as containers:
        events, intake = containers.open(EVENTS_CONTAINER), containers.open(INTAKE_CONTAINER)
        checkpoints = CosmosCheckpointStore(intake)
        backend = Backend(
            events=CosmosEventStore(events),
            feed=CosmosChangeFeed(events, checkpoints),
            pulled=checkpoints,
            rejections=CosmosRejectionStore(intake),
            projections=CosmosProjectionStore(containers.open(PROJECTIONS_CONTAINER), domain.projection),
            documents=CosmosDocumentStore(containers.open(PROJECTIONS_CONTAINER), domain.projection),
            checkpoints=checkpoints,
            deliveries=CosmosDeliveryStore(containers.open(DELIVERIES_CONTAINER)),
            topic=local.topic,
            subscriptions=local.subscriptions,
        )
        settings = {
            "CRM_URL": target.url,
            "CRM_CLIENT_ID": "client-flow",
            "CRM_CLIENT_SECRET": "secret",
            "MAILING_URL": target.url,
            "MAILING_KEY": "key",
        }
        yield Runtime(domain, Settings(settings), backend)


def test_from_a_change_to_the_call(runtime: Runtime, server: CosmosServer, target: DemoTarget) -> None:
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


def test_what_each_stage_costs(runtime: Runtime, server: CosmosServer) -> None:
    """One event with two integrations: the requests of each stage, the same however long the history is."""
    crm = domain.source("crm")

    def cost(work: Any) -> int:
        with server.meter.measure() as used:
            work()
        return used.data_requests.total()

    def stages(number: int) -> list[int]:
        accepted: list[Accepted] = []

        def receive() -> None:
            parts = {"contact": {"email": f"a{number}@x.example"}}
            accepted.extend(runtime.intake.accept(crm, change(number, 1, **parts)))

        def project() -> None:
            runtime.projector.catch_up("1", target_of(accepted))

        return [
            cost(receive),
            cost(project),
            cost(lambda: runtime.deliverer.deliver("1", "crm")),
            cost(lambda: runtime.reader.current("1")),
            cost(lambda: runtime.reader.audit("1")),
        ]

    stages(1)
    few = stages(2)
    for number in range(3, 20):
        stages(number)
    assert stages(20) == few
    append, project_and_publish, deliver, record, audit = few
    assert append == 1
    # Load and commit; then the outbox entry, raising what is owed (2), and deleting the entry.
    assert project_and_publish == 2 + 1 + 2 + 1
    assert deliver <= 6
    assert (record, audit) == (1, 1)


def target_of(accepted: list[Accepted]) -> Target:
    """How far the accepted events ask a client to come."""
    events = [each.event for each in accepted]
    return Target(events[-1].version, events)


def test_an_application_on_cosmos_verifies_and_seals(runtime: Runtime, server: CosmosServer, tmp_path: Path) -> None:
    """All clients across partitions, at five requests each beside listing them; a spoilt record is mended."""
    crm = domain.source("crm")
    for person in range(1, 21):
        runtime.intake.accept(crm, change(person, person, contact={"email": "ana@x.example"}))
    assert runtime.sweep().done
    with server.meter.measure() as used:
        found = list(verify_clients(runtime, all_clients(runtime)))
    assert (sum(portion.clients for portion in found), sum(len(portion.differing) for portion in found)) == (20, 0)
    assert used.data_requests.total() <= 5 * 20 + 30

    heads = [Sealed(client_id, *runtime.backend.events.head(client_id)[:2]) for client_id in ("1", "2")]
    write_seal(tmp_path / "seal", heads, sealed_at="2026-01-31T12:00:00.000000Z")
    assert [check_sealed(runtime.backend.events, sealed) for sealed in open_seal(tmp_path / "seal")[1]] == [[], []]

    record = runtime.backend.documents.documents("7")[0]
    wrong = {**record.body, "values": {}}
    assert runtime.backend.documents.mend("7", [Mend("record", 0, wrong, record.tag)])
    (spoilt,) = [result for portion in verify_clients(runtime, [["6", "7"]], heal=True) for result in portion.differing]
    assert (spoilt.client_id, spoilt.left) == ("7", ())
    assert runtime.reader.current("7").record.values == {"contact": {"email": "ana@x.example"}}
