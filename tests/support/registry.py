"""A registry to pull from, as a real HTTP server: rows in pages, with a cursor, and faults on demand."""

from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import orjson


class Registry:
    """Serves its rows as `{"items": [...], "cursor": "..."}` to `GET /?after=CURSOR`, as long as the context lasts.

    Attributes:
        rows: what it has; append to it.
        page_size: rows of one answer.
        faults: statuses with which the next requests are answered; 200 is no fault.
        asked: the cursors it was asked for.
    """

    def __init__(self, *rows: Any, page_size: int = 2) -> None:
        self.rows, self.page_size = list(rows), page_size
        self.faults: deque[int] = deque()
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def page(self, cursor: str) -> tuple[int, bytes]:
        """Status and body of the answer to one request."""
        self.asked.append(cursor)
        status = self.faults.popleft() if self.faults else 200
        if status != 200:
            return status, b"{}"
        start = int(cursor or 0)
        items = self.rows[start : start + self.page_size]
        return 200, orjson.dumps({"items": items, "cursor": str(start + len(items))})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def row(number: int, minute: int = 0, **fields: Any) -> dict[str, Any]:
    """A row as the registry of the sample has it."""
    return {
        "rec_id": f"rec-{number}-org",
        "given_name": f"given{number}",
        "surname": f"surname{number}",
        "changed_at": f"2026-05-01T10:{minute:02}:00Z",
        **fields,
    }


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cursor = parse_qs(urlsplit(self.path).query).get("after", [""])[0]
            status, body = registry.page(cursor)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - signature of the base class
            """Say nothing."""

    return Handler
