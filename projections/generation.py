"""Generations: records of one projection version belong together, and the code must not change under them unnoticed.

A new generation starts where its predecessor is: what that one passed, reads find in its records until a rebuild walks
over it; what comes after, the new one passes itself. Where that is has to be fixed before it folds any client: from then
on its predecessor may be silent about that client, and what is passed in silence nobody else would tell.
"""

from typing import Any

from eventstore import ChangeFeed, CheckpointStore

from .errors import FingerprintMismatchError
from .fingerprint import code_fingerprint, structure_fingerprint
from .rules import Projection
from .turns import take_turn

_BEGINNING = ""  # of the feed, as a cursor that is kept


def sweep_cursor(projection: Projection[Any], checkpoints: CheckpointStore, partition: str) -> tuple[str, str | None]:
    """Where the sweep of a partition goes on, None for the beginning, and the name under which that is kept.

    A generation that has not swept yet goes on where the newest one before it is.
    """
    for version in range(projection.version, 0, -1):
        name = f"{projection.generation_of(version)}:{partition}"
        cursor = checkpoints.load(name)
        if cursor is not None:
            return name, cursor or None
    return f"{projection.generation}:{partition}", None


def inherit_cursor(projection: Projection[Any], checkpoints: CheckpointStore, partition: str) -> str | None:
    """As `sweep_cursor`, and from now on the generation's own: what its predecessor passes later, it has to pass itself.

    Several processes may start at once: what the first of them stored counts.
    """
    own = f"{projection.generation}:{partition}"
    name, cursor = sweep_cursor(projection, checkpoints, partition)
    if projection.version == 1 or (name == own and cursor is not None):
        return cursor
    return checkpoints.create(own, cursor or _BEGINNING) or None


def check_generation(
    projection: Projection[Any], checkpoints: CheckpointStore, feed: ChangeFeed, *, accept: bool = False
) -> bool:
    """Compare the running code with the code that first projected this version; to be called before it folds anything.

    If none did, the generation is born: it is remembered, and so is where its sweep starts. Of several that start at once
    the first counts.

    Args:
        projection: what is about to be projected.
        checkpoints: where the fingerprints are kept, under `<generation>:fingerprint`.
        feed: what will be swept.
        accept: take the running code as the new standard.

    Returns:
        Whether the code of rules or upcasters changed while the structure did not: allowed, but worth a warning.

    Raises:
        FingerprintMismatchError: schema, event models, upcasters or rule names changed without a new version.
    """
    name = f"{projection.generation}:fingerprint"
    running = f"{structure_fingerprint(projection)} {code_fingerprint(projection)}"
    stored = checkpoints.load(name)
    if stored is None:
        for partition in feed.partitions():
            inherit_cursor(projection, checkpoints, partition)
        stored = checkpoints.create(name, running)
    if accept and stored != running:
        checkpoints.save(name, running)
        stored = running
    if stored.split()[0] != running.split(maxsplit=1)[0]:
        raise FingerprintMismatchError(projection.generation)
    take_turn(projection, checkpoints)
    return stored != running
