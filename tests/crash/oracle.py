"""The oracle: says whether what is left in the database and at the targets is what it has to be.

It shares no code with the product. It is given the bare content of the database and works out each record from the events in its
own simple way: of all that was ever said about a field, what became true last holds.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.crash.kept import Kept
from tests.crash.left import Left, Values, require
from tests.crash.oracle_outside import check_announcements, check_deliveries, check_targets

_GONE = object()


class Stored(NamedTuple):
    """An event as it is stored."""

    client: str
    version: int
    event_id: str
    event_type: str
    occurred_at: str
    data: dict[str, Any]
    hash: str


def fold(events: Iterable[Stored]) -> Values:
    """The record that these events come to."""
    last: dict[tuple[str, str], tuple[str, int, Any]] = {}
    for event in events:
        for field, value in _said(event):
            if field not in last or last[field][:2] <= (event.occurred_at, event.version):
                last[field] = (event.occurred_at, event.version, value)
    values: Values = defaultdict(dict)
    for (sub_schema, name), (_, _, value) in last.items():
        if value is not _GONE:
            values[sub_schema][name] = value
    return dict(values)


def _said(event: Stored) -> Iterator[tuple[tuple[str, str], Any]]:
    match event.event_type:
        case "client.named":
            yield ("identity", "name"), event.data["value"]
        case "client.mailed":
            yield ("contact", "email"), event.data["value"]
        case "client.moved":
            yield ("address", "*"), {"city": event.data["value"]}
        case "client.unlisted":
            yield ("contact", "email"), _GONE


def check(left: Left) -> None:
    """Check everything that must hold once all is quiet.

    Raises:
        CheckError: something does not.
    """
    streams = _streams(left.kept)
    _check_streams(left, streams)
    _check_rejections(left)
    folded = _check_records(left.kept, streams)
    _check_audit(left.kept, streams, folded)
    announced = check_announcements(left, folded)
    check_targets(left, folded)
    check_deliveries(left, announced)


def _streams(kept: Kept) -> dict[str, list[Stored]]:
    streams: dict[str, list[Stored]] = defaultdict(list)
    for event in kept.events:
        stored = Stored(event["client_id"], *(event[name] for name in Stored._fields[1:]))
        streams[stored.client].append(stored)
    return streams


def _check_streams(left: Left, streams: Mapping[str, Sequence[Stored]]) -> None:
    """I1, I2: what was accepted is there, once, unchanged, under the version that was told."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for client, stream in streams.items():
        versions = [event.version for event in stream]
        require(versions == list(range(1, len(stream) + 1)), "versions without gaps", f"{client} has {versions}")
        for event in stream:
            places[client, event.event_id].append(event.version)
    for (client, event_id), versions in places.items():
        require(len(versions) == 1, "each event once", f"{event_id} of {client} at versions {versions}")
    for client, event_id, version in left.acknowledged:
        found = places.get((client, event_id))
        require(found == [version], "acknowledged events stay", f"{event_id} of {client}: {found}, told {version}")
    stored = {event.event_id: (client, event.event_type, event.data) for client, s in streams.items() for event in s}
    missing = sorted(left.sent.keys() - stored.keys())
    require(not missing, "nothing sent is missing", f"{missing}")
    require(stored == left.sent, "events as sent", "other content, or events nobody sent")


def _check_rejections(left: Left) -> None:
    """I9: what could not be accepted is kept, once."""
    keys = sorted(rejection["key"] for rejection in left.kept.rejections)
    require(keys == sorted(left.broken), "rejections kept", f"{keys}")


def _check_records(kept: Kept, streams: Mapping[str, Sequence[Stored]]) -> dict[str, Values]:
    """I4, I6: each record is what its events come to, up to the one that cannot be digested."""
    records = {record["client_id"]: record for record in kept.records}
    folded = {}
    for client, stream in streams.items():
        poison = next((event.version for event in stream if event.event_type == "client.poisoned"), None)
        end = len(stream) if poison is None else poison - 1
        folded[client] = fold(stream[:end])
        record = records.get(client)
        require(record, "each client has a record", client)
        assert record is not None
        version, hashed = record["version"], record["event_hash"]
        require(version == end, "record reached its events", f"{client} is at {version}, not {end}")
        require(end == 0 or hashed == stream[end - 1].hash, "record continues its events", client)
        require(record["values"] == folded[client], "record is the fold", f"{client}: {record['values']}")
        parked = record["parked"]
        require((parked is None) is (poison is None), "parked where it fails", f"{client}: {parked}")
        if parked is not None:
            where = (parked["version"], parked["waiting_for"], parked["code"])
            require(where == (poison, len(stream), "rule_raised"), "parked where it fails", f"{client}: {where}")
    return folded


def _check_audit(kept: Kept, streams: Mapping[str, Sequence[Stored]], folded: Mapping[str, Values]) -> None:
    """I3, I5: one entry per event that was folded, and replaying them gives the record at each version."""
    trails: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in kept.audit:
        trails[entry["client_id"]].append(entry)
    ends = {record["client_id"]: record["version"] for record in kept.records}
    for client, stream in streams.items():
        trail = trails[client]
        told = [(entry["version"], entry["event_id"], entry["event_hash"]) for entry in trail]
        expected = [(event.version, event.event_id, event.hash) for event in stream[: ends[client]]]
        require(told == expected, "one audit entry per event", f"{client}: {len(told)} for {len(expected)}")
        replayed: Values = {}
        for entry, number in zip(trail, range(1, len(trail) + 1), strict=True):
            _replay(replayed, entry, client)
            require(replayed == fold(stream[:number]), "audit replays to the record", f"{client} at {number}")
        require(replayed == folded[client], "audit replays to the record", client)


def _replay(values: Values, entry: dict[str, Any], client: str) -> None:
    for change in entry["changes"]:
        name, field = change["sub_schema"], change["field"]
        was = values.get(name, {}).get(field, _GONE)
        require(change.get("old", _GONE) == was, "audit tells the old value", f"{client} at {entry['version']}")
        if change.get("superseded"):
            continue
        fields = values.setdefault(name, {})
        if "new" in change:
            fields[field] = change["new"]
        else:
            fields.pop(field, None)
        if not fields:
            del values[name]
