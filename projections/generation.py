"""Generations: records of one projection version belong together, and the code must not change under them unnoticed."""

from typing import Any

from eventstore import CheckpointStore

from .errors import FingerprintMismatchError
from .fingerprint import code_fingerprint, structure_fingerprint
from .rules import Projection


def check_generation(projection: Projection[Any], checkpoints: CheckpointStore, *, accept: bool = False) -> bool:
    """Compare the running code with the code that first projected this version; remember it if none did.

    Args:
        projection: what is about to be projected.
        checkpoints: where the fingerprints are kept, under `<generation>:fingerprint`.
        accept: take the running code as the new standard.

    Returns:
        Whether the code of rules or upcasters changed while the structure did not: allowed, but worth a warning.

    Raises:
        FingerprintMismatchError: schema, event models, upcasters or rule names changed without a new version.
    """
    name = f"{projection.generation}:fingerprint"
    running = f"{structure_fingerprint(projection)} {code_fingerprint(projection)}"
    stored = checkpoints.load(name)
    if stored is None or accept:
        if stored != running:
            checkpoints.save(name, running)
        return False
    if stored.split()[0] != running.split(maxsplit=1)[0]:
        raise FingerprintMismatchError(projection.generation)
    return stored != running
