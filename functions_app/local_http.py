"""The HTTP side of the local host: an ASGI application that routes, authorises and calls functions.

The event loop only reads and routes; handlers run in a bounded pool of threads. The administration follows the real
host where it has the same thing: `GET /admin/host/status`, and `POST /admin/functions/{name}` to run a timer by hand
(which answers when the run is over, not before). Both want the master key.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import Executor
from typing import Any
from urllib.parse import parse_qsl

import orjson
from azure.functions import AuthLevel, HttpResponse
from azure.functions.decorators.http import HttpTrigger
from azure.functions.meta import Datum

from .local_functions import Answer, LocalFunction, answer_of, respond
from .local_keys import HostKeys
from .local_timers import Timer
from .problems import RequestError, problem, problem_for, unexpected
from .request_body import BodyTooLargeError
from .routes import RouteTable, RouteTemplate, path_parts

MAX_BODY = 1024 * 1024
MAX_HEAD = 32 * 1024  # bytes, as Kestrel has it
ROUTE_PREFIX = "api"
_PATIENCE = 30.0

Message = MutableMapping[str, Any]
_NOT_FOUND = answer_of(
    problem(404, "Nothing is here", code="not_found", detail="No function has this route and method.")
)
_UNAUTHORIZED = answer_of(
    problem(
        401,
        "An access key is needed",
        code="unauthorized",
        detail="Send a valid key in the header x-functions-key, or in the query as code.",
    )
)
_STILL_RUNNING = answer_of(
    problem(409, "The timer is running", code="still_running", detail="Wait until it has ended.", retry_after=_PATIENCE)
)


class HeadTooLargeError(RequestError):
    """Path, query and headers are longer than any client of ours needs."""

    status, code, title = 431, "head_too_large", "Too much before the body"


def http_routes(functions: Iterable[LocalFunction]) -> RouteTable[LocalFunction]:
    """The routes of the functions with an HTTP trigger, under `/api`.

    Raises:
        InvalidRouteError: a route template that cannot be read.
    """
    return RouteTable(
        (RouteTemplate(f"{ROUTE_PREFIX}/{(trigger.route or function.name).lstrip('/')}"), _methods(trigger), function)
        for function in functions
        if isinstance(trigger := function.trigger, HttpTrigger)
    )


class LocalHttp:
    """The ASGI application of a local host.

    Args:
        routes: where requests lead.
        timers: can be run by hand.
        keys: who may call what.
        pool: threads for handlers.
        status: what `GET /admin/host/status` shows.
    """

    def __init__(
        self,
        routes: RouteTable[LocalFunction],
        timers: Iterable[Timer],
        *,
        keys: HostKeys,
        pool: Executor,
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._routes = routes
        self._timers = {timer.name.lower(): timer for timer in timers}
        self._keys = keys
        self._pool = pool
        self._status = status

    async def __call__(
        self, scope: Mapping[str, Any], receive: Callable[[], Any], send: Callable[[Message], Any]
    ) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(scope, receive)
        except RequestError as error:
            answer = answer_of(problem_for(error))
        if answer is None:
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Mapping[str, Any], receive: Callable[[], Any]) -> Answer | None:
        _check_head(scope)
        parts = path_parts(scope["raw_path"])
        headers = _from_outside(
            _joined((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        )
        query = _joined(parse_qsl(scope["query_string"].decode("latin-1")))
        # The header wins even when it is wrong or empty, as on Azure.
        key = headers.get("x-functions-key", query.get("code"))
        if parts and parts[0].lower() == "admin":
            return await self._administer(scope["method"], [part.lower() for part in parts[1:]], key)
        found = self._routes.find(scope["method"], parts)
        if found is None:
            return _NOT_FOUND
        function, values = found
        if not self._keys.admits(key, function.auth_level, function.name):
            return _UNAUTHORIZED
        body = await _read_body(receive, headers)
        if body is None:
            return None
        request = _request(scope, headers=headers, query=query, values=values, body=body)
        return await asyncio.get_running_loop().run_in_executor(self._pool, respond, function, request)

    async def _administer(self, method: str, parts: Sequence[str], key: str | None) -> Answer:
        if not self._keys.admits(key, AuthLevel.ADMIN, ""):
            return _UNAUTHORIZED
        match method, *parts:
            case "GET", "host", "status":
                return answer_of(HttpResponse(orjson.dumps(self._status()), mimetype="application/json"))
            case "POST", "functions", name if name in self._timers:
                return await asyncio.get_running_loop().run_in_executor(self._pool, _fire, self._timers[name])
            case _:
                return _NOT_FOUND


def _fire(timer: Timer) -> Answer:
    try:
        return answer_of(HttpResponse(status_code=202)) if timer.fire(patience=_PATIENCE) else _STILL_RUNNING
    except BaseException as error:  # noqa: BLE001 - SystemExit or CancelledError in a handler must not end the server
        return answer_of(unexpected(error))


def _check_head(scope: Mapping[str, Any]) -> None:
    # The parser's own limit holds for a head that comes in pieces; one that fits a single read passes it.
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    if headers + len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEAD:
        raise HeadTooLargeError(f"Path, query and headers may take {MAX_HEAD} bytes together.")


def _methods(trigger: HttpTrigger) -> frozenset[str] | None:
    return frozenset(str(method.value) for method in trigger.methods) if trigger.methods else None


def _from_outside(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without those that only the platform may set, such as the one that says who calls."""
    return {name: value for name, value in headers.items() if not name.startswith("x-ms-")}


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One text per name, values of a repeated name joined by commas, as the real host hands them over."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


async def _read_body(receive: Callable[[], Any], headers: Mapping[str, str]) -> bytes | None:
    """The whole body; None if the client went away.

    Raises:
        BodyTooLargeError: more than a megabyte, declared or sent.
    """
    declared = int(headers.get("content-length", "0"))
    if declared > MAX_BODY:
        raise BodyTooLargeError(declared, MAX_BODY)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message["body"])
        size += len(message["body"])
        if size > MAX_BODY:
            raise BodyTooLargeError(size, MAX_BODY)
        if not message["more_body"]:
            return b"".join(chunks)


def _request(
    scope: Mapping[str, Any],
    *,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    values: Mapping[str, str],
    body: bytes,
) -> Datum:
    address = headers.get("host") or "{}:{}".format(*scope["server"])
    question = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    parts = {
        "method": _text(scope["method"]),
        "url": _text(f"{scope['scheme']}://{address}{scope['raw_path'].decode('latin-1')}{question}"),
        "headers": {name: _text(value) for name, value in headers.items()},
        "query": {name: _text(value) for name, value in query.items()},
        "params": {name: _text(value) for name, value in values.items()},
        "body": Datum(body, "bytes"),
    }
    return Datum(parts, "http")


def _text(value: str) -> Datum:
    return Datum(value, "string")
