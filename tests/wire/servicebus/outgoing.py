"""Links over which a client receives: messages of a queue, or the answers to its requests."""

import struct
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.wire.servicebus.codec import Described, Long, Symbol, UInt, performative
from tests.wire.servicebus.entities import Entity
from tests.wire.servicebus.errors import NOT_ALLOWED, RefusedError
from tests.wire.servicebus.frames import (
    FILTER_FIELD,
    LOCKED_UNTIL,
    SESSION_FILTER,
    TRANSFER,
    WAIT,
    Attach,
    padded,
)
from tests.wire.servicebus.links import Link
from tests.wire.servicebus.management import RequestNode
from tests.wire.servicebus.message import Message
from tests.wire.servicebus.queues import Queue
from tests.wire.servicebus.session_queues import SessionQueue
from tests.wire.servicebus.topics import Topic

if TYPE_CHECKING:  # a session makes links
    from tests.wire.servicebus.session import Session

_DOTNET_EPOCH = 621_355_968_000_000_000  # ticks of 100 ns from the year 1 to 1970
_FRAME_OVERHEAD = 64  # bytes left for a transfer frame around its payload
_SETTLED_BY_SENDER = 1  # sender-settle-mode
_DEFAULT_WAIT = 60_000  # milliseconds


class OutgoingLink(Link):
    """One such link."""

    def __init__(self, session: "Session", attach: Attach) -> None:
        super().__init__(session, attach)
        self.receives_and_deletes = attach.sender_settle_mode == _SETTLED_BY_SENDER
        self._answers: deque[bytes] = deque()  # waiting for credit
        self._session_id: str | None = None

    def _open(self, node: Entity | RequestNode) -> None:
        has_filter = SESSION_FILTER in self.attach.filters
        if isinstance(node, Topic):
            raise RefusedError(NOT_ALLOWED, "A topic cannot be received from; name a subscription.")
        if isinstance(node, SessionQueue):
            if not has_filter:
                text = "It is not possible for an entity that requires sessions to create a non-sessionful receiver."
                raise RefusedError(NOT_ALLOWED, text)
            self._accept_session(node)
            return
        if has_filter:
            text = "A sessionful message receiver cannot be created on an entity that does not require sessions."
            raise RefusedError(NOT_ALLOWED, text)
        self._attached(node, self.attach.source, {})
        if isinstance(node, Queue):
            node.attach(self)

    def _accept_session(self, queue: SessionQueue) -> None:
        self.node = queue  # closing the link must end the wait
        wanted = self.attach.filters[SESSION_FILTER]
        wait = self.attach.properties.get(WAIT, _DEFAULT_WAIT) / 1000
        meter = self.wire.namespace.meter
        queue.accept(
            self,
            wanted.value if isinstance(wanted, Described) else wanted,
            wait,
            lambda: meter.add("waits", self.path),
        )

    def grant(self, queue: SessionQueue, session_id: str, locked_until: int) -> None:
        """Attaches the link to the session; its source comes back as it was, but for the session's id."""
        self._session_id = session_id
        source = padded(self.attach.source or [], FILTER_FIELD + 1)
        source[FILTER_FIELD] = {SESSION_FILTER: session_id}
        self._attached(queue, source, {LOCKED_UNTIL: Long(locked_until * 10_000 + _DOTNET_EPOCH)})

    def _attached(self, node: Entity | RequestNode, source: list[Any] | None, properties: dict[Symbol, Any]) -> None:
        self.node = node
        self.session.send(self.attach.reply(source, self.attach.target, None, properties))
        self.is_open = True

    def close(self) -> None:
        """Gives up what the receiver held or waited for."""
        if self.closed:
            return
        super().close()
        self.session.forget(self)
        if isinstance(self.node, Queue):
            self.node.detach(self)

    def can_send(self) -> bool:
        """Whether the client has given credit and can be reached."""
        return self.is_open and self.credit > 0 and self.session.window > 0 and not self.wire.closing

    def deliver(self, queue: Queue, message: Message) -> None:
        """Sends a message that was taken out of the queue for this receiver."""
        self._use_credit()
        namespace = self.wire.namespace
        token = message.lock_token

        def send() -> None:
            if self.closed:
                return
            delivery = self._transfer(message.encoded(), (token or uuid.uuid4()).bytes_le, settled=token is None)
            if token is not None:
                self.session.expect_settlement(delivery, self, queue, token)
            namespace.meter.add("deliveries", self.path)
            namespace.faults.at("delivered", self, lambda: None)

        namespace.faults.at("deliver", self, send)

    def answer(self, payload: bytes) -> None:
        """Sends an answer as soon as the client gives credit."""
        self._answers.append(payload)
        self._send_answers()

    def on_flow(self, fields: list[Any]) -> None:
        """The client gives credit, and may want the rest of it back (drain)."""
        delivery_count, credit, _, drain, echo = padded(fields, 10)[5:]
        self.credit = (delivery_count or 0) + (credit or 0) - self.delivery_count
        self.resume()
        if drain:
            self.delivery_count += max(self.credit, 0)
            self.credit = 0
        if drain or echo:
            self.session.send_flow(self, max(self.credit, 0))

    def resume(self) -> None:
        """Sends what is waiting."""
        if isinstance(self.node, Queue):
            self.node.deliver(self._session_id)
        else:
            self._send_answers()

    def _send_answers(self) -> None:
        while self._answers and self.can_send():
            self._use_credit()
            self._transfer(self._answers.popleft(), struct.pack(">I", self.delivery_count), settled=True)

    def _use_credit(self) -> None:
        self.credit -= 1
        self.delivery_count += 1

    def _transfer(self, payload: bytes, tag: bytes, *, settled: bool) -> int:
        delivery = self.session.next_delivery()
        room = self.wire.max_frame - _FRAME_OVERHEAD
        for start in range(0, len(payload), room):
            more = start + room < len(payload)
            body = performative(TRANSFER, UInt(self.attach.handle), UInt(delivery), tag, UInt(0), settled, more)
            self.session.send_transfer(body, payload[start : start + room])
        return delivery
