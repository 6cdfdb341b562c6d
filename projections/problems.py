"""Problems of a client's data as texts that are safe to keep: where, and what was expected, nothing of the data.

A key of a mapping is data as much as a value is, and paths run through keys. So a path goes as far as its parts are
names that a model declares.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile

from pydantic import BaseModel

from eventstore import FieldProblem

from .record import ROOT


def problem_texts(model: type[BaseModel] | None, problems: Iterable[FieldProblem]) -> tuple[str, ...]:
    """`path: problem` for each problem, without repeats; a plain value at the top stands under its own name.

    Args:
        model: what the paths lead through; None if nothing is known of it, and no path is kept.
        problems: found in its data.
    """
    names = frozenset() if model is None else _declared_names(model)
    return tuple(dict.fromkeys(f"{_declared(path, names)}: {problem}" for path, problem in problems))


def _declared(path: str, names: frozenset[str]) -> str:
    parts = path.removeprefix(f"{ROOT}.").split(".")
    return ".".join(takewhile(names.__contains__, parts)) or "(whole)"


@lru_cache(256)
def _declared_names(model: type[BaseModel]) -> frozenset[str]:
    names: set[str] = set()
    for by_alias in (True, False):
        schema = model.model_json_schema(by_alias=by_alias)
        for described in (schema, *schema.get("$defs", {}).values()):
            names.update(described.get("properties", ()))
    return frozenset(names)
