"""AMQP 1.0 types (OASIS AMQP 1.0, part 1): Python values to bytes and back.

Plain Python values stand for the common types; thin subclasses stand for the rest, so that what was decoded encodes
again as the same AMQP type. An application property sent as `long` must not come back as `int`.
"""

import struct
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple


class Symbol(str):
    """`symbol`: an ASCII name."""

    __slots__ = ()


class UByte(int):
    """`ubyte`: 8 bits, unsigned."""


class UShort(int):
    """`ushort`: 16 bits, unsigned."""


class UInt(int):
    """`uint`: 32 bits, unsigned."""


class ULong(int):
    """`ulong`: 64 bits, unsigned."""


class Byte(int):
    """`byte`: 8 bits, signed."""


class Short(int):
    """`short`: 16 bits, signed."""


class Long(int):
    """`long`: 64 bits, signed."""


class Timestamp(int):
    """`timestamp`: milliseconds since the epoch."""


class Float(float):
    """`float`: 32 bits."""


class Descriptor(int):
    """A `ulong` below 256 in its one-byte form, the only form of a descriptor that the SDK accepts."""


class Array(list[Any]):
    """`array`: items of one type, which must be in `_ARRAY_CONSTRUCTORS`."""


class Raw(NamedTuple):
    """A value passed through as it came (decimals, `char`)."""

    constructor: int
    data: bytes


class Described(NamedTuple):
    """A value with a descriptor in front."""

    descriptor: Any
    value: Any


_FIXED: dict[int, tuple[str, type]] = {
    0x50: (">B", UByte),
    0x51: (">b", Byte),
    0x52: (">B", UInt),
    0x53: (">B", ULong),
    0x54: (">b", int),
    0x55: (">b", Long),
    0x60: (">H", UShort),
    0x61: (">h", Short),
    0x70: (">I", UInt),
    0x71: (">i", int),
    0x72: (">f", Float),
    0x80: (">Q", ULong),
    0x81: (">q", Long),
    0x82: (">d", float),
    0x83: (">q", Timestamp),
}
_DESCRIBED, _EMPTY_LIST, _BOOLEAN, _UUID = 0x00, 0x45, 0x56, 0x98
_CONSTANT: dict[int, Any] = {0x40: None, 0x41: True, 0x42: False, 0x43: UInt(0), 0x44: ULong(0)}
_WIDTH = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}  # the high half of a constructor gives the size
_SHORT_SIZE = (0xA, 0xC, 0xE)  # constructors whose size field is one byte
_ARRAY_CONSTRUCTORS: dict[type, int] = {
    uuid.UUID: 0x98,
    Timestamp: 0x83,
    Long: 0x81,
    int: 0x71,
    UInt: 0x70,
    Symbol: 0xB3,
    str: 0xB1,
    bytes: 0xB0,
}


def _variable(constructor: int, data: bytes) -> bytes:
    if len(data) < 256:
        return bytes((constructor, len(data))) + data
    return struct.pack(">BI", constructor + 0x10, len(data)) + data


def _compound(constructor: int, count: int, body: bytes) -> bytes:
    if count < 256 and len(body) < 255:
        return bytes((constructor, len(body) + 1, count)) + body
    return struct.pack(">BII", constructor + 0x10, len(body) + 4, count) + body


def _list(values: list[Any]) -> bytes:
    return _compound(0xC0, len(values), b"".join(map(encode, values))) if values else b"\x45"


def _map(values: dict[Any, Any]) -> bytes:
    return _compound(0xC1, len(values) * 2, b"".join(encode(key) + encode(value) for key, value in values.items()))


def _array(values: Array) -> bytes:
    constructor = _ARRAY_CONSTRUCTORS[type(values[0])] if values else 0x71
    fixed = constructor < 0xA0
    body = b"".join(encode(value)[1:] if fixed else _long_variable(value) for value in values)
    return struct.pack(">BIIB", 0xF0, len(body) + 5, len(values), constructor) + body


def _long_variable(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">I", len(data)) + data


def _integer(value: int) -> bytes:
    return struct.pack(">Bi", 0x71, value) if -(2**31) <= value < 2**31 else struct.pack(">Bq", 0x81, value)


def _packed(layout: str, constructor: int) -> Callable[[Any], bytes]:
    pack = struct.Struct(layout).pack
    return lambda value: pack(constructor, value)


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    int: _integer,
    float: _packed(">Bd", 0x82),
    Float: _packed(">Bf", 0x72),
    UByte: _packed(">BB", 0x50),
    Byte: _packed(">Bb", 0x51),
    UShort: _packed(">BH", 0x60),
    Short: _packed(">Bh", 0x61),
    UInt: _packed(">BI", 0x70),
    Long: _packed(">Bq", 0x81),
    ULong: _packed(">BQ", 0x80),
    Descriptor: _packed(">BB", 0x53),
    Timestamp: _packed(">Bq", 0x83),
    str: lambda value: _variable(0xA1, value.encode()),
    Symbol: lambda value: _variable(0xA3, value.encode()),
    bytes: lambda value: _variable(0xA0, value),
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    list: _list,
    dict: _map,
    Array: _array,
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
    Raw: lambda value: bytes((value.constructor,)) + value.data,
}


def encode(value: Any) -> bytes:
    """Encodes one value; the Python type decides the AMQP type."""
    return _ENCODERS[type(value)](value)


def section(code: int, value: Any) -> bytes:
    """Encodes a value under a one-byte descriptor: a message section, or a frame's body."""
    return bytes((0, 0x53, code)) + encode(value)


def performative(code: int, *fields: Any) -> bytes:
    """Encodes a frame's body; fields at the end that are None are left out, as the format allows."""
    count = len(fields)
    while count and fields[count - 1] is None:
        count -= 1
    return section(code, list(fields[:count]))


def decode(data: bytes, position: int = 0) -> tuple[Any, int]:
    """Decodes the value at `data[position:]`; returns it and the position after it.

    Raises:
        ValueError, IndexError, struct.error: the bytes are no AMQP value.
    """
    constructor = data[position]
    position += 1
    if constructor in _FIXED:
        layout, kind = _FIXED[constructor]
        return kind(struct.unpack_from(layout, data, position)[0]), position + struct.calcsize(layout)
    if constructor == _DESCRIBED:
        descriptor, position = decode(data, position)
        value, position = decode(data, position)
        return Described(descriptor, value), position
    width = _WIDTH.get(constructor >> 4)
    if width is None:
        return _decode_sized(data, position, constructor)
    return _decode_unsized(constructor, data[position : position + width]), position + width


def _decode_unsized(constructor: int, content: bytes) -> Any:
    if constructor in _CONSTANT:
        return _CONSTANT[constructor]
    if constructor == _EMPTY_LIST:
        return []
    if constructor == _BOOLEAN:
        return content == b"\x01"
    if constructor == _UUID:
        return uuid.UUID(bytes=content)
    return Raw(constructor, content)


def _size(data: bytes, position: int, constructor: int) -> tuple[int, int]:
    if constructor >> 4 in _SHORT_SIZE:
        return data[position], position + 1
    return struct.unpack_from(">I", data, position)[0], position + 4


def _decode_sized(data: bytes, position: int, constructor: int) -> tuple[Any, int]:
    size, position = _size(data, position, constructor)
    end = position + size
    if end > len(data):
        raise ValueError(f"truncated AMQP value: {size} bytes announced, {len(data) - position} there")
    if constructor >> 4 in {0xA, 0xB}:
        content = data[position:end]
        if constructor & 3 == 0:
            return content, end
        return (content.decode() if constructor & 3 == 1 else Symbol(content.decode())), end
    count, position = _size(data, position, constructor)
    if constructor >> 4 in {0xE, 0xF}:
        return _decode_array(data, position, count), end
    items = []
    for _ in range(count):
        item, position = decode(data, position)
        items.append(item)
    return (items if constructor in {0xC0, 0xD0} else dict(zip(items[::2], items[1::2], strict=True))), end


def _decode_array(data: bytes, position: int, count: int) -> Array:
    shared, position = data[position : position + 1], position + 1
    values = Array()
    for _ in range(count):  # put the shared constructor back in front of each item
        width = _WIDTH.get(shared[0] >> 4)
        if width is None:
            size, start = _size(data, position, shared[0])
            width = start - position + size
        values.append(decode(shared + data[position : position + width])[0])
        position += width
    return values
