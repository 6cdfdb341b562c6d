"""Faults: what a test makes go wrong, at which point, how often."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tests.wire.servicebus.clock import Clock
from tests.wire.servicebus.errors import BrokerError

Point = Literal[
    "connect",  # a connection was accepted
    "authorize",  # a token came to $cbs
    "attach",  # a link is to be opened
    "send",  # a send came, nothing is stored
    "stored",  # it is stored, the sender does not know
    "deliver",  # a message is locked, the receiver has not got it
    "delivered",  # the receiver has been sent it
    "settle",  # a settlement came, nothing is applied
    "settled",  # it is applied, the receiver does not know
    "request",  # a request came to $management, nothing is applied
    "answer",  # it is applied, the client does not know
]
Action = Literal[
    "drop",  # end the TCP connection
    "reset",  # the same with a TCP reset
    "close",  # end the AMQP connection with the condition
    "detach",  # end the link with the condition
    "reject",  # answer with the condition
    "delay",  # go on after `seconds` of the broker's time
    "swallow",  # never answer
]
_CANNOT_REJECT = ("connect", "deliver", "delivered")

Reject = Callable[[str, str], object]
"""Tells the client no, with a condition and a description."""


class Wire(Protocol):
    """A connection, as faults see it."""

    closing: bool

    def drop(self, *, reset: bool = False) -> None:
        """Ends the TCP connection."""
        ...

    def close(self, condition: str, description: str) -> None:
        """Ends the AMQP connection."""
        ...


class Actor(Protocol):
    """What a fault hits: a link, or a whole connection (with an empty path)."""

    path: str

    @property
    def wire(self) -> Wire:
        """The connection it runs on."""
        ...

    def detach(self, condition: str, description: str) -> None:
        """Ends the link."""
        ...


@dataclass(eq=False, kw_only=True)
class Fault:
    """One fault; see `Broker.inject`.

    Attributes:
        hits: how often its point was reached, skipped ones included.
        fired: set when it struck for the first time.
    """

    point: Point
    action: Action
    entity: str | None
    condition: str
    seconds: float = 0.0
    skip: int = 0
    times: int = 1
    operation: str | None = None
    hits: int = 0
    fired: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        impossible = (self.action == "reject" and self.point in _CANNOT_REJECT) or (
            self.action == "detach" and self.point == "connect"
        )
        if impossible:
            raise BrokerError(f"nothing can be answered at {self.point!r}, so {self.action!r} makes no sense there")
        if self.operation is not None and self.point not in {"request", "answer"}:
            raise BrokerError(f"an operation belongs to 'request' and 'answer', not to {self.point!r}")


class Faults:
    """The faults still to come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Arms a fault; at one point and entity they strike one after the other."""
        self._pending.append(fault)

    def clear(self) -> None:
        """Disarms all."""
        self._pending.clear()

    def at(
        self,
        point: Point,
        actor: Actor,
        proceed: Callable[[], object],
        *,
        reject: Reject | None = None,
        path: str | None = None,
        operation: str | None = None,
    ) -> None:
        """Says that a point is reached: goes on with `proceed`, or does what a fault asks for.

        `path` is the entity concerned, where it is not the actor's own.
        """
        fault = self._match(point, actor.path if path is None else path, operation)
        if fault is None:
            proceed()
            return
        fault.fired.set()  # first, so that whoever sees the effect sees this too
        match fault.action:
            case "drop" | "reset":
                actor.wire.drop(reset=fault.action == "reset")
            case "delay":
                self._clock.call_later(fault.seconds, lambda: actor.wire.closing or proceed())
            case "reject" if reject is not None:
                reject(fault.condition, "injected fault")
            case "detach":
                actor.detach(fault.condition, "injected fault")
            case "close":
                actor.wire.close(fault.condition, "injected fault")

    def _match(self, point: Point, path: str, operation: str | None) -> Fault | None:
        for fault in self._pending:
            if fault.point == point and fault.entity in {None, path} and fault.operation in {None, operation}:
                break
        else:
            return None
        fault.hits += 1
        if fault.hits >= fault.skip + fault.times:
            self._pending.remove(fault)
        return fault if fault.hits > fault.skip else None
