"""Links over which a client sends: messages to an entity, or requests."""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.wire.servicebus.codec import Described, ULong
from tests.wire.servicebus.entities import Entity
from tests.wire.servicebus.errors import DECODE_ERROR, MESSAGE_SIZE_EXCEEDED, RefusedError
from tests.wire.servicebus.frames import (
    ACCEPTED,
    BATCH_FORMAT,
    MAX_BATCH_SIZE,
    Attach,
    outcome,
    padded,
    rejected,
)
from tests.wire.servicebus.links import Link
from tests.wire.servicebus.management import Request, RequestNode
from tests.wire.servicebus.message import DATA, Message, sections

if TYPE_CHECKING:  # a session makes links
    from tests.wire.servicebus.session import Session

_GRANT = 1000  # credit given to senders, renewed at half

Reply = Callable[[Described], object]
"""Tells the sender a delivery's outcome."""


class IncomingLink(Link):
    """One such link."""

    def __init__(self, session: "Session", attach: Attach) -> None:
        super().__init__(session, attach)
        self._first: list[Any] | None = None  # fields of the first frame of a message that is still coming
        self._parts: list[bytes] = []

    @property
    def _limit(self) -> int | None:
        return self.node.settings.max_message_size if isinstance(self.node, Entity) else None

    def _open(self, node: Entity | RequestNode) -> None:
        self.node = node
        size = None if self._limit is None else ULong(self._limit)
        properties = None if size is None else {MAX_BATCH_SIZE: size}
        self.session.send(self.attach.reply(self.attach.source, self.attach.target, size, properties))
        self.is_open = True
        self._grant()

    def _grant(self) -> None:
        self.credit = _GRANT
        self.session.send_flow(self, self.credit)

    def on_flow(self, fields: list[Any]) -> None:
        """The client asks for the broker's state."""
        if padded(fields, 10)[9]:
            self.session.send_flow(self, self.credit)

    def on_transfer(self, fields: list[Any], payload: bytes) -> None:
        """Takes one frame of a message, and the message when it is complete."""
        fields = padded(fields, 10)
        more, aborted = fields[5], fields[9]
        if aborted:
            self._first, self._parts = None, []
            return
        first = self._first = self._first or fields
        self._parts.append(payload)
        if more:
            return
        content = b"".join(self._parts)
        self._first, self._parts = None, []
        self.delivery_count += 1
        self.credit -= 1
        if self.credit < _GRANT // 2:
            self._grant()
        self._on_message(first, content)

    def _on_message(self, first: list[Any], content: bytes) -> None:
        delivery, message_format, settled = first[1], first[3], bool(first[4])

        def reply(state: Described) -> None:
            if not settled:
                self.session.settle_incoming(delivery, state)

        if isinstance(self.node, RequestNode):
            self._on_request(self.node, content, reply)
        elif self._limit is not None and len(content) > self._limit:
            # As the service does it: the message is rejected, then the link goes down with the same error.
            text = (
                f"The received message (delivery-id:{delivery}, size:{len(content)} bytes) exceeds the limit "
                f"({self._limit} bytes) currently allowed on the link."
            )
            reply(rejected(MESSAGE_SIZE_EXCEEDED, text))
            self.detach(MESSAGE_SIZE_EXCEEDED, text)
        elif isinstance(self.node, Entity):
            self._on_send(self.node, content, message_format, reply)

    def _on_send(self, entity: Entity, content: bytes, message_format: int | None, reply: Reply) -> None:
        namespace = self.wire.namespace
        namespace.meter.add("sends", self.path)

        def reject(condition: str, description: str) -> None:
            reply(rejected(condition, description))

        def store() -> None:
            try:
                if message_format == BATCH_FORMAT:
                    messages = [Message(part.value) for part in sections(content) if part.code == DATA]
                else:
                    messages = [Message(content)]
                namespace.meter.add("messages", self.path, len(messages))
                entity.send(messages)
            except RefusedError as refusal:
                reject(refusal.condition, refusal.description)
            except (ValueError, IndexError, KeyError, struct.error) as undecodable:
                reject(DECODE_ERROR, repr(undecodable))
            else:
                namespace.faults.at("stored", self, lambda: reply(outcome(ACCEPTED)), reject=reject)

        namespace.faults.at("send", self, store, reject=reject)

    def _on_request(self, node: RequestNode, content: bytes, reply: Reply) -> None:
        reply(outcome(ACCEPTED))
        request = Request(content)
        namespace = self.wire.namespace
        namespace.meter.add("requests", node.path)

        def reject(condition: str, description: str) -> None:
            self.session.answer(self.path, node.refused(request, RefusedError(condition, description)))

        def handle() -> None:
            try:
                value = node.handle(request)
            except RefusedError as refusal:
                self.session.answer(self.path, node.refused(request, refusal))
                return

            def answer() -> None:
                self.session.answer(self.path, node.accepted(request, value))

            if node.answered is None:
                answer()
                return
            namespace.faults.at(node.answered, self, answer, reject=reject, path=node.path, operation=request.operation)

        namespace.faults.at(node.point, self, handle, reject=reject, path=node.path, operation=request.operation)
