"""Heal: mend exactly what verifying found, and nothing else.

Record and audit are rewritten from the events. What was announced is not: nobody can say what the world was told, so it
is told what differs, under the next number. Events are never touched; a client whose history is not sound is left alone.
"""

from typing import Any, NamedTuple

from eventstore import EventStore

from .announcing import announce
from .comparing import EVENT, Difference
from .documents import announced_document, outbox_document
from .ports import ANNOUNCED, OUTBOX, DocumentStore, Mend
from .projector import Projector
from .rules import Projection
from .target import Target
from .verify import Verified, Verifier

_ROUNDS = 20  # each mends a portion, or was lost against a projector


class Healed(NamedTuple):
    """What healing came to.

    Attributes:
        found: what was not as it should be.
        left: what still is not: events, and what depends on them.
        announced: whether something is to be published.
        events: how many events the client has.
        has_record: whether this version of the projection has a record of it.
    """

    found: tuple[Difference, ...]
    left: tuple[Difference, ...]
    announced: bool
    events: int
    has_record: bool


class Healer:
    """Mends clients of one projection.

    Args:
        projection: schema and rules.
        events: the truth.
        documents: what is to be mended.
        verifier: says what that is.
        projector: brings clients up to date that are behind.
    """

    def __init__(
        self,
        projection: Projection[Any],
        events: EventStore,
        documents: DocumentStore,
        verifier: Verifier,
        projector: Projector,
    ) -> None:
        self._projection = projection
        self._events = events
        self._documents = documents
        self._verifier = verifier
        self._projector = projector

    def heal(self, client_id: str) -> Healed:
        """Mend what differs, under the tags of the documents concerned; others are not written.

        Raises:
            StoreUnavailableError: a database is out of reach; what was mended stays.
        """
        verified = self._verifier.verify(client_id)
        found, announced = verified.differences, False
        for _ in range(_ROUNDS):
            announcing = self._announcement(verified)
            if not verified.differences or not (verified.mends or announcing):
                break
            # The announcement comes after what it is about: who hears it reads the record.
            mended = self._documents.mend(client_id, [*verified.mends, *announcing])
            announced |= mended and bool(announcing)
            verified = self._verifier.verify(client_id)
        if any(each.kind != EVENT for each in verified.differences):
            # What is left without a mend lacks events that are there.
            # If it does not get there, what is left says so.
            target = Target(self._events.head(client_id).version, retry=True)
            self._projector.catch_up_all({client_id: target})
            verified = self._verifier.verify(client_id)
        return Healed(found, verified.differences, announced, verified.events, verified.has_record)

    def _announcement(self, verified: Verified) -> list[Mend]:
        """What tells the world what differs from the announcement state: the new state, and the entry to publish.

        If nothing differs but what the state says of itself, only the state.
        """
        if verified.folded is None or verified.announced is None:
            return []
        announcement = announce(self._projection, verified.folded._replace(audit=()), verified.announced)
        if announcement is None:
            return [Mend(ANNOUNCED, 0, announced_document(verified.announced), verified.announced_tag)]
        told, entry = announcement
        return [
            Mend(ANNOUNCED, 0, announced_document(told), verified.announced_tag),
            Mend(OUTBOX, entry.seq, outbox_document(entry), None),
        ]
