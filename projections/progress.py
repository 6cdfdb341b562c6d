"""How far a walk over all clients got: what it is stored as, and when that still counts."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from eventstore import CheckpointStore

from .rules import Projection
from .share import Share
from .turns import present_turn


class Purpose(StrEnum):
    """What a walk over all clients is for."""

    FOLD = "rebuild"
    PUBLISH_DIFFERENCES = "publish-differences"
    TAKE_OVER = "take-over"


class Progress(NamedTuple):
    """How far a walk got.

    Attributes:
        clients: how many it brought there, or found there.
        events: how many events these have.
        announced: clients of which something was announced.
        parked: clients that do not go on.
        failed: what kept clients from getting there, by their ids; the next walk begins with them.
        cursors: by partition of the directory, where to go on; None at its end.
        done: whether it is at the end, and nobody failed.
    """

    clients: int = 0
    events: int = 0
    announced: int = 0
    parked: int = 0
    failed: Mapping[str, str] = {}
    cursors: Mapping[str, str | None] = {}
    done: bool = False


def load_progress(
    checkpoints: CheckpointStore, projection: Projection[Any], purpose: Purpose, share: Share
) -> Progress | None:
    """How far a walk got; None if none began in the turn that lasts, so that what was done before may be undone."""
    stored = json.loads(checkpoints.load(_name(projection, purpose, share)) or "{}")
    if not stored or stored.pop("turn") != present_turn(projection, checkpoints):
        return None
    return Progress(**stored)


def save_progress(
    checkpoints: CheckpointStore,
    projection: Projection[Any],
    purpose: Purpose,
    share: Share,
    progress: Progress,
    turn: str | None,
) -> None:
    """Keep how far a walk got in a turn."""
    checkpoints.save(_name(projection, purpose, share), json.dumps({"turn": turn, **progress._asdict()}))


def forget_progress(checkpoints: CheckpointStore, projection: Projection[Any], purpose: Purpose, share: Share) -> None:
    """Let a walk begin again."""
    checkpoints.save(_name(projection, purpose, share), "")


def _name(projection: Projection[Any], purpose: Purpose, share: Share) -> str:
    return f"{projection.generation}:{purpose}:{share.number}of{share.of}"
