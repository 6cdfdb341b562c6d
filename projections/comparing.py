"""Which fields of a stored document are not what they should be: paths of declared names, and the values beside them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from eventstore import canonical_json

from .documents import Document
from .ports import StoredDocument
from .record import ABSENT, ROOT, Json
from .rules import Projection

DIFFERS: Final = "differs"
NOT_THERE: Final = "missing"
NOT_EXPECTED: Final = "not expected"
UNREADABLE: Final = "cannot be read"

WHOLE_DOCUMENT: Final = "(whole)"
EVENT: Final = "event"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one document.

    Attributes:
        kind: `event`, `record`, `audit`, `announced` or `outbox`.
        number: version of an event or audit entry, seq of an outbox entry, 0 for the others.
        path: of the field, `(whole)` for the document; never a value: names that nothing declares are shown as `*`.
        problem: what is wrong with it, in words.
        stored: its value, `ABSENT` if it is not there.
        expected: what it should be, `ABSENT` if it should not be there.
    """

    kind: str
    number: int
    path: str
    problem: str
    stored: Json = field(default=ABSENT, repr=False)
    expected: Json = field(default=ABSENT, repr=False)

    @property
    def place(self) -> tuple[str, int, str]:
        """Document and field."""
        return self.kind, self.number, self.path

    def __str__(self) -> str:
        number = f" {self.number}" if self.number else ""
        return f"{self.kind}{number}: {self.path}: {self.problem}"


def foreign_difference(document_ids: Sequence[str]) -> Difference:
    """That documents lie among a client's events and are none."""
    problem = "documents lie among the events and are none: nobody folds them; remove them"
    return Difference(EVENT, 0, WHOLE_DOCUMENT, problem, list(document_ids))


class Comparison:
    """Compares documents of one projection.

    Args:
        projection: its schema declares the names that may be shown.
    """

    def __init__(self, projection: Projection[Any]) -> None:
        layout = projection.layout
        fields = {name for sub_schema in layout.sub_schemas.values() for name in sub_schema.names}
        self._names = {*layout.names, *layout.root, *fields, ROOT, "*"} | _ENVELOPE

    def differences(self, stored: StoredDocument, expected: Document) -> list[Difference]:
        """The fields in which a stored document is not the expected one."""
        if stored.text == orjson.dumps(expected).decode():  # nearly always, keys are in the same order
            return []
        return [
            Difference(stored.kind, stored.number, ".".join(path), _problem(was, wanted), was, wanted)
            for path, was, wanted in self._compare(_by_place(stored.body), _by_place(expected), ())
        ]

    def _compare(
        self, stored: Json, expected: Json, path: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], Json, Json]]:
        if isinstance(stored, dict) and isinstance(expected, dict) and (not path or path[0] in _DEEP):
            for name in sorted(stored.keys() | expected.keys()):
                shown = name if name in self._names or (path == ("changes",) and self._is_place(name)) else "*"
                yield from self._compare(stored.get(name, ABSENT), expected.get(name, ABSENT), (*path, shown))
        elif stored is ABSENT or expected is ABSENT or canonical_json(stored) != canonical_json(expected):
            yield path, stored, expected

    def _is_place(self, name: str) -> bool:
        return all(part in self._names for part in name.split("."))


_DEEP = {"values", "provenance", "hashes", "contents", "changes", "parked"}  # fields whose own fields are named
_ENVELOPE = {
    *("client_id", "version", "event_hash", "recorded_at", "values", "provenance", "annulled", "parked"),
    *("waiting_for", "code", "problems", "fingerprint", "event_id", "event_type", "source", "rule", "occurred_at"),
    *("note", "changes", "old", "new", "superseded", "seq", "projection_version", "hashes", "projection"),
    *("previous_seq", "contents", "correlation_id", "traceparent"),
}


def _by_place(document: Document) -> Document:
    """The document with its changes by `sub-schema.field`, if they have that form."""
    changes = document.get("changes")
    try:
        placed = {f"{change['sub_schema']}.{change['field']}": change for change in changes or ()}
    except (KeyError, TypeError):
        return document
    # A repeat or another order would get lost on the way.
    if changes is None or list(placed.values()) != changes:
        return document
    return {**document, "changes": placed}


def _problem(stored: Json, expected: Json) -> str:
    if stored is ABSENT:
        return NOT_THERE
    return NOT_EXPECTED if expected is ABSENT else DIFFERS
