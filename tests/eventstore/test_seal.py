"""Seals: any event changed, removed or cut since is found; a seal that was changed itself is refused."""

from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import (
    ANY,
    ChainCheck,
    EventStore,
    RecordedEvent,
    Sealed,
    SealError,
    StreamHead,
    check_sealed,
    open_seal,
    write_seal,
)
from eventstore.events import _hash
from tests.support.events import emails
from tests.support.vandal import SqliteScene, rechain

EVENTS = 6
NOW = "2026-01-31T12:00:00.000000Z"


class Streams:
    """Streams in memory, which anybody may change: what is read of an event store, and nothing else."""

    def __init__(self, events: list[RecordedEvent]) -> None:
        self.events = events

    def read(self, client_id: str, *, after: int = 0, until: int | None = None) -> list[RecordedEvent]:
        return sorted(self.events, key=lambda event: event.version)


@pytest.fixture(scope="module")
def stream() -> list[RecordedEvent]:
    with TemporaryDirectory() as directory, closing(SqliteScene(Path(directory))) as scene:
        scene.events.append("1", emails(*range(EVENTS)), expected_version=ANY)
        return list(scene.events.read("1"))


def sealed_at(stream: list[RecordedEvent]) -> Sealed:
    return Sealed("1", stream[-1].version, stream[-1].hash)


def found(events: list[RecordedEvent], sealed: Sealed) -> list[tuple[int, str]]:
    store: EventStore = Streams(events)  # type: ignore[assignment]
    return [(problem.version, problem.problem) for problem in check_sealed(store, sealed)]


fields = st.sampled_from(
    ["event_id", "event_type", "source", "occurred_at", "recorded_at", "data", "hash", "client_id"]
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(version=st.integers(1, EVENTS), field=fields, anew=st.booleans())
def test_any_change_of_any_event_is_found(stream: list[RecordedEvent], *, version: int, field: str, anew: bool) -> None:
    """Whatever field, wherever, and also if somebody works all hashes after it out anew."""
    events = list(stream)
    value: Any = {"x": 1} if field == "data" else "x"
    events[version - 1] = events[version - 1]._replace(**{field: value})
    if anew and field != "hash":
        previous = events[version - 2].hash if version > 1 else ""
        for place in range(version - 1, EVENTS):
            events[place] = events[place]._replace(hash=_hash(events[place][:-1], previous))
            previous = events[place].hash
    problems = found(events, sealed_at(stream))
    assert problems
    assert problems[0] == ((EVENTS, "rewritten") if anew and field != "hash" else (version, "changed"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(gone=st.sets(st.integers(1, EVENTS), min_size=1))
def test_any_event_removed_is_found(stream: list[RecordedEvent], gone: set[int]) -> None:
    """From the middle, the beginning or the end, or all of them."""
    events = [event for event in stream if event.version not in gone]
    problems = found(events, sealed_at(stream))
    assert problems[0] == (min(gone), "missing")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(order=st.permutations(range(EVENTS)))
def test_any_exchange_of_events_is_found(stream: list[RecordedEvent], order: list[int]) -> None:
    """Events that stand at each other's version are found; in their own order, nothing is."""
    events = [stream[place]._replace(version=version) for version, place in enumerate(order, 1)]
    assert bool(found(events, sealed_at(stream))) is (order != list(range(EVENTS)))


def test_events_after_the_seal_only_have_to_continue_it(stream: list[RecordedEvent]) -> None:
    """A seal covers what was there; later events are checked by their hashes alone."""
    early = sealed_at(stream[:3])
    assert found(stream, early) == []
    assert found(stream[:3], early) == []
    assert found(stream[:2], early) == [(3, "missing")]
    changed = [*stream[:4], stream[4]._replace(source="x"), stream[5]]
    assert found(changed, early) == [(5, "changed")]


def test_what_breaks_the_chain_is_reported_once(stream: list[RecordedEvent]) -> None:
    """A hash of the sealed event that was only overwritten is no history that was worked out anew."""
    overwritten = [*stream[:-1], stream[-1]._replace(hash="f" * 64)]
    assert found(overwritten, sealed_at(stream)) == [(EVENTS, "changed")]


def test_without_a_seal_a_cut_tail_is_not_found(stream: list[RecordedEvent]) -> None:
    """What the chain alone cannot know, which is why there are seals; here the safeguard is removed."""
    chain = ChainCheck()
    assert all(map(chain.see, stream[:4]))
    assert chain.problems == []


def heads(count: int) -> list[Sealed]:
    return [Sealed(f"c{number}", number + 1, f"{number:064}") for number in range(count)]


def test_a_seal_reads_back(tmp_path: Path) -> None:
    """All heads, and what it says of itself; nobody else may read the file."""
    path = tmp_path / "seal"
    written = write_seal(path, iter(heads(300)), sealed_at=NOW)
    seal, found = open_seal(path)
    assert seal == written
    assert (seal.sealed_at, seal.clients) == (NOW, 300)
    assert list(found) == heads(300)
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_seal_that_cannot_be_finished_leaves_the_one_before(tmp_path: Path) -> None:
    """Only a whole one takes its place."""
    path = tmp_path / "seal"
    written = write_seal(path, heads(3), sealed_at=NOW)

    def dying() -> Iterator[Sealed]:
        yield from heads(2)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_seal(path, dying(), sealed_at=NOW)
    assert open_seal(path)[0] == written


CHANGES: list[Callable[[list[bytes]], list[bytes]]] = [
    lambda lines: lines[:-1],
    lambda lines: [*lines[:2], *lines[3:]],
    lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    lambda lines: [lines[0], lines[1].replace(b"c0", b"c9"), *lines[2:]],
    lambda lines: [lines[0].replace(b"2026", b"2027"), *lines[1:]],
    lambda lines: [*lines, b'["c9",1,"x"]\n'],
    lambda lines: [*lines[:-1], b"nonsense\n"],
    lambda lines: lines[1:],
    lambda _: [],
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_seal_that_was_changed_is_refused(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Whatever was done to the file, before anything in it is believed."""
    path = tmp_path / "seal"
    write_seal(path, heads(4), sealed_at=NOW)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(SealError, match="cannot be relied on"):
        open_seal(path)


@pytest.mark.parametrize(
    "line", [b'["c1"]', b"[", b'["c1","2","x"]', b'["c1",true,"x"]', b'["c1",0,"x"]', b'[["c1"],2,"x"]', b"c1,2,x"]
)
def test_a_line_that_names_no_head_is_refused(tmp_path: Path, line: bytes) -> None:
    """Also if the hash over the whole was worked out anew; the rest of the file is not believed either."""
    path = tmp_path / "seal"
    write_seal(path, heads(4), sealed_at=NOW)
    lines = path.read_bytes().splitlines(keepends=True)[:-1]
    lines[2] = line + b"\n"
    end = {"clients": 4, "hash": sha256(b"".join(lines)).hexdigest()}
    path.write_bytes(b"".join([*lines, orjson.dumps(end), b"\n"]))
    with pytest.raises(SealError, match="a client, a version and a hash"):
        open_seal(path)


def test_the_head_is_what_is_sealed(tmp_path: Path) -> None:
    """A stream sealed by its head in a database is found sound there, and cut when its last event is gone."""
    with closing(SqliteScene(tmp_path)) as scene:
        scene.events.append("1", emails(*range(3)), expected_version=ANY)
        head: StreamHead = scene.events.head("1")
        sealed = Sealed("1", head.version, head.hash)
        assert check_sealed(scene.events, sealed) == []
        scene.remove_event("1", 3)
        assert [tuple(each) for each in check_sealed(scene.events, sealed)] == [(3, "missing")]


def test_a_history_written_anew_is_found(tmp_path: Path) -> None:
    """Every hash fits, but the last one is not the one that was sealed."""
    with closing(SqliteScene(tmp_path)) as scene:
        scene.events.append("1", emails(*range(3)), expected_version=ANY)
        head = scene.events.head("1")
        rechain(scene, "1", 2, lambda document: document.update(source="x"))
        assert [tuple(each) for each in check_sealed(scene.events, Sealed("1", *head[:2]))] == [(3, "rewritten")]
