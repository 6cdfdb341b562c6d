"""Canonical JSON: one text for one value, on every backend.

Hashes are computed over this text, so a value must have the same text before and after a database stored it. Cosmos DB
keeps numbers as IEEE doubles (a whole float comes back as an integer, an integer beyond 2^53 comes back wrong), and no
backend agrees on NaN. Hence: whole floats become integers, anything that a double cannot hold is refused, keys are
sorted. The rules are those of RFC 8785 as far as JSON written by orjson needs them.
"""

from math import isfinite
from typing import Any

import orjson

from .errors import FieldProblem, InvalidEventError

SAFE_INTEGER = 2**53 - 1  # ECMAScript's Number.MAX_SAFE_INTEGER: beyond it neighbours collapse in a double
MAX_DEPTH = 32

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with text keys."""


def normalize(value: Json, path: str = "") -> Json:
    """The value as every backend gives it back; refuses what one of them could not keep.

    Args:
        value: what json would call an object, array or scalar.
        path: where the value stands, for the message.

    Raises:
        InvalidEventError: an integer beyond +-(2^53 - 1), a number that is not finite, a NUL character or lone
            surrogate in a text, a key that is no text, nesting deeper than 32 levels.
    """
    return _normalize(value, path, MAX_DEPTH)


def canonical_json(value: Json) -> bytes:
    """The canonical UTF-8 text of a value that went through `normalize` or came out of a store."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _normalize(value: Json, path: str, depth: int) -> Json:
    kind = type(value)
    if kind is str:
        return _text(value, path)
    if value is None or kind is bool:
        return value
    if kind is int:
        if not -SAFE_INTEGER <= value <= SAFE_INTEGER:
            raise _refused(path, "an integer beyond 2^53 loses digits in a double; send it as text")
        return value
    if kind is float:
        return _float(value, path)
    if depth == 0:
        raise _refused(path, f"nested deeper than {MAX_DEPTH} levels")
    if kind is dict:
        return {
            _key(key, path): _normalize(item, f"{path}.{key}" if path else key, depth - 1)
            for key, item in value.items()
        }
    if kind is list:
        return [_normalize(item, f"{path}.{index}", depth - 1) for index, item in enumerate(value)]
    raise _refused(path, f"a JSON value was expected, not a Python {kind.__name__}")


def _text(value: str, path: str) -> str:
    if value.isascii():
        if "\0" in value:
            raise _refused(path, "a NUL character cannot be stored")
        return value
    if "\0" in value:
        raise _refused(path, "a NUL character cannot be stored")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _refused(path, "a lone surrogate is no character") from error
    return value


def _float(value: float, path: str) -> float | int:
    if not isfinite(value):
        raise _refused(path, "a finite number was expected")
    if value.is_integer() and -SAFE_INTEGER <= value <= SAFE_INTEGER:
        return int(value)
    return value


def _key(key: object, path: str) -> str:
    if type(key) is not str:
        raise _refused(path, "keys must be texts")
    return _text(key, path)


def _refused(path: str, problem: str) -> InvalidEventError:
    return InvalidEventError(FieldProblem(path or "(whole)", problem))
