import http.client
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import azure.functions as func
import pytest

from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from tests.support.local_app import (
    PATIENCE,
    call,
    connect,
)


def answer_here(req: func.HttpRequest) -> str:
    return "here"


def one_function(handler: object, *, grace_seconds: int = 10) -> LocalHost:
    app = func.FunctionApp()
    app.route(route="one", auth_level=func.AuthLevel.ANONYMOUS)(handler)
    return LocalHost(app, keys=HostKeys(), settings={}, grace_seconds=grace_seconds)


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
        with one_function(answer_here).started() as host:
            idle = http.client.HTTPConnection(urllib.parse.urlsplit(host.url).netloc, timeout=PATIENCE)
            idle.request("GET", "/api/one")
            assert idle.getresponse().read() == b"here"
        assert idle.sock.recv(1) == b""
        idle.close()

    def test_a_host_can_be_started_again(self) -> None:
        """Stopping leaves nothing behind that a new start would trip over."""
        host = one_function(answer_here)
        for _ in range(2):
            with host.started() as running:
                assert call(running.url, "GET", "/api/one").status == 200

    def test_an_error_in_the_caller_stops_the_host(self) -> None:
        """The context ends as any other does."""
        with pytest.raises(KeyError), one_function(answer_here).started() as host:
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
