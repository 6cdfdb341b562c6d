"""Session queues for tests: a namespace that has them, and a domain whose receivers use them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import blake2b
from threading import Event
from typing import Any

import orjson
import pytest

from eventstore import Appended, EventStore
from functions_app import EventKey, HeaderKey, NoKey, PayloadKey, Receiver, Runtime
from functions_app.queue_consumer import queue_consumers
from integrations import QueueMessage
from tests.support import accounts
from tests.support.accounts import Note
from tests.support.waiting import PATIENCE


def queue_namespace(
    *queues: str, deliveries: int = 10, topic: str | None = None, subscriptions: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The broker's configuration with these session queues, and a topic if it is named."""
    remembering = {"RequiresDuplicateDetection": True, "DuplicateDetectionHistoryTimeWindow": "PT10M"}
    session_queue = {"RequiresSession": True, "LockDuration": "PT1M", "MaxDeliveryCount": deliveries, **remembering}
    topics = [
        {
            "Name": topic,
            "Properties": remembering,
            "Subscriptions": [{"Name": name} for name in subscriptions],
        }
    ]
    return {
        "UserConfig": {
            "Namespaces": [
                {
                    "Name": "sbemulatorns",
                    "Queues": [{"Name": name, "Properties": session_queue} for name in queues],
                    "Topics": topics if topic else [],
                }
            ],
            "Logging": {"Type": "Console"},
        }
    }


def look_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits for what is not there be short: the broker of the tests answers at once."""
    monkeypatch.setattr("integrations.servicebus_queue._ACCEPT_SECONDS", 0.25)
    monkeypatch.setattr("integrations.servicebus_queue._DRAIN_SECONDS", 0.25)


def _receiver(name: str, key: EventKey, **more: Any) -> Receiver:
    return Receiver(name=name, payload=Note, process=accounts.facts, key=key, **more)


also = _receiver("also", PayloadKey("meta.id"), queue="also")
first = _receiver("first", PayloadKey("meta.id"), queue="first")
keyless = _receiver("keyless", NoKey(), queue="first")
by_header = _receiver("by_header", HeaderKey("X-Delivery"), queue="first")
direct = _receiver("direct", PayloadKey("meta.id"))
domain = replace(accounts.domain, receivers=[also, first, keyless, by_header, direct])
QUEUES = tuple(receiver.queue_name for receiver in domain.queued)


def note(number: int | str, text: Any, key: str | None = None) -> dict[str, Any]:
    """What a source says about the account ES.number."""
    document = {"number": str(number), "note": text}
    return document if key is None else {**document, "meta": {"id": key}}


def message(
    document: Any, *, session_id: str = "ES.1", message_id: str | None = None, **properties: str
) -> QueueMessage:
    """A message as somebody else would send it; bytes are sent as they are."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return QueueMessage(message_id or blake2b(body, digest_size=16).hexdigest(), session_id, body, properties)


def noted(runtime: Runtime, number: int | str) -> list[Any]:
    """What the stream of an account says, in its order."""
    return [event.data["note"] for event in runtime.backend.events.read(f"ES.{number}")]


def take_all(runtime: Runtime, receiver: Receiver) -> None:
    """Take what is in a receiver's queue, in this thread, without patience."""
    while (session := runtime.backend.queues.next_session(receiver.queue_name, wait=0)) is not None:
        with closing(session):
            while (queued := session.receive()) is not None:
                runtime.queue_intake.take(receiver, queued, lambda _: False)
                session.complete(queued)


@contextmanager
def consuming(runtime: Runtime) -> Iterator[Event]:
    """Let consumers work on the queues; the event they get tells them to stop."""
    stop = Event()
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(consumer.run, stop) for consumer in queue_consumers(runtime)]
        try:
            yield stop
        finally:
            stop.set()
        for each in running:
            each.result(PATIENCE)


class Interposed:
    """An event store that does something before it appends, as raising an error or waiting."""

    def __init__(self, store: EventStore, before: Callable[[str], None], after: Callable[[str], None]) -> None:
        self._store, self._before, self._after = store, before, after

    def append(self, client_id: str, events: Any, **options: Any) -> Appended:
        self._before(client_id)
        appended = self._store.append(client_id, events, **options)
        self._after(client_id)
        return appended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
