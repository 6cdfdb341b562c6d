"""What verifying found, or a sweep met, and nobody has dealt with; kept with the checkpoints, so that health stays red."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson

from eventstore import CheckpointStore, ForeignDocument, utc_text
from projections import Difference, foreign_difference

from .references import References

_log = logging.getLogger(__name__)

_KEPT = 100  # clients; more than that need a run of `verify` over all anyway


class Findings:
    """Clients that differ, by client id.

    An acknowledged client stays acknowledged as long as just the same differs: a broken chain, say, that nothing mends.
    Two processes that write at the same moment may lose a finding of one; it is found again in a later round.

    Args:
        checkpoints: where they are kept.
        generation: of the records that were verified.
        clock: present time.
        references: what clients and documents are called in the log.
    """

    def __init__(
        self, checkpoints: CheckpointStore, generation: str, clock: Callable[[], datetime], references: References
    ) -> None:
        self._checkpoints = checkpoints
        self._name = f"{generation}:findings"
        self._clock = clock
        self._references = references

    def open(self) -> list[str]:
        """Clients that differ and are not acknowledged."""
        return [client_id for client_id, found in self._load().items() if not found["acknowledged"]]

    def all(self) -> list[str]:
        """Clients that differ, acknowledged or not."""
        return list(self._load())

    def note(self, results: Mapping[str, Sequence[Difference]]) -> None:
        """Keep what was found of clients; those without differences are forgotten."""
        kept = self._load()
        before = orjson.dumps(kept)
        for client_id, differences in results.items():
            if not differences:
                kept.pop(client_id, None)
                continue
            what = _hash(differences)
            if kept.get(client_id, {}).get("what") != what and (client_id in kept or len(kept) < _KEPT):
                kept[client_id] = {"what": what, "found_at": utc_text(self._clock()), "acknowledged": False}
        if orjson.dumps(kept) != before:
            self._save(kept)

    def note_foreign(self, found: Sequence[ForeignDocument]) -> None:
        """Tell the log of documents that lie among the events and are none, and keep whose they are."""
        for each in found:
            client = "no client" if each.client_id is None else f"client {self._references.client(each.client_id)}"
            document = self._references.event(each.id)
            _log.error("A document among the events is none and was passed over: %s, document %s", client, document)
        self.note({each.client_id: [foreign_difference([each.id])] for each in found if each.client_id is not None})

    def acknowledge(self, client_id: str) -> bool:
        """Let a client be as it is; False if nothing is known of it."""
        kept = self._load()
        if client_id not in kept:
            return False
        kept[client_id]["acknowledged"] = True
        self._save(kept)
        return True

    def _load(self) -> dict[str, dict[str, Any]]:
        stored = self._checkpoints.load(self._name)
        found: dict[str, dict[str, Any]] = orjson.loads(stored) if stored else {}
        return found

    def _save(self, kept: dict[str, dict[str, Any]]) -> None:
        self._checkpoints.save(self._name, orjson.dumps(kept).decode())


def _hash(differences: Sequence[Difference]) -> str:
    return sha256(orjson.dumps(sorted(each.place for each in differences))).hexdigest()[:16]
