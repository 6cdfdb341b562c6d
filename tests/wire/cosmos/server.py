"""An Azure Cosmos DB account on a local port, in memory, for the unmodified azure-cosmos SDK.

Served are the account, databases, containers, documents, transactional batches, the change feed and a part of the query
language (see `query`); everything else is refused with 400. It differs from the service on purpose in these points:

- A filter on a property that the indexing policy excludes is refused; the service scans everything and bills for it.
- Cross-partition queries are answered in one piece, so that the SDK has nothing to merge; their pages are sorted across ranges.
- Authorization is not checked.
- Request units are an estimate (see `charges`).
"""

import base64
import time
from collections.abc import Callable
from threading import RLock
from typing import Any, Self

import orjson

from tests.wire.cosmos.account import Account
from tests.wire.cosmos.charges import Meter
from tests.wire.cosmos.connection import Listener
from tests.wire.cosmos.container import Settings
from tests.wire.cosmos.faults import Fault, Injection
from tests.wire.cosmos.messages import Answer, Request

_KEY = base64.b64encode(b"a key for a server that holds test data only").decode()
_TWENTY_GB = 20 * 1024**3


class CosmosServer:
    """The server; a context manager that starts and stops it.

    Attributes:
        url: Endpoint for `CosmosClient(url, key)`.
        key: Account key.
        meter: Requests and request units per kind of operation.
        settings: May be changed while the server runs.
    """

    def __init__(
        self,
        *,
        ranges: int = 1,
        stale_writes: int = 0,
        partition_limit: int = _TWENTY_GB,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.key = _KEY
        self.meter = Meter()
        self.settings = Settings(ranges, stale_writes, partition_limit, seed, self._now)
        self._clock = clock
        self._ahead = 0.0
        self._account = Account(self.settings)
        self._injections: list[Injection] = []
        self._lock = RLock()
        self._listener = Listener(self._serve)
        self.url = f"http://127.0.0.1:{self._listener.port}/"

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        for injection in self._injections:
            if injection.fault.gate is not None:
                injection.fault.gate.release()
        self._listener.close()

    @property
    def connection_string(self) -> str:
        """Endpoint and key in one."""
        return f"AccountEndpoint={self.url};AccountKey={self.key};"

    def inject(
        self,
        fault: Fault,
        *,
        times: int = 1,
        skip: int = 0,
        kind: str | None = None,
        method: str | None = None,
        container: str | None = None,
        match: Callable[[Request], bool] = lambda _request: True,
    ) -> Injection:
        """Let requests meet a fault: the next `times` that fit, after `skip` that are spared."""

        def fits(request: Request) -> bool:
            return (
                kind in {None, request.kind}
                and method in {None, request.method}
                and container in {None, request.container}
                and match(request)
            )

        injection = Injection(fault, times, skip, fits)
        with self._lock:
            self._injections.append(injection)
        return injection

    def split(self, database: str, container: str, range_id: str = "0") -> list[str]:
        """Split a physical range; returns the ids of its two children."""
        with self._lock:
            return self._account.container(database, container).split(range_id)

    def documents(self, database: str, container: str) -> list[dict[str, Any]]:
        """Copies of the stored documents, partition by partition."""
        with self._lock:
            found = self._account.container(database, container)
            found.expire()
            return [orjson.loads(document.encoded) for document in found.documents()]

    def advance(self, seconds: float) -> None:
        """Move the server's clock on, for example past a ttl."""
        self._ahead += seconds

    def _now(self) -> float:
        return self._clock() + self._ahead

    async def _serve(self, request: Request) -> Answer | None:
        with self._lock:
            fault = next((injection.fault for injection in self._injections if injection.take(request)), None)
        answer = await self._answer(request, fault)
        if answer is not None:
            answer.headers |= {
                "content-type": "application/json",
                "x-ms-request-charge": f"{answer.charge:.2f}",
                "x-ms-activity-id": request.headers.get("x-ms-activity-id", ""),
            }
        return answer

    async def _answer(self, request: Request, fault: Fault | None) -> Answer | None:
        """Run the request, with its fault; None stands for a connection to be dropped."""
        if fault is None:
            return self._run(request)
        answer = self._run(request) if fault.stored else None
        await fault.wait()
        if fault.drop or fault.status:
            if answer is None:
                self.meter.count(request.kind, 0)
            return None if fault.drop else fault.answer(request)
        return answer or self._run(request)

    def _run(self, request: Request) -> Answer:
        with self._lock:
            answer = self._account.answer(request)
            self.meter.count(request.kind, answer.charge)
        return answer
