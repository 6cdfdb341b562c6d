"""What listens on the broker's port: AMQP and, told apart by its first byte, HTTP for managing entities."""

import asyncio
from collections.abc import Callable
from xml.etree import ElementTree as ET

from tests.wire.servicebus.administration import Administration, HttpAnswer
from tests.wire.servicebus.errors import BrokerError

_END_OF_HEAD = b"\r\n\r\n"
_HTTP = (b"G", b"P", b"D")  # GET, PUT, DELETE; AMQP begins with its name, a defect with anything


class Gateway(asyncio.Protocol):
    """A connection whose protocol is not known yet; one that turns out to be HTTP carries one request.

    Args:
        administration: answers HTTP requests.
        amqp: makes the protocol that takes over otherwise.
        arriving: connections that have not turned out to be AMQP, for whoever shuts the broker down.
    """

    def __init__(
        self, administration: Administration, amqp: Callable[[], asyncio.Protocol], arriving: set["Gateway"]
    ) -> None:
        self._administration, self._amqp, self._arriving = administration, amqp, arriving
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        if not isinstance(transport, asyncio.Transport):
            raise BrokerError(f"expected a stream transport, got {type(transport).__name__}")
        self._transport = transport
        self._arriving.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self._arriving.discard(self)

    def drop(self) -> None:
        """Cut it."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand over what is AMQP, answer what is HTTP once it is complete."""
        if self._transport is None:
            return
        self._received += data
        if self._received[:1] not in _HTTP:
            self._arriving.discard(self)
            connection = self._amqp()
            self._transport.set_protocol(connection)
            connection.connection_made(self._transport)
            connection.data_received(self._received)
            return
        head, found, body = self._received.partition(_END_OF_HEAD)
        if not found:
            return
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) >= int(headers.get("content-length", "0")):
            method, target, _ = request.split(" ")
            self._transport.write(_encoded(self._administration.answer(method, target, headers, body)))
            self._transport.close()


def _encoded(answer: HttpAnswer) -> bytes:
    body = b"" if answer.document is None else ET.tostring(answer.document)
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: application/atom+xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
