"""An Azure Cosmos DB account on a local port, in memory, for the unmodified azure-cosmos SDK.

Served is what the adapters of this project use: account, databases and containers, documents, transactional batches, the
change feed and a part of the query language (see `query`). Everything else is refused with 400. It differs from the
service on purpose in these points:

- A filter on a property that the indexing policy excludes is refused; the service scans everything and bills for it.
- Cross-partition queries are answered in one piece, so that the SDK has nothing to merge; their pages are sorted across ranges.
- The transactions of a container are numbered through; the service numbers those of each physical range by themselves.
- Documents do not expire, and authorization is not checked.
- Request units are an estimate (see `charges`).
"""

import base64
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

    def __init__(self, *, ranges: int = 1) -> None:
        self.key = _KEY
        self.meter = Meter()
        self.settings = Settings(ranges, stale_writes=0, partition_limit=_TWENTY_GB)
        self._account = Account(self.settings)
        self._injections: list[Injection] = []
        self._listeners: list[Callable[[Request], None]] = []
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
        container: str | None = None,
        match: Callable[[Request], bool] = lambda _request: True,
    ) -> Injection:
        """Let requests meet a fault: the next `times` that fit, after `skip` that are spared."""

        def fits(request: Request) -> bool:
            return kind in {None, request.kind} and container in {None, request.container} and match(request)

        injection = Injection(fault, times, skip, fits)
        with self._lock:
            self._injections.append(injection)
        return injection

    def listen(self, listener: Callable[[Request], None]) -> None:
        """Let a function see every request from now on, before it is run."""
        with self._lock:
            self._listeners.append(listener)

    def split(self, database: str, container: str, range_id: str = "0") -> list[str]:
        """Split a physical range; returns the ids of its two children."""
        with self._lock:
            return self._account.container(database, container).split(range_id)

    def documents(self, database: str, container: str) -> list[dict[str, Any]]:
        """Copies of the stored documents, partition by partition."""
        with self._lock:
            partitions = self._account.container(database, container).partitions.values()
            return [orjson.loads(found.encoded) for partition in partitions for found in partition.documents.values()]

    def _serve(self, request: Request) -> Answer | None:
        """Run the request, with its fault; None stands for a connection to be dropped."""
        with self._lock:
            for listener in self._listeners:
                listener(request)
            fault = next((injection.fault for injection in self._injections if injection.take(request)), Fault())
        answer = self._run(request) if fault.stored else None
        if fault.gate is not None:
            fault.gate.hold()
        if fault.drop or fault.status:
            if answer is None:
                self.meter.count(request.kind, 0)
            answer = None if fault.drop else fault.answer(request)
        else:
            answer = answer or self._run(request)
        if answer is not None:
            answer.headers |= {
                "content-type": "application/json",
                "x-ms-request-charge": f"{answer.charge:.2f}",
                "x-ms-activity-id": request.headers.get("x-ms-activity-id", ""),
            }
        return answer

    def _run(self, request: Request) -> Answer:
        with self._lock:
            answer = self._account.answer(request)
            self.meter.count(request.kind, answer.charge)
        return answer
