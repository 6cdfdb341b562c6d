"""What travels over the wire: requests, answers, errors, and JSON with the service's idea of a number."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import orjson

_POST_KINDS = {
    "x-ms-documentdb-isquery": "query",
    "x-ms-cosmos-is-batch-request": "batch",
    "x-ms-documentdb-is-upsert": "upsert",
}
_POINT_KINDS = {"GET": "read", "PUT": "replace", "DELETE": "delete"}
_LONGEST_EXACT_INTEGER = 15  # digits that a double always holds


class CosmosError(Exception):
    """An answer that is not a success.

    Attributes:
        status: HTTP status code.
        sub_status: Value of `x-ms-substatus`, 0 for none.
    """

    def __init__(self, status: int, sub_status: int = 0, message: str = "") -> None:
        super().__init__(message or f"Status {status}.")
        self.status = status
        self.sub_status = sub_status

    def answer(self, charge: float) -> "Answer":
        """The error as it goes over the wire."""
        headers = {"x-ms-substatus": str(self.sub_status)} if self.sub_status else {}
        return Answer(self.status, orjson.dumps({"code": str(self.status), "message": str(self)}), headers, charge)


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
        match self.method, *self.segments[4:]:  # /dbs/{database}/colls/{container}/...
            case ["POST", "docs"]:
                return next((kind for header, kind in _POST_KINDS.items() if self.flag(header)), "create")
            case ["GET", "docs"]:
                return "feed"
            case [method, "docs", _]:
                return _POINT_KINDS.get(method, "metadata")
        return "metadata"

    @property
    def container(self) -> str | None:
        """Name of the addressed container, None for account and database requests."""
        return self.segments[3] if len(self.segments) > 3 else None

    def flag(self, header: str) -> bool:
        """Whether a boolean header says true."""
        return self.headers.get(header, "").lower() == "true"

    def json(self) -> Any:
        """The parsed body; every number is a double."""
        return load(self.body)

    def partition_key(self) -> list[Any] | None:
        """The partition key of the header, in a list as on the wire; None without the header."""
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


def not_served(what: str) -> CosmosError:
    """The refusal of something that the service has and this server has not."""
    return CosmosError(400, message=f"Not served by this test server: {what}.")


def as_double(text: str) -> int | float:
    """Parse a JSON number the way the service stores it: as a double, written without a needless fraction."""
    if len(text) <= _LONGEST_EXACT_INTEGER and text.lstrip("-").isdigit():
        return int(text)
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


def _refuse_constant(text: str) -> Any:
    raise CosmosError(400, message=f"{text} is not JSON.")


def load(raw: bytes) -> Any:
    """Parse JSON; every number becomes a double."""
    return json.loads(raw, parse_int=as_double, parse_float=as_double, parse_constant=_refuse_constant)


def session_headers(lsns: dict[str, int]) -> dict[str, str]:
    """The headers that tell a client which state it has seen, by range id; the first range stands for all."""
    token = ",".join(f"{range_id}:-1#{lsn}" for range_id, lsn in lsns.items())
    return {"x-ms-session-token": token, "x-ms-documentdb-partitionkeyrangeid": next(iter(lsns))}


def listing(rid: str, name: str, items: list[Any]) -> bytes:
    """The body of a feed answer."""
    return orjson.dumps({"_rid": rid, name: items, "_count": len(items)})
