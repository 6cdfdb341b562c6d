"""What a look at a client finds: the differences, and beside them what would mend the documents."""

from .comparing import NOT_EXPECTED, NOT_THERE, UNREADABLE, WHOLE_DOCUMENT, Comparison, Difference
from .documents import Document
from .ports import Mend, StoredDocument
from .record import Json

MOST = 500
"""Mends of one look, which hold documents; healing looks again for the rest."""


class Report:
    """Collects differences, and the first mends.

    Args:
        comparison: of documents.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.differences: list[Difference] = []
        self.mends: list[Mend] = []
        self._comparison = comparison

    def compare(
        self, kind: str, number: int, stored: StoredDocument | None, expected: Document, *, readable: bool = True
    ) -> None:
        """Take a document that should be there, as it is and as it should be."""
        before = len(self.differences)
        if stored is None:
            self.add(kind, number, WHOLE_DOCUMENT, NOT_THERE)
        elif not readable:
            self.add(kind, number, WHOLE_DOCUMENT, UNREADABLE)
        else:
            found = self._comparison.differences(stored, expected)
            self.differences += found
            for name in () if found else stored.beside:
                self.add(kind, number, name, "beside the document differs from it")
        if len(self.differences) > before:
            self._mend(Mend(kind, number, expected, stored.tag if stored else None))

    def remove(self, stored: StoredDocument, why: str) -> None:
        """Take a document that should not be there."""
        self.add(stored.kind, stored.number, WHOLE_DOCUMENT, f"{NOT_EXPECTED}: {why}")
        self._mend(Mend(stored.kind, stored.number, None, stored.tag))

    def add(self, kind: str, number: int, path: str, problem: str, *values: Json) -> None:
        """Take a difference that no rewriting mends; with the stored and the expected value, if there are some."""
        self.differences.append(Difference(kind, number, path, problem, *values))

    def forget(self, kind: str, first: int) -> None:
        """Drop what was found of documents of a kind from a number on."""
        self.differences = [each for each in self.differences if each.kind != kind or each.number < first]
        self.mends = [each for each in self.mends if each.kind != kind or each.number < first]

    def _mend(self, mend: Mend) -> None:
        if len(self.mends) < MOST:
            self.mends.append(mend)
