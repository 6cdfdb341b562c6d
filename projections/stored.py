"""What stored documents say, whoever wrote them: None if there is none, or it does not have the form of its kind."""

from collections.abc import Callable
from typing import TypeVar

from .documents import Document, announced_from, outbox_from, record_from
from .ports import StoredDocument
from .record import Announced, OutboxEntry, Record

Parsed = TypeVar("Parsed", Record, Announced, OutboxEntry)


def record_in(stored: StoredDocument | None) -> Record | None:
    """A record."""
    record = _parsed(record_from, stored)
    if record is None or not (_are_counts(record.version) and isinstance(record.event_hash, str)):
        return None
    parked = record.parked
    return record if parked is None or _are_counts(parked.version, parked.waiting_for) else None


def announced_in(stored: StoredDocument | None) -> Announced | None:
    """An announcement state."""
    found = _parsed(announced_from, stored)
    if found is None or not _are_counts(found.seq, found.projection_version, found.version):
        return None
    hashes: object = found.hashes
    return found if isinstance(hashes, dict) else None


def outbox_in(stored: StoredDocument | None) -> OutboxEntry | None:
    """An announcement to publish."""
    found = _parsed(outbox_from, stored)
    if found is None or not _are_counts(found.version):
        return None
    contents: object = found.contents
    return found if isinstance(contents, dict) else None


def _are_counts(*values: object) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _parsed(parse: Callable[[Document], Parsed], stored: StoredDocument | None) -> Parsed | None:
    try:
        return None if stored is None else parse(stored.body)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
