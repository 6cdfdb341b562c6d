"""Conditions of a query in three-valued logic: true, false, and undefined for what is missing or of another type."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.wire.cosmos.index import UNDEFINED, Path, Undefined, rank

Test = Callable[[Any], bool | Undefined]
"""Whether a document body passes; UNDEFINED when a property that matters is missing or of another type."""

_ORDERED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Restriction:
    """A comparison that holds for every document of the result: `path operator one of values`."""

    path: Path
    operator: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Condition:
    """A test with what an index can use of it."""

    test: Test
    restrictions: tuple[Restriction, ...] = ()


def compare(symbol: str, left: Any, right: Any) -> bool | Undefined:
    """Compare two values; an order exists only between booleans, numbers and strings of the same type."""
    if isinstance(left, Undefined) or isinstance(right, Undefined):
        return UNDEFINED
    same = rank(left) == rank(right)
    if symbol in {"=", "!="}:
        return bool(same and left == right) is (symbol == "=")
    return bool(_ORDERED[symbol](left, right)) if same and isinstance(left, (int, float, str)) else UNDEFINED


def negated(test: Test) -> Test:
    """NOT."""

    def negation(body: Any) -> bool | Undefined:
        passed = test(body)
        return passed if isinstance(passed, Undefined) else not passed

    return negation


def both(first: Test, second: Test) -> Test:
    """AND."""

    def conjunction(body: Any) -> bool | Undefined:
        left = first(body)
        if left is False:
            return False
        right = second(body)
        return right if left is True or right is False else UNDEFINED

    return conjunction


def either(first: Test, second: Test) -> Test:
    """OR."""

    def disjunction(body: Any) -> bool | Undefined:
        left = first(body)
        if left is True:
            return True
        right = second(body)
        return right if left is False or right is True else UNDEFINED

    return disjunction


def starts_with(text: Any, prefix: Any) -> bool | Undefined:
    """STARTSWITH."""
    return text.startswith(prefix) if isinstance(text, str) and isinstance(prefix, str) else UNDEFINED


def contains(array: Any, value: Any) -> bool | Undefined:
    """ARRAY_CONTAINS."""
    return any(compare("=", item, value) is True for item in array) if isinstance(array, list) else UNDEFINED
