"""The two systems that the sample tells about persons, as a small HTTP server for the demo; fails at first."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

TOKEN = "demo-token"  # noqa: S105 - opens nothing but this server


class DemoTarget(ThreadingHTTPServer):
    """Keeps persons and subscribers in memory.

    Args:
        failures: calls that are answered with 503 before the first one works.
    """

    daemon_threads = True

    def __init__(self, failures: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = Lock()
        self.failures = failures
        self.people: dict[str, dict[str, Any]] = {}
        self.subscribers: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve as long as the context lasts; gives the URL."""
        thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self.url
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        """Status and JSON of one call."""
        with self.lock:
            if path == "/token":
                return 200, {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
            if self.failures > 0:
                self.failures -= 1
                return 503, {"error": "still starting"}
            kind, _, reference = path.partition("?")[0].strip("/").partition("/")
            if kind == "people":
                return self._person(method, path, reference, body)
            if method == "DELETE":
                return (204 if self.subscribers.pop(reference, None) else 404), None
            self.subscribers[reference] = body or {}
            return 200, {}

    def _person(self, method: str, path: str, reference: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        if method == "GET":
            number = path.rpartition("=")[2]
            return 200, [{"id": key} for key, person in self.people.items() if str(person["number"]) == number]
        if method == "POST":
            reference = f"crm-{len(self.people) + 1}"
        elif reference not in self.people:
            return 404, None
        self.people[reference] = body or {}
        return (201 if method == "POST" else 200), {"id": reference}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: DemoTarget

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(content) if content and self.path != "/token" else None
        status, document = self.server.answer(self.command, self.path, body)
        answer = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""
