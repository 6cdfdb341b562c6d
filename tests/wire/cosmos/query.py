"""The part of the query language that is served.

    SELECT * | VALUE COUNT(1) | VALUE path | path [AS name], ...     with [TOP n] in front
    FROM alias
    [WHERE condition]         =  !=  <>  <  <=  >  >=  AND  OR  NOT  IN (...)  ( )
                              IS_DEFINED  IS_NULL  ARRAY_CONTAINS  STARTSWITH
    [ORDER BY path [ASC|DESC], ...]
    [OFFSET n LIMIT n]

Values are literals or @parameters; everything else is refused with 400.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.wire.cosmos.conditions import (
    Condition,
    Restriction,
    Test,
    both,
    compare,
    contains,
    either,
    negated,
    starts_with,
)
from tests.wire.cosmos.index import UNDEFINED, Ordering, Path, Undefined, dig
from tests.wire.cosmos.messages import CosmosError, as_double

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)|(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<parameter>@\w+)|(?P<word>[A-Za-z_]\w*)|(?P<symbol><>|!=|<=|>=|[=<>(),.*\[\]]))"""
)
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LITERALS = {"TRUE": True, "FALSE": False, "NULL": None}
_FUNCTIONS = {"IS_DEFINED": 1, "IS_NULL": 1, "ARRAY_CONTAINS": 2, "STARTSWITH": 2}
_RESERVED = re.compile(
    "AND|ARRAY|AS|ASC|BETWEEN|BY|DESC|DISTINCT|EXISTS|FALSE|FROM|GROUP|IN|JOIN|LIKE|LIMIT|NOT|NULL|OFFSET|OR|ORDER|SELECT"
    "|TOP|TRUE|UNDEFINED|VALUE|WHERE",
    re.IGNORECASE,
)
"""Words that the service takes as property names only in brackets: c["value"]."""


@dataclass(frozen=True)
class Query:
    """A parsed query; `fields` and `value` are None for SELECT *, `filtered` are the paths that WHERE looks at."""

    where: Condition
    filtered: tuple[Path, ...]
    order: Ordering
    fields: tuple[tuple[str, Path], ...] | None
    value: Path | None
    counts: bool
    offset: int
    limit: int | None


@dataclass(frozen=True)
class _Operand:
    path: Path | None
    constant: Any = None

    def of(self, body: Any) -> Any:
        return self.constant if self.path is None else dig(body, self.path)


def parse_query(text: str, parameters: Mapping[str, Any]) -> Query:
    """Parse a query with its parameters filled in.

    Raises:
        CosmosError: 400 when the query is not of the served kind.
    """
    return _Parser(text, parameters).query()


def parse_condition(text: str) -> Test:
    """Parse the condition of a patch, `from c where ...`."""
    return _Parser(f"SELECT * {text}", {}).query().where.test


class _Parser:
    def __init__(self, text: str, parameters: Mapping[str, Any]) -> None:
        self._text = text
        self._parameters = parameters
        self._tokens: list[tuple[str, str]] = []
        self._next = 0
        self._roots: set[str] = set()
        self._paths: list[Path] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise self._refusal(f"cannot read {text[position : position + 20]!r}")
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    def query(self) -> Query:
        self._expect("SELECT")
        top = self._count() if self._accept("TOP") else None
        fields, value, counts = self._selection()
        self._expect("FROM")
        alias = self._word()
        where = self._any() if self._accept("WHERE") else Condition(lambda _body: True)
        filtered = tuple(self._paths)
        order = self._order() if self._accept("ORDER", "BY") else ()
        offset, limit = 0, top
        if top is None and self._accept("OFFSET"):
            offset = self._count()
            self._expect("LIMIT")
            limit = self._count()
        if self._next < len(self._tokens):
            raise self._refusal(f"cannot use {self._tokens[self._next][1]!r} here")
        if self._roots - {alias}:
            raise self._refusal(f"unknown names {sorted(self._roots - {alias})}, properties start with {alias!r}")
        if counts and (order or limit is not None):
            raise self._refusal("COUNT goes with no TOP, ORDER BY or OFFSET")
        return Query(where, filtered, order, fields, value, counts, offset, limit)

    def _selection(self) -> tuple[tuple[tuple[str, Path], ...] | None, Path | None, bool]:
        if self._accept("*"):
            return None, None, False
        if self._accept("VALUE"):
            if self._accept("COUNT", "(", "1", ")"):
                return None, None, True
            return None, self._path(), False
        fields = [self._field()]
        while self._accept(","):
            fields.append(self._field())
        return tuple(fields), None, False

    def _field(self) -> tuple[str, Path]:
        path = self._property()
        return (self._word() if self._accept("AS") else path[-1]), path

    def _order(self) -> Ordering:
        order: list[tuple[Path, bool]] = []
        while not order or self._accept(","):
            path = self._property()
            order.append((path, self._accept("DESC")))
            self._accept("ASC")
        return tuple(order)

    def _any(self) -> Condition:
        condition = self._all()
        while self._accept("OR"):
            condition = Condition(either(condition.test, self._all().test))
        return condition

    def _all(self) -> Condition:
        condition = self._negatable()
        while self._accept("AND"):
            other = self._negatable()
            condition = Condition(both(condition.test, other.test), condition.restrictions + other.restrictions)
        return condition

    def _negatable(self) -> Condition:
        if self._accept("NOT"):
            return Condition(negated(self._negatable().test))
        if self._accept("("):
            condition = self._any()
            self._expect(")")
            return condition
        for name, arity in _FUNCTIONS.items():
            if self._accept(name, "("):
                return self._function(name, arity)
        return self._comparison()

    def _function(self, name: str, arity: int) -> Condition:
        first = self._operand()
        second = first
        if arity > 1:
            self._expect(",")
            second = self._operand()
        self._expect(")")
        if name == "IS_DEFINED":
            return Condition(lambda body: first.of(body) is not UNDEFINED)
        if name == "IS_NULL":
            return Condition(lambda body: first.of(body) is None)
        if name == "STARTSWITH":
            return Condition(lambda body: starts_with(first.of(body), second.of(body)))
        if first.path is not None:
            self._paths[self._paths.index(first.path)] = (*first.path, "[]")
        return Condition(lambda body: contains(first.of(body), second.of(body)))

    def _comparison(self) -> Condition:
        left = self._operand()
        inverted = self._accept("NOT")
        if self._accept("IN"):
            return self._membership(left, inverted=inverted)
        kind, symbol = self._take()
        symbol = "!=" if symbol == "<>" else symbol
        if kind != "symbol" or symbol not in _MIRRORED or inverted:
            raise self._refusal(f"expected a comparison, found {symbol!r}")
        right = self._operand()
        if left.path is None:
            left, right, symbol = right, left, _MIRRORED[symbol]
        restrictions: tuple[Restriction, ...] = ()
        if left.path is not None and right.path is None and symbol != "!=":
            restrictions = (Restriction(left.path, symbol, (right.constant,)),)
        return Condition(lambda body: compare(symbol, left.of(body), right.of(body)), restrictions)

    def _membership(self, left: _Operand, *, inverted: bool) -> Condition:
        self._expect("(")
        choices = [self._value()]
        while self._accept(","):
            choices.append(self._value())
        self._expect(")")

        def test(body: Any) -> bool | Undefined:
            value = left.of(body)
            return UNDEFINED if value is UNDEFINED else any(compare("=", value, choice) is True for choice in choices)

        if inverted or left.path is None:
            return Condition(negated(test) if inverted else test)
        return Condition(test, (Restriction(left.path, "=", tuple(choices)),))

    def _operand(self) -> _Operand:
        kind, text = self._peek()
        if kind == "word" and text.upper() not in _LITERALS:
            path = self._property()
            self._paths.append(path)
            return _Operand(path)
        return _Operand(None, self._value())

    def _value(self) -> Any:
        kind, text = self._take()
        if kind == "number":
            return as_double(text)
        if kind == "string":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind == "word" and text.upper() in _LITERALS:
            return _LITERALS[text.upper()]
        if kind == "parameter" and text in self._parameters:
            return self._parameters[text]
        raise self._refusal(f"{text!r} is no value" if kind != "parameter" else f"parameter {text} was not given")

    def _path(self) -> Path:
        self._roots.add(self._word())
        path: list[str] = []
        while True:
            if self._accept("."):
                path.append(self._word())
            elif self._accept("["):
                kind, text = self._take()
                if kind != "string":
                    raise self._refusal("only a quoted property name may stand in [ ]")
                path.append(text[1:-1])
                self._expect("]")
            else:
                return tuple(path)

    def _property(self) -> Path:
        path = self._path()
        if not path:
            raise self._refusal("a property of the document is needed here")
        return path

    def _count(self) -> int:
        value = self._value()
        if type(value) is not int or value < 0:
            raise self._refusal(f"expected a whole number, found {value!r}")
        return value

    def _word(self) -> str:
        kind, text = self._take()
        if kind != "word" or _RESERVED.fullmatch(text):
            raise self._refusal(f"expected a name, found {text!r}")
        return text

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "the end")

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        self._next += 1
        return token

    def _accept(self, *words: str) -> bool:
        ahead = self._tokens[self._next : self._next + len(words)]
        found = [text.upper() for kind, text in ahead if kind != "string"] == list(words)
        self._next += len(words) if found else 0
        return found

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._refusal(f"expected {word}, found {self._peek()[1]!r}")

    def _refusal(self, reason: str) -> CosmosError:
        return CosmosError(400, message=f"Query not served: {reason}. {__doc__} The query: {self._text}")
