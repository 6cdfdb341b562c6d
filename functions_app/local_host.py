"""A function app on one machine: HTTP functions, timers and data loops in one process, without Azure.

Serves the very `FunctionApp` that is deployed. HTTP functions are reached by their routes and access keys, timers run by
their schedules. Cosmos DB and Service Bus triggers have no source here; whoever has data for them brings loops.

Differences from the real host: no retry policies, no time zones other than UTC, no `context` parameter and no input or
output bindings beside the HTTP answer.
"""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from azure.functions import FunctionApp
from azure.functions.decorators.timer import TimerTrigger

from .local_errors import InvalidSettingError
from .local_functions import LocalFunction, load_functions
from .local_http import MAX_HEAD, LocalHttp, http_routes
from .local_keys import HostKeys
from .local_loops import Loop, LoopThread
from .local_timers import Clock, SystemClock, Timer
from .schedules import Schedule, resolve_settings

THREADS_SETTING = "PYTHON_THREADPOOL_THREAD_COUNT"
_DEFAULT_THREADS = 32
_MAX_THREADS = 1000
_MAX_CONNECTIONS = 1000
_KEEP_ALIVE = 60  # seconds
_STOPPING = {signal.SIGINT, signal.SIGTERM}
_MARGIN = 5.0  # seconds the server gets, beyond the grace, to notice that it should stop

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningHost:
    """A host that takes requests.

    Attributes:
        url: scheme, address and port, without a slash at the end.
    """

    url: str


class LocalHost:
    """Everything needed to serve a function app; nothing runs until it is started.

    Args:
        app: its functions are taken out here, which works once per app object.
        keys: who may call what.
        settings: what `%NAME%` in timer schedules stands for; `PYTHON_THREADPOOL_THREAD_COUNT` is the number of
            handlers that run at once, 32 unless set.
        loops: work to do beside the requests.
        grace_seconds: how long requests and loops may take to end when the host stops.
        clock: the time, for timers.

    Raises:
        LocalHostError: a route, schedule, setting or function that cannot be served.
        MissingSettingError: a schedule names a setting that is not there.
    """

    def __init__(
        self,
        app: FunctionApp,
        *,
        keys: HostKeys,
        settings: Mapping[str, str],
        loops: Sequence[Loop] = (),
        grace_seconds: int = 10,
        clock: Clock | None = None,
    ) -> None:
        self._functions = load_functions(app)
        self._keys = keys
        self._threads = _thread_count(settings)
        self._grace = grace_seconds
        self._routes = http_routes(self._functions)
        self._timers = _timers(self._functions, settings, clock or SystemClock())
        self._loops: list[Loop] = [*self._timers, *loops]

    @contextmanager
    def started(self, port: int = 0, *, address: str = "127.0.0.1") -> Iterator[RunningHost]:
        """Serve as long as the context lasts, then stop: no new requests, those in flight end, loops end.

        Args:
            port: TCP port, 0 for any free one.
            address: IP address to listen on.

        Raises:
            OSError: the port is taken or not allowed.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=_MAX_CONNECTIONS)
        # Connections inherit it. Head and body of an answer leave as two packets; with Nagle's algorithm the second would
        # wait 40 ms for the client's delayed acknowledgement. asyncio sets it only on sockets that name their protocol.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stop = threading.Event()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="function")
        loops = [LoopThread(loop, stop) for loop in self._loops]
        http = LocalHttp(self._routes, self._timers, keys=self._keys, pool=pool, status=lambda: self._status(loops))
        server = uvicorn.Server(_server_config(http, grace_seconds=self._grace))
        serving = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
        serving.start()
        for loop in loops:
            loop.start()
        host = f"[{address}]" if family is socket.AF_INET6 else address
        try:
            yield RunningHost(f"http://{host}:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            serving.join(self._grace + _MARGIN)
            stop.set()
            for loop in loops:
                loop.join(self._grace)
            pool.shutdown(wait=False, cancel_futures=True)

    def serve(
        self,
        port: int,
        *,
        address: str = "127.0.0.1",
        ready: Callable[[str], None] = lambda url: _log.info("Serving on %s", url),
    ) -> None:
        """Serve until SIGINT or SIGTERM; a second signal has its usual effect. To be called in the main thread.

        Args:
            port: TCP port, 0 for any free one.
            address: IP address to listen on.
            ready: called with the URL once requests are taken.

        Raises:
            OSError: the port is taken or not allowed.
        """
        # Blocked in every thread and waited for here: a handler would run only once this thread wakes, and the kernel
        # may hand the signal to another one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        try:
            with self.started(port, address=address) as running:
                ready(running.url)
                signal.sigwait(_STOPPING)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _status(self, loops: Sequence[LoopThread]) -> Mapping[str, Any]:
        return {
            "state": "Running",
            "functions": [{"name": f.name, "trigger": f.trigger.type} for f in self._functions],
            "loops": [{"name": loop.name, "running": loop.running, "failures": loop.failures} for loop in loops],
        }


def _timers(functions: Iterable[LocalFunction], settings: Mapping[str, str], clock: Clock) -> list[Timer]:
    return [
        Timer(
            function,
            Schedule(resolve_settings(trigger.schedule, settings)),
            run_on_startup=bool(trigger.run_on_startup),
            clock=clock,
        )
        for function in functions
        if isinstance(trigger := function.trigger, TimerTrigger)
    ]


def _server_config(http: LocalHttp, *, grace_seconds: int) -> uvicorn.Config:
    # Loop and parser are named, not "auto": limits and answers to malformed requests differ between them.
    return uvicorn.Config(
        http,
        interface="asgi3",
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        limit_concurrency=_MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=grace_seconds,
    )


def _thread_count(settings: Mapping[str, str]) -> int:
    text = settings.get(THREADS_SETTING, str(_DEFAULT_THREADS))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_THREADS):
        raise InvalidSettingError(THREADS_SETTING, f"a whole number from 1 to {_MAX_THREADS}")
    return int(text)
