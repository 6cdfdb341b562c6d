"""Canonical JSON: one text for one value, on every backend.

Hashes are computed over this text, so a value must have the same text before and after a database stored it. Cosmos DB
keeps numbers as IEEE doubles (a whole float comes back as an integer, an integer beyond 2^53 comes back wrong), and no
backend agrees on NaN. Hence: whole floats become integers, anything that a double cannot hold or that has more than one
customary text is refused, keys are sorted. The rules are those of RFC 8785 as far as JSON written by orjson needs them.
"""

from math import isfinite
from typing import Any

import orjson

from .errors import InvalidEventError
from .problems import WHOLE, FieldProblem, field_path

SAFE_INTEGER = 2**53 - 1  # ECMAScript's Number.MAX_SAFE_INTEGER: beyond it neighbours collapse in a double
MAX_DEPTH = 32

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with text keys."""


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """A value that cannot be stored; collects its path from the inside out, so that good values pay nothing for it."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.inside_out: list[object] = []


def normalize(value: Json, path: str = "") -> Json:
    """The value as every backend gives it back; refuses what one of them could not keep.

    Args:
        value: what json would call an object, array or scalar.
        path: where the value stands, for the message.

    Raises:
        InvalidEventError: a whole number beyond +-(2^53 - 1), a number that is not finite, a NUL character or lone
            surrogate in a text, a key that is no text, nesting deeper than 32 levels.
    """
    try:
        return _normalize(value, MAX_DEPTH)
    except _Refused as refused:
        inside = [field_path([part]) for part in reversed(refused.inside_out)]
        where = ".".join(([path] if path else []) + inside) or WHOLE
        raise InvalidEventError(FieldProblem(where, refused.problem)) from None


def canonical_json(value: Json) -> bytes:
    """The canonical UTF-8 text of a value that went through `normalize` or came out of a store."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _normalize(value: Json, depth: int) -> Json:
    kind = type(value)
    if kind is str:
        return _text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return _integer(value)
    if kind is float:
        return _float(value)
    if depth == 0:
        raise _Refused(f"nested deeper than {MAX_DEPTH} levels")
    if kind is dict:
        return _object(value, depth - 1)
    if kind is list:
        return _array(value, depth - 1)
    raise _Refused(f"a JSON value was expected, not a Python {kind.__name__}")


def _object(value: dict[Any, Json], depth: int) -> dict[str, Json]:
    normalized = {}
    for key, item in value.items():
        if type(key) is not str:
            raise _Refused("keys must be texts")
        try:
            normalized[_text(key)] = _normalize(item, depth)
        except _Refused as refused:
            refused.inside_out.append(key)
            raise
    return normalized


def _array(value: list[Json], depth: int) -> list[Json]:
    normalized = []
    for index, item in enumerate(value):
        try:
            normalized.append(_normalize(item, depth))
        except _Refused as refused:
            refused.inside_out.append(index)
            raise
    return normalized


def _text(value: str) -> str:
    if "\0" in value:
        raise _Refused("a NUL character cannot be stored")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Refused("a lone surrogate is no character") from None
    return value


def _integer(value: int) -> int:
    if not -SAFE_INTEGER <= value <= SAFE_INTEGER:
        raise _Refused("a whole number beyond 2^53 loses digits in a double; send it as text")
    return value


def _float(value: float) -> float | int:
    if not isfinite(value):
        raise _Refused("a finite number was expected")
    # Every double beyond 2^53 is whole, and backends disagree whether to write it with an exponent.
    return _integer(int(value)) if value.is_integer() else value
