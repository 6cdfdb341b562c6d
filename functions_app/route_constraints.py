"""What a route parameter's text must look like: the inline constraints of ASP.NET Core routing, which Azure uses.

Source: https://learn.microsoft.com/aspnet/core/fundamentals/routing#route-constraints. Two differences: `datetime`
takes ISO 8601 only, and numbers take no thousands separators.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime

Check = Callable[[str], bool]

_INT32, _INT64 = 2**31, 2**63
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,64}\s*")
_GUID = re.compile(
    r"[0-9a-f]{32}|(?P<open>[{(])?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?(open)[)}])", re.IGNORECASE
)


def constraint(name: str, argument: str | None) -> Check:
    """The check behind `{parameter:name(argument)}`.

    Raises:
        ValueError: no such constraint, or an argument it does not take.
    """
    if argument is None and name.lower() in _PLAIN:
        return _PLAIN[name.lower()]
    if argument is not None and name.lower() in _WITH_ARGUMENT:
        return _WITH_ARGUMENT[name.lower()](argument)
    raise ValueError(f"there is no constraint {name!r} {'without an' if argument is None else 'with this'} argument")


def _pattern(expression: str) -> Check:
    compiled = re.compile(expression, re.IGNORECASE)
    return lambda text: compiled.fullmatch(text) is not None


def _whole(low: int, high: int) -> Check:
    return lambda text: _WHOLE.fullmatch(text) is not None and low <= int(text) <= high


def _length(low: int, high: int | None) -> Check:
    return lambda text: low <= len(text) and (high is None or len(text) <= high)


def _is_datetime(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _numbers(argument: str) -> list[int]:
    return [int(number) for number in argument.split(",")]


def _range(argument: str) -> Check:
    low, high = _numbers(argument)
    return _whole(low, high)


def _length_between(argument: str) -> Check:
    low, *high = _numbers(argument)
    return _length(low, high[0] if high else low)


def _regex(argument: str) -> Check:
    compiled = re.compile(argument, re.IGNORECASE)
    return lambda text: compiled.search(text) is not None


_PLAIN: Mapping[str, Check] = {
    "alpha": _pattern(r"[a-z]*"),
    "bool": _pattern(r"\s*(?:true|false)\s*"),
    "datetime": _is_datetime,
    "decimal": _pattern(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)\s*"),
    "double": _pattern(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?\s*"),
    "float": _pattern(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?\s*"),
    "guid": lambda text: _GUID.fullmatch(text) is not None,
    "int": _whole(-_INT32, _INT32 - 1),
    "long": _whole(-_INT64, _INT64 - 1),
    "required": lambda text: text != "",
}
_WITH_ARGUMENT: Mapping[str, Callable[[str], Check]] = {
    "length": _length_between,
    "max": lambda argument: _whole(-_INT64, int(argument)),
    "maxlength": lambda argument: _length(0, int(argument)),
    "min": lambda argument: _whole(int(argument), _INT64 - 1),
    "minlength": lambda argument: _length(int(argument), None),
    "range": _range,
    "regex": _regex,
}
