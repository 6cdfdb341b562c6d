"""What the world was told of a client: its announcement state and outbox, beside what its events come to."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .comparing import DIFFERS, NOT_THERE, UNREADABLE, WHOLE_DOCUMENT
from .documents import outbox_document
from .ports import ANNOUNCED, OUTBOX, StoredDocument
from .record import Announced, Json, content_hash
from .report import Report
from .rules import Projection
from .stored import announced_in, outbox_in

_NOTHING = content_hash(None)


class Told:
    """Compares what one client's announcement state and outbox say.

    Args:
        projection: schema and version.
        client_id: text of the client id.
        stored: its documents by kind and number.
        heard: the highest number under which anybody was told of it.
        report: where to put what is found.

    Attributes:
        announce_from: where to announce from, if what was announced is not what it should be.
    """

    def __init__(
        self,
        projection: Projection[Any],
        client_id: str,
        stored: Mapping[tuple[str, int], StoredDocument],
        heard: int,
        report: Report,
    ) -> None:
        self.announce_from: Announced | None = None
        self._projection, self._client_id = projection, client_id
        self._stored, self._heard, self._report = stored, heard, report
        self._announced = announced_in(stored.get((ANNOUNCED, 0)))
        self._outbox = {number: outbox_in(each) for (kind, number), each in stored.items() if kind == OUTBOX}
        self._until = self._head = 0
        self._contents: Mapping[int, dict[str, Json]] = {}

    @property
    def versions(self) -> set[int]:
        """Of the records in the outbox."""
        return {entry.version for entry in self._outbox.values() if entry}

    @property
    def knows_of(self) -> int:
        """The last event of which the world was told, or is to be."""
        return max([0 if self._announced is None else self._announced.version, *self.versions])

    def was_announced_by(self, projection_version: int) -> bool:
        """Whether that version of the projection spoke last."""
        return self._announced is not None and self._announced.projection_version == projection_version

    def compare(self, until: int, head: int, contents: Mapping[int, dict[str, Json]]) -> None:
        """Compare with what the events come to.

        Args:
            until: version at which the record stands.
            head: version of the last event.
            contents: of the record, by version.
        """
        self._until, self._head, self._contents = until, head, contents
        self._compare_announced()
        self._compare_outbox()

    def _compare_announced(self) -> None:
        """The announcement state, with what the record holds and what anybody heard."""
        stored, announced = self._stored.get((ANNOUNCED, 0)), self._announced
        told = max([self._heard, *self._outbox])
        before = len(self._report.differences)
        if stored is None or announced is None:
            if stored is not None or told > 0:
                self._report.add(ANNOUNCED, 0, WHOLE_DOCUMENT, NOT_THERE if stored is None else UNREADABLE)
                self._tell_all(told)
            return
        for name in stored.beside:
            self._report.add(ANNOUNCED, 0, name, DIFFERS)
        start = announced
        if announced.seq < told:
            self._report.add(ANNOUNCED, 0, "seq", "is lower than what was announced", announced.seq, told)
            self._tell_all(told)
        if announced.projection_version == self._projection.version:
            if announced.version > self._head:
                self._report.add(ANNOUNCED, 0, "version", "is beyond the events", announced.version, self._until)
                start = start._replace(version=self._until)
            if self._until >= start.version:
                self._compare_hashes(announced.hashes)
        if len(self._report.differences) > before and self.announce_from is None:
            self.announce_from = start

    def _compare_hashes(self, stored: dict[str, str]) -> None:
        contents = self._contents.get(self._until, {})
        expected = {name: content_hash(content) for name, content in contents.items()}
        known = set(self._projection.layout.names)
        for name in sorted(stored.keys() | expected.keys()):
            was, wanted = stored.get(name, _NOTHING), expected.get(name, _NOTHING)
            if was != wanted:
                self._report.add(ANNOUNCED, 0, f"hashes.{name if name in known else '*'}", DIFFERS, was, wanted)

    def _compare_outbox(self) -> None:
        """What is to be published, with the record as it was at its version."""
        numbers = sorted(self._outbox)
        for number, entry in sorted(self._outbox.items()):
            stored = self._stored[OUTBOX, number]
            before = self._known_before(number)
            if entry is None or (before is None and not entry.contents):
                self._report.remove(stored, UNREADABLE if entry is None else "tells nothing")
                self._tell_all(number)
                continue
            expected = entry._replace(
                client_id=self._client_id, projection=self._projection.name, seq=number, previous_seq=number - 1
            )
            if entry.projection_version == self._projection.version and entry.version in self._contents:
                at_that_version = self._contents[entry.version]
                news = set() if before is None else _differing(before, at_that_version)
                names = sorted(at_that_version.keys() & (entry.contents.keys() | news))
                expected = expected._replace(contents={name: at_that_version[name] for name in names})
            self._report.compare(OUTBOX, number, stored, outbox_document(expected))
        last = self._announced.seq if self._announced is not None else 0
        for number, following in pairwise([*numbers, last + 1]):
            # They are deleted in order. What was lost is no matter once everything is told again.
            if following > number + 1 and not any(self._tells_all(each) for each in numbers if each > number):
                self._report.add(OUTBOX, number + 1, WHOLE_DOCUMENT, NOT_THERE)
                self._tell_all(last)

    def _known_before(self, number: int) -> Mapping[str, Json] | None:
        """What the world knew before an announcement; None if nobody can say any more."""
        if number == 1:
            return self._projection.layout.nothing
        entry = self._outbox.get(number - 1)
        if entry is None or entry.projection_version != self._projection.version:
            return None
        return self._contents.get(entry.version)

    def _tells_all(self, number: int) -> bool:
        entry = self._outbox[number]
        return entry is not None and entry.contents.keys() >= set(self._projection.layout.names)

    def _tell_all(self, seq: int) -> None:
        seq = max(seq, self._announced.seq if self._announced else 0, self._heard, *self._outbox)
        names = dict.fromkeys(self._projection.layout.names, "")  # no content has this hash
        self.announce_from = Announced(seq, self._projection.version, self._until, names)


def _differing(before: Mapping[str, Json], after: Mapping[str, Json]) -> set[str]:
    return {name for name, content in after.items() if content_hash(content) != content_hash(before.get(name))}
