"""A target with a REST API, as a CRM or mailing tool would be: a real HTTP server with faults on demand.

    with RestTarget() as target:
        target.script(Fault(status=503), Fault(drop="after"))   # for the next two API requests
        ...
        assert target.items("contacts") == {"1": {"email": "a@example.org"}}

It has collections of JSON objects under any first path segment: POST creates with an id of its own, PUT and PATCH
change, DELETE removes, GET reads one or searches by fields (`/contacts?email=...`); and a token endpoint `/token`.
"""

import base64
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Condition, Event, Lock, Thread
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

_PATIENCE = 10.0  # seconds after which a held request goes on, so that a failed test ends


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request instead of the usual.

    Attributes:
        status: answer with this status and do nothing.
        headers: of that answer.
        body: of that answer.
        drop: close the connection without an answer, `before` or `after` doing what was asked.
        hold: wait for this event before doing anything.
        hold_answer: do what was asked, then wait for this event before answering.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop: Literal["before", "after"] | None = None
    hold: Event | None = None
    hold_answer: Event | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        """The body as a submitted form."""
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else orjson.dumps(self.body)


class RestTarget:
    """The server; starts with `with` or `start()`.

    Args:
        clients: OAuth2 client ids and secrets that get tokens by client credentials; with any, the API wants a token.
        users: names and passwords that get tokens by password.
        api_key: the API wants this in `X-Api-Key`.
        expires_in: lifetime told with a token, in seconds; nothing is told if None.
        honour_idempotency: answer a repeated `Idempotency-Key` as before and do nothing.
        honour_client_seq: refuse with 412 a `Client-Seq` below one seen for the same item.
        empty_answers: answer writes with 204 and no body.
    """

    def __init__(
        self,
        *,
        clients: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        api_key: str | None = None,
        expires_in: int | None = 3600,
        honour_idempotency: bool = False,
        honour_client_seq: bool = False,
        empty_answers: bool = False,
    ) -> None:
        self.clients, self.users = dict(clients or {}), dict(users or {})
        self.api_key, self.expires_in = api_key, expires_in
        self.honour_idempotency, self.honour_client_seq = honour_idempotency, honour_client_seq
        self.empty_answers = empty_answers
        self.requests: list[Received] = []
        self.token_requests: list[Received] = []
        self.connections = 0
        self._faults: deque[Fault] = deque()
        self._token_faults: deque[Fault] = deque()
        self._collections: dict[str, dict[str, dict[str, Any]]] = {}
        self._seqs: dict[tuple[str, str], int] = {}
        self._answers: dict[str, Answer] = {}
        self._tokens: set[str] = set()
        self._ids, self._token_ids = count(1), count(1)
        self._lock = Lock()
        self._arrived = Event()
        self._under_way = 0
        self._idle = Condition()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def token_url(self) -> str:
        """URL of the token endpoint."""
        return f"{self.url}/token"

    def start(self) -> Self:
        """Accept connections."""
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse connections and cut those that are open."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def script(self, *faults: Fault) -> None:
        """Give each of the next API requests one of these faults, in order."""
        self._faults.extend(faults)

    def script_tokens(self, *faults: Fault) -> None:
        """The same for the token endpoint."""
        self._token_faults.extend(faults)

    def revoke_tokens(self) -> None:
        """Accept no token given out so far."""
        with self._lock:
            self._tokens.clear()

    def items(self, collection: str) -> dict[str, dict[str, Any]]:
        """What a collection holds, by id."""
        with self._lock:
            return dict(self._collections.get(collection, {}))

    def put(self, collection: str, item_id: str, item: dict[str, Any]) -> None:
        """Put an item there without a request."""
        with self._lock:
            self._collections.setdefault(collection, {})[item_id] = item

    def forget(self, collection: str, item_id: str) -> None:
        """Remove an item without a request."""
        with self._lock:
            del self._collections[collection][item_id]

    def wait_for_request(self) -> None:
        """Return once an API request has arrived since the last call of this."""
        if not self._arrived.wait(_PATIENCE):
            raise TimeoutError("no request arrived")
        self._arrived.clear()

    def wait_until_idle(self) -> None:
        """Return once every request that arrived has been dealt with, also those whose caller gave up."""
        with self._idle:
            if not self._idle.wait_for(lambda: self._under_way == 0, _PATIENCE):
                raise TimeoutError("a request is still under way")

    def handle(self, request: Received) -> Answer | None:
        """The answer to a request, None to close the connection without one."""
        with self._idle:
            self._under_way += 1
        try:
            return self._handle(request)
        finally:
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()

    def _handle(self, request: Received) -> Answer | None:
        if request.path == "/token":
            return self._with_faults(request, self.token_requests, self._token_faults, self._token)
        return self._with_faults(request, self.requests, self._faults, self._api)

    def _with_faults(
        self, request: Received, seen: list[Received], faults: deque[Fault], act: Callable[[Received], Answer]
    ) -> Answer | None:
        with self._lock:
            seen.append(request)
            fault = faults.popleft() if faults else Fault()
        if seen is self.requests:
            self._arrived.set()
        if fault.hold is not None:
            fault.hold.wait(_PATIENCE)
        if fault.drop == "before":
            return None
        if fault.status is not None:
            return Answer(fault.status, fault.body, fault.headers)
        with self._lock:
            answer = act(request)
        if fault.hold_answer is not None:
            fault.hold_answer.wait(_PATIENCE)
        return None if fault.drop == "after" else answer

    def _token(self, request: Received) -> Answer:
        form = request.form
        if form.get("grant_type") == "password":
            known = self.users.get(form.get("username", "")) == form.get("password")
            error = "invalid_grant"
        else:
            scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
            client, _, secret = base64.b64decode(encoded).decode(errors="replace").partition(":")
            known = scheme == "Basic" and client in self.clients and self.clients[client] == secret
            error = "invalid_client"
        if not known:
            return Answer(401, {"error": error, "error_description": f"no such credentials: {request.body.decode()}"})
        token = f"token-{next(self._token_ids)}-of-the-target"
        self._tokens.add(token)
        expiry = {} if self.expires_in is None else {"expires_in": self.expires_in}
        return Answer(200, {"access_token": token, "token_type": "Bearer", **expiry})

    def _api(self, request: Received) -> Answer:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        key = request.headers.get("idempotency-key")
        if self.honour_idempotency and key in self._answers:
            return self._answers[key]
        answer = self._act(request)
        if key is not None and request.method != "GET":
            self._answers[key] = answer
        return answer

    def _refusal(self, request: Received) -> Answer | None:
        if self.api_key is not None and request.headers.get("x-api-key") != self.api_key:
            return Answer(401, {"error": "key"})
        if self.clients or self.users:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            if token not in self._tokens:
                return Answer(401, {"error": "token"})
        return None

    def _act(self, request: Received) -> Answer:
        parts = urlsplit(request.path)
        _, collection, *rest = parts.path.split("/")
        items = self._collections.setdefault(collection, {})
        if request.method == "GET" and not rest:
            return Answer(200, _found(items, dict(parse_qsl(parts.query))))
        item_id = unquote(rest[0]) if rest else str(next(self._ids))
        if rest and item_id not in items and request.method != "PUT":
            return Answer(404, {"error": "unknown"})
        if self._is_stale(collection, item_id, request):
            return Answer(412, {"error": "stale"})
        if request.method == "DELETE":
            del items[item_id]
            return Answer(204)
        if request.method == "GET":
            return Answer(200, {"id": item_id, **items[item_id]})
        items[item_id] = {**items.get(item_id, {}), **request.json} if request.method == "PATCH" else request.json
        return Answer(204) if self.empty_answers else Answer(200 if rest else 201, {"id": item_id, **items[item_id]})

    def _is_stale(self, collection: str, item_id: str, request: Received) -> bool:
        seq = int(request.headers.get("client-seq", "0"))
        if self.honour_client_seq and seq < self._seqs.get((collection, item_id), 0):
            return True
        self._seqs[collection, item_id] = seq
        return False


def _found(items: Mapping[str, dict[str, Any]], wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"id": item_id, **item}
        for item_id, item in items.items()
        if all(str(item.get(name)) == value for name, value in wanted.items())
    ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: RestTarget) -> None:
        self.target = target
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.target.connections += 1
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True  # the client gave up

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.target.handle(Received(self.command, self.path, headers, self.rfile.read(length)))
        if answer is None:
            self.close_connection = True
            return
        content = answer.content()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - signature of the base class
        """Say nothing."""
