r"""Which function an HTTP request is for: the Functions host's routing, which is ASP.NET Core's.

A template is a path with parameters: `clients/{id}`, `items/{id:int}`, `files/{*rest}`, `list/{page=1}`,
`audit/{from?}`, `report-{year}.csv`. Literals match in any case. More literal templates are tried first, then those
with more constraints, then longer ones (the order of `WebJobsRouteBuilder` in azure-webjobs-sdk-extensions). A route
that matches by path but not by method does not match: the answer is 404, as on Azure, not 405.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote

from .local_errors import InvalidRouteError
from .problems import RequestError
from .route_constraints import Check, constraint

T = TypeVar("T")
Rank = tuple[int, int, str]

_TOKEN = re.compile(r"\{(?:[^{}]|\{\{|\}\})+\}|/|[^{}/]+")
_PARAMETER = re.compile(
    r"\{(?P<stars>\*{0,2})(?P<name>[A-Za-z_]\w*)(?P<checks>(?::[A-Za-z]+(?:\(.*?\)(?=[:=?}]))?)*)"
    r"(?:=(?P<default>[^?{}]*))?(?P<optional>\?)?\}",
    re.ASCII,
)
_CONSTRAINT = re.compile(r":([A-Za-z]+)(\((.*?)\)(?=:|$))?")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED_SLASH = re.compile(r"%(?=2[Ff])")


class MalformedPathError(RequestError):
    """The path of a request is not the percent-encoded form of any text."""

    code, title = "malformed_path", "The path cannot be read"


def path_parts(raw_path: bytes) -> list[str]:
    """The decoded parts of a request's path, dot segments resolved, as Kestrel hands them to the router.

    An encoded slash stays encoded: it belongs to its part and separates nothing.

    Raises:
        MalformedPathError: a `%` without two hexadecimal digits, no UTF-8, or a NUL.
    """
    text = raw_path.decode("latin-1")
    if _BROKEN_ESCAPE.search(text):
        raise MalformedPathError("Two hexadecimal digits were expected after each '%'.")
    parts: list[str] = []
    for raw in text.split("/")[1:]:
        try:
            part = unquote(_ESCAPED_SLASH.sub("%25", raw), errors="strict")
        except UnicodeDecodeError:
            raise MalformedPathError("The percent-encoded bytes are not UTF-8.") from None
        if "\0" in part:
            raise MalformedPathError("A NUL character cannot stand in a path.")
        if part == "..":
            del parts[-1:]
        elif part != ".":
            parts.append(part)
    return parts[:-1] if parts and parts[-1] == "" else parts


class _Segment(Protocol):
    """What stands between two slashes of a template."""

    @property
    def rank(self) -> Rank:
        """Its place in the order in which routes are tried."""

    def take(self, rest: list[str]) -> Mapping[str, str] | None:
        """Remove from `rest` what this segment matches and give the values found, or None if it does not match."""


@dataclass(frozen=True, slots=True)
class _Literal:
    text: str

    @property
    def rank(self) -> Rank:
        return (0, 0, self.text)

    def take(self, rest: list[str]) -> Mapping[str, str] | None:
        return {} if rest and rest.pop(0).lower() == self.text else None


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    checks: tuple[Check, ...]
    default: str | None
    optional: bool
    catch_all: bool

    @property
    def rank(self) -> Rank:
        # The host leaves `{x}` and `{*x}` equal; the narrower one first is the only order that reaches both.
        return (1, -len(self.checks), "*" if self.catch_all else "")

    def take(self, rest: list[str]) -> Mapping[str, str] | None:
        taken = len(rest) if self.catch_all else 1
        value = "/".join(rest[:taken]) or self.default
        del rest[:taken]
        if value is None:
            return {} if self.optional or self.catch_all else None
        return {self.name: value} if all(check(value) for check in self.checks) else None


@dataclass(frozen=True, slots=True)
class _Mixed:
    """Literals and parameters side by side, such as `report-{year}.csv`."""

    rank: Rank
    pattern: re.Pattern[str]
    parameters: tuple[_Parameter, ...]

    def take(self, rest: list[str]) -> Mapping[str, str] | None:
        found = self.pattern.fullmatch(rest.pop(0)) if rest else None
        if found is None:
            return None
        passed = all(check(found[parameter.name]) for parameter in self.parameters for check in parameter.checks)
        return found.groupdict() if passed else None


class RouteTemplate:
    """A parsed route template.

    Args:
        text: the template, with or without a slash in front.

    Raises:
        InvalidRouteError: braces that do not pair, a parameter or constraint that does not exist, a name used twice,
            something after a catch-all.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        tokens = _TOKEN.findall(text)
        if "".join(tokens) != text:
            raise InvalidRouteError(text, "braces must enclose a parameter and pair up")
        names = [found[1].lower() for token in tokens if (found := re.match(r"\{\**(\w+)", token))]
        if len(set(names)) != len(names):
            raise InvalidRouteError(text, "two parameters have one name")
        self._segments = [
            _segment(text, list(group)) for is_slash, group in groupby(tokens, key="/".__eq__) if not is_slash
        ]
        _check_order(text, self._segments)

    @property
    def rank(self) -> list[Rank]:
        """Sort key: routes are tried in ascending order."""
        return [*(segment.rank for segment in self._segments), (2, 0, "")]

    def match(self, parts: Sequence[str]) -> dict[str, str] | None:
        """The values of the parameters, or None if the path is another one."""
        rest = list(parts)
        values: dict[str, str] = {}
        for segment in self._segments:
            found = segment.take(rest)
            if found is None:
                return None
            values.update(found)
        return None if rest else values


class RouteTable(Generic[T]):
    """Routes in the order in which the host tries them.

    Args:
        routes: template, methods in capitals (None for all) and whatever the route leads to.
    """

    def __init__(self, routes: Iterable[tuple[RouteTemplate, frozenset[str] | None, T]]) -> None:
        self._routes = sorted(routes, key=lambda route: route[0].rank)

    def find(self, method: str, parts: Sequence[str]) -> tuple[T, dict[str, str]] | None:
        """Where a request leads and the values of its route's parameters, or None."""
        for template, methods, target in self._routes:
            if methods is None or method in methods:
                values = template.match(parts)
                if values is not None:
                    return target, values
        return None


def _segment(template: str, tokens: Sequence[str]) -> _Segment:
    found = [_parameter(template, token) if token.startswith("{") else token for token in tokens]
    first = found[0]
    if len(found) == 1:
        return _Literal(first.lower()) if isinstance(first, str) else first
    parameters = [item for item in found if isinstance(item, _Parameter)]
    if any(item.catch_all or item.optional or item.default is not None for item in parameters):
        raise InvalidRouteError(template, "only a parameter that fills its segment can be optional or a catch-all")
    pattern = "".join(re.escape(item) if isinstance(item, str) else f"(?P<{item.name}>.+?)" for item in found)
    rank = _Literal(first.lower()).rank if isinstance(first, str) else first.rank
    return _Mixed(rank, re.compile(pattern, re.IGNORECASE), tuple(parameters))


def _parameter(template: str, token: str) -> _Parameter:
    found = _PARAMETER.fullmatch(token)
    if found is None:
        raise InvalidRouteError(template, f"{token} is no parameter; {{name}} or {{name:constraint}} was expected")
    try:
        checks = tuple(
            constraint(name, argument.replace("{{", "{").replace("}}", "}") if called else None)
            for name, called, argument in _CONSTRAINT.findall(found["checks"])
        )
    except (ValueError, re.error) as error:
        raise InvalidRouteError(template, f"{token}: {error}") from error
    return _Parameter(found["name"], checks, found["default"], bool(found["optional"]), bool(found["stars"]))


def _check_order(template: str, segments: Sequence[_Segment]) -> None:
    for segment in segments[:-1]:
        if isinstance(segment, _Parameter) and (segment.catch_all or segment.optional):
            raise InvalidRouteError(template, f"nothing can follow the catch-all or optional parameter {segment.name}")
