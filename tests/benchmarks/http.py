"""How fast the local host takes webhooks, and how soon a target hears of them; callers run in a process of their own."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from pydantic import SecretStr

from functions_app import Settings, build_app, open_runtime
from functions_app.demo_target import DemoTarget
from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from functions_app.loops import data_loops

from .harness import Figure

_KEY = "bench"
_CONNECTIONS = 32
_ONE_BY_ONE = 100
_PATIENCE = 10.0


def figures(requests: int) -> Iterator[Figure]:
    """Requests a second and their latency; then, one at a time, the time from a request to the call it causes."""
    with TemporaryDirectory() as directory, _TimedTarget(0).running() as target_url:
        runtime = open_runtime(
            Settings(
                {
                    "CLIENT_FLOW_DATA": directory,
                    "CRM_URL": target_url,
                    "CRM_CLIENT_ID": "bench",
                    "CRM_CLIENT_SECRET": "bench",
                    "MAILING_URL": target_url,
                    "MAILING_KEY": "bench",
                }
            )
        )
        app = build_app(runtime.domain, lambda: runtime)
        keys = HostKeys(host=[SecretStr(_KEY)])
        with LocalHost(app, keys=keys, settings={}).started() as host:
            times = _call(host.url, requests, _CONNECTIONS)
            yield Figure("receiver, 32 connections", requests / times["seconds"], "requests/s")
            yield Figure("receiver, 32 connections, p99", times["p99"] * 1000, "ms")
    with TemporaryDirectory() as directory:
        yield from _to_the_call(Path(directory))


class _TimedTarget(DemoTarget):
    """Notes when it was called."""

    def __init__(self, failures: int) -> None:
        super().__init__(failures)
        self.called = threading.Event()

    def answer(self, method: str, path: str, body: dict[str, object] | None) -> tuple[int, object]:
        """As the demo's target."""
        if path != "/token":
            self.called.set()
        return super().answer(method, path, body)


def _to_the_call(directory: Path) -> Iterator[Figure]:
    target = _TimedTarget(0)
    with target.running() as target_url:
        settings = {
            "CLIENT_FLOW_DATA": str(directory),
            "CRM_URL": target_url,
            "CRM_CLIENT_ID": "bench",
            "CRM_CLIENT_SECRET": "bench",
            "MAILING_URL": target_url,
            "MAILING_KEY": "bench",
        }
        runtime = open_runtime(Settings(settings))
        host = LocalHost(
            build_app(runtime.domain, lambda: runtime),
            keys=HostKeys(host=[SecretStr(_KEY)]),
            settings=settings,
            loops=data_loops(runtime),
        )
        with host.started() as running:
            times = []
            for number in range(_ONE_BY_ONE):
                target.called.clear()
                started = time.perf_counter()
                _post(HTTPConnection(urlsplit(running.url).netloc), number + 1)
                if not target.called.wait(_PATIENCE):
                    raise TimeoutError("the target was not called")
                times.append(time.perf_counter() - started)
    times.sort()
    yield Figure("from request to the target's call, p50", times[len(times) // 2] * 1000, "ms")
    yield Figure("from request to the target's call, p99", times[int(len(times) * 0.99) - 1] * 1000, "ms")


def _call(url: str, requests: int, connections: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.http", url, str(requests), str(connections)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    times: dict[str, float] = json.loads(done.stdout)
    return times


def _post(connection: HTTPConnection, number: int) -> None:
    body = {
        "change_id": f"b{number}",
        "person": number,
        "changed_at": "2026-11-02T09:00:00Z",
        "name": {"given": "Ana", "family": f"Diaz {number}"},
    }
    headers = {"Content-Type": "application/json", "x-functions-key": _KEY}
    connection.request("POST", "/api/crm_receive_event", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 202:
        raise RuntimeError(f"the receiver answered {answer.status}")


def _callers(url: str, requests: int, connections: int) -> dict[str, float]:
    """Post from so many connections at once."""
    times: list[float] = []

    def work(first: int) -> None:
        connection = HTTPConnection(urlsplit(url).netloc)
        for number in range(first, requests, connections):
            started = time.perf_counter()
            _post(connection, number + 1)
            times.append(time.perf_counter() - started)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    times.sort()
    return {"seconds": seconds, "p99": times[int(len(times) * 0.99) - 1]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_callers(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
