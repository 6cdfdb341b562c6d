"""The part of the query language that is served; everything else is refused with 400.

    SELECT [TOP n] * | path, ... | VALUE COUNT(1)  FROM c  [WHERE condition]  [ORDER BY path [ASC|DESC]]

A path is c.name.name; a condition compares a path with literals and @parameters, by = < <= > >= and IN (...), or says
ARRAY_CONTAINS(path, value) or STARTSWITH(path, value); conditions are combined by AND, OR and ( ).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from tests.wire.cosmos.conditions import Comparison, Conjunction, Contains, Either, spans
from tests.wire.cosmos.messages import CosmosError, as_double
from tests.wire.cosmos.values import Path, SortKey, sort_key

_PATH = r"c(?:\.[A-Za-z_]\w*)+"
_QUERY = re.compile(
    rf"""SELECT \s+
    (?: (?P<counts>VALUE \s+ COUNT\(1\)) | (?:TOP \s+ (?P<top>\d+) \s+)? (?:\* | (?P<fields>{_PATH} (?:, \s* {_PATH})*)) )
    \s+ FROM \s+ c
    (?: \s+ WHERE \s+ (?P<where>.+?) )?
    (?: \s+ ORDER \s+ BY \s+ (?P<order>{_PATH}) (?: \s+ (?:ASC | (?P<descending>DESC)) )? )?""",
    re.VERBOSE,
)
_TOKEN = re.compile(rf"\s*({_PATH}|@?[A-Za-z_]\w*|'[^'\\]*'|-?\d+(?:\.\d+)?|<=|>=|[=<>(),])\s*")
_LITERALS = {"true": True, "false": False, "null": None}
_RESERVED = re.compile(
    "and|array|as|asc|between|by|desc|distinct|exists|false|from|group|in|join|like|limit|not|null|offset|or|order|select"
    "|top|true|undefined|value|where",
    re.IGNORECASE,
)
"""Words that the service does not take as the name of a property."""
_T = TypeVar("_T")


class Query(NamedTuple):
    """A parsed query.

    Attributes:
        fields: What to select; empty for whole documents.
        counts: Whether only the number of documents is asked for.
        top: Most documents to select; None for all.
        where: What a document has to pass.
        order: What to sort by; empty for no order.
        descending: Whether to sort the other way round.
        searched: The paths that WHERE and ORDER BY look at.
    """

    fields: tuple[Path, ...]
    counts: bool
    top: int | None
    where: Conjunction
    order: Path
    descending: bool
    searched: list[Path]


def parse_query(text: str, parameters: Mapping[str, Any]) -> Query:
    """Parse a query with its parameters filled in.

    Raises:
        CosmosError: 400 when the query is not of the served kind.
    """
    try:
        return _parsed(text.strip(), parameters)
    except ValueError as error:
        raise CosmosError(400, message=f"Query not served: {text}: {error}. {__doc__}") from error


def _parsed(text: str, parameters: Mapping[str, Any]) -> Query:
    form = _QUERY.fullmatch(text)
    if form is None:
        raise ValueError("it has another form")
    parser = _Parser(form["where"] or "", parameters)
    order = _path(form["order"]) if form["order"] else ()
    return Query(
        fields=tuple(map(_path, re.findall(_PATH, form["fields"] or ""))),
        counts=form["counts"] is not None,
        top=int(form["top"]) if form["top"] else None,
        where=parser.conditions() if form["where"] else (),
        order=order,
        descending=form["descending"] is not None,
        searched=[*parser.searched, *([order] if order else [])],
    )


class _Parser:
    """Recursive descent through a condition; `searched` are the paths that it met."""

    def __init__(self, text: str, parameters: Mapping[str, Any]) -> None:
        self.searched: list[Path] = []
        self._known = {**_LITERALS, **parameters}
        self._tokens = _TOKEN.findall(text)[::-1]  # the next one is the last
        if unread := _TOKEN.sub("", text):
            raise ValueError(f"cannot read {unread!r}")

    def conditions(self) -> Conjunction:
        found = self._alternatives()
        if self._tokens:
            raise ValueError(f"cannot use {self._take()!r} here")
        return found

    def _alternatives(self) -> Conjunction:
        first, *others = self._several(self._conjunction, "OR")
        return (Either((first, *others)),) if others else first

    def _conjunction(self) -> Conjunction:
        return tuple(condition for conditions in self._several(self._condition, "AND") for condition in conditions)

    def _condition(self) -> Conjunction:
        if self._accept("("):
            conditions = self._alternatives()
            self._expect(")")
            return conditions
        if self._accept("ARRAY_CONTAINS"):
            path, item = self._arguments()
            self.searched.append((*path, "[]"))
            return (Contains(path, item),)
        if self._accept("STARTSWITH"):
            path, prefix = self._arguments()
            self.searched.append(path)
            return (Comparison(path, spans("STARTSWITH", [prefix])),)
        path, symbol = _path(self._take()), self._take()
        self.searched.append(path)
        if symbol != "IN":
            return (Comparison(path, spans(symbol, [self._value()])),)
        self._expect("(")
        constants = self._several(self._value, ",")
        self._expect(")")
        return (Comparison(path, spans(symbol, constants)),)

    def _arguments(self) -> tuple[Path, SortKey]:
        self._expect("(")
        path = _path(self._take())
        self._expect(",")
        value = self._value()
        self._expect(")")
        return path, value

    def _value(self) -> SortKey:
        token = self._take()
        if token.startswith("'"):
            return sort_key(token[1:-1])
        if re.fullmatch(r"[-\d.]+", token):
            return sort_key(as_double(token))
        if token not in self._known:
            raise ValueError(f"{token!r} is no value")
        return sort_key(self._known[token])

    def _several(self, part: Callable[[], _T], separator: str) -> tuple[_T, ...]:
        parts = [part()]
        while self._accept(separator):
            parts.append(part())
        return tuple(parts)

    def _take(self) -> str:
        return self._tokens.pop() if self._tokens else ""

    def _accept(self, token: str) -> bool:
        return self._tokens[-1:] == [token] and bool(self._take())

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise ValueError(f"expected {token!r}, found {self._take()!r}")


def _path(text: str) -> Path:
    path = tuple(text.split(".")[1:])
    if not path or any(map(_RESERVED.fullmatch, path)):
        raise ValueError(f"{text!r} is no path")
    return path
