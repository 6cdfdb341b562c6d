"""Queues when broker, network and processes misbehave: nothing lost, no event twice, each client in its order."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from functions_app import Delivered, Runtime
from functions_app.intake import Trace
from integrations import QueueUnavailableError, ServiceBusSessionQueues
from tests.support.flow import listening, open_flow
from tests.support.queues import QUEUES, consuming, domain, first, look_briefly, note, noted, queue_namespace
from tests.support.waiting import PATIENCE, wait_until
from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored
from tests.wire.servicebus.errors import LOCK_LOST, SERVER_BUSY, SESSION_LOCK_LOST
from tests.wire.servicebus.faults import Point

pytestmark = pytest.mark.servicebus_wire

QUEUE = first.queue_name
CLIENTS, EACH = 4, 6
EVERYTHING = {client: list(range(EACH)) for client in range(CLIENTS)}


@pytest.fixture(scope="module", name="running")
def _running() -> Iterator[Broker]:
    with fast_polling(), Broker(queue_namespace(*QUEUES)) as broker:
        yield broker


@pytest.fixture
def broker(running: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    look_briefly(monkeypatch)
    with leaked_sockets_ignored():
        running.reset()
        yield running
        running.clear_faults()


@pytest.fixture
def runtime(broker: Broker, tmp_path: Path) -> Iterator[Runtime]:
    with ExitStack() as stack:
        queues = stack.enter_context(closing(ServiceBusSessionQueues(broker.connection_string)))
        yield stack.enter_context(closing(open_flow(tmp_path, domain, queues=queues)))


def queue_up(runtime: Runtime, client: int) -> None:
    """Send what there is to say about a client, each as often as it takes, as a source does that gets a 503."""
    for number in range(EACH):
        delivered = [Delivered(note(client, number, f"{client}-{number}"))]

        def send(delivered: list[Delivered] = delivered) -> bool:
            try:
                runtime.queue_intake.send(first, delivered, Trace())
            except QueueUnavailableError:
                return False
            return True

        wait_until("it is queued", send)


def stored(runtime: Runtime) -> dict[int, list[Any]]:
    return {client: noted(runtime, client) for client in range(CLIENTS)}


def cut(point: Point) -> list[dict[str, Any]]:
    return [{"point": point, "action": "drop", "times": 4, "skip": 1}]


BUSY: list[dict[str, Any]] = [
    {"point": point, "action": "reject", "condition": SERVER_BUSY, "times": 3, "skip": 1}
    for point in ("send", "attach", "settle")
]
LOCKS_LOST: list[dict[str, Any]] = [
    {"point": "settle", "action": "reject", "condition": LOCK_LOST, "times": 2, "skip": 1},
    {"point": "settled", "action": "detach", "condition": SESSION_LOCK_LOST, "times": 2, "skip": 3},
]


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(cut("stored"), id="cut after a message is stored"),
        pytest.param(cut("send"), id="cut before a message is stored"),
        pytest.param(cut("delivered"), id="cut after a message is delivered"),
        pytest.param(cut("settle"), id="cut before a message is completed"),
        pytest.param(cut("settled"), id="cut after a message is completed"),
        pytest.param(BUSY, id="server busy"),
        pytest.param(LOCKS_LOST, id="locks lost"),
    ],
)
def test_trouble_on_the_way_loses_and_doubles_nothing(
    broker: Broker, runtime: Runtime, faults: list[dict[str, Any]]
) -> None:
    """Faults on sending, receiving and completing: every event is there once, each client's in its order."""
    injected = [broker.inject(entity=QUEUE, **fault) for fault in faults]
    with listening() as heard, consuming(runtime), ThreadPoolExecutor(CLIENTS) as sources:
        list(sources.map(queue_up, [runtime] * CLIENTS, range(CLIENTS)))
        wait_until("everything is taken", lambda: stored(runtime) == EVERYTHING and broker.messages(QUEUE) == [])
    assert stored(runtime) == EVERYTHING
    assert list(runtime.backend.rejections.open()) == []
    assert "ES." not in heard.text
    assert all(fault.hits >= fault.skip + fault.times for fault in injected)


def test_a_broker_that_restarts_and_forgets_locks(broker: Broker, runtime: Runtime) -> None:
    """The consumers come back by themselves, again and again."""
    with consuming(runtime), ThreadPoolExecutor(CLIENTS) as sources:
        sending = [sources.submit(queue_up, runtime, client) for client in range(CLIENTS)]
        for count in (3, 9, 15):
            wait_until("some are taken", lambda count=count: sum(map(len, stored(runtime).values())) >= count)  # type: ignore[misc]
            broker.expire_locks(QUEUE)
            broker.restart()
        for each in sending:
            each.result(PATIENCE)
        wait_until("everything is taken", lambda: stored(runtime) == EVERYTHING and broker.messages(QUEUE) == [])
    assert list(runtime.backend.rejections.open()) == []


@pytest.mark.parametrize("place", ["sqlite", "servicebus"])
def test_a_worker_that_is_killed_after_it_stored(
    place: str, broker: Broker, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between append and complete, twice: its message comes again when the lock ends, and is known."""
    local = tmp_path / "local"
    on_bus = place == "servicebus"
    with closing(open_flow(local, domain)) as application:
        backend = application.backend
        if on_bus:
            backend = backend._replace(queues=runtime.backend.queues)
        told = Runtime(domain, application.settings, backend)
        for client in range(CLIENTS):
            queue_up(told, client)
        for life in range(3):
            last = life == 2
            command = [sys.executable, "-m", "tests.functions_app.queue_worker", str(local)]
            worker = subprocess.Popen(
                [*command, broker.connection_string] if on_bus else command, stdin=subprocess.PIPE, text=True
            )
            assert worker.stdin is not None
            with worker:
                worker.stdin.write(f"{life * 120} {0 if last else 5}\n")
                worker.stdin.flush()
                if last:
                    wait_until("everything is taken", lambda: stored(told) == EVERYTHING)
                    worker.stdin.close()
                assert worker.wait(PATIENCE) == (0 if last else -signal.SIGKILL)
        assert stored(told) == EVERYTHING
        assert told.backend.queues.next_session(QUEUE, wait=0) is None
