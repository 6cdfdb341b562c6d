"""HTTP/1.1 as far as the SDK speaks it: keep-alive, one request at a time on a connection, bodies with a content-length.

A general HTTP server would do, at twice the time per request; it would also not let go of a connection without an answer.
"""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from threading import Thread, current_thread
from typing import BinaryIO

from tests.wire.cosmos.messages import Answer, Request

Handler = Callable[[Request], Answer | None]
"""Answers a request, in the thread of its connection; None breaks the connection."""

_BODILESS = {204, 304}
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Listener:
    """Serves a handler on a free local port, each connection in a thread of its own, until closed."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)  # clients may come before it has started
        self.port: int = self._socket.getsockname()[1]
        self._connections: dict[Thread, socket.socket] = {}
        self._closing = False
        self._acceptor = Thread(target=self._accept, name="cosmos", daemon=True)

    def start(self) -> None:
        """Accept requests from now on."""
        self._acceptor.start()

    def close(self) -> None:
        """Break all connections and free the port; returns when nothing runs any more."""
        self._closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the acceptor up
        self._acceptor.join()
        self._socket.close()
        for thread, connection in self._connections.copy().items():
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            if self._closing:
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # without it an answer may wait 40 ms
            thread = Thread(target=self._serve, args=(connection,), name="cosmos connection", daemon=True)
            self._connections[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):  # the client may be gone at any time
            while request := _receive(stream):
                try:
                    answer = self._handler(request)
                except Exception:
                    log = logging.getLogger(__name__)
                    log.exception("The test server failed at %s %s", request.method, request.kind)
                    break  # the client must not wait for an answer
                if answer is None:
                    break
                connection.sendall(_encoded(answer))
        del self._connections[current_thread()]


def _receive(stream: BinaryIO) -> Request | None:
    """The next request; None when the client has closed the connection, even in the middle of a request."""
    start = stream.readline()
    headers: dict[str, str] = {}
    while (line := stream.readline()) != b"\r\n":
        if not line:
            return None
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", 0))
    body = stream.read(length)
    if len(body) < length:
        return None
    method, target, _ = start.decode("latin-1").split(" ")
    return Request.parse(method, target, headers, body)


def _encoded(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, '')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if answer.status not in _BODILESS:
        lines.append(f"content-length: {len(answer.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body
