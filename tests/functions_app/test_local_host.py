import json
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import azure.functions as func
import pytest

from functions_app.errors import FlowError, MissingSettingError
from functions_app.local_errors import (
    InvalidRouteError,
    InvalidScheduleError,
    InvalidSettingError,
    UnsupportedFunctionError,
)
from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from tests.support.local_app import (
    KEYS,
    MASTER,
    NEVER,
    PATIENCE,
    call,
    connect,
    keyed,
    sample_app,
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A running host with the sample app."""
    with LocalHost(sample_app(), keys=KEYS, settings=NEVER).started() as host:
        yield host.url


def plain_answer(req: func.HttpRequest) -> str:
    return "here"


def one_function(handler: object, *, settings: Mapping[str, str] | None = None) -> LocalHost:
    app = func.FunctionApp()
    app.route(route="one", auth_level=func.AuthLevel.ANONYMOUS)(handler)
    return LocalHost(app, keys=HostKeys(), settings=settings or {})


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
