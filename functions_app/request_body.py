"""Reading a JSON body that a stranger sent: bounded, strict, and the same meaning for everyone who reads it.

BodyError (a RequestError)
+-- UnsupportedMediaTypeError  415  no JSON in UTF-8
+-- BodyTooLargeError          413  more bytes than allowed
+-- EmptyBodyError             400  nothing there
+-- MalformedJsonError         400  not JSON, or JSON that two readers could understand differently
"""

import json
import re
from collections import Counter
from typing import Any

import orjson
from azure.functions import HttpRequest

from eventstore import MAX_DEPTH

from .problems import RequestError

DEFAULT_LIMIT = 256 * 1024

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with text keys."""

_JSON_TYPE = re.compile(r"application/json|[\w!#$&^.+-]+/[\w!#$&^.+-]+\+json", re.IGNORECASE)


class BodyError(RequestError):
    """Base of what can be wrong with a body."""


class UnsupportedMediaTypeError(BodyError):
    """The request does not declare JSON in UTF-8, or declares it compressed."""

    status, code, title = 415, "unsupported_media_type", "The body must be JSON in UTF-8"


class BodyTooLargeError(BodyError):
    """The body holds more bytes than allowed.

    Attributes:
        size: bytes that came.
        limit: bytes that are allowed.
    """

    status, code, title = 413, "body_too_large", "The body is too large"

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(f"{size} bytes came, at most {limit} are taken; send less in one request.")


class EmptyBodyError(BodyError):
    """There is no body, or only white space."""

    code, title = "empty_body", "The body is empty"

    def __init__(self) -> None:
        super().__init__("A JSON document was expected; nothing came.")


class MalformedJsonError(BodyError):
    """The body is not JSON, or it is JSON that two readers could understand differently."""

    code, title = "malformed_json", "The body is not valid JSON"


def read_json(request: HttpRequest, *, limit: int = DEFAULT_LIMIT) -> Json:
    """The JSON document in a request's body.

    Args:
        request: as the Functions worker hands it over.
        limit: bytes allowed.

    Raises:
        UnsupportedMediaTypeError: the content type is neither `application/json` nor `*+json`, the charset is not
            UTF-8, or the body is compressed.
        BodyTooLargeError: more than `limit` bytes.
        EmptyBodyError: no body.
        MalformedJsonError: see `parse_json`.
    """
    _check_declared(request)
    body = request.get_body()
    if len(body) > limit:
        raise BodyTooLargeError(len(body), limit)
    return parse_json(body)


def parse_json(body: bytes) -> Json:
    """The JSON document in these bytes.

    Stricter than the standard library: UTF-8 without byte order mark, no NaN or Infinity, no lone surrogates, no key
    twice in one object, at most 32 levels. Integers keep all their digits, so that whoever stores them can refuse
    those that would lose some.

    Raises:
        EmptyBodyError: no bytes, or white space only.
        MalformedJsonError: anything else that is not such a document.
    """
    if not body.strip():
        raise EmptyBodyError
    try:
        strict = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJsonError(
            f"Not JSON at line {error.lineno}, column {error.colno}; expected UTF-8 text after RFC 8259, without "
            "NaN, Infinity or lone surrogates."
        ) from None
    _check_depth(strict)
    # orjson is the strict grammar, but it keeps the last of two equal keys and turns integers beyond 64 bits into floats
    # without a word. The standard library, run on what is now known to be JSON, shows both.
    return json.loads(body.decode(), object_pairs_hook=_object)


def _check_declared(request: HttpRequest) -> None:
    media_type, *parameters = request.headers.get("content-type", "").split(";")
    if not _JSON_TYPE.fullmatch(media_type.strip()):
        raise UnsupportedMediaTypeError("Send the header 'Content-Type: application/json', or a type ending in +json.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in {"utf-8", "utf8"}:
            raise UnsupportedMediaTypeError("JSON is UTF-8; send it so and leave the charset out.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaTypeError("Compressed bodies are not read; send it without Content-Encoding.")


def _check_depth(value: Json) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for node in level if isinstance(node, dict | list) for item in _items(node)]
    if any(isinstance(node, dict | list) for node in level):
        raise MalformedJsonError(f"Nested deeper than {MAX_DEPTH} levels; flatten it.")


def _items(node: dict[str, Json] | list[Json]) -> list[Json]:
    return list(node.values()) if isinstance(node, dict) else node


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        repeated = next(key for key, count in counts.items() if count > 1)
        # A key of an unknown sender may be personal data itself; one that looks like a field name is worth naming.
        name = repeated if repeated.isascii() and repeated.isidentifier() else "A key"
        raise MalformedJsonError(f"{name} stands twice in one object; which of the two is meant cannot be known.")
    return found
