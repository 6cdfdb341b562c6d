"""A whole application on SQLite, served over HTTP by the local host, for tests to talk to."""

import base64
import hmac
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import requests
from pydantic import SecretStr

from eventstore import RecordedEvent, SqliteEventStore, open_events
from functions_app import Domain, Runtime, Settings, build_app
from functions_app.backend import Backend
from functions_app.embedded import open_embedded
from functions_app.lag import measure_lag
from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from functions_app.loops import data_loops
from functions_app.queue_consumer import queue_consumers
from functions_app.sample import domain as sample
from tests.support.waiting import PATIENCE, wait_until

KEY = "key-of-the-host"
MASTER = "master-key-of-the-host"
SHOP_SECRET = "secret-of-the-shop"
JSON = {"Content-Type": "application/json"}


def backend(directory: Path, domain: Domain = sample) -> Backend:
    """The embedded default in a directory."""
    return open_embedded(directory, domain)


def now() -> datetime:
    """Present time."""
    return datetime.now(UTC)


class Clock:
    """Present time, which a test can move ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return now() + self.ahead


def open_flow(
    directory: Path,
    domain: Domain = sample,
    environment: Mapping[str, str] | None = None,
    *,
    clock: Callable[[], datetime] = now,
    **parts: Any,
) -> Runtime:
    """The application on a directory; `parts` replace members of its backend."""
    settings = Settings({"CLIENT_FLOW_DATA": str(directory), "SHOP_SECRET": SHOP_SECRET, **(environment or {})})
    return Runtime(domain, settings, backend(directory, domain)._replace(**parts), clock=clock)


@dataclass(frozen=True)
class Flow:
    """A running application: what it is made of and where it listens."""

    runtime: Runtime
    url: str

    def post(self, source: str, document: Any, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Deliver a JSON document with the host's key."""
        return self.send(source, orjson.dumps(document), {"x-functions-key": KEY, **JSON, **(headers or {})})

    def send(self, source: str, body: bytes, headers: Mapping[str, str]) -> requests.Response:
        """Deliver bytes as they are."""
        return requests.post(f"{self.url}/{source}_receive_event", data=body, headers=dict(headers), timeout=PATIENCE)

    def get(self, path: str, **parameters: Any) -> requests.Response:
        """Ask a query function."""
        headers = {"x-functions-key": KEY}
        return requests.get(f"{self.url}/{path}", params=parameters, headers=headers, timeout=PATIENCE)

    def fire(self, timer: str) -> requests.Response:
        """Run a timer function by hand."""
        url = f"{self.url.removesuffix('/api')}/admin/functions/{timer}"
        return requests.post(url, headers={"x-functions-key": MASTER}, timeout=PATIENCE)

    def events(self) -> list[RecordedEvent]:
        """Everything stored, in the order of the feed."""
        return list(self.runtime.backend.feed.feed("all", after=None, limit=100_000).events)

    def settle(self) -> None:
        """Wait until nothing is left to project, publish or deliver."""
        wait_until("everything is projected and delivered", lambda: is_quiet(self.runtime))


@contextmanager
def serving(runtime: Runtime, *, loops: bool = False) -> Iterator[Flow]:
    """Serve an application as long as the context lasts.

    Args:
        runtime: the application.
        loops: project and deliver, too; otherwise events stay where they are.
    """
    host = LocalHost(
        build_app(runtime.domain, lambda: runtime),
        keys=HostKeys(host=[SecretStr(KEY)], master=SecretStr(MASTER)),
        settings=runtime.settings.environment,
        loops=[*data_loops(runtime), *queue_consumers(runtime)] if loops else (),
    )
    with host.started() as served:
        yield Flow(runtime, f"{served.url}/api")


def is_quiet(runtime: Runtime) -> bool:
    """Whether no stage has anything to do; what is paused or refused does not count."""
    lag = measure_lag(runtime)
    return not lag.events and not lag.unpublished and not any(each["waiting"] for each in lag.deliveries.values())


def shop_signature(body: bytes, secret: str = SHOP_SECRET) -> dict[str, str]:
    """The headers of a webhook as the shop signs it."""
    digest = hmac.digest(secret.encode(), body, "sha256")
    return {**JSON, "X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode()}


class Listener(logging.Handler):
    """Keeps every log record, formatted with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.lines.append(self.format(record))

    @property
    def text(self) -> str:
        """All of them."""
        return "\n".join(self.lines)


@contextmanager
def listening() -> Iterator[Listener]:
    """Hear everything any logger says, down to DEBUG."""
    root = logging.getLogger()
    listener, level = Listener(), root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    try:
        yield listener
    finally:
        root.removeHandler(listener)
        root.setLevel(level)


def impatient_events(directory: Path) -> SqliteEventStore:
    """The event store with hardly any patience for another process that writes."""
    return SqliteEventStore(open_events(directory, busy_timeout=0.05))
