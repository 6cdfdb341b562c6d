"""What the world has to be told: a commit announces the sub-schemas that differ from what was announced before."""

from typing import Any

from .fold import Folded
from .record import Announced, Json, OutboxEntry, content_hash
from .rules import Projection

_NOT_THERE = content_hash(None)


def announce(
    projection: Projection[Any], folded: Folded, before: Announced | None
) -> tuple[Announced, OutboxEntry] | None:
    """The announcement that a commit owes the world, None if there is nothing new to tell.

    Comparing with what was last announced rather than with the record before makes this independent of how often and
    in which portions a client was projected, and lets the first commit after a change of rules tell exactly what the
    change made different. A record behind the announced version is being folded again and tells nothing until it got
    there.

    Args:
        projection: schema and version.
        folded: what is about to be committed.
        before: what was announced last; None if nothing ever was.
    """
    record, last = folded.record, folded.last
    if before is None:
        before = Announced(0, projection.version, 0, _hashes(projection.layout.nothing))
    if record.version < before.version or projection.version < before.projection_version:
        return None  # where newer code speaks for this client, old code beside it must not contradict
    contents = projection.contents(folded.model) if folded.contents is None else folded.contents
    hashes = _hashes(contents)
    # A sub-schema that only one side's code knows is, to the other, one that is not there.
    changed = {
        name: contents.get(name)
        for name in sorted(hashes.keys() | before.hashes.keys())
        if hashes.get(name, _NOT_THERE) != before.hashes.get(name, _NOT_THERE)
    }
    if not changed:
        return None
    entry = OutboxEntry(
        client_id=record.client_id,
        projection=projection.name,
        projection_version=projection.version,
        seq=before.seq + 1,
        previous_seq=before.seq,
        version=record.version,
        recorded_at=record.recorded_at,
        contents=changed,
        changes=tuple(change for entry in folded.audit for change in entry.changes if not change.superseded),
        correlation_id=last.correlation_id if last else None,
        traceparent=last.traceparent if last else None,
    )
    return Announced(entry.seq, projection.version, record.version, hashes), entry


def _hashes(contents: dict[str, Json]) -> dict[str, str]:
    return {name: content_hash(content) for name, content in contents.items()}
