"""What the topic costs, on the wire broker through the SDK as it is shipped, and whether a slow target delays another.

The older pattern is that of the library this one succeeds: a sender opened for each message, by one thread; nearly all of its time is the second that the SDK takes to close a link.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from azure.servicebus import ServiceBusClient, ServiceBusMessage
from pydantic import BaseModel

from eventstore import ClientId, utc_text
from functions_app.bus_entities import bus_entities
from functions_app.provision_bus import provision_bus
from integrations import (
    Deliverer,
    Integration,
    RESTIntegration,
    ServiceBusTopic,
    SqliteDeliveryStore,
    TopicMessage,
    open_administration,
    open_deliveries,
)
from projections import UnifiedSchema
from tests.support.rest_target import Fault, RestTarget
from tests.support.servicebus import EMPTY
from tests.wire.servicebus import Broker, leaked_sockets_ignored

from .harness import Figure, compared

_TOPIC = "clients"
_PER_CLIENT = 10  # changes of a client that wait together, and so what a send can hold
_THREADS = 8
_TIMEOUT = 10.0  # seconds a hanging call may last, which is longer than the others take
_MOST = 1.5  # what another integration's p99 may grow to


def figures(changes: int, one_by_one: int, deliveries: int, rounds: int) -> Iterator[Figure]:
    """Publish changes, then some of them with a sender each; deliver to one target beside one that hangs."""
    with leaked_sockets_ignored():
        yield from _publishing(changes, one_by_one)
        yield from _delivering(deliveries, rounds)


def _publishing(changes: int, one_by_one: int) -> Iterator[Figure]:
    with Broker(EMPTY) as broker:
        with open_administration(broker.connection_string) as administration:
            provision_bus(administration, bus_entities(_TOPIC, []))
        topic = ServiceBusTopic(broker.connection_string, _TOPIC)
        portions = [
            [_message(client, number) for number in range(_PER_CLIENT)] for client in range(changes // _PER_CLIENT)
        ]
        with ThreadPoolExecutor(_THREADS) as pool:
            seconds = _timed(lambda: list(pool.map(topic.send, portions)))
        topic.close()
        sends, links = broker.meter.count("sends", _TOPIC), broker.meter.count("links", _TOPIC)
        broker.reset()
        singly = [portion[:1] for portion in portions]
        single_seconds = _timed(lambda: _send_each(topic, singly))
        topic.close()
        broker.reset()
        with ServiceBusClient.from_connection_string(broker.connection_string) as client:
            old_seconds = _timed(lambda: _send_the_old_way(client, one_by_one))
        old_sends, old_links = broker.meter.count("sends", _TOPIC), broker.meter.count("links", _TOPIC)
    label = "a sender for each message, one thread"
    rate, old_rate = changes / seconds, one_by_one / old_seconds
    yield compared(f"topic, {changes:,} changes", [rate], "messages/s", (label, [old_rate]), None)
    single = f"topic, {len(singly):,} changes one at a time, one thread"
    yield compared(single, [len(singly) / single_seconds], "messages/s", (label, [old_rate]), None)
    per_change, old_per_change = sends / changes, old_sends / one_by_one
    yield Figure("topic, sends", per_change, "per change", label, old_per_change / per_change)
    yield Figure(
        "topic, links opened", links, "in all", f"{label}, per change", old_links / one_by_one * changes / links
    )


def _send_each(topic: ServiceBusTopic, portions: Sequence[Sequence[TopicMessage]]) -> None:
    for portion in portions:
        topic.send(portion)


def _send_the_old_way(client: ServiceBusClient, number: int) -> None:
    for each in range(number):
        message = _message(each, 0)
        with client.get_topic_sender(_TOPIC) as sender:
            sender.send_messages(ServiceBusMessage(message.body, message_id=message.message_id))


def _message(client: int, number: int) -> TopicMessage:
    return TopicMessage(f"{client}-{number}", str(client), None, {"contact": True}, b"x" * 1024)


class _Person(ClientId):
    number: str


class _Client(UnifiedSchema):
    id: _Person


class _Body(BaseModel):
    client: str


def _delivering(deliveries: int, rounds: int) -> Iterator[Figure]:
    """The ratio is the median of the rounds' ratios: a single 99th percentile is at the mercy of the machine."""
    measured: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds):
        for hangs in (False, True) if number % 2 == 0 else (True, False):
            measured[hangs].append(_p99_of_the_other(deliveries, hangs=hangs))
    ratio = statistics.median(alone / beside for alone, beside in zip(measured[False], measured[True], strict=True))
    undisturbed, beside = (statistics.median(measured[hangs]) for hangs in (False, True))
    yield Figure(
        "delivery beside a target that hangs, p99",
        beside * 1000,
        "ms",
        f"undisturbed, {undisturbed * 1000:.2f} ms",
        ratio,
        1 / _MOST,
        ratio >= 1 / _MOST,
    )


def _p99_of_the_other(deliveries: int, *, hangs: bool) -> float:
    """99th percentile of the seconds of a delivery to one of two targets, from its doorbell to its end."""
    release = Event()
    with RestTarget() as slow, RestTarget() as quick, TemporaryDirectory() as directory:
        if hangs:
            slow.script(*[Fault(hold=release) for _ in range(deliveries)])
        database = open_deliveries(Path(directory))
        store = SqliteDeliveryStore(database)
        deliverer = Deliverer([_integration("slow", slow), _integration("quick", quick)], store, store, _record)
        ids = [str(number) for number in range(deliveries)]
        for client_id in ids:
            store.raise_wanted(client_id, {"slow": 1, "quick": 1}, at=utc_text(datetime.now(UTC)))
        taken: list[float] = []
        with ThreadPoolExecutor(_THREADS) as hanging, ThreadPoolExecutor(2) as pool:
            others = [hanging.submit(deliverer.deliver, client_id, "slow") for client_id in ids[:_THREADS]]
            if not hangs:
                wait(others)
            list(pool.map(lambda client_id: taken.append(_timed(lambda: deliverer.deliver(client_id, "quick"))), ids))
            release.set()
        slow.wait_until_idle()
        database.close()
    return _percentile(taken)


def _record(client_id: str) -> _Client:
    return _Client(id=_Person(number=client_id))


def _integration(name: str, target: RestTarget) -> Integration:
    rest = RESTIntegration(target.url, update="PUT /people/{client_id}", timeout=_TIMEOUT)
    return Integration(
        name=name, cares_about=("contact",), mapping=lambda client: _Body(client=client.id.number), strategy=rest
    )


def _percentile(taken: Sequence[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
