"""What the Functions worker costs: the first import of the app, and each invocation beside a direct call of the function."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from azure.functions import DocumentList, HttpRequest
from azure.functions.servicebus import ServiceBusMessage
from azure.functions.timer import TimerRequest

from .harness import Figure, limited

_IMPORT_SECONDS = 1.5
_FUNCTIONS: dict[str, tuple[str, dict[str, Any], Callable[[], Any]]] = {
    "http": (
        "req",
        {"http": {"method": "GET", "url": "https://app.example/api/http"}},
        lambda: HttpRequest("GET", "https://app.example/api/http", body=b""),
    ),
    "timer": ("timer", {"json": "{}"}, TimerRequest),
    "feed": ("docs", {"json": json.dumps([{"id": "1", "data": {"n": 1}}] * 100)}, DocumentList),
    "topic": (
        "msg",
        {"string": "{}"},
        lambda: ServiceBusMessage(body=b"{}", message_id="m", user_properties={}, application_properties={}),
    ),
}
_APP = """
import azure.functions as func
app = func.FunctionApp()
@app.route(route="http", methods=["GET"])
def http(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("ok")
@app.timer_trigger(schedule="0 * * * * *", arg_name="timer")
def timer(timer: func.TimerRequest) -> None: pass
@app.cosmos_db_trigger(arg_name="docs", connection="C", database_name="d", container_name="c")
def feed(docs: func.DocumentList) -> None: pass
@app.service_bus_topic_trigger(arg_name="msg", connection="C", topic_name="t", subscription_name="s")
def topic(msg: func.ServiceBusMessage) -> None: pass
"""


def figures(calls: int, imports: int) -> Iterator[Figure]:
    """Seconds of a cold import; then, for each kind of trigger, microseconds that the worker adds to a direct call."""
    times = [_import_seconds() for _ in range(imports)]
    yield limited("worker, cold import of the app", statistics.median(times), "s", _IMPORT_SECONDS)
    with TemporaryDirectory() as directory:
        Path(directory, "function_app.py").write_text(_APP, "utf-8")
        command = [sys.executable, "-m", "tests.benchmarks.worker", directory, str(calls)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        for name, overhead in json.loads(done.stdout).items():
            yield Figure(f"worker, overhead of an invocation, {name}", overhead * 1e6, "us")


def _import_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import functions_app.function_app"], check=True)
    return time.perf_counter() - started


async def _overheads(folder: str, calls: int) -> dict[str, float]:
    from tests.worker.app_worker import AppWorker  # the worker library is one per process

    worker = AppWorker(folder)
    await worker.start()
    app = sys.modules["function_app"]
    overheads = {}
    for name, (trigger, data, made) in _FUNCTIONS.items():
        handler = getattr(app, name)._function._func  # the builder that decorating left in its place
        argument = made()
        metadata = {"UserProperties": {"json": "{}"}} if name == "topic" else {}
        started = time.perf_counter()
        for _ in range(calls):
            handler(argument)
        direct = time.perf_counter() - started
        started = time.perf_counter()
        for _ in range(calls):
            done = await worker.invoke(name, trigger, data, metadata)
            if done.result.exception is not None:
                raise RuntimeError(done.result.exception.message)
        overheads[name] = (time.perf_counter() - started - direct) / calls
    return overheads


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_overheads(sys.argv[1], int(sys.argv[2])))))
