"""The broker as tests see it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.wire.servicebus.administration import Administration
from tests.wire.servicebus.clock import Clock
from tests.wire.servicebus.config import load_config
from tests.wire.servicebus.connection import Connection
from tests.wire.servicebus.entities import STANDARD_MESSAGE_SIZE
from tests.wire.servicebus.errors import DETACH_FORCED, SERVER_BUSY, BrokerError
from tests.wire.servicebus.faults import Action, Fault, Point
from tests.wire.servicebus.gateway import Gateway
from tests.wire.servicebus.message import StoredMessage
from tests.wire.servicebus.meter import Meter
from tests.wire.servicebus.namespace import Namespace

_T = TypeVar("_T")
_HOST = "127.0.0.1"
_PATIENCE = 10  # seconds the broker's thread may take for anything
_BACKLOG = 512


class Broker:
    """A Service Bus namespace on a free port of this machine.

    It runs on an event loop in a thread of its own, so it serves the sync and the aio SDK alike; all methods may be
    called from any thread. The same port answers the SDK's administration client over HTTP. Entities are named as clients name them: `orders`, `clients/subscriptions/crm`,
    `clients/subscriptions/crm/$deadletterqueue`; case does not matter.

    Args:
        config: a `Config.json` of Microsoft's Service Bus emulator, as a path or as its content.
        max_message_size: bytes of a message or batch (Standard: 256 KiB, Premium: 1 MiB).
        now: where the broker's time comes from, in seconds since the epoch; see also `advance`.

    Attributes:
        administration: answers management requests; see there for what tests can ask of it.

    Raises:
        ConfigError: the configuration asks for something this broker cannot do.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | Path,
        *,
        max_message_size: int = STANDARD_MESSAGE_SIZE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock = Clock(now)
        self._namespace = Namespace(load_config(config, max_message_size=max_message_size), self._clock)
        self.administration = Administration(self._namespace)
        self._arriving: set[Gateway] = set()
        self._reserved: socket.socket | None = _bound(0)  # keeps the port ours while the broker is stopped
        self._port: int = self._reserved.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._thread: threading.Thread | None = None

    # ---- running

    @property
    def connection_string(self) -> str:
        """For `ServiceBusClient.from_connection_string`; it stays the same over restarts."""
        return (
            f"Endpoint=sb://{_HOST}:{self._port};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true"
        )

    @property
    def meter(self) -> Meter:
        """Counts of what reached the broker."""
        return self._namespace.meter

    def start(self) -> Self:
        """Begins to listen; what was stored before a `stop` is still there.

        Raises:
            BrokerError: it is running, or was closed.
        """
        if self._thread is not None or self._reserved is None:
            raise BrokerError("the broker is running already" if self._thread else "the broker was closed for good")
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._keep_failure)
        listener = _bound(self._port)
        self._server = loop.run_until_complete(
            loop.create_server(lambda: self._gateway(loop), sock=listener, backlog=_BACKLOG)
        )
        self._loop = loop
        self._clock.attach(loop)
        self._thread = threading.Thread(target=loop.run_forever, name="servicebus-broker", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cuts all connections and refuses new ones until `start`; stopping twice is fine."""
        if self._thread is None or self._loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()
        self._thread = self._loop = self._server = None

    def restart(self) -> None:
        """Stops and starts on the same port: connections are gone, entities are as they were."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stops for good.

        Raises:
            BrokerError: something failed inside the broker while it ran.
        """
        self.stop()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        failures = self._namespace.failures
        if failures:
            raise BrokerError(
                f"the broker failed inside {len(failures)} times, first with {failures[0]!r}"
            ) from failures[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ---- looking in

    def messages(self, path: str) -> list[StoredMessage]:
        """What a queue, subscription or dead-letter queue holds, in order, locked and deferred ones included.

        Raises:
            BrokerError: there is no such queue.
        """
        queue = self._namespace.queue(path)
        return self._call(lambda: [message.stored() for _, message in sorted(queue.messages.items())])

    # ---- acting on it

    def purge(self, path: str) -> None:
        """Forgets an entity's messages, locks, session states and, on a topic, the message ids it has seen.

        Raises:
            BrokerError: there is no such entity.
        """
        self._call(self._namespace.entity(path).clear)

    def reset(self) -> None:
        """Purges every entity, disarms all faults, starts the meter from zero and takes back all of `advance`.

        Connections stay.
        """

        def run() -> None:
            self._namespace.faults.clear()
            for entity in self._namespace.entities.values():
                entity.clear()
            self.meter.reset()
            self.administration.reset()
            self._clock.reset()

        self._call(run)

    def advance(self, seconds: float) -> None:
        """Pushes the broker's time on, and with it locks, schedules, lifetimes, duplicate windows and delays."""
        self._call(lambda: self._clock.advance(seconds))

    def expire_locks(self, path: str) -> None:
        """Makes every lock on messages and sessions of a queue run out now.

        Raises:
            BrokerError: there is no such queue.
        """
        self._call(self._namespace.queue(path).expire_locks)

    def drop_connections(self, path: str | None = None, *, reset: bool = False) -> int:
        """Cuts the connections with a link to this entity, or all; returns how many.

        `reset` sends a TCP reset instead of an orderly end.
        """

        def run() -> int:
            hit = [
                connection
                for connection in self._namespace.connections
                if path is None or any(link.path == path.lower() for link in connection.links())
            ]
            for connection in hit:
                connection.drop(reset=reset)
            return len(hit)

        return self._call(run)

    def detach_links(self, path: str, condition: str = DETACH_FORCED) -> int:
        """Ends the links to an entity with an error condition; returns how many."""

        def run() -> int:
            links = [link for connection in self._namespace.connections for link in connection.links()]
            hit = [link for link in links if link.path == path.lower() and link.is_open]
            for link in hit:
                link.detach(condition, "detached by the broker")
            return len(hit)

        return self._call(run)

    # ---- faults

    def inject(
        self,
        point: Point,
        action: Action,
        entity: str | None = None,
        *,
        condition: str = SERVER_BUSY,
        seconds: float = 0.0,
        skip: int = 0,
        times: int = 1,
        operation: str | None = None,
    ) -> Fault:
        """Makes something go wrong when a point is reached.

        The usual ones: `("stored", "drop")` cuts after the broker stored a send and before its answer;
        `("send", "reject")` is a busy server; `("settle", "reject", condition=LOCK_LOST)` a lost lock;
        `("attach", "detach")`, `("send", "detach")` a detached link; `("stored", "delay", seconds=...)` a slow answer.

        Args:
            point: where; see `faults.Point`.
            action: what; see `faults.Action`.
            entity: at this one only.
            condition: the AMQP error condition for reject, detach and close.
            seconds: of the broker's time, for delay.
            skip: lets the point pass this often first.
            times: strikes this often.
            operation: at this $management operation only (`renew-lock`, ...), for the points request and answer.

        Raises:
            BrokerError: the action makes no sense at that point.
        """
        fault = Fault(
            point=point,
            action=action,
            entity=None if entity is None else entity.lower(),
            condition=condition,
            seconds=seconds,
            skip=skip,
            times=times,
            operation=operation,
        )
        self._call(lambda: self._namespace.faults.add(fault))
        return fault

    def clear_faults(self) -> None:
        """Disarms all faults."""
        self._call(self._namespace.faults.clear)

    # ---- the thread

    def _gateway(self, loop: asyncio.AbstractEventLoop) -> Gateway:
        return Gateway(self.administration, lambda: Connection(self._namespace, loop), self._arriving)

    def _call(self, action: Callable[[], _T]) -> _T:
        """Runs something on the broker's thread; here, where the broker is stopped."""
        if self._loop is None:
            return action()

        async def run() -> _T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_PATIENCE)

    async def _shut_down(self) -> None:
        self._clock.attach(None)
        if self._server is not None:
            self._server.close()
        arriving = asyncio.all_tasks() - {asyncio.current_task()}
        if arriving:  # connections that were accepted and have not been handed over
            await asyncio.wait(arriving)
        for connection in list(self._namespace.connections):
            connection.drop()
        for undecided in list(self._arriving):
            undecided.drop()
        await asyncio.sleep(0)  # the turn in which they notice

    def _keep_failure(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keeps what failed in a timer or a callback, for `close`."""
        self._namespace.failures.append(context.get("exception") or BrokerError(context["message"]))


def _bound(port: int) -> socket.socket:
    """A socket bound to the port, beside another one of ours that does not listen."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((_HOST, port))
    return bound
