"""Canaries: texts that occur nowhere else, planted in every field, key, secret and client id of an application."""

import hmac
import logging
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from functions_app import Runtime, Settings, build_app, open_runtime
from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from functions_app.loops import data_loops
from tests.support.canary_domain import SILENT, domain
from tests.support.local_app import Reply, call
from tests.support.rest_target import Answer, Received, RestTarget


def canary(name: str) -> str:
    """A text that occurs nowhere else."""
    return f"{SILENT}-{name}"


SECRETS = {
    name: canary(name.lower().replace("_", "-"))
    for name in ("SIGNING_SECRET", "CRM_SECRET", "MAILING_KEY", "PULL_KEY", "CLIENT_FLOW_KEY")
}
MASTER = canary("master")
AT = "2026-01-31T12:00:00Z"


class EchoTarget(RestTarget):
    """A target whose every refusal quotes the request, credentials included: as JSON, or 422 as mere text.

    Attributes:
        refusing: status with which it refuses every API request; None to refuse only as usual.
    """

    refusing: int | None = None

    def handle(self, request: Received) -> Answer | None:
        answer = super().handle(request)
        if self.refusing is not None and request.path != "/token":
            answer = Answer(self.refusing)
        if answer is None or answer.status < 400:
            return answer
        if answer.status == 422:
            return Answer(422, f"you sent {' '.join(request.headers.values())}".encode(), answer.headers)
        echo = {"you sent": request.body.decode(), "with": dict(request.headers), "to": request.path}
        return Answer(answer.status, echo, answer.headers)


class Place(NamedTuple):
    """The whole application with targets that fail, and every log record since."""

    runtime: Runtime
    target: EchoTarget
    directory: Path
    caplog: pytest.LogCaptureFixture

    def logged(self) -> list[str]:
        """Everything that a formatter could show of the records."""
        return [f"{record.getMessage()} {record.__dict__} {_trace(record)}" for record in self.caplog.records]


def _trace(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""


def leaks(texts: list[str]) -> list[str]:
    """The texts that hold a canary."""
    return [text for text in texts if SILENT in text.lower()]


@pytest.fixture
def place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Place]:
    """An application on SQLite whose targets answer, in turn, in each bad way."""
    caplog.set_level(logging.DEBUG)
    client, secret = canary("crm-client"), SECRETS["CRM_SECRET"]
    with EchoTarget(clients={client: secret}) as target:
        environment = {
            **SECRETS,
            "CRM_CLIENT": client,
            "TARGET_URL": target.url,
            "CLIENT_FLOW_DATA": str(tmp_path / "data"),
            "CLIENT_FLOW_DOMAIN": "tests.support.canary_domain:domain",
        }
        yield Place(open_runtime(Settings(environment)), target, tmp_path, caplog)


def message(name: str, **fields: Any) -> dict[str, Any]:
    """What a source sends about a client, each value a canary."""
    return {
        "key": canary(f"key-{name}"),
        "client": canary(f"client-{name}"),
        "email": canary(f"email-{name}"),
        "note": canary(f"note-{name}"),
        "free": {canary(f"free@{name}"): canary(f"inside-{name}")},
        "at": AT,
        **fields,
    }


def work(runtime: Runtime) -> None:
    """One turn of each loop of the local host."""

    class AtOnce(Event):
        def wait(self, timeout: float | None = None) -> bool:
            return False

    runtime.new_events.set()
    for loop in data_loops(runtime):
        loop._step(AtOnce())


@contextmanager
def served(runtime: Runtime) -> Iterator[Callable[..., Reply]]:
    """The application over HTTP; gives what makes a request."""
    host = LocalHost(
        build_app(domain, lambda: runtime),
        keys=HostKeys(master=SecretStr(MASTER), host=[SecretStr(SECRETS["CLIENT_FLOW_KEY"])]),
        settings=runtime.settings.environment,
    )

    def request(method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with_key = {"x-functions-key": SECRETS["CLIENT_FLOW_KEY"], "Content-Type": "application/json", **named}
        return call(running.url, method, path, body=body, headers=with_key)

    with host.started() as running:
        yield request


def signed(body: bytes, secret: str) -> str:
    """The signature of a body, as its header spells it."""
    return b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()
