"""The address of a call: a method and a path with values in it, none of which can lead anywhere else. Pure."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from string import Formatter
from typing import Any
from urllib.parse import quote, urlsplit

from .errors import IntegrationDefinitionError, ResourceValueError

_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
_LITERAL = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*")  # RFC 3986: path and query
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOTS = {".", ".."}

_Part = tuple[str, str | None]
"""Literal text and the name of the value after it."""


class Resource:
    """A call's method and address, as `PUT /contacts/{remote}` or `GET /contacts?email={email}`.

    Args:
        template: method, space, path that starts with `/`; values in braces.

    Raises:
        IntegrationDefinitionError: it is no such template.
    """

    def __init__(self, template: str) -> None:
        self.method, _, address = template.partition(" ")
        if self.method not in _METHODS or not address.startswith("/"):
            raise IntegrationDefinitionError(
                f"Resource {template!r}: one of {', '.join(sorted(_METHODS))}, a space and a path that starts with '/' "
                "were expected, as 'PUT /contacts/{remote}'."
            )
        try:
            parts = list(_parts(address))
        except ValueError as error:
            raise IntegrationDefinitionError(f"Resource {template!r}: {error}.") from None
        path, self._is_query, query = address.partition("?")
        if not _DOTS.isdisjoint(path.split("/")):
            raise IntegrationDefinitionError(f"Resource {template!r}: '.' and '..' are no segments of a path.")
        self._segments = [list(_parts(segment)) for segment in path.split("/")]
        self._query = list(_parts(query))
        self.names = frozenset(name for _, name in parts if name is not None)

    def address(self, values: Mapping[str, Any]) -> str:
        """Path and query with values, each percent-encoded so that it stays within its place.

        Raises:
            ResourceValueError: a value is missing, empty, neither text nor whole number, or makes a segment `.` or `..`.
        """
        segments = [_filled(segment, values) for segment in self._segments]
        for parts, segment in zip(self._segments, segments, strict=True):
            if segment in _DOTS:
                raise ResourceValueError(parts[0][1] or "", "'.' and '..' would lead to another resource")
        return "/".join(segments) + self._is_query + _filled(self._query, values)


def check_url(url: str, what: str) -> str:
    """The URL without a slash at its end, if calls with secrets may go there.

    Raises:
        IntegrationDefinitionError: it is not https (http is fine for this machine), or holds user, query or fragment.
    """
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        raise IntegrationDefinitionError(f"{what}: https://host/path was expected; http only for this machine itself.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise IntegrationDefinitionError(f"{what}: a URL without user, password, query and fragment was expected.")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(template: str) -> Iterator[_Part]:
    for literal, name, spec, conversion in Formatter().parse(template):
        if _LITERAL.fullmatch(literal) is None:
            raise ValueError("a character that no path may hold; percent-encode it")
        if name is not None and (_NAME.fullmatch(name) is None or spec or conversion):
            raise ValueError("a plain name was expected in braces")
        yield literal, name


def _filled(parts: list[_Part], values: Mapping[str, Any]) -> str:
    return "".join(literal + ("" if name is None else quote(_text(name, values), safe="")) for literal, name in parts)


def _text(name: str, values: Mapping[str, Any]) -> str:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ResourceValueError(name, "a text or whole number was expected")
    return str(value)
