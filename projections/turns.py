"""Turns: which generation has its way with the clients, so that what a walk did before another one had it is not relied on.

A generation's turn begins when its code starts after older code had the turn, or when it walks over the clients, which
older code does to take announcing back. It ends when that of another one begins. What a walk had done by then may be undone:
newer code that runs again speaks for clients that older code had taken back; older code takes back what newer code had told.
"""

from typing import Any

from eventstore import CheckpointStore

from .rules import Projection


def present_turn(projection: Projection[Any], checkpoints: CheckpointStore) -> str | None:
    """The turn that lasts, told from all before it; None if there was none yet."""
    return checkpoints.load(_name(projection))


def take_turn(projection: Projection[Any], checkpoints: CheckpointStore, *, from_newer: bool = False) -> str | None:
    """Begin the generation's turn, unless it has it.

    Args:
        projection: of the running code.
        checkpoints: where the turn is kept, under `<projection>:turn`.
        from_newer: take it from newer code, too.

    Returns:
        The turn that lasts now.
    """
    present = present_turn(projection, checkpoints)
    number, version = map(int, present.split()) if present else (0, 0)
    if version == projection.version or (version > projection.version and not from_newer):
        return present
    turn = f"{number + 1} {projection.version}"
    checkpoints.save(_name(projection), turn)
    return turn


def _name(projection: Projection[Any]) -> str:
    return f"{projection.name}:turn"
