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
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from eventstore import ChainCheck, RecordedEvent, utc_text
from projections import (
    CLOCK_SKEW,
    AuditEntry,
    AuditFilter,
    Record,
    Served,
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
_OTHERS = {"delivery", "attempt"}  # kinds of lines that nothing else in the file is compared with
_PAGE = 100

Line = dict[str, Any]


class Exported(NamedTuple):
    """What an export holds.

    Attributes:
        client_id: whose trail it is.
        events: how many.
        version: of the record; None if there is none.
        hash: SHA-256 of all lines but the last.
        problems: what does not fit together; empty if all does.
    """

    client_id: str
    events: int
    version: int | None
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
    served = runtime.backend.projections.newest(client_id)
    unfinished = path.with_name(f"{path.name}.part")
    counted, digest = {"event": 0, "lines": 0}, sha256()
    with open(unfinished, "wb", opener=_private) as file:
        for document in _lines(runtime, client_id, served):
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
    return Exported(client_id, counted["event"], served.record.version if served else None, digest.hexdigest())


def _lines(runtime: Runtime, client_id: str, served: Served | None) -> Iterator[Line]:
    backend, projection = runtime.backend, runtime.domain.projection
    yield {
        "kind": "trail",
        "version": _VERSION,
        "client_id": client_id,
        "generation": projection.generation_of(served.projection_version) if served else projection.generation,
        "exported_at": utc_text(runtime.clock()),
    }
    audit = iter(()) if served is None else _audit(runtime, client_id, served)
    entry = next(audit, None)
    for event in backend.events.read(client_id):
        yield {"kind": "event", **event._asdict()}
        while entry is not None and entry.version <= event.version:
            yield {"kind": "audit", **audit_document(entry)}
            entry = next(audit, None)
    if served is not None:
        yield {"kind": "record", **record_document(served.record)}
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


def _audit(runtime: Runtime, client_id: str, served: Served) -> Iterator[AuditEntry]:
    """The audit of the generation that is served, up to where its record stood when it was read."""
    after = 0
    while page := runtime.backend.projections.entries(
        client_id,
        AuditFilter(),
        after=after,
        until=served.record.version,
        limit=_PAGE,
        projection_version=served.projection_version,
    ):
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
            if lines > 0:
                trail.take(str(kind), document, client_id)
            lines += 1
    if not ended:
        raise ExportError("its end is missing")
    version = None if trail.record is None else trail.record.version
    return Exported(client_id, trail.chain.version, version, digest.hexdigest(), tuple(trail.finish()))


class _Trail:
    """Follows the lines of an export."""

    def __init__(self) -> None:
        self.chain = ChainCheck()
        self.record: Record | None = None
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
            self._take_audit(audit_from(document))
        elif kind == "record":
            if self.record is not None:
                self._problems.append("record: there are several")
            self.record = record_from(document)
        elif kind not in _OTHERS:
            self._problems.append(f"{kind}: a line of a kind that no export has")

    def _take_audit(self, entry: AuditEntry) -> None:
        if self._event is None or (entry.version, entry.event_hash) != (self._event.version, self._event.hash):
            self._problems.append(f"audit {entry.version}: is not about the event before it")
        else:
            said = self._event._replace(occurred_at=_counted_time(self._event))
            self._problems += [
                f"audit {entry.version}: {name} is not what the event says"
                for name in ("event_id", "event_type", "source", "occurred_at", "recorded_at")
                if getattr(entry, name) != getattr(said, name)
            ]
        if entry.version != self._audited + 1:
            self._problems.append(f"audit {self._audited + 1}: missing")
        self._audited, self._hash = entry.version, entry.event_hash
        self._replayed = apply_changes(self._replayed, entry.changes)

    def finish(self) -> Iterator[str]:
        """What was found."""
        yield from (f"event {found.version}: {found.problem}" for found in self.chain.problems)
        yield from self._problems
        if self.record is None:
            if self._audited:
                yield "record: missing"
            return
        if (self.record.version, self.record.event_hash) != (self._audited, self._hash):
            yield "record: is not at the version of the last audit entry"
        for name in sorted(self._replayed.keys() | self.record.values.keys()):
            if self._replayed.get(name) != self.record.values.get(name):
                yield f"record: {name} is not what replaying the audit gives"


def _counted_time(event: RecordedEvent) -> str:
    """When a fact counts as having become true: not after its recording, but for clocks that differ a little."""
    ahead = datetime.fromisoformat(event.occurred_at) - datetime.fromisoformat(event.recorded_at)
    return event.recorded_at if ahead > CLOCK_SKEW else event.occurred_at


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _object(line: bytes) -> Line:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
