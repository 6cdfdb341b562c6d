"""What travels over the wire: requests, answers, errors, and JSON with the service's idea of a number."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import orjson

_POINT_KINDS = {"GET": "read", "PUT": "replace", "PATCH": "patch", "DELETE": "delete"}
_POST_KINDS = {
    "x-ms-documentdb-isquery": "query",
    "x-ms-cosmos-is-batch-request": "batch",
    "x-ms-documentdb-is-upsert": "upsert",
}
_MESSAGES = {
    404: "Entity with the specified id does not exist in the system.",
    409: "Entity with the specified id, name, or unique index already exists in the system.",
    412: "Operation cannot be performed because one of the specified precondition is not met.",
    413: "Request size is too large.",
}
_LONGEST_EXACT_INTEGER = 15  # digits that a double always holds


class CosmosError(Exception):
    """An answer that is not a success.

    Attributes:
        status: HTTP status code.
        sub_status: Value of `x-ms-substatus`, 0 for none.
    """

    def __init__(self, status: int, sub_status: int = 0, message: str = "") -> None:
        super().__init__(message or _MESSAGES.get(status, f"Status {status}."))
        self.status = status
        self.sub_status = sub_status

    def answer(self, charge: float) -> "Answer":
        """The error as it goes over the wire."""
        headers = {"x-ms-substatus": str(self.sub_status)} if self.sub_status else {}
        return Answer(self.status, dump({"code": str(self.status), "message": str(self)}), headers, charge)


@dataclass(slots=True)
class Answer:
    """One HTTP answer; `charge` is in request units."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    charge: float = 0.0


@dataclass(frozen=True)
class Request:
    """One HTTP request; `segments` are the decoded parts of the path."""

    method: str
    segments: tuple[str, ...]
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, method: str, target: str, headers: dict[str, str], body: bytes) -> "Request":
        """Make a request from the parts of an HTTP message; header names are in lower case."""
        return cls(method, tuple(unquote(part) for part in target.split("/") if part), headers, body)

    @cached_property
    def kind(self) -> str:
        """The operation, in the words that the meter and the faults use."""
        match self.segments[4:]:
            case ["docs"] if self.method == "POST":
                kinds = (kind for header, kind in _POST_KINDS.items() if self.flag(header))
                return next(kinds, "create")
            case ["docs"]:
                return "feed" if "a-im" in self.headers else "query"
            case ["docs", _]:
                return _POINT_KINDS.get(self.method, "metadata")
            case _:
                return "metadata"

    @property
    def container(self) -> str | None:
        """Name of the addressed container, None for account and database requests."""
        return self.segments[3] if len(self.segments) > 3 else None  # /dbs/{database}/colls/{container}

    def flag(self, header: str) -> bool:
        """Whether a boolean header says true."""
        return self.headers.get(header, "").lower() == "true"

    def json(self) -> Any:
        """The parsed body."""
        return load(self.body)

    def partition_key(self) -> list[Any] | None:
        """The partition key values of the header, None without the header."""
        header = self.headers.get("x-ms-documentdb-partitionkey")
        return None if header is None else load(header.encode("latin-1"))

    def session(self) -> dict[str, int]:
        """Latest LSN that the client knows, by range id."""
        tokens = (token.split(":", 1) for token in self.headers.get("x-ms-session-token", "").split(",") if token)
        return {range_id: int(vector.split("#")[1]) for range_id, vector in tokens}

    def page_size(self) -> int:
        """Most items that one page may hold; without a wish the service's usual 100."""
        wish = int(self.headers.get("x-ms-max-item-count") or -1)
        return wish if wish > 0 else 100


def as_double(text: str) -> int | float:
    """Parse a JSON number the way the service stores it: as a double, written without a needless fraction."""
    if len(text) <= _LONGEST_EXACT_INTEGER and text.lstrip("-").isdigit():
        return int(text)
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise CosmosError(400, message=f"The number {text} does not fit a double.")
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


def _refuse_constant(text: str) -> Any:
    raise CosmosError(400, message=f"{text} is not JSON.")


def load(raw: bytes) -> Any:
    """Parse JSON; every number becomes a double.

    Raises:
        CosmosError: 400 when the text is no JSON.
    """
    try:
        return json.loads(raw, parse_int=as_double, parse_float=as_double, parse_constant=_refuse_constant)
    except ValueError as error:
        raise CosmosError(400, message=f"The request body is not JSON: {error}.") from error


def dump(value: Any) -> bytes:
    """Write JSON.

    Raises:
        CosmosError: 400 when a string is no valid Unicode.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise CosmosError(400, message=f"The document is not valid JSON: {error}.") from error


def listing(rid: str, name: str, items: list[Any]) -> bytes:
    """The body of a feed answer."""
    return dump({"_rid": rid, name: items, "_count": len(items)})
