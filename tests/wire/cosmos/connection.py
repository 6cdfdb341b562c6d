"""HTTP/1.1 as far as the SDK speaks it: keep-alive, one request at a time on a connection, bodies with a content-length.

A general HTTP server would do, at twice the time per request; it would also not let go of a connection without an answer.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from threading import Thread
from typing import cast

from tests.wire.cosmos.messages import Answer, Request

Handler = Callable[[Request], Awaitable[Answer | None]]
"""Answers a request; None breaks the connection."""

_BODILESS = {204, 304}
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Listener:
    """Serves a handler on a free local port, in a thread of its own, until closed."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # without it an answer may wait 40 ms
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)  # clients may connect before the thread has come up
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = Thread(target=self._run, name="cosmos", daemon=True)

    def start(self) -> None:
        """Accept requests from now on."""
        self._thread.start()

    def close(self) -> None:
        """Break all connections and free the port."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        open_connections: set[_Connection] = set()
        server = await self._loop.create_server(lambda: _Connection(self._handler, open_connections), sock=self._socket)
        await self._stop.wait()
        while unfinished := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(unfinished)  # replies; and closing now would leak a connection that is being accepted
        server.close()
        while open_connections:
            for connection in open_connections:
                connection.abort()
            await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, siblings: "set[_Connection]") -> None:
        self._handler = handler
        self._siblings = siblings
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._siblings.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._siblings.discard(self)

    def abort(self) -> None:
        """Break the connection."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        start, *lines = self._received[:head_end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        end = head_end + 4 + int(headers.get("content-length", 0))
        if len(self._received) >= end:
            method, target, _ = start.split(" ")
            request = Request.parse(method, target, headers, bytes(self._received[head_end + 4 : end]))
            del self._received[:end]
            self._task = asyncio.get_running_loop().create_task(self._reply(request))

    async def _reply(self, request: Request) -> None:
        try:
            answer = await self._handler(request)
        except Exception:
            logging.getLogger(__name__).exception("The test server failed at %s %s", request.method, request.kind)
            answer = None  # the client must not wait for an answer
        if answer is None:
            self.abort()
            return
        lines = [f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        if answer.status not in _BODILESS:
            lines.append(f"content-length: {len(answer.body)}")
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body)
