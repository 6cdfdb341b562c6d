"""AMQP 1.0 frames: numbers of the specification, and the bodies that are read field by field."""

import re
import struct
from typing import Any, NamedTuple, Self

from tests.wire.servicebus.codec import Described, Descriptor, Symbol, UByte, UInt, performative

OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
SASL_MECHANISMS, SASL_INIT, SASL_OUTCOME = 0x40, 0x41, 0x44
AMQP_KIND, SASL_KIND = 0, 1
ACCEPTED, REJECTED, RELEASED, MODIFIED = range(0x24, 0x28)
ERROR, SOURCE, TARGET = 0x1D, 0x28, 0x29
FILTER_FIELD = 7  # of a source
MAX_FRAME = 65536
BIG_WINDOW = UInt(2**31 - 1)
BATCH_FORMAT = 0x80013700
SESSION_FILTER = Symbol("com.microsoft:session-filter")
MAX_BATCH_SIZE = Symbol("com.microsoft:max-message-batch-size")
LOCKED_UNTIL = Symbol("com.microsoft:locked-until-utc")
WAIT = Symbol("com.microsoft:timeout")


def frame(channel: int, body: bytes, payload: bytes = b"", kind: int = AMQP_KIND) -> bytes:
    """A whole frame."""
    return struct.pack(">IBBH", 8 + len(body) + len(payload), 2, kind, channel) + body + payload


def padded(fields: list[Any], count: int) -> list[Any]:
    """The first fields of a frame, with None for those left out at the end."""
    return [*fields, *[None] * (count - len(fields))][:count]


def error(condition: str, description: str) -> Described:
    """An AMQP error; the SDK needs all three fields and hangs on fewer."""
    return Described(Descriptor(ERROR), [Symbol(condition), description, {}])


def outcome(code: int, fields: list[Any] | None = None) -> Described:
    """A delivery's outcome, such as `ACCEPTED`."""
    return Described(Descriptor(code), fields or [])


def rejected(condition: str, description: str) -> Described:
    """The outcome that says why not."""
    return outcome(REJECTED, [error(condition, description)])


class Attach(NamedTuple):
    """What a client asks for when it opens a link; `receives` is said of the client."""

    name: str
    handle: int
    receives: bool
    sender_settle_mode: int
    receiver_settle_mode: int | None
    source: list[Any] | None
    target: list[Any] | None
    properties: dict[Any, Any]

    @classmethod
    def read(cls, fields: list[Any]) -> Self:
        """Reads the frame's fields."""
        values = padded(fields, 14)
        source, target = (None if end is None else list(end.value) for end in values[5:7])
        return cls(
            name=values[0],
            handle=values[1],
            receives=bool(values[2]),
            sender_settle_mode=2 if values[3] is None else values[3],
            receiver_settle_mode=values[4],
            source=source,
            target=target,
            properties=values[13] or {},
        )

    @property
    def path(self) -> str:
        """The address, lower case, without scheme and host; $cbs and $management come without them anyway."""
        address = ((self.source if self.receives else self.target) or [None])[0] or ""
        return re.sub(r"^[a-z]+://[^/]*/?", "", str(address)).strip("/").lower()

    @property
    def filters(self) -> dict[Any, Any]:
        """The filters on the source."""
        return padded(self.source or [], FILTER_FIELD + 1)[FILTER_FIELD] or {}

    def reply(
        self,
        source: list[Any] | None,
        target: list[Any] | None,
        max_message_size: int | None = None,
        properties: dict[Any, Any] | None = None,
    ) -> bytes:
        """The broker's attach; without its own end it announces that a detach follows."""
        mode = self.receiver_settle_mode
        return performative(
            ATTACH,
            self.name,
            UInt(self.handle),
            not self.receives,
            UByte(self.sender_settle_mode),
            None if mode is None else UByte(mode),
            None if source is None else Described(Descriptor(SOURCE), source),
            None if target is None else Described(Descriptor(TARGET), target),
            None,
            None,
            UInt(0) if self.receives else None,  # initial-delivery-count, required of a sender
            max_message_size,
            None,
            None,
            properties or {},
        )
