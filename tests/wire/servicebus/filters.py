"""Which messages a subscription's rule selects.

Correlation filters are complete. Of the SQL filter language there is a subset, enough to say which boolean or text
properties a subscriber wants:

    expression := term (OR term)*            term   := factor (AND factor)*
    factor     := NOT factor | (expression) | name = TRUE | name = FALSE | name = 'text' | name IS [NOT] NULL

A name is an application property (letters, digits, `_`; case-insensitive). Logic is three-valued as in the service: a
comparison with a missing property is unknown, so is its negation, and only a true expression selects a message.
Source: Microsoft's "Subscription Rule SQL Filter Syntax". Everything else is refused when the filter is built.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from tests.wire.servicebus.errors import ConfigError, UnsupportedFilterError
from tests.wire.servicebus.message import Message

_Properties = Mapping[str, Any]
_Predicate = Callable[[_Properties], bool | None]
"""Application properties by lower-case name, to true, false or (None) unknown."""

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_]\w*)|(?P<sign>[()=]))", re.ASCII)
_KEYWORDS = {"AND", "OR", "NOT", "IS", "NULL", "TRUE", "FALSE", "LIKE", "IN", "EXISTS", "ESCAPE"}


class Filter(Protocol):
    """Decides whether a message is selected."""

    def matches(self, message: Message) -> bool:
        """Whether the message is selected."""
        ...


class TrueFilter:
    """Selects everything."""

    def matches(self, message: Message) -> bool:
        """Always."""
        return True


class CorrelationFilter:
    """Selects messages on which every given property is there and equal, in type too.

    Args:
        system: system properties by their Config.json name (`Label`, `CorrelationId`, ...), to text.
        application: application properties, to booleans, whole numbers or text.
    """

    def __init__(self, system: Mapping[str, str], application: Mapping[str, bool | int | str]) -> None:
        if not system and not application:
            raise ConfigError("a correlation filter needs at least one property to compare; it has none")
        for name, value in application.items():
            if not isinstance(value, (bool, int, str)):
                raise ConfigError(f"property {name!r} of a correlation filter must be a boolean, whole number or text")
        self.system = dict(system)
        self.application = dict(application)

    def matches(self, message: Message) -> bool:
        """Whether all properties are equal."""
        if self.system:
            system = message.system_properties()
            if any(system[name] != value for name, value in self.system.items()):
                return False
        found = message.application_properties
        return all(_equal(found.get(name), value) is True for name, value in self.application.items())


class SqlFilter:
    """Selects messages for which a SQL expression is true.

    Raises:
        UnsupportedFilterError: the expression is outside the subset above.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._predicate = _Parser(expression).parse()

    def matches(self, message: Message) -> bool:
        """Whether the expression is true; unknown is not true."""
        properties = {name.lower(): value for name, value in message.application_properties.items()}
        return self._predicate(properties) is True


class Rule(NamedTuple):
    """A named filter of a subscription."""

    name: str
    filter: Filter


DEFAULT_RULE = Rule("$Default", TrueFilter())
"""What a subscription has that was created without rules."""


def _equal(found: Any, wanted: bool | int | str) -> bool | None:  # noqa: FBT001 - a value, not a switch
    """Three-valued equality: unknown where the property is missing or of another kind.

    The service cannot compare a boolean with a text either: it fails the rule, which then does not select.
    """
    kind = bool if isinstance(wanted, bool) else int if isinstance(wanted, int) else str
    if not isinstance(found, kind) or isinstance(found, bool) != isinstance(wanted, bool):
        return None
    return bool(found == wanted)


class _Token(NamedTuple):
    kind: str  # text, name, sign, keyword or end
    text: str


class _Parser:
    """Recursive descent over the grammar in the module's docstring."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = [*self._split(), _Token("end", "the end")]

    def parse(self) -> _Predicate:
        predicate = self._any_of()
        if self._tokens[0].kind != "end":
            raise self._unsupported("AND, OR or the end")
        return predicate

    def _split(self) -> list[_Token]:
        tokens, position = [], 0
        text = self._expression.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                rest = text[position:].strip()
                raise UnsupportedFilterError(self._expression, f"cannot read {rest!r}; see the supported subset")
            kind = str(match.lastgroup)
            word = match[kind]
            if kind == "name" and word.upper() in _KEYWORDS:
                kind, word = "keyword", word.upper()
            tokens.append(_Token(kind, word))
            position = match.end()
        return tokens

    def _any_of(self) -> _Predicate:
        predicate = self._all_of()
        while self._accept("OR"):
            predicate = _or(predicate, self._all_of())
        return predicate

    def _all_of(self) -> _Predicate:
        predicate = self._factor()
        while self._accept("AND"):
            predicate = _and(predicate, self._factor())
        return predicate

    def _factor(self) -> _Predicate:
        if self._accept("NOT"):
            return _not(self._factor())
        if self._accept("("):
            predicate = self._any_of()
            self._expect(")")
            return predicate
        if self._tokens[0].kind != "name":
            raise self._unsupported("a property name, NOT or (")
        name = self._tokens.pop(0).text.lower()
        if self._accept("IS"):
            negated = self._accept("NOT")
            self._expect("NULL")
            return lambda properties: (properties.get(name) is None) != negated
        self._expect("=")
        wanted = self._literal()
        return lambda properties: _equal(properties.get(name), wanted)

    def _literal(self) -> bool | str:
        if self._accept("TRUE"):
            return True
        if self._accept("FALSE"):
            return False
        if self._tokens[0].kind != "text":
            raise self._unsupported("TRUE, FALSE or 'text'")
        return self._tokens.pop(0).text[1:-1].replace("''", "'")

    def _accept(self, text: str) -> bool:
        token = self._tokens[0]
        if token.kind in {"keyword", "sign"} and token.text == text:
            del self._tokens[0]
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._unsupported(text)

    def _unsupported(self, expected: str) -> UnsupportedFilterError:
        return UnsupportedFilterError(self._expression, f"expected {expected}, found {self._tokens[0].text}")


def _and(left: _Predicate, right: _Predicate) -> _Predicate:
    def both(properties: _Properties) -> bool | None:
        values = (left(properties), right(properties))
        return False if False in values else None if None in values else True

    return both


def _or(left: _Predicate, right: _Predicate) -> _Predicate:
    def either(properties: _Properties) -> bool | None:
        values = (left(properties), right(properties))
        return True if True in values else None if None in values else False

    return either


def _not(operand: _Predicate) -> _Predicate:
    def negated(properties: _Properties) -> bool | None:
        value = operand(properties)
        return None if value is None else not value

    return negated
