"""A client's audit entries as they lie, read once, side by side with its events."""

from collections.abc import Iterator

from .ports import StoredDocument


class Trail:
    """Gives each entry once, by ascending version.

    Args:
        entries: by ascending version, fetched as they are used.
    """

    def __init__(self, entries: Iterator[StoredDocument]) -> None:
        self._entries, self._next = entries, next(entries, None)
        self._aside: list[StoredDocument] = []

    @property
    def is_at_end(self) -> bool:
        """Whether there is no further entry."""
        return self._next is None

    def until(self, version: int) -> Iterator[StoredDocument]:
        """The next entries, up to a version."""
        while self._next is not None and self._next.number <= version:
            entry, self._next = self._next, next(self._entries, None)
            yield entry

    def at(self, version: int) -> StoredDocument | None:
        """The entry of this version; it and those before it stay for `rest`."""
        self._aside += self.until(version - 1)
        return self._next if self._next is not None and self._next.number == version else None

    def rest(self) -> Iterator[StoredDocument]:
        """All that `until` did not give."""
        yield from self._aside
        while self._next is not None:
            yield from self.until(self._next.number)


def known_hash(entry: StoredDocument | None) -> str | None:
    """Hash of the event that an audit entry is about, None if that is not the event of its version."""
    if entry is None:
        return None
    body = entry.body
    known = body.get("event_hash") if body.get("version") == entry.number else None
    return known if isinstance(known, str) else None
