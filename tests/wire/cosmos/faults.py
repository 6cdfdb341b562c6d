"""Faults that a test injects: which requests they meet, and what happens to those.

    server.inject(throttled(), kind="create", times=2)
    server.inject(dropped(stored=True), kind="batch", container="events")
    gate = Gate()
    server.inject(slow(gate), kind="query")      # the answer waits until gate.release()

`stored` says whether the operation took effect before the client saw the failure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from tests.wire.cosmos.items import failed_batch
from tests.wire.cosmos.messages import Answer, CosmosError, Request

_PATIENCE = 30.0  # seconds that a gate may stay closed before the test is called broken


class Gate:
    """Holds answers back until a test lets them go."""

    def __init__(self) -> None:
        self._arrived = Event()
        self._released = Event()

    def wait_for_request(self) -> None:
        """Block the test until a request has come to the gate.

        Raises:
            TimeoutError: None came.
        """
        if not self._arrived.wait(_PATIENCE):
            raise TimeoutError("No request came to the gate.")

    def release(self) -> None:
        """Let every request at the gate, and all later ones, go on."""
        self._released.set()

    def hold(self) -> None:
        """Make a request wait; called by the server."""
        self._arrived.set()
        if not self._released.wait(_PATIENCE):
            raise TimeoutError("The gate was never released.")


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    Attributes:
        status: Status to answer with; 0 leaves the answer as it is.
        sub_status: Value of `x-ms-substatus`.
        headers: More headers of the answer.
        stored: Whether the operation is run before the fault.
        drop: Close the connection instead of answering.
        gate: Wait here before answering.
        operation: Position of the batch operation that is to fail with `status`, in a 207; None fails the request.
    """

    status: int = 0
    sub_status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    stored: bool = False
    drop: bool = False
    gate: Gate | None = None
    operation: int | None = None

    def answer(self, request: Request) -> Answer:
        """The answer that the client gets."""
        if self.operation is not None:
            return Answer(207, failed_batch(len(request.json()), self.operation, self.status, self.sub_status))
        answer = CosmosError(self.status, self.sub_status, f"Injected fault {self.status}.").answer(0)
        answer.headers |= self.headers
        return answer


@dataclass
class Injection:
    """A fault with the requests it is for; `hits` counts those it has met."""

    fault: Fault
    times: int
    skip: int
    matches: Callable[[Request], bool]
    hits: int = 0

    def take(self, request: Request) -> bool:
        """Whether this request meets the fault."""
        if self.hits >= self.times or not self.matches(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True


def throttled() -> Fault:
    """429: too many request units in this second; the SDK repeats it."""
    return Fault(429, 3200, {"x-ms-retry-after-ms": "1"})


def retry_with() -> Fault:
    """449: a concurrent write was in the way; the SDK does not repeat it."""
    return Fault(449)


def request_timeout(*, stored: bool = False) -> Fault:
    """408: nobody knows whether the operation took effect."""
    return Fault(408, stored=stored)


def unavailable(*, stored: bool = False) -> Fault:
    """503: the SDK repeats even writes, which may have taken effect."""
    return Fault(503, stored=stored)


def partition_full() -> Fault:
    """403 (1014): the logical partition has reached its largest size."""
    return Fault(403, 1014)


def forbidden() -> Fault:
    """403 (5300): the identity lacks the permission."""
    return Fault(403, 5300)


def too_large() -> Fault:
    """413: the document or the batch is too large."""
    return Fault(413)


def dropped(*, stored: bool) -> Fault:
    """The connection breaks before the operation, or after it was stored and before the answer."""
    return Fault(drop=True, stored=stored)


def slow(gate: Gate, *, stored: bool = False) -> Fault:
    """The request waits at a gate, before or after it takes effect."""
    return Fault(gate=gate, stored=stored)


def operation_failed(status: int, operation: int = 0) -> Fault:
    """A batch is refused because of one of its operations, for example 449 or 429 inside the 207."""
    return Fault(status, operation=operation)
