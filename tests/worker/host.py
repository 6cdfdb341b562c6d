"""The host's side: starts a worker process for a folder, and invokes its functions with what the host would send."""

import base64
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Lock, Thread
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

TESTS = Path(__file__).parents[1]
PATIENCE = 60.0


class Invoked(NamedTuple):
    """What came of an invocation.

    Attributes:
        raised: what the function raised, None if it returned.
        status: of its HTTP answer.
        body: of its HTTP answer.
        trace: where it raised.
    """

    raised: str | None = None
    status: int | None = None
    body: bytes = b""
    trace: str = ""

    @property
    def json(self) -> Any:
        """The HTTP answer's document."""
        return orjson.loads(self.body)


class IndexingError(Exception):
    """The worker could not index the app."""


class Worker:
    """A worker process as long as the context lasts.

    Args:
        folder: what is deployed.
        environment: its app settings, beside nothing.
        python: the interpreter; the one of the tests if not given.

    Attributes:
        functions: what the host learns of each function: bindings and retry policy, by name.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], python: Path | None = None) -> None:
        self.folder, self.python = folder, python or Path(sys.executable)
        self._environment = environment
        self._calls: dict[int, Future[Invoked]] = {}
        self._lock = Lock()
        self.functions: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1"}
        self._log = (self.folder.parent / f"worker-{os.getpid()}-{id(self)}.log").open("w+")
        self._process = Popen(
            [str(self.python), "-P", "-m", "worker.process", str(self.folder)],
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._log,
            text=True,
            cwd=self.folder.parent,
            env={**environment, **self._environment},
        )
        first = self._process.stdout.readline() if self._process.stdout else ""
        started: dict[str, Any] = json.loads(first) if first else {"error": self.log}
        if "error" in started:
            self._end()
            raise IndexingError(started["error"])
        self.functions = {each["name"]: each for each in started["functions"]}
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        self._reader.join(PATIENCE)

    @property
    def log(self) -> str:
        """What the process wrote to its log so far."""
        return Path(self._log.name).read_text()

    def trigger(self, function: str) -> dict[str, Any]:
        """The trigger among a function's bindings."""
        bindings = self.functions[function]["bindings"]
        found: dict[str, Any] = next(each for each in bindings if each["type"].endswith("Trigger"))
        return found

    def begin(
        self, function: str, data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
    ) -> Future[Invoked]:
        """Send an invocation; its result comes later."""
        done: Future[Invoked] = Future()
        with self._lock:
            number = len(self._calls)
            self._calls[number] = done
            call = {
                "id": number,
                "function": function,
                "trigger": self.trigger(function)["name"],
                "data": data,
                "metadata": metadata or {},
            }
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(call) + "\n")
                self._process.stdin.flush()
        return done

    def invoke(self, function: str, data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> Invoked:
        """Invoke a function and wait for what comes of it."""
        return self.begin(function, data, metadata).result(PATIENCE)

    def request(
        self, function: str, *, body: Any = None, headers: Mapping[str, str] | None = None, **parts: Any
    ) -> Invoked:
        """Invoke an HTTP function. `parts` are `params` (of the route) and `query`."""
        method = self.trigger(function)["methods"][0]
        content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        http = {
            "method": method,
            "url": f"https://app.example/api/{self.trigger(function)['route']}",
            "headers": {"content-type": "application/json", **(headers or {})},
            "body": base64.b64encode(content).decode(),
            **parts,
        }
        return self.invoke(function, {"http": http})

    def tick(self, function: str) -> Invoked:
        """Invoke a timer function."""
        due = {"Last": "2026-11-24T02:29:00+00:00", "Next": "2026-11-24T02:30:00+00:00", "LastUpdated": None}
        timer = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": due, "IsPastDue": False}
        return self.invoke(function, {"json": json.dumps(timer)})

    def feed(self, documents: Sequence[Mapping[str, Any]]) -> Invoked:
        """Invoke `project_clients` with documents of the change feed."""
        return self.invoke("project_clients", {"json": json.dumps([dict(each) for each in documents])})

    def message(self, function: str, *, body: bytes, session_id: str | None, message_id: str) -> Invoked:
        """Invoke a function with a Service Bus trigger; metadata as version 5 of the extension sends it."""
        metadata: dict[str, Any] = {
            "MessageId": {"string": message_id},
            "DeliveryCount": _document(1),
            "SequenceNumber": _document(1),
            "LockToken": {"string": "6f2d1f0a-6c4c-4a0b-9a55-0d4c3f5a2f11"},
            "EnqueuedTimeUtc": _document("2026-11-24T02:30:00.123"),
            "ExpiresAtUtc": _document("9999-12-31T23:59:59.9999999"),
            "ContentType": {"string": "application/cloudevents+json; charset=utf-8"},
            "ApplicationProperties": _document({}),
            "UserProperties": _document({}),
            "MessageReceiver": _document({}),
            "MessageActions": _document({}),
        }
        if session_id is not None:  # the host leaves out what is null
            metadata["SessionId"] = {"string": session_id}
        return self.invoke(function, {"string": body.decode()}, metadata)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            answer = json.loads(line)
            invoked = Invoked(
                answer.get("raised"),
                answer.get("status"),
                base64.b64decode(answer.get("body", "")),
                answer.get("trace", ""),
            )
            self._calls[answer["id"]].set_result(invoked)

    def _end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait(PATIENCE)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._log.close()


def _document(value: Any) -> dict[str, str]:
    return {"json": json.dumps(value)}
