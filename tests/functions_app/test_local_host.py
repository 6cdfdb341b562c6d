import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import azure.functions as func
import pytest
from pydantic import SecretStr

from functions_app.errors import FlowError, MissingSettingError
from functions_app.local_errors import (
    InvalidRouteError,
    InvalidScheduleError,
    InvalidSettingError,
    UnsupportedFunctionError,
)
from functions_app.local_host import LocalHost
from functions_app.local_http import MAX_BODY
from functions_app.local_keys import HostKeys

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


swept: list[func.TimerRequest] = []
NEVER = {"NEVER": "0 0 0 1 1 *"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A running host with the sample app."""
    with LocalHost(sample_app(), keys=KEYS, settings=NEVER).started() as host:
        yield host.url


def one_function(handler: object, *, settings: Mapping[str, str] | None = None, grace_seconds: int = 10) -> LocalHost:
    app = func.FunctionApp()
    app.route(route="one", auth_level=func.AuthLevel.ANONYMOUS)(handler)
    return LocalHost(app, keys=HostKeys(), settings=settings or {}, grace_seconds=grace_seconds)


class TestRouting:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/api/plain", 200),
            ("POST", "/api/plain", 200),
            ("GET", "/API/Plain", 200),
            ("GET", "/api/plain/", 200),
            ("GET", "/api/plain?x=1", 200),
            ("GET", "/api/./echo/../plain", 200),
            ("GET", "/plain", 404),
            ("GET", "/", 404),
            ("GET", "/api", 404),
            ("GET", "/api/plain/more", 404),
            ("GET", "/api//plain", 404),
            ("GET", "/api/%2Fplain", 404),
            ("GET", "/api/nothing", 404),
            ("PUT", "/api/plain", 404),
            ("HEAD", "/api/plain", 404),
            ("OPTIONS", "/api/plain", 404),
            ("BREW", "/api/plain", 404),
            ("get", "/api/plain", 404),
            ("BREW", "/api/echo/x", 200),
            ("HEAD", "/api/echo/x", 200),
            ("OPTIONS", "/api/echo/x", 200),
            ("OPTIONS", "*", 404),
            ("GET", "http://elsewhere/api/plain", 404),
            ("GET", "/api/items/x/../../../admin/host/status", 401),
            ("GET", "/api/%2e%2e/admin/host/status", 401),
        ],
    )
    def test_a_request_reaches_its_function_or_none(self, url: str, method: str, path: str, status: int) -> None:
        """By path and method; what has no function is a 404, on a wrong method too."""
        assert call(url, method, path).status == status

    @pytest.mark.parametrize(
        ("path", "answer"), [("/api/items", "named None"), ("/api/items/x", "named x"), ("/api/items/7", None)]
    )
    def test_the_narrowest_route_wins(self, url: str, path: str, answer: str | None) -> None:
        """An integer goes to the function that asks for one, anything else to the other."""
        body = call(url, "GET", path).body.decode()
        assert body == answer if answer else json.loads(body)["route_params"] == {"id": "7"}

    @pytest.mark.parametrize("path", ["/api/echo/%zz", "/api/echo/%", "/api/echo/%ff", "/api/echo/a%00b", "/%zz"])
    def test_a_path_that_is_no_text_is_a_400(self, url: str, path: str) -> None:
        """It says what is wrong instead of guessing."""
        reply = call(url, "GET", path)
        assert reply.status == 400
        assert json.loads(reply.body)["code"] == "malformed_path"

    def test_an_answer_of_the_host_is_a_problem_document(self, url: str) -> None:
        """Also where no function could answer."""
        reply = call(url, "GET", "/api/nothing")
        assert reply.headers["content-type"] == "application/problem+json"
        assert json.loads(reply.body)["code"] == "not_found"

    def test_the_path_is_decoded_for_the_function(self, url: str) -> None:
        """Unicode arrives as text; an encoded slash and dots behind it stay what they are."""
        reply = call(url, "GET", "/api/echo/Bogot%C3%A1/a%2F..%2F..%2Fetc")
        assert json.loads(reply.body)["route_params"] == {"rest": "Bogotá/a%2F..%2F..%2Fetc"}


class TestRequest:
    def test_the_handler_gets_what_the_worker_would_give_it(self, url: str) -> None:
        """The class of azure.functions, names of headers in lower case, repeated values joined."""
        with connect(url) as connection:
            connection.sendall(
                b"POST /api/echo/x?a=1&b=x%20y&a=2&empty= HTTP/1.1\r\nHost: here:1\r\nX-Twice: 1\r\nx-twice: 2\r\n"
                b"Content-Length: 3\r\nConnection: close\r\n\r\n\x00\xffz"
            )
            _, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        seen = json.loads(body)
        assert seen["class"] == "azure.functions.http.HttpRequest"
        assert seen["method"] == "POST"
        assert seen["url"] == "http://here:1/api/echo/x?a=1&b=x%20y&a=2&empty="
        assert seen["params"] == {"a": "1,2", "b": "x y"}
        assert seen["headers"]["x-twice"] == "1,2"
        assert seen["body"] == "\x00\xffz"

    def test_a_body_may_come_in_pieces(self, url: str) -> None:
        """Chunked, and in packets of its own."""
        with connect(url) as connection:
            connection.sendall(
                b"POST /api/echo/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n"
            )
            connection.sendall(b"2\r\nde\r\n0\r\n\r\n")
            _, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        assert json.loads(body)["body"] == "abcde"

    def test_a_body_of_a_megabyte_is_taken_and_no_byte_more(self, url: str) -> None:
        """413 by the declared length, with the connection still usable."""
        assert call(url, "POST", "/api/plain", body=b"a" * MAX_BODY).status == 200
        reply = call(url, "POST", "/api/plain", body=b"a" * (MAX_BODY + 1))
        assert (reply.status, json.loads(reply.body)["code"]) == (413, "body_too_large")

    def test_a_declared_size_beyond_the_limit_is_refused_before_it_is_sent(self, url: str) -> None:
        """A client that asks first is spared the upload."""
        head = b"POST /api/plain HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
        assert raw_status(url, head) == 413

    def test_a_body_that_grows_beyond_the_limit_is_refused(self, url: str) -> None:
        """Chunked bodies declare no length."""
        chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        head = b"POST /api/plain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert raw_status(url, head + chunk * 17 + b"0\r\n\r\n") == 413

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET /api/echo/Bogot\xc3\xa1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /api/echo/a b HTTP/1.1\r\nHost: x\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ],
    )
    def test_what_is_not_http_is_a_400(self, url: str, request_bytes: bytes) -> None:
        """Raw Unicode, spaces, lengths that are none: refused, and the host goes on."""
        assert raw_status(url, request_bytes) == 400
        assert call(url, "GET", "/api/plain").status == 200

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 33_000 + b"\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 5_000 + b"\r\n",
            b"GET /api/plain?" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /api/" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        ],
    )
    def test_a_huge_head_is_refused(self, url: str, request_bytes: bytes) -> None:
        """By the parser if it comes in pieces, else by the host; half of it is no problem."""
        assert raw_status(url, request_bytes) in {400, 431}
        assert call(url, "GET", "/api/plain", headers={"X-Long": "a" * 16_000}).status == 200

    def test_a_client_that_goes_away_leaves_no_trace(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        """Half a body is no request."""
        with connect(url) as connection:
            connection.sendall(b"POST /api/plain HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert call(url, "GET", "/api/plain").status == 200
        assert caplog.records == []


class TestAnswer:
    def test_text_is_a_plain_answer(self, url: str) -> None:
        """A handler may return text alone."""
        reply = call(url, "GET", "/api/plain")
        assert (reply.status, reply.body.decode()) == (200, "ñandú")
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"

    def test_status_headers_and_cookies_arrive(self, url: str) -> None:
        """As the handler set them, but for the framing, which is the host's."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=PATIENCE)
        connection.request("GET", "/api/full")
        response = connection.getresponse()
        assert (response.status, response.read()) == (201, b"{}")
        assert response.headers["X-Seen"] == "yes"
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers.get_all("Content-Length") == ["2"]
        assert response.headers.get_all("Set-Cookie") == ["a=1; HttpOnly; Path=/", "b=2; Secure"]
        connection.close()

    def test_no_content_is_no_content(self, url: str) -> None:
        """A body under 204 would break the next answer on the connection."""
        reply = call(url, "GET", "/api/empty")
        assert (reply.status, reply.body) == (204, b"")

    def test_a_head_request_gets_the_head(self, url: str) -> None:
        """The length of what GET would bring, and nothing of it."""
        reply = call(url, "HEAD", "/api/echo/x")
        assert reply.body == b""
        assert int(reply.headers["content-length"]) > 0

    @pytest.mark.parametrize("how", ["error", "exit", "header", "nothing"])
    def test_a_handler_that_fails_is_a_500_with_a_reference(
        self, url: str, how: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log has the reference, nobody has the message, and the host goes on."""
        with caplog.at_level(logging.ERROR):
            reply = call(url, "GET", f"/api/broken/{how}")
        assert reply.status == 500
        assert json.loads(reply.body)["reference"] in caplog.text
        assert "CANARY" not in caplog.text + reply.body.decode()
        assert call(url, "GET", "/api/plain").status == 200


class TestKeys:
    @pytest.mark.parametrize(
        ("function", "headers", "query", "status"),
        [
            ("plain", {}, "", 200),
            ("plain", keyed("wrong"), "", 200),
            ("guarded", {}, "", 401),
            ("guarded", keyed(OWN), "", 200),
            ("guarded", {"X-Functions-Key": OWN}, "", 200),
            ("guarded", keyed(HOST), "", 200),
            ("guarded", keyed(MASTER), "", 200),
            ("guarded", keyed(OTHER), "", 401),
            ("guarded", keyed(OWN + "x"), "", 401),
            ("guarded", keyed(OWN[:-1]), "", 401),
            ("guarded", keyed(OWN.upper()), "", 401),
            ("guarded", keyed(""), "", 401),
            ("guarded", keyed("ñ"), "", 401),
            ("guarded", {}, f"?code={OWN}", 200),
            ("guarded", {}, f"?code={HOST}", 200),
            ("guarded", {}, "?code=wrong", 401),
            ("guarded", {}, "?code=", 401),
            ("guarded", {}, f"?CODE={OWN}", 401),
            ("guarded", {}, f"?code=x&code={OWN}", 401),
            ("guarded", keyed("wrong"), f"?code={OWN}", 401),
            ("guarded", keyed(""), f"?code={OWN}", 401),
            ("guarded", keyed(OWN), "?code=wrong", 200),
            ("administered", {}, "", 401),
            ("administered", keyed(HOST), "", 401),
            ("administered", keyed(MASTER), "", 200),
        ],
    )
    def test_who_may_call_what(self, url: str, function: str, headers: dict[str, str], query: str, status: int) -> None:
        """The header before the query, even when it is wrong; each key opens what it opens on Azure."""
        assert call(url, "GET", f"/api/{function}{query}", headers=headers).status == status

    def test_without_keys_only_anonymous_functions_open(self) -> None:
        """No key configured means no key is right, least of all the empty one."""
        with LocalHost(sample_app(), keys=HostKeys(), settings=NEVER).started() as host:
            assert call(host.url, "GET", "/api/plain").status == 200
            assert call(host.url, "GET", "/api/guarded", headers=keyed("")).status == 401
            assert call(host.url, "GET", "/admin/host/status", headers=keyed("None")).status == 401

    @pytest.mark.parametrize("name", ["master", "host", "functions"])
    def test_an_empty_key_cannot_be_configured(self, name: str) -> None:
        """It would open the door to everybody."""
        empty = {"master": SecretStr(""), "host": [SecretStr("")], "functions": {"f": [SecretStr("")]}}[name]
        with pytest.raises(ValueError, match="empty"):
            HostKeys(**{name: empty})  # type: ignore[arg-type]  # one of three types

    def test_no_key_is_in_the_text_of_the_keys(self) -> None:
        """Whoever logs the object logs no secret."""
        assert not any(key in repr(KEYS) for key in (MASTER, HOST, OWN, OTHER))


class TestAdministration:
    @pytest.mark.parametrize(
        ("method", "path", "key", "status"),
        [
            ("POST", "/admin/functions/sweep", MASTER, 202),
            ("POST", "/Admin/Functions/SWEEP", MASTER, 202),
            ("POST", "/admin/functions/sweep", HOST, 401),
            ("POST", "/admin/functions/sweep", "", 401),
            ("GET", "/admin/functions/sweep", MASTER, 404),
            ("POST", "/admin/functions/plain", MASTER, 404),
            ("POST", "/admin/functions/project", MASTER, 404),
            ("POST", "/admin/functions/nobody", MASTER, 404),
            ("POST", "/admin/functions/nobody", HOST, 401),
            ("POST", "/admin/functions/failing", MASTER, 500),
            ("GET", "/admin/host/status", HOST, 401),
            ("GET", "/admin/host/status", MASTER, 200),
            ("GET", "/admin", MASTER, 404),
        ],
    )
    def test_the_master_key_administers(self, url: str, method: str, path: str, key: str, status: int) -> None:
        """Timers are run by hand, nothing else; without the key not even names can be guessed."""
        assert call(url, method, path, body=b'{"input": ""}', headers=keyed(key)).status == status

    def test_a_run_by_hand_is_over_when_it_is_answered(self, url: str) -> None:
        """Whoever asked for a sweep can look at its effect."""
        before = len(swept)
        assert call(url, "POST", "/admin/functions/sweep", headers=keyed(MASTER)).status == 202
        assert len(swept) == before + 1
        assert isinstance(swept[-1], func.TimerRequest)

    def test_a_timer_that_fails_by_hand_keeps_its_message_to_itself(
        self, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As with any function: a reference, the class in the log, no payload."""
        reply = call(url, "POST", "/admin/functions/failing", headers=keyed(MASTER))
        assert json.loads(reply.body)["reference"] in caplog.text
        assert "CANARY" not in caplog.text + reply.body.decode()

    def test_the_status_lists_functions_and_loops(self, url: str) -> None:
        """Data triggers too, though nothing drives them here; timers are loops."""
        status = json.loads(call(url, "GET", "/admin/host/status", headers=keyed(MASTER)).body)
        assert status["state"] == "Running"
        assert {"name": "project", "trigger": "cosmosDBTrigger"} in status["functions"]
        assert {"name": "sweep", "running": True, "failures": 0} in status["loops"]


class TestThreads:
    def test_handlers_run_side_by_side(self) -> None:
        """Four requests that wait for one another all come back."""
        together = threading.Barrier(4)

        def meet(req: func.HttpRequest) -> str:
            together.wait(PATIENCE)
            return "met"

        with one_function(meet).started() as host, ThreadPoolExecutor(4) as clients:
            replies = clients.map(lambda _: call(host.url, "GET", "/api/one").status, range(4))
            assert list(replies) == [200] * 4

    def test_the_number_of_threads_is_a_setting(self) -> None:
        """With one thread two handlers never meet."""
        guard = threading.Lock()

        def alone(req: func.HttpRequest) -> str:
            assert guard.acquire(blocking=False)
            guard.release()
            return "alone"

        host = one_function(alone, settings={"PYTHON_THREADPOOL_THREAD_COUNT": "1"})
        with host.started() as running, ThreadPoolExecutor(4) as clients:
            replies = clients.map(lambda _: call(running.url, "GET", "/api/one").status, range(40))
            assert list(replies) == [200] * 40

    def test_an_answer_does_not_wait_for_an_acknowledgement(self, url: str) -> None:
        """Head and body are two packets: without TCP_NODELAY each answer would take 40 ms."""
        with connect(url) as client:
            client.sendall(b"GET /api/plain HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1)
            with server_side_of(client) as served:
                assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def server_side_of(client: socket.socket) -> socket.socket:
    """The socket at the other end, which is in this process too."""
    for entry in Path("/dev/fd").iterdir():
        try:
            number = os.dup(int(entry.name))
        except OSError:
            continue
        try:
            candidate = socket.socket(fileno=number)
        except OSError:
            os.close(number)
            continue
        try:
            if candidate.getpeername() == client.getsockname():
                return candidate
        except OSError:
            pass
        candidate.close()
    raise AssertionError("the connection is served by nobody")


class Recorder:
    """A loop that says when it runs and when it has stopped."""

    name = "recorder"

    def __init__(self) -> None:
        self.running, self.stopped = threading.Event(), threading.Event()

    def run(self, stop: threading.Event) -> None:
        self.running.set()
        stop.wait(PATIENCE)
        self.stopped.set()


class FailsOnce:
    """A loop that fails at first."""

    name = "fails once"

    def __init__(self) -> None:
        self.attempts = 0
        self.recovered = threading.Event()

    def run(self, stop: threading.Event) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise OSError("CANARY")
        self.recovered.set()
        stop.wait(PATIENCE)


class TestLoops:
    def test_loops_run_as_long_as_the_host(self) -> None:
        """Started with it, told to stop with it, and waited for."""
        loop = Recorder()
        with LocalHost(func.FunctionApp(), keys=KEYS, settings={}, loops=[loop]).started():
            assert loop.running.wait(PATIENCE)
            assert not loop.stopped.is_set()
        assert loop.stopped.is_set()

    def test_a_loop_that_fails_is_started_again(self, caplog: pytest.LogCaptureFixture) -> None:
        """After a pause; the failure is counted and logged by its class, the other loops go on."""
        failing, steady = FailsOnce(), Recorder()
        host = LocalHost(func.FunctionApp(), keys=KEYS, settings={}, loops=[failing, steady])
        with host.started() as running:
            assert failing.recovered.wait(PATIENCE)
            status = json.loads(call(running.url, "GET", "/admin/host/status", headers=keyed(MASTER)).body)
            assert not steady.stopped.is_set()
        assert status["loops"] == [
            {"name": "fails once", "running": True, "failures": 1},
            {"name": "recorder", "running": True, "failures": 0},
        ]
        assert "fails once" in caplog.text
        assert "OSError" in caplog.text
        assert "CANARY" not in caplog.text

    def test_a_loop_that_does_not_stop_is_named_and_left_behind(self, caplog: pytest.LogCaptureFixture) -> None:
        """It must not keep the host from ending."""
        release = threading.Event()

        class Stubborn:
            name = "stubborn"

            def run(self, stop: threading.Event) -> None:
                release.wait(PATIENCE)

        with LocalHost(func.FunctionApp(), keys=KEYS, settings={}, loops=[Stubborn()], grace_seconds=0).started():
            pass
        release.set()
        assert "Loop stubborn did not stop in time" in caplog.text

    def test_timers_run_by_the_clock_of_the_host(self) -> None:
        """A timer whose moment comes is run without anybody asking."""
        ticked = threading.Event()
        app = func.FunctionApp()

        @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
        def tick(timer: func.TimerRequest) -> None:
            ticked.set()

        with LocalHost(app, keys=KEYS, settings={}, clock=NewYear()).started():
            assert ticked.wait(PATIENCE)


class NewYear:
    """A clock on which the first moment waited for comes at once, and no other ever does."""

    def __init__(self) -> None:
        self._now = datetime.fromisoformat("2026-11-24T05:00:00+00:00")
        self._jumped = False

    def now(self) -> datetime:
        return self._now

    def wait_until(self, moment: datetime, stop: threading.Event) -> bool:
        if self._jumped:
            stop.wait(PATIENCE)
            return False
        self._jumped, self._now = True, moment
        return True


class TestStopping:
    def test_a_request_in_flight_is_answered(self) -> None:
        """The host stops taking requests at once, but finishes those it has."""
        inside, leave = threading.Event(), threading.Event()

        def slow(req: func.HttpRequest) -> str:
            inside.set()
            assert leave.wait(PATIENCE)
            return "done"

        with ThreadPoolExecutor(2) as threads:
            with one_function(slow).started() as host:
                reply = threads.submit(call, host.url, "GET", "/api/one")
                assert inside.wait(PATIENCE)
                threads.submit(release_once_refused, host.url, leave)
            assert reply.result(PATIENCE).body == b"done"
            with pytest.raises(ConnectionError):
                call(host.url, "GET", "/api/one")

    def test_a_handler_that_never_ends_does_not_hold_the_host(self) -> None:
        """Its client is told; the host ends within its grace."""
        inside, leave = threading.Event(), threading.Event()

        def endless(req: func.HttpRequest) -> str:
            inside.set()
            leave.wait(PATIENCE)
            return "too late"

        with ThreadPoolExecutor(1) as threads:
            with one_function(endless, grace_seconds=0).started() as host:
                reply = threads.submit(call, host.url, "GET", "/api/one")
                assert inside.wait(PATIENCE)
            assert not leave.is_set()
            assert reply.result(PATIENCE).status == 500
            leave.set()

    def test_an_idle_connection_does_not_hold_the_host(self) -> None:
        """A client that keeps its connection open is not waited for."""
        with one_function(plain_answer).started() as host:
            idle = http.client.HTTPConnection(urllib.parse.urlsplit(host.url).netloc, timeout=PATIENCE)
            idle.request("GET", "/api/one")
            assert idle.getresponse().read() == b"here"
        assert idle.sock.recv(1) == b""
        idle.close()

    def test_a_host_can_be_started_again(self) -> None:
        """Stopping leaves nothing behind that a new start would trip over."""
        host = one_function(plain_answer)
        for _ in range(2):
            with host.started() as running:
                assert call(running.url, "GET", "/api/one").status == 200

    def test_an_error_in_the_caller_stops_the_host(self) -> None:
        """The context ends as any other does."""
        with pytest.raises(KeyError), one_function(plain_answer).started() as host:
            raise KeyError
        with pytest.raises(ConnectionError):
            call(host.url, "GET", "/api/one")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_serve_ends_by_a_signal(self, number: signal.Signals) -> None:
        """It serves until then, ends its loops, and the process ends well."""
        process = subprocess.Popen(
            [sys.executable, "-c", SERVING], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert call(address, "GET", "/api/one").body == b"here"
            os.kill(process.pid, number)
            rest, _ = process.communicate(timeout=PATIENCE)
            assert rest == "loop ended\nserve ended\n"
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()


def plain_answer(req: func.HttpRequest) -> str:
    return "here"


def release_once_refused(url: str, leave: threading.Event) -> None:
    """Let the handler go on when the host takes no more connections."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            connect(url).close()
        except OSError:
            leave.set()
            return


SERVING = """
import azure.functions as func
from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys

app = func.FunctionApp()

@app.route(auth_level=func.AuthLevel.ANONYMOUS)
def one(req: func.HttpRequest) -> str:
    return "here"

class Loop:
    name = "loop"
    def run(self, stop):
        stop.wait(60)
        print("loop ended", flush=True)

LocalHost(app, keys=HostKeys(), settings={}, loops=[Loop()]).serve(0, ready=lambda url: print(url, flush=True))
print("serve ended", flush=True)
"""


class TestRefusedAtTheStart:
    def test_a_port_that_is_taken_is_an_error_of_the_caller(self, url: str) -> None:
        """Not of a thread nobody looks at."""
        with pytest.raises(OSError), one_function(plain_answer).started(port=urllib.parse.urlsplit(url).port or 0):  # noqa: PT011 - the number differs by system
            pass

    def test_an_asynchronous_handler_is_refused(self) -> None:
        """It would never be awaited."""

        async def later(req: func.HttpRequest) -> str:
            return "x"

        with pytest.raises(UnsupportedFunctionError, match="later"):
            one_function(later)

    def test_a_parameter_that_nothing_fills_is_refused(self) -> None:
        """By the names of function and parameter."""

        def greedy(req: func.HttpRequest, context: func.Context) -> str:
            return "x"

        with pytest.raises(UnsupportedFunctionError, match="greedy: takes context"):
            one_function(greedy)

    @pytest.mark.parametrize("count", ["0", "-1", "many", "1001", "", "٣"])
    def test_a_number_of_threads_that_is_none_is_refused(self, count: str) -> None:
        """With the name of the setting."""
        with pytest.raises(InvalidSettingError) as refused:
            one_function(plain_answer, settings={"PYTHON_THREADPOOL_THREAD_COUNT": count})
        assert refused.value.name == "PYTHON_THREADPOOL_THREAD_COUNT"

    @pytest.mark.parametrize(
        ("schedule", "error"), [("* * * * *", InvalidScheduleError), ("%MISSING%", MissingSettingError)]
    )
    def test_a_timer_without_a_schedule_is_refused(self, schedule: str, error: type[FlowError]) -> None:
        """A timer that would never run is a mistake."""
        app = func.FunctionApp()

        @app.timer_trigger(arg_name="timer", schedule=schedule)
        def tick(timer: func.TimerRequest) -> None:
            pass

        with pytest.raises(error):
            LocalHost(app, keys=KEYS, settings={})

    def test_a_route_that_cannot_be_read_is_refused(self) -> None:
        """Before the first request."""
        app = func.FunctionApp()
        app.route(route="items/{id:integer}")(plain_answer)
        with pytest.raises(InvalidRouteError, match="integer"):
            LocalHost(app, keys=KEYS, settings={})
