"""Documents that somebody wrote by hand among the events on Cosmos DB: passed over, told of loudly, and never folded."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from azure.cosmos import ContainerProxy
from azure.functions import Document, DocumentList

from eventstore import EVENTS_CONTAINER
from functions_app import Delivered, Runtime, Settings, build_app
from functions_app.embedded import open_embedded
from functions_app.lag import measure_lag
from functions_app.sample import domain
from functions_app.verifying import all_clients, verify_clients
from tests.support.cosmos import Containers, on_cosmos
from tests.wire.cosmos import CosmosServer

pytestmark = [pytest.mark.e2e, pytest.mark.cosmos_wire]

FOREIGN = {"id": "Canary-x", "client_id": "1", "event_id": "x:1", "version": 2, "data": {"email": "canary@x.example"}}


@pytest.fixture
def server() -> Iterator[CosmosServer]:
    with CosmosServer() as server:
        yield server


@pytest.fixture
def containers(server: CosmosServer) -> Iterator[Containers]:
    with Containers(server) as containers:
        yield containers


@pytest.fixture
def container(containers: Containers) -> ContainerProxy:
    return containers.open(EVENTS_CONTAINER)


@pytest.fixture
def runtime(containers: Containers, tmp_path: Path) -> Iterator[Runtime]:
    local = open_embedded(tmp_path, domain)
    with closing(local):
        yield Runtime(domain, Settings({}), on_cosmos(local, containers.open, domain.projection))


def accept(runtime: Runtime, person: int, number: int, **parts: Any) -> None:
    """Another change of a person."""
    change = {"change_id": f"{number}", "person": person, "changed_at": f"2026-03-01T12:{number:02}:00Z"}
    email = f"p{number}@x.example"
    runtime.intake.accept(domain.source("crm"), Delivered({**change, "contact": {"email": email}, **parts}))


def project_clients(runtime: Runtime) -> Callable[..., Any]:
    """The function of the change feed trigger."""
    (found,) = [
        each
        for each in build_app(domain, lambda: runtime).get_functions()
        if each.get_function_name() == "project_clients"
    ]
    function: Callable[..., Any] = found.get_user_function()
    return function


def differing(runtime: Runtime) -> list[tuple[str, str, Any]]:
    """What verifying everybody finds."""
    return [
        (result.client_id, each.kind, each.stored)
        for portion in verify_clients(runtime, all_clients(runtime))
        for result in portion.differing
        for each in result.left
    ]


def check_loud(caplog: pytest.LogCaptureFixture) -> None:
    """It stands in the log, without what it holds, what it is called, or whose it is."""
    (line,) = [record.getMessage() for record in caplog.records if "none and was passed over" in record.getMessage()]
    assert "client 1," not in line
    assert "anary" not in line


def test_the_sweep_passes_it(runtime: Runtime, container: ContainerProxy, caplog: pytest.LogCaptureFixture) -> None:
    """Those behind it are projected; health is red until it is gone, and says so again only when it is found again."""
    accept(runtime, 1, 1)
    container.create_item(FOREIGN)
    accept(runtime, 1, 2)
    accept(runtime, 2, 3)
    with caplog.at_level(logging.ERROR):
        assert runtime.sweep().errors == ()
        assert runtime.sweep().done
    check_loud(caplog)
    assert runtime.reader.current("1").record.version == 2
    assert runtime.reader.current("1").record.values == {"contact": {"email": "p2@x.example"}}
    assert runtime.reader.current("2").record.version == 1
    assert (measure_lag(runtime).status, runtime.findings.open()) == ("red", ["1"])
    assert differing(runtime) == [("1", "event", ["Canary-x"])]
    assert measure_lag(runtime).status == "red"
    container.delete_item("Canary-x", "1")
    assert differing(runtime) == []
    assert measure_lag(runtime).status == "ok"


def test_the_sweep_passes_it_where_it_is_the_last(
    runtime: Runtime, container: ContainerProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, not with every sweep anew."""
    accept(runtime, 1, 1)
    assert runtime.sweep().done
    container.create_item(FOREIGN)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert runtime.sweep().done
    check_loud(caplog)


def test_the_trigger_passes_it(runtime: Runtime, container: ContainerProxy, caplog: pytest.LogCaptureFixture) -> None:
    """The batch that it is in is projected, so that the host does not bring it again for ever."""
    accept(runtime, 1, 1)
    container.create_item(FOREIGN)
    container.create_item({"id": "y", "client_id": None})
    documents = DocumentList(map(Document.from_dict, container.query_items_change_feed(start_time="Beginning")))
    assert len(documents) == 3
    with caplog.at_level(logging.ERROR):
        project_clients(runtime)(docs=documents)
    assert runtime.reader.current("1").record.version == 1
    assert runtime.findings.open() == ["1"]
    assert len([record for record in caplog.records if "none and was passed over" in record.getMessage()]) == 2


def test_the_trigger_asks_for_nothing_else_where_there_is_none(
    runtime: Runtime, container: ContainerProxy, server: CosmosServer
) -> None:
    """A batch of sound events costs loading and committing its client, two requests."""
    accept(runtime, 1, 1)
    assert runtime.sweep().done
    accept(runtime, 1, 2)
    documents = [each for each in container.query_items_change_feed(start_time="Beginning") if each["version"] == 2]
    project = project_clients(runtime)
    with server.meter.measure() as used:
        project(docs=DocumentList(map(Document.from_dict, documents)))
    assert runtime.reader.current("1").record.version == 2
    assert used.data_requests.total() == 2 + 4, "and four for announcing it"


@pytest.mark.parametrize("before", [{}, {"consent": {"channel": "post", "given": True}}], ids=["sound", "unfoldable"])
def test_a_damaged_event_parks_its_client_alone(
    runtime: Runtime, container: ContainerProxy, before: dict[str, Any]
) -> None:
    """What was an event is not skipped; others go on, and verifying names it, whatever else is with the client."""
    accept(runtime, 1, 1, **before)
    for number in (2, 3):
        accept(runtime, 1, number)
    head = runtime.backend.events.head("1").version
    damaged = container.read_item(f"{head - 1:012}", "1")
    del damaged["event_type"]
    container.replace_item(damaged["id"], damaged)
    accept(runtime, 2, 4)
    assert runtime.sweep().errors == ()
    (parked,) = runtime.backend.projections.parked()
    assert parked.parked is not None
    assert (parked.client_id, parked.parked.code) == ("1", "history_forked")
    assert (parked.parked.version, parked.parked.waiting_for) == (head - 1, head)
    assert runtime.reader.current("2").record.version == 1
    found = [
        (result.client_id, each.kind, each.number)
        for portion in verify_clients(runtime, all_clients(runtime))
        for result in portion.differing
        for each in result.left
    ]
    assert ("1", "event", head - 1) in found
