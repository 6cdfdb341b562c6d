"""The oracle: says whether what is left in the files and at the targets is what it has to be.

It shares no code with the product. It reads the files with plain SQL and works out each record from the events in its
own simple way: of all that was ever said about a field, what became true last holds.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import orjson

Values = dict[str, dict[str, Any]]

_GONE = object()
_SUBSCRIBER = "outside"


class CheckError(AssertionError):
    """A check that found something wrong.

    Attributes:
        check: its name.
    """

    def __init__(self, check: str, found: str) -> None:
        self.check = check
        super().__init__(f"{check}: {found}")


class Stored(NamedTuple):
    """An event as it stands in the file."""

    client: str
    version: int
    event_id: str
    event_type: str
    occurred_at: str
    data: dict[str, Any]
    hash: str


class Left(NamedTuple):
    """What is left of a round.

    Attributes:
        directory: the data.
        sent: the events that the sources were to deliver, by id: client, type, data.
        acknowledged: what the sources were told: client, event id and version.
        broken: keys of deliveries that are no valid ones.
        people: what the CRM holds, by its own ids.
        subscribers: what the mailing system holds, by client.
        overlaps: calls for one object that were under way at the same time.
        before: the delivery states that were seen after each kill, in order.
    """

    directory: Path
    sent: Mapping[str, tuple[str, str, dict[str, Any]]]
    acknowledged: Sequence[tuple[str, str, int]]
    broken: Sequence[str]
    people: Mapping[str, dict[str, Any]]
    subscribers: Mapping[str, dict[str, Any]]
    overlaps: Sequence[str]
    before: Sequence[Mapping[tuple[str, str], tuple[int, int]]]


def rows(directory: Path, file: str, statement: str) -> list[Any]:
    """What a statement finds in a file, which is opened for reading only."""
    with closing(sqlite3.connect(f"file:{directory / file}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def delivery_states(directory: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Wanted and delivered by client and integration; none if the file is not there yet."""
    if not (directory / "deliveries.db").exists():
        return {}
    if not rows(directory, "deliveries.db", "SELECT 1 FROM sqlite_master WHERE name = 'deliveries'"):
        return {}
    found = rows(directory, "deliveries.db", "SELECT client_id, integration, wanted, delivered FROM deliveries")
    return {(client, integration): (wanted, delivered) for client, integration, wanted, delivered in found}


def fold(events: Iterable[Stored]) -> Values:
    """The record that these events come to."""
    last: dict[tuple[str, str], tuple[str, int, Any]] = {}
    for event in events:
        for field, value in _said(event):
            if field not in last or last[field][:2] <= (event.occurred_at, event.version):
                last[field] = (event.occurred_at, event.version, value)
    values: Values = defaultdict(dict)
    for (name, field), (_, _, value) in last.items():
        if value is not _GONE:
            values[name][field] = value
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
    streams = _streams(left.directory)
    _check_streams(left, streams)
    _check_rejections(left)
    records = _records(left.directory)
    folded = _check_records(left, streams, records)
    _check_audit(left, streams, folded)
    announced = _check_announcements(left, folded)
    _check_targets(left, folded)
    _check_deliveries(left, announced)


def _require(condition: object, check: str, found: str) -> None:
    if not condition:
        raise CheckError(check, found)


def _streams(directory: Path) -> dict[str, list[Stored]]:
    streams: dict[str, list[Stored]] = defaultdict(list)
    found = rows(
        directory,
        "events.db",
        "SELECT client_id, version, event_id, event_type, occurred_at, data, hash FROM events ORDER BY position",
    )
    for client, version, event_id, event_type, occurred_at, data, event_hash in found:
        streams[client].append(
            Stored(client, version, event_id, event_type, occurred_at, orjson.loads(data), event_hash)
        )
    return streams


def _check_streams(left: Left, streams: Mapping[str, Sequence[Stored]]) -> None:
    """I1, I2: what was accepted is there, once, unchanged, under the version that was told."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for client, stream in streams.items():
        versions = [event.version for event in stream]
        _require(versions == list(range(1, len(stream) + 1)), "versions without gaps", f"{client} has {versions}")
        for event in stream:
            places[client, event.event_id].append(event.version)
    for (client, event_id), versions in places.items():
        _require(len(versions) == 1, "each event once", f"{event_id} of {client} at versions {versions}")
    for client, event_id, version in left.acknowledged:
        found = places.get((client, event_id))
        _require(found == [version], "acknowledged events stay", f"{event_id} of {client}: {found}, told {version}")
    stored = {event.event_id: (client, event.event_type, event.data) for client, s in streams.items() for event in s}
    missing = sorted(left.sent.keys() - stored.keys())
    _require(not missing, "nothing sent is missing", f"{missing}")
    _require(stored == left.sent, "events as sent", "other content, or events nobody sent")


def _check_rejections(left: Left) -> None:
    """I9: what could not be accepted is kept, once."""
    found = rows(left.directory, "events.db", "SELECT payload FROM rejections WHERE payload IS NOT NULL")
    keys = sorted(orjson.loads(payload)["key"] for (payload,) in found)
    _require(keys == sorted(left.broken), "rejections kept", f"{keys}")


def _records(directory: Path) -> dict[str, dict[str, Any]]:
    found = rows(directory, "projections.db", "SELECT client_id, body FROM records")
    return {client: orjson.loads(body) for client, body in found}


def _check_records(
    left: Left, streams: Mapping[str, Sequence[Stored]], records: Mapping[str, dict[str, Any]]
) -> dict[str, Values]:
    """I4, I6: each record is what its events come to, up to the one that cannot be digested."""
    folded = {}
    for client, stream in streams.items():
        poison = next((event.version for event in stream if event.event_type == "client.poisoned"), None)
        end = len(stream) if poison is None else poison - 1
        folded[client] = fold(stream[:end])
        record = records.get(client)
        _require(record, "each client has a record", client)
        assert record is not None
        version, hashed = record["version"], record["event_hash"]
        _require(version == end, "record reached its events", f"{client} is at {version}, not {end}")
        _require(end == 0 or hashed == stream[end - 1].hash, "record continues its events", client)
        _require(record["values"] == folded[client], "record is the fold", f"{client}: {record['values']}")
        parked = record["parked"]
        _require((parked is None) is (poison is None), "parked where it fails", f"{client}: {parked}")
        if parked is not None:
            where = (parked["version"], parked["waiting_for"], parked["code"])
            _require(where == (poison, len(stream), "rule_raised"), "parked where it fails", f"{client}: {where}")
    return folded


def _check_audit(left: Left, streams: Mapping[str, Sequence[Stored]], folded: Mapping[str, Values]) -> None:
    """I3, I5: one entry per event that was folded, and replaying them gives the record at each version."""
    trails: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for client, body in rows(left.directory, "projections.db", "SELECT client_id, body FROM audit ORDER BY version"):
        trails[client].append(orjson.loads(body))
    ends = dict(rows(left.directory, "projections.db", "SELECT client_id, body ->> '$.version' FROM records"))
    for client, stream in streams.items():
        trail = trails[client]
        told = [(entry["version"], entry["event_id"], entry["event_hash"]) for entry in trail]
        expected = [(event.version, event.event_id, event.hash) for event in stream[: ends[client]]]
        _require(told == expected, "one audit entry per event", f"{client}: {len(told)} for {len(expected)}")
        replayed: Values = {}
        for entry, number in zip(trail, range(1, len(trail) + 1), strict=True):
            _replay(replayed, entry, client)
            _require(replayed == fold(stream[:number]), "audit replays to the record", f"{client} at {number}")
        _require(replayed == folded[client], "audit replays to the record", client)


def _replay(values: Values, entry: dict[str, Any], client: str) -> None:
    for change in entry["changes"]:
        name, field = change["sub_schema"], change["field"]
        was = values.get(name, {}).get(field, _GONE)
        _require(change.get("old", _GONE) == was, "audit tells the old value", f"{client} at {entry['version']}")
        if change.get("superseded"):
            continue
        fields = values.setdefault(name, {})
        if "new" in change:
            fields[field] = change["new"]
        else:
            fields.pop(field, None)
        if not fields:
            del values[name]


def _check_announcements(left: Left, folded: Mapping[str, Values]) -> dict[str, list[dict[str, Any]]]:
    """I7: nothing waits, nobody was left out, and the last word equals the record. Returns the messages by client."""
    waiting = rows(left.directory, "projections.db", "SELECT client_id, seq FROM outbox")
    _require(not waiting, "outbox is empty", f"{waiting}")
    messages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (body,) in rows(
        left.directory, "deliveries.db", f"SELECT body FROM messages WHERE subscription = '{_SUBSCRIBER}' ORDER BY position"
    ):
        data = orjson.loads(body)["data"]
        messages[data["client_id"]].append(data)
    seqs = dict(rows(left.directory, "projections.db", "SELECT client_id, body ->> '$.seq' FROM announced"))
    for client, values in folded.items():
        heard: list[int] = []
        world: dict[str, Any] = {}
        for data in messages[client]:
            if heard and data["seq"] <= heard[-1]:
                continue  # as a subscriber does that may be told twice
            heard.append(data["seq"])
            _require(data["previous_seq"] == data["seq"] - 1, "each announcement heard", f"{client}: {heard}")
            world.update(data["changed"])
        _require(heard == list(range(1, seqs.get(client, 0) + 1)), "each announcement heard", f"{client}: {heard}")
        _require(
            {name: content for name, content in world.items() if content is not None} == _contents(values),
            "last announcement is the record",
            f"{client}: {world}",
        )
    return messages


def _contents(values: Values) -> dict[str, Any]:
    return {name: fields.get("*", fields) for name, fields in values.items()}


def _check_targets(left: Left, folded: Mapping[str, Values]) -> None:
    """I8: both targets hold what the records come to, one object for each client."""
    _require(not left.overlaps, "one call at a time", f"{left.overlaps}")
    numbers = [person["number"] for person in left.people.values()]
    _require(len(numbers) == len(set(numbers)), "each effect once", f"{sorted(numbers)}")
    people, subscribers = {}, {}
    for client, values in folded.items():
        name, email = values.get("identity", {}).get("name"), values.get("contact", {}).get("email")
        if name or email or client in numbers:
            people[client] = {"number": client, "name": name, "email": email}
        if email:
            subscribers[client] = {"email": email}
    told = {person["number"]: person for person in left.people.values()}
    _require(told == people, "the CRM has the latest", f"{told} instead of {people}")
    _require(dict(left.subscribers) == subscribers, "the mailing system has the latest", f"{dict(left.subscribers)}")


def _check_deliveries(left: Left, messages: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """I8: what was announced is delivered, nothing is left over, and no state ever went backwards."""
    found = rows(
        left.directory,
        "deliveries.db",
        "SELECT client_id, integration, wanted, delivered, due_at, claimed_until, failed_code FROM deliveries",
    )
    states = {(client, integration): tuple(state) for client, integration, *state in found}
    for client, told in messages.items():
        for integration, interest in (("crm", {"identity", "contact"}), ("mailing", {"contact"})):
            seq = max((data["seq"] for data in told if interest & data["changed"].keys()), default=None)
            expected = None if seq is None else (seq, seq, None, None, None)
            state = states.get((client, integration))
            _require(state == expected, "everything wanted is delivered", f"{client} at {integration}: {state}")
    seen = [*left.before, delivery_states(left.directory)]
    for earlier, later in zip(seen, seen[1:], strict=False):
        for key, state in earlier.items():
            now = later.get(key, (0, 0))
            ahead = now[0] >= state[0] and now[1] >= state[1]
            _require(ahead, "delivery state never goes back", f"{key}: {state}, then {now}")
    log = rows(
        left.directory,
        "deliveries.db",
        "SELECT client_id, integration, number, seq, verdict, body_hash FROM delivery_log ORDER BY position",
    )
    last: dict[tuple[str, str], tuple[int, str]] = {}
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    for client, integration, number, seq, verdict, body_hash in log:
        key = (client, integration)
        numbers[key] += 1
        _require(number == numbers[key], "each call is logged once", f"{key}: {number}")
        if verdict == "delivered":
            before = last.get(key, (0, ""))
            _require((seq, body_hash) != before, "nothing is sent twice", f"{key}: {seq}")
            _require(seq >= before[0], "deliveries in order", f"{key}: {seq} after {before[0]}")
            last[key] = (seq, body_hash)
    doorbells = rows(
        left.directory,
        "deliveries.db",
        f"SELECT count(*) FROM messages WHERE subscription <> '{_SUBSCRIBER}'",
    )
    _require(doorbells == [(0,)], "no doorbell left over", f"{doorbells}")
