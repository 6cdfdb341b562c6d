"""Field problems: what is wrong with which field, in words that never hold the field's value."""

from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError

WHOLE = "(whole)"
_MAX_NAME = 64
_SPOKEN_BY_USERS = {"value_error", "assertion_error"}
# What the model asked for. Everything else in an error's context may come from the input.
_LIMITS = (
    "expected",
    "pattern",
    "min_length",
    "max_length",
    "gt",
    "ge",
    "lt",
    "le",
    "multiple_of",
    "max_digits",
    "decimal_places",
)


class FieldProblem(NamedTuple):
    """What is wrong with one field: where it is and what was expected, never its value."""

    path: str
    problem: str


def field_path(parts: Iterable[object]) -> str:
    """Where a field stands, as dotted text: names and list positions from the outside in.

    A key that does not read like a field's name is shown as `*`: in a free-form object keys are data, such as an
    address or a number.
    """
    return ".".join(map(_part, parts)) or WHOLE


def field_problems(error: ValidationError) -> tuple[FieldProblem, ...]:
    """The problems pydantic found, without the values it found them in.

    A problem is pydantic's own name of the mistake and the limits that the model sets. What a user's validator says may
    quote the value, so only the fact is kept.
    """
    return tuple(
        FieldProblem(field_path(found["loc"]), _problem(found["type"], found.get("ctx", {})))
        for found in error.errors(include_url=False, include_input=False)
    )


def _part(part: object) -> str:
    if isinstance(part, int):
        return str(part)
    name = str(part)
    return name if len(name) <= _MAX_NAME and name.replace("-", "_").isidentifier() else "*"


def _problem(kind: str, context: dict[str, object]) -> str:
    if kind in _SPOKEN_BY_USERS:
        return "refused by a validator"
    limits = [f"{name.replace('_', ' ')} {context[name]}" for name in _LIMITS if name in context]
    return ", ".join([kind.replace("_", " "), *limits])
