"""AMQP sessions: the links of one channel, delivery numbers, and settlements."""

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.wire.servicebus.codec import Described, UInt, UShort, performative
from tests.wire.servicebus.errors import RefusedError
from tests.wire.servicebus.frames import (
    ACCEPTED,
    BEGIN,
    BIG_WINDOW,
    DETACH,
    DISPOSITION,
    FLOW,
    MODIFIED,
    REJECTED,
    Attach,
    outcome,
    padded,
    rejected,
)
from tests.wire.servicebus.incoming import IncomingLink
from tests.wire.servicebus.links import Link
from tests.wire.servicebus.outgoing import OutgoingLink
from tests.wire.servicebus.queues import Outcome, Queue

if TYPE_CHECKING:  # a connection makes sessions, and a session speaks through its connection
    from tests.wire.servicebus.connection import Connection

_MAX_HANDLE = UInt(255)


class _Unsettled(NamedTuple):
    """A delivery the client has not settled."""

    link: OutgoingLink
    queue: Queue
    token: uuid.UUID


class _Settlement(NamedTuple):
    """What a client's settlement means for the message."""

    outcome: Outcome
    reason: str | None = None
    description: str | None = None


class Session:
    """One session; `window` is how many more frames the client takes."""

    def __init__(self, connection: "Connection", channel: int, fields: list[Any]) -> None:
        self.connection = connection
        self.links: dict[int, Link] = {}
        self.window = fields[2]
        self._channel = channel
        self._next_incoming = fields[1]
        self._next_outgoing = 0
        self._deliveries = 0
        self._unsettled: dict[int, _Unsettled] = {}
        self.send(performative(BEGIN, UShort(channel), UInt(0), BIG_WINDOW, BIG_WINDOW, _MAX_HANDLE))

    # ---- broker to client

    def send(self, body: bytes) -> None:
        """Sends a frame on this channel."""
        self.connection.send(self._channel, body)

    def send_transfer(self, body: bytes, payload: bytes) -> None:
        """Sends a frame of a message."""
        self.connection.send(self._channel, body, payload)
        self._next_outgoing += 1
        self.window -= 1

    def send_flow(self, link: Link, credit: int) -> None:
        """Tells the client the state of the session and of one link."""
        self.send(
            performative(
                FLOW,
                UInt(self._next_incoming),
                BIG_WINDOW,
                UInt(self._next_outgoing),
                BIG_WINDOW,
                UInt(link.attach.handle),
                UInt(link.delivery_count),
                UInt(credit),
            )
        )

    def settle_incoming(self, delivery: int, state: Described) -> None:
        """Tells the client what became of a message it sent."""
        self._send_disposition(delivery, state, as_receiver=True)

    def next_delivery(self) -> int:
        """A number for a delivery to the client."""
        self._deliveries += 1
        return self._deliveries - 1

    def expect_settlement(self, delivery: int, link: OutgoingLink, queue: Queue, token: uuid.UUID) -> None:
        """Remembers what a delivery number stands for."""
        self._unsettled[delivery] = _Unsettled(link, queue, token)

    def forget(self, link: OutgoingLink) -> None:
        """Expects no more settlements on a link."""
        self._unsettled = {number: entry for number, entry in self._unsettled.items() if entry.link is not link}

    def answer(self, path: str, payload: bytes) -> None:
        """Sends an answer over the link that receives from the request's address; without one nobody listens."""
        for link in self.links.values():
            if isinstance(link, OutgoingLink) and link.is_open and link.path == path:
                link.answer(payload)
                return

    def close(self) -> None:
        """Closes all links."""
        for link in list(self.links.values()):
            link.close()

    def _send_disposition(self, delivery: int, state: Described, *, as_receiver: bool) -> None:
        self.send(performative(DISPOSITION, as_receiver, UInt(delivery), UInt(delivery), True, state))

    # ---- client to broker

    def on_attach(self, fields: list[Any]) -> None:
        """Opens a link."""
        attach = Attach.read(fields)
        link: Link = OutgoingLink(self, attach) if attach.receives else IncomingLink(self, attach)
        self.links[attach.handle] = link
        namespace = self.connection.namespace
        namespace.meter.add("links", link.path)
        namespace.faults.at("attach", link, link.open, reject=link.refuse)

    def on_flow(self, fields: list[Any]) -> None:
        """Takes the client's window, and a link's credit where a link is named."""
        self.window = (fields[0] or 0) + fields[1] - self._next_outgoing
        handle = padded(fields, 5)[4]
        if handle is None:
            for link in list(self.links.values()):
                if isinstance(link, OutgoingLink):
                    link.resume()
        elif handle in self.links:
            self.links[handle].on_flow(fields)

    def on_transfer(self, fields: list[Any], payload: bytes) -> None:
        """Takes a frame of a message; those that crossed the broker's detach are ignored."""
        self._next_incoming += 1
        link = self.links.get(fields[0])
        if isinstance(link, IncomingLink) and not link.closed:
            link.on_transfer(fields, payload)

    def on_disposition(self, fields: list[Any]) -> None:
        """Settles deliveries; what the client says as a sender is settled already."""
        is_receiver, first, last, settled, state, _ = padded(fields, 6)
        if not is_receiver:
            return
        for delivery in range(first, (first if last is None else last) + 1):
            entry = self._unsettled.pop(delivery, None)
            if entry is not None:
                self._settle(delivery, entry, outcome(ACCEPTED) if state is None else state, settled=bool(settled))

    def _settle(self, delivery: int, entry: _Unsettled, state: Described, *, settled: bool) -> None:
        settlement = _read_settlement(state)
        namespace = self.connection.namespace
        namespace.meter.add("settlements", entry.link.path)

        def confirm(confirmed: Described) -> None:
            if not settled:
                self._send_disposition(delivery, confirmed, as_receiver=False)

        def reject(condition: str, description: str) -> None:
            confirm(rejected(condition, description))

        def apply() -> None:
            try:
                entry.queue.settle(entry.token, *settlement)
            except RefusedError as refusal:
                reject(refusal.condition, refusal.description)
                return
            # The SDK waits for the same outcome; a rejection must come back without an error, which would be a failure.
            code = int(state.descriptor)
            echo = outcome(code, list(state.value) if code == MODIFIED else None)
            namespace.faults.at("settled", entry.link, lambda: confirm(echo), reject=reject)

        namespace.faults.at("settle", entry.link, apply, reject=reject)

    def on_detach(self, fields: list[Any]) -> None:
        """Closes a link; a detach that answers the broker's own needs no answer."""
        link = self.links.pop(fields[0], None)
        if link is not None and not link.closed:
            link.close()
            self.send(performative(DETACH, UInt(link.attach.handle), bool(padded(fields, 2)[1])))


def _read_settlement(state: Described) -> _Settlement:
    code, fields = int(state.descriptor), padded(list(state.value), 3)
    if code == ACCEPTED:
        return _Settlement(Outcome.COMPLETE)
    if code == MODIFIED:
        undeliverable_here = bool(fields[1])
        return _Settlement(Outcome.DEFER if undeliverable_here else Outcome.ABANDON)
    if code == REJECTED:
        _, text, info = padded(list(fields[0].value), 3) if fields[0] is not None else (None, None, None)
        details = info or {}
        reason, description = details.get("DeadLetterReason"), details.get("DeadLetterErrorDescription", text)
        return _Settlement(Outcome.DEAD_LETTER, reason, description)
    return _Settlement(Outcome.RELEASE)
