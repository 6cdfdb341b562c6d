"""AMQP types: what is encoded decodes to the same, here and in the SDK."""

import uuid
from typing import Any

import pytest
from azure.servicebus._pyamqp import _decode, _encode

from tests.wire.servicebus.codec import (
    Array,
    Byte,
    Described,
    Descriptor,
    Float,
    Long,
    Raw,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    decode,
    encode,
    section,
)
from tests.wire.servicebus.message import sections

pytestmark = pytest.mark.servicebus_wire

SOME_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31 - 1,
    -(2**31),
    Long(2**40),
    UInt(2**32 - 1),
    ULong(2**60),
    UByte(255),
    UShort(65535),
    Byte(-128),
    Short(-5),
    Timestamp(1),
    1.5,
    Float(0.5),
    "",
    "é" * 300,
    Symbol("s"),
    Symbol("s" * 300),
    b"",
    b"x" * 300,
    SOME_ID,
    [],
    [1, "a", [b"z"]],
    {"k": {"n": 1}},
    list(range(300)),
    Array([Long(1), Long(-2)]),
    Array([SOME_ID]),
    Array([Symbol("a"), Symbol("bb")]),
    Array(["é", "x" * 300]),
]
SDK_VALUES: list[tuple[Any, Any]] = [
    *((plain, plain) for plain in (None, True, 5, -5, 2**31 - 1, 1.5, "abc", b"x" * 300, SOME_ID, ["a", 1], {"a": 1})),
    ({"TYPE": "ARRAY", "VALUE": [{"TYPE": "LONG", "VALUE": i} for i in range(3)]}, [0, 1, 2]),
    ({"TYPE": "ARRAY", "VALUE": [SOME_ID]}, [SOME_ID]),
    ({"TYPE": "ULONG", "VALUE": 7}, 7),
]


def as_sdk_decodes(value: Any) -> Any:
    """The SDK turns text and symbols into bytes."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [as_sdk_decodes(item) for item in value]
    if isinstance(value, dict):
        return {as_sdk_decodes(key): as_sdk_decodes(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}")
def test_a_value_keeps_its_type(value: Any) -> None:
    """Encoding and decoding gives an equal value of the same type, and the SDK reads the same."""
    encoded = encode(value)
    decoded, end = decode(encoded)
    assert (decoded, end, type(decoded)) == (value, len(encoded), type(value))
    rest, theirs = _decode._DECODE_BY_CONSTRUCTOR[encoded[0]](memoryview(encoded)[1:])
    assert (bytes(rest), theirs) == (b"", as_sdk_decodes(value))


@pytest.mark.parametrize(("value", "expected"), SDK_VALUES, ids=lambda value: str(value)[:20])
def test_what_the_sdk_encodes_is_understood(value: Any, expected: Any) -> None:
    """The SDK's bytes decode to its value, to the last byte."""
    encoded = bytearray()
    _encode.encode_value(encoded, value)
    assert decode(bytes(encoded)) == (expected, len(encoded))


def test_described_values_and_unknown_types_pass_through() -> None:
    """A descriptor stays with its value; types nobody interprets keep their bytes."""
    assert decode(encode(Described(Descriptor(0x24), [])))[0] == Described(0x24, [])
    char = b"\x73\x00\x00\x00\x41"
    assert decode(char) == (Raw(0x73, char[1:]), 5)
    assert encode(Raw(0x73, char[1:])) == char


def test_broken_bytes_are_refused() -> None:
    """A value that ends too early, or something that is no message section, is an error."""
    with pytest.raises(ValueError, match="truncated AMQP value: 5 bytes announced, 2 there"):
        decode(b"\xa1\x05ab")
    with pytest.raises(ValueError, match="expected a message section at byte 5, found a plain str"):
        sections(section(0x75, b"") + encode("x"))
