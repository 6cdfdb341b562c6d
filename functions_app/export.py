"""One client's whole trail as JSON lines, and its verification, which needs nothing but the file.

{"kind": "trail", "version": 1, "client_id": ..., "generation": ..., "exported_at": ...}
{"kind": "event", ...}        by version, each followed by what it did:
{"kind": "audit", ...}
{"kind": "record", ...}       if there is one
{"kind": "delivery", ...}     where the client stands with each integration
{"kind": "attempt", ...}      what was sent, newest first
{"kind": "end", "lines": <lines before>, "hash": "<SHA-256 of them>"}
"""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from eventstore import ChainCheck, RecordedEvent, utc_text
from projections import (
    AuditEntry,
    AuditFilter,
    Record,
    UnknownClientError,
    apply_changes,
    audit_document,
    audit_from,
    record_document,
    record_from,
)

from .errors import ExportError
from .runtime import Runtime
from .views import log_json, state_json

_VERSION = 1
_PAGE = 100

Line = dict[str, Any]


class Exported(NamedTuple):
    """What an export holds.

    Attributes:
        client_id: whose trail it is.
        events: how many.
        version: of the record; 0 if there is none.
        hash: SHA-256 of all lines but the last.
        problems: what does not fit together; empty if all does.
    """

    client_id: str
    events: int
    version: int
    hash: str
    problems: tuple[str, ...] = ()


def write_export(runtime: Runtime, client_id: str, path: Path) -> Exported:
    """Write a client's trail, a line at a time, readable by its owner only; a file that is there is replaced at the end.

    Args:
        runtime: the application.
        client_id: text of the client id.
        path: the file.

    Raises:
        UnknownClientError: the client has no event.
        StoreUnavailableError: a database is out of reach.
        OSError: the file cannot be written.
    """
    if runtime.backend.events.head(client_id).version == 0:
        raise UnknownClientError(client_id)
    record = runtime.backend.projections.load([client_id])[client_id].record
    unfinished = path.with_name(f"{path.name}.part")
    counted, digest = {"event": 0, "lines": 0}, sha256()
    with open(unfinished, "wb", opener=_private) as file:
        for document in _lines(runtime, client_id, record):
            line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
            digest.update(line)
            file.write(line)
            counted["lines"] += 1
            counted["event"] += document["kind"] == "event"
        end = {"kind": "end", "lines": counted["lines"], "hash": digest.hexdigest()}
        file.write(orjson.dumps(end, option=orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return Exported(client_id, counted["event"], record.version if record else 0, digest.hexdigest())


def _lines(runtime: Runtime, client_id: str, record: Record | None) -> Iterator[Line]:
    backend = runtime.backend
    yield {
        "kind": "trail",
        "version": _VERSION,
        "client_id": client_id,
        "generation": runtime.domain.projection.generation,
        "exported_at": utc_text(runtime.clock()),
    }
    audit = _audit(runtime, client_id, record.version if record else 0)
    entry = next(audit, None)
    for event in backend.events.read(client_id):
        yield {"kind": "event", **event._asdict()}
        while entry is not None and entry.version <= event.version:
            yield {"kind": "audit", **audit_document(entry)}
            entry = next(audit, None)
    if record is not None:
        yield {"kind": "record", **record_document(record)}
    for state in backend.deliveries.of_client(client_id):
        yield {"kind": "delivery", **state_json(state)}
    cursor: str | None = None
    while True:
        page = backend.deliveries.entries(client_id, cursor=cursor, limit=_PAGE)
        for attempt in page.entries:
            yield {"kind": "attempt", **log_json(attempt)}
        cursor = page.cursor
        if cursor is None:
            return


def _audit(runtime: Runtime, client_id: str, until: int) -> Iterator[AuditEntry]:
    """The audit up to where the record stood when it was read."""
    after = 0
    while page := runtime.backend.projections.entries(client_id, AuditFilter(), after=after, until=until, limit=_PAGE):
        yield from page
        after = page[-1].version


def check_export(path: Path) -> Exported:
    """Check that an export is whole, that its events are chained, and that replaying its audit gives its record.

    Raises:
        ExportError: it is no export, or not whole, or was changed.
        OSError: the file cannot be read.
    """
    digest, trail = sha256(), _Trail()
    client_id, lines, ended = "", 0, False
    with path.open("rb") as file:
        for line in file:
            document = _object(line)
            kind = document.pop("kind", None)
            if ended or kind is None:
                raise ExportError(f"line {lines + 1} does not belong there")
            if lines == 0:
                if kind != "trail" or document.get("version") != _VERSION:
                    raise ExportError("it is no export of this software, or one of a newer version")
                client_id = str(document.get("client_id"))
            if kind == "end":
                if document != {"lines": lines, "hash": digest.hexdigest()}:
                    raise ExportError("it was changed after it was written, or lines are missing")
                ended = True
                continue
            digest.update(line)
            lines += 1
            trail.take(kind, document, client_id)
    if not ended:
        raise ExportError("its end is missing")
    return Exported(client_id, trail.chain.version, trail.version, digest.hexdigest(), tuple(trail.finish()))


class _Trail:
    """Follows the lines of an export."""

    def __init__(self) -> None:
        self.chain = ChainCheck()
        self.version = 0
        self._problems: list[str] = []
        self._event: RecordedEvent | None = None
        self._replayed: dict[str, dict[str, Any]] = {}
        self._audited = 0
        self._hash = ""

    def take(self, kind: str, document: Line, client_id: str) -> None:
        try:
            self._take(kind, document)
        except (KeyError, TypeError, ValueError, AttributeError):
            self._problems.append(f"{kind}: a line does not have the form of its kind")
        if document.get("client_id", client_id) != client_id:
            self._problems.append(f"{kind}: a line is of another client")

    def _take(self, kind: str, document: Line) -> None:
        if kind == "event":
            self._event = RecordedEvent(**document)
            self.chain.see(self._event)
        elif kind == "audit":
            entry = audit_from(document)
            if self._event is None or (entry.version, entry.event_hash) != (self._event.version, self._event.hash):
                self._problems.append(f"audit {entry.version}: is not about the event before it")
            if entry.version != self._audited + 1:
                self._problems.append(f"audit {self._audited + 1}: missing")
            self._audited, self._hash = entry.version, entry.event_hash
            self._replayed = apply_changes(self._replayed, entry.changes)
        elif kind == "record":
            record = record_from(document)
            self.version = record.version
            if (record.version, record.event_hash) != (self._audited, self._hash):
                self._problems.append("record: is not at the version of the last audit entry")
            names = sorted(self._replayed.keys() | record.values.keys())
            self._problems += [
                f"record: {name} is not what replaying the audit gives"
                for name in names
                if self._replayed.get(name) != record.values.get(name)
            ]

    def finish(self) -> Iterator[str]:
        """What was found."""
        yield from (f"event {found.version}: {found.problem}" for found in self.chain.problems)
        yield from self._problems


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _object(line: bytes) -> Line:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
