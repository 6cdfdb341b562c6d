"""An app with one function for each thing a host must get right, and a plain HTTP client for it."""

import http.client
import json
import socket
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

import azure.functions as func
from pydantic import SecretStr

from functions_app.local_keys import HostKeys

swept: list[func.TimerRequest] = []
NEVER = {"NEVER": "0 0 0 1 1 *"}


MASTER, HOST, OWN, OTHER = "master-key", "host-key", "key-of-guarded", "key-of-another"
KEYS = HostKeys(
    master=SecretStr(MASTER),
    host=[SecretStr(HOST)],
    functions={"guarded": [SecretStr(OWN)], "another": [SecretStr(OTHER)]},
)
PATIENCE = 10  # seconds a test waits for something that should come at once


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def call(
    url: str, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """One request on a connection of its own; the path goes out as it is, without normalisation."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def connect(url: str) -> socket.socket:
    address = urllib.parse.urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)


def raw_status(url: str, request: bytes) -> int:
    """The status that bytes no HTTP library would send are answered with."""
    with connect(url) as connection:
        connection.sendall(request)
        return int(connection.makefile("rb").readline().split()[1])


def keyed(key: str) -> dict[str, str]:
    return {"x-functions-key": key}


def everything_about(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(
        json.dumps(
            {
                "class": f"{type(req).__module__}.{type(req).__qualname__}",
                "method": req.method,
                "url": req.url,
                "headers": dict(req.headers),
                "params": dict(req.params),
                "route_params": dict(req.route_params),
                "body": req.get_body().decode("latin-1"),
            }
        ),
        mimetype="application/json",
    )


def sample_app() -> func.FunctionApp:  # noqa: C901 - a list of functions, not a decision
    """One function for each thing the host must get right."""
    app = func.FunctionApp()
    anonymous = func.AuthLevel.ANONYMOUS

    @app.route(route="echo/{*rest}", auth_level=anonymous)
    def echo(req: func.HttpRequest) -> func.HttpResponse:
        return everything_about(req)

    @app.route(route="items/{id:int}", methods=["GET"], auth_level=anonymous)
    def item(req: func.HttpRequest) -> func.HttpResponse:
        return everything_about(req)

    @app.route(route="items/{name?}", methods=["GET"], auth_level=anonymous)
    def named(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(f"named {req.route_params.get('name')}")

    @app.route(methods=["GET", "POST"], auth_level=anonymous)
    def plain(req: func.HttpRequest) -> str:
        return "ñandú"

    @app.route()
    def guarded(req: func.HttpRequest) -> str:
        return "in"

    @app.route(auth_level=func.AuthLevel.ADMIN)
    def administered(req: func.HttpRequest) -> str:
        return "in"

    @app.route(auth_level=anonymous)
    def full(req: func.HttpRequest) -> func.HttpResponse:
        answer = func.HttpResponse("{}", status_code=201, mimetype="application/json")
        answer.headers["X-Seen"] = "yes"
        answer.headers["Content-Length"] = "999"
        answer.headers.add("Set-Cookie", "a=1; HttpOnly; Path=/")
        answer.headers.add("Set-Cookie", "b=2; Secure")
        return answer

    @app.route(auth_level=anonymous)
    def empty(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("ignored", status_code=204)

    @app.route(route="broken/{how}", auth_level=anonymous)
    def broken(req: func.HttpRequest) -> func.HttpResponse:
        match req.route_params["how"]:
            case "error":
                raise ValueError("CANARY")
            case "exit":
                raise SystemExit("CANARY")
            case "header":
                return func.HttpResponse("x", headers={"X-Bad": "日本"})
            case _:
                return None  # type: ignore[return-value]  # what a careless handler does

    @app.timer_trigger(arg_name="timer", schedule="%NEVER%")
    def sweep(timer: func.TimerRequest) -> None:
        swept.append(timer)

    @app.timer_trigger(arg_name="timer", schedule="%NEVER%")
    def failing(timer: func.TimerRequest) -> None:
        raise ValueError("CANARY")

    @app.cosmos_db_trigger(arg_name="docs", connection="C", database_name="d", container_name="events")
    def project(docs: func.DocumentList) -> None:
        raise AssertionError("nothing drives this here")

    return app
