"""Connections: the TCP socket, SASL, and the frames on it."""

import asyncio
import socket
import struct
from typing import Any

from tests.wire.servicebus.codec import Array, Symbol, UByte, UInt, UShort, decode, performative
from tests.wire.servicebus.errors import INTERNAL_ERROR, BrokerError
from tests.wire.servicebus.frames import (
    ATTACH,
    BEGIN,
    CLOSE,
    DETACH,
    DISPOSITION,
    END,
    FLOW,
    MAX_FRAME,
    OPEN,
    SASL_INIT,
    SASL_KIND,
    SASL_MECHANISMS,
    SASL_OUTCOME,
    TRANSFER,
    error,
    frame,
    padded,
)
from tests.wire.servicebus.namespace import Namespace, OpenLink
from tests.wire.servicebus.session import Session

_HEADER_SIZE = 8
_LARGEST_FRAME = 2**24
_SASL_PROTOCOL = 3
_MAX_CHANNEL = UShort(4999)


class Connection(asyncio.Protocol):
    """One client's connection. Frames are queued and written once per turn of the event loop."""

    path = ""  # faults ask; a connection belongs to no entity

    def __init__(self, namespace: Namespace, loop: asyncio.AbstractEventLoop) -> None:
        self.namespace = namespace
        self.closing = False
        self.max_frame = MAX_FRAME
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._outgoing: list[bytes] = []
        self._flush: asyncio.Handle | None = None
        self._heartbeat: asyncio.TimerHandle | None = None
        self._expects_header = True
        self._sessions: dict[int, Session] = {}

    @property
    def wire(self) -> "Connection":
        """Itself, for faults."""
        return self

    def links(self) -> list[OpenLink]:
        """All links on it."""
        return [link for session in self._sessions.values() for link in session.links.values()]

    def detach(self, condition: str, description: str) -> None:
        """A connection cannot be detached.

        Raises:
            BrokerError: always.
        """
        raise BrokerError(f"cannot detach a connection ({condition}, {description}); detach a link")

    # ---- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        if not isinstance(transport, asyncio.Transport):
            raise BrokerError(f"expected a stream transport, got {type(transport).__name__}")
        self._transport = transport
        self._socket(transport).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.namespace.connections.add(self)
        self.namespace.meter.add("connections", self.path)
        self.namespace.faults.at("connect", self, lambda: None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was sent away."""
        self.closing = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self.namespace.connections.discard(self)
        for session in self._sessions.values():
            session.close()

    def drop(self, *, reset: bool = False) -> None:
        """Ends the TCP connection without an AMQP close; frames queued already still go out."""
        self._write_out()
        self.closing = True
        if self._transport is None:
            return
        if reset:
            linger_zero = struct.pack("ii", 1, 0)
            self._socket(self._transport).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        if reset or self._transport.get_write_buffer_size():  # who does not read is not waited for
            self._transport.abort()
        else:
            self._transport.close()

    def close(self, condition: str | None = None, description: str = "") -> None:
        """Ends the AMQP connection, with an error where a condition is given."""
        self.send(0, performative(CLOSE, error(condition, description) if condition else None))
        self.drop()

    def send(self, channel: int, body: bytes, payload: bytes = b"", kind: int = 0) -> None:
        """Queues a frame."""
        if not self.closing:
            self._outgoing.append(frame(channel, body, payload, kind))
            if self._flush is None:
                self._flush = self._loop.call_soon(self._write_out)

    def _write_out(self) -> None:
        self._flush = None
        if self._outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _beat(self, interval: float) -> None:
        if not self.closing:
            self.send(0, b"")
            self._heartbeat = self._loop.call_later(interval, self._beat, interval)

    @staticmethod
    def _socket(transport: asyncio.Transport) -> socket.socket:
        found: socket.socket = transport.get_extra_info("socket")
        return found

    # ---- input

    def data_received(self, data: bytes) -> None:
        """Takes bytes; whatever fails on them ends the connection and is kept for `Broker.close`."""
        self._received += data
        try:
            self._read()
        except Exception as failure:  # noqa: BLE001 - kept, and raised by Broker.close
            self.namespace.failures.append(failure)
            if not self.closing:
                self.close(INTERNAL_ERROR, repr(failure))

    def _read(self) -> None:
        data, position = self._received, 0
        while not self.closing and len(data) - position >= _HEADER_SIZE:
            if self._expects_header and data[position : position + 4] == b"AMQP":
                self._on_header(data[position : position + _HEADER_SIZE])
                position += _HEADER_SIZE
                continue
            size, offset, kind, channel = struct.unpack_from(">IBBH", data, position)
            if not _HEADER_SIZE <= size <= _LARGEST_FRAME:
                raise ValueError(f"expected a frame of {_HEADER_SIZE} to {_LARGEST_FRAME} bytes, got {size}")
            if len(data) - position < size:
                break
            body = data[position + offset * 4 : position + size]
            position += size
            if body:  # an empty frame is a heartbeat
                described, end = decode(body)
                self._on_frame(kind, channel, int(described.descriptor), described.value, body[end:])
        self._received = data[position:]

    def _on_header(self, header: bytes) -> None:
        self._outgoing.append(header)
        if header[4] == _SASL_PROTOCOL:
            mechanisms = Array(map(Symbol, ("MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL")))
            self.send(0, performative(SASL_MECHANISMS, mechanisms), kind=SASL_KIND)
        else:
            self._expects_header = False
        self._write_out()

    def _on_frame(self, kind: int, channel: int, code: int, fields: list[Any], payload: bytes) -> None:
        if kind == SASL_KIND:
            if code == SASL_INIT:  # anybody may come in
                self.send(0, performative(SASL_OUTCOME, UByte(0)), kind=SASL_KIND)
        elif code == OPEN:
            self._on_open(fields)
        elif code == CLOSE:
            self.close()
        elif code == BEGIN:
            self._sessions[channel] = Session(self, channel, fields)
        elif channel in self._sessions:
            self._on_session_frame(self._sessions[channel], channel, code, fields, payload)

    def _on_open(self, fields: list[Any]) -> None:
        _, _, max_frame, _, idle_timeout = padded(fields, 5)
        self.max_frame = min(MAX_FRAME, max_frame or MAX_FRAME)
        self.send(0, performative(OPEN, "broker", None, UInt(MAX_FRAME), _MAX_CHANNEL))
        if idle_timeout:
            self._beat(idle_timeout / 2000)  # twice as often as the client wants, milliseconds to seconds

    def _on_session_frame(self, session: Session, channel: int, code: int, fields: list[Any], payload: bytes) -> None:
        if code == TRANSFER:
            session.on_transfer(fields, payload)
        elif code == DISPOSITION:
            session.on_disposition(fields)
        elif code == FLOW:
            session.on_flow(fields)
        elif code == ATTACH:
            session.on_attach(fields)
        elif code == DETACH:
            session.on_detach(fields)
        elif code == END:
            self._sessions.pop(channel).close()
            self.send(channel, performative(END))
