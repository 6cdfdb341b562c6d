"""Verify: what is stored of a client is what its events come to. Reads only.

A client is folded again, a portion at a time, and compared on the way: events with their hashes, audit entries one by
one beside the events, then record, announcement state and outbox. The record is compared at the version at which it
stands, so clients that are parked or on their way are no trouble. What is found is looked at again before it is
reported, since a commit may have come in between.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from eventstore import EventStore

from .comparing import Comparison, Difference, foreign_difference
from .fingerprint import code_fingerprint
from .fold import Folded
from .looking import Against, Look, Seen
from .ports import ANNOUNCED, RECORD, DocumentStore, Mend, StoredDocument
from .record import Announced
from .rules import Projection

_LOOKS = 5  # at a client that keeps moving
_TOGETHER = 20  # clients whose documents are held in memory


class Verified(NamedTuple):
    """What a client was found to be.

    Attributes:
        client_id: text of the client id.
        events: how many events it has.
        has_record: whether this version of the projection has a record of it.
        differences: what is not as it should be.
        mends: what would mend the documents among them; nothing mends events.
        announced: where to announce from, if what was announced is not what it should be.
        announced_tag: tag of the stored announcement state, None if there is none.
        folded: what its events come to where its record stands, None if that cannot be said.
    """

    client_id: str
    events: int
    has_record: bool
    differences: tuple[Difference, ...]
    mends: tuple[Mend, ...]
    announced: Announced | None
    announced_tag: str | None
    folded: Folded | None


class Verifier:
    """Verifies clients of one projection, in the generation of its version.

    Args:
        projection: schema and rules.
        events: the truth.
        documents: what is to be checked.
        projected_until: events recorded before this time (UTC text form) should be folded; a record that lacks one is
            reported. Empty if nothing is known of how far the projector is.
        heard: the highest number under which anybody was told of each of some clients, who are left out if nobody was;
            an announcement state below it is stale.
    """

    def __init__(
        self,
        projection: Projection[Any],
        events: EventStore,
        documents: DocumentStore,
        *,
        projected_until: str = "",
        heard: Callable[[Sequence[str]], Mapping[str, int]] = lambda _: {},
    ) -> None:
        fingerprint = code_fingerprint(projection)
        self._against = Against(projection, events, Comparison(projection), fingerprint, projected_until)
        self._documents = documents
        self._heard = heard

    def verify(self, client_id: str) -> Verified:
        """Compare everything stored of a client with what its events come to.

        Raises:
            InvalidClientIdError: the text is no client id.
            StoreUnavailableError: a database is out of reach.
        """
        return next(self.verify_all([client_id]))

    def verify_all(self, client_ids: Sequence[str]) -> Iterator[Verified]:
        """As `verify`, for many clients, whose documents are read several clients at a time."""
        for start in range(0, len(client_ids), _TOGETHER):
            for client_id, (heard, stored) in self._read(client_ids[start : start + _TOGETHER]).items():
                yield self._verify(client_id, heard, stored)

    def _read(self, client_ids: Sequence[str]) -> dict[str, tuple[int, Sequence[StoredDocument]]]:
        """What anybody heard of each client, and its documents but the audit."""
        heard, stored = self._heard(client_ids), self._documents.documents(client_ids)
        return {client_id: (heard.get(client_id, 0), stored[client_id]) for client_id in client_ids}

    def _verify(self, client_id: str, heard: int, stored: Sequence[StoredDocument]) -> Verified:
        seen = self._look(client_id, heard, stored)
        lasting, tags = seen.differences, _tags(stored)
        for _ in range(_LOOKS):
            if not lasting:
                break
            before, tags_before = {each.place for each in lasting}, tags
            heard, stored = self._read([client_id])[client_id]
            seen = self._look(client_id, heard, stored)
            lasting, tags = tuple(each for each in seen.differences if each.place in before), _tags(stored)
            if tags == tags_before:
                break
        announced_tag = next((each.tag for each in stored if each.kind == ANNOUNCED), None)
        return Verified(
            client_id,
            seen.events,
            any(each.kind == RECORD for each in stored),
            lasting,
            seen.mends,
            seen.announced,
            announced_tag,
            seen.folded,
        )

    def _look(self, client_id: str, heard: int, stored: Sequence[StoredDocument]) -> Seen:
        def look(stands: int | None) -> Seen:
            audit = self._documents.audit_documents(client_id)
            return Look(self._against, client_id, stored, audit, heard=heard, stands=stands)()

        seen = look(None)
        if seen.stands is not None:
            seen = look(seen.stands)
        if foreign := self._against.events.foreign(client_id):
            seen = seen._replace(differences=(*seen.differences, foreign_difference(foreign)))
        return seen


def _tags(stored: Sequence[StoredDocument]) -> list[tuple[str, str]]:
    """What changes with every commit."""
    return [(each.kind, each.tag) for each in stored if each.kind in {RECORD, ANNOUNCED}]
