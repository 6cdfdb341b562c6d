"""Conditions of a query: whether a document passes, and where in an index to look for those that do."""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.wire.cosmos.partition import Span
from tests.wire.cosmos.values import Path, SortKey, dig, sort_key

_BEHIND_ALL = "~"  # sorts behind every hash of a partition key


class Comparison(NamedTuple):
    """A property beside constants: the stretches of an index over it, in ascending order, that hold what passes."""

    path: Path
    spans: list[Span]

    def holds(self, body: Any) -> bool:
        """Whether a document passes."""
        place = (sort_key(dig(body, self.path)), "")
        return any(low <= place < high for low, high in self.spans)


class Contains(NamedTuple):
    """ARRAY_CONTAINS."""

    path: Path
    item: SortKey

    def holds(self, body: Any) -> bool:
        """Whether a document passes."""
        array = dig(body, self.path)
        return isinstance(array, list) and self.item in map(sort_key, array)


class Either(NamedTuple):
    """OR."""

    alternatives: "tuple[Conjunction, ...]"

    def holds(self, body: Any) -> bool:
        """Whether a document passes one of the alternatives."""
        return any(all(condition.holds(body) for condition in each) for each in self.alternatives)


Conjunction = tuple[Comparison | Contains | Either, ...]
"""AND: conditions that all have to hold."""


def spans(symbol: str, constants: Sequence[SortKey]) -> list[Span]:
    """What a comparison by a symbol lets pass, always of the constants' own type.

    Raises:
        ValueError: the symbol is not served.
    """
    if symbol in {"=", "IN"}:
        return [((key,), (key, _BEHIND_ALL)) for key in sorted(set(constants))]
    key = constants[0]
    type_start, type_stop, behind = ((key[0],),), ((key[0] + 1,),), (key, _BEHIND_ALL)
    bounds: dict[str, Span] = {
        "<": (type_start, (key,)),
        "<=": (type_start, behind),
        ">": (behind, type_stop),
        ">=": ((key,), type_stop),
        "STARTSWITH": ((key,), ((key[0], f"{key[1]}{chr(sys.maxunicode)}"),)),
    }
    if symbol not in bounds:
        raise ValueError(f"no comparison by {symbol!r}")
    return [bounds[symbol]]
