"""The decisions of an append, the same on every backend: what may go in, what is there already, what is new."""

from collections.abc import Mapping, Sequence

from .canonical import canonical_json
from .client_id import check_client_id
from .errors import (
    AppendTooLargeError,
    DuplicateEventIdError,
    EventIdReusedError,
    InvalidEventError,
    WrongExpectedVersionError,
)
from .events import EventData, RecordedEvent, StreamHead
from .ports import ANY, ExpectedVersion
from .problems import WHOLE, FieldProblem

MAX_EVENTS = 100  # operations in one Cosmos DB transactional batch
MAX_BYTES = 1_000_000  # of payload: half of the service's 2 MB, since escapes and envelopes come on top


def check_append(client_id: str, events: Sequence[EventData]) -> None:
    """Refuse what no backend could store in one transaction.

    Raises:
        InvalidClientIdError: the text is no client id.
        InvalidEventError: none, too many, too large, or one event id twice.
    """
    check_client_id(client_id)
    if not events:
        raise InvalidEventError(FieldProblem(WHOLE, "at least one event was expected, none came"))
    if len(events) > MAX_EVENTS:
        raise AppendTooLargeError("events", len(events), MAX_EVENTS)
    seen: set[str] = set()
    for event in events:
        if event.event_id in seen:
            raise DuplicateEventIdError(event.event_id)
        seen.add(event.event_id)
    size = sum(len(event.json) for event in events)
    if size > MAX_BYTES:
        raise AppendTooLargeError("bytes", size, MAX_BYTES)


def still_to_append(
    client_id: str, events: Sequence[EventData], stored: Mapping[str, RecordedEvent]
) -> list[EventData]:
    """Those events that are not stored yet.

    Args:
        client_id: the client.
        events: what the caller asks to store.
        stored: what the store holds under their ids.

    Raises:
        EventIdReusedError: an id is stored with another type or other data.
    """
    fresh = []
    for event in events:
        found = stored.get(event.event_id)
        if found is None:
            fresh.append(event)
        elif found.event_type != event.event_type or canonical_json(found.data) != event.json:
            raise EventIdReusedError(client_id, event.event_id, found.version)
    return fresh


def check_expected_version(client_id: str, expected: ExpectedVersion, head: StreamHead) -> None:
    """Refuse an append to a stream that moved on.

    Raises:
        WrongExpectedVersionError: the stream is at another version.
    """
    if expected is not ANY and expected != head.version:
        raise WrongExpectedVersionError(client_id, expected, head.version)
