"""Everything that can go wrong in the event store, under one base.

    EventStoreError
    +-- InvalidClientIdError         the client id cannot be one
    +-- InvalidEventError            an event that may not be stored: bad value, bad id, bad time
    |   +-- DuplicateEventIdError    the same event id twice in one append
    |   +-- AppendTooLargeError      more than fits one transaction
    +-- EventIdReusedError           the event id is taken by other content
    +-- WrongExpectedVersionError    the stream is not where the caller thought
    +-- ContentionError              too many writers on one stream; try again later
    +-- RegistrationError            an event type or upcaster is declared wrongly
    +-- UndecodableEventError        a stored event the running code cannot read
    |   +-- UnknownEventTypeError
    |   +-- UnknownSchemaVersionError
    |   +-- UpcastError
    |   +-- InvalidPayloadError
    +-- HistoryForkedError           the stream is not the one that was read before
    +-- RejectionNotFoundError       no open rejection has that number
    +-- SealError                    a seal file cannot be relied on
    +-- StoreUnavailableError        the database is locked, full or out of reach
    +-- StoreRefusedError            the database will never take this
    +-- WrongContainerError          a Cosmos DB container with other keys than it must have
    +-- StoreVersionError            the data was written by a newer version of this software

Messages never hold a client id, an event id or a payload value: they may end up in a log. What a program needs is in
the attributes.
"""

from collections.abc import Sequence
from typing import Any

from .problems import WHOLE, FieldProblem


class PortableError(Exception):
    """An error that is the same when it comes from another process.

    Exceptions travel as class and text, and are made anew by calling the class with that text; ours are not made of it.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self), self.args), self.__dict__


class EventStoreError(PortableError):
    """Base of every error this package raises."""


class InvalidClientIdError(EventStoreError):
    """A text or a set of parts that is no client id."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"Not a client id: {problem}.")


class InvalidEventError(EventStoreError):
    """An event that may not be stored, with the fields that are wrong."""

    def __init__(self, *problems: FieldProblem) -> None:
        self.problems = problems
        super().__init__("Event refused: " + "; ".join(f"{p.path}: {p.problem}" for p in problems) + ".")


class DuplicateEventIdError(InvalidEventError):
    """One append names the same event id twice."""

    def __init__(self, event_id: str) -> None:
        self.event_id = event_id
        super().__init__(FieldProblem("event_id", "repeated inside one append; give each event of a call its own"))


class AppendTooLargeError(InvalidEventError):
    """One append holds more than one transaction can take; nothing was written."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(FieldProblem(WHOLE, f"{size} {what} in one append, at most {limit}; append in parts"))


class EventIdReusedError(EventStoreError):
    """The event id is already stored for this client, with another type or other data."""

    def __init__(self, client_id: str, event_id: str, version: int) -> None:
        self.client_id, self.event_id, self.version = client_id, event_id, version
        super().__init__(
            f"The event id is already used by version {version} of this client with other content; "
            "a new fact needs a new key, a repeat needs the same content."
        )


class WrongExpectedVersionError(EventStoreError):
    """The stream is at another version than the caller expected; nothing was written."""

    def __init__(self, client_id: str, expected: int, actual: int) -> None:
        self.client_id, self.expected, self.actual = client_id, expected, actual
        super().__init__(f"Expected the stream at version {expected}, it is at {actual}; read it again and decide.")


class ContentionError(EventStoreError):
    """Other writers won every round; nothing was written."""

    def __init__(self, client_id: str, rounds: int) -> None:
        self.client_id, self.rounds = client_id, rounds
        super().__init__(f"Lost {rounds} rounds against other writers of the same stream; try again in a moment.")


class RegistrationError(EventStoreError):
    """An event type or upcaster is declared wrongly; raised while the application starts."""


class UndecodableEventError(EventStoreError):
    """A stored event that the running code cannot turn into its model.

    Attributes:
        code: a stable short name of the reason, for parked clients and metrics.
        event_type: the stored type.
        schema_version: the stored schema version.
        problems: the fields concerned, if any.
    """

    code = "undecodable_event"

    def __init__(
        self, event_type: str, schema_version: int, advice: str, problems: Sequence[FieldProblem] = ()
    ) -> None:
        self.event_type, self.schema_version, self.problems = event_type, schema_version, tuple(problems)
        fields = "".join(f"; {p.path}: {p.problem}" for p in self.problems)
        super().__init__(f"Stored event {event_type} version {schema_version}: {advice}{fields}.")


class UnknownEventTypeError(UndecodableEventError):
    """No event is registered under the stored type."""

    code = "unknown_event_type"


class UnknownSchemaVersionError(UndecodableEventError):
    """The stored schema version is newer than the registered one."""

    code = "unknown_schema_version"


class UpcastError(UndecodableEventError):
    """An upcaster is missing or raised."""

    code = "upcast_failed"


class InvalidPayloadError(UndecodableEventError):
    """The stored data does not validate against the registered model."""

    code = "invalid_payload"


class HistoryForkedError(EventStoreError):
    """The stream holds another event at this version than the one seen before, as after a restore to an older state."""

    def __init__(self, client_id: str, version: int) -> None:
        self.client_id, self.version = client_id, version
        super().__init__(
            f"The event at version {version} is not the one that was there before: the history was changed or restored "
            "to an older state. Find out which side is right, then rebuild this client."
        )


class RejectionNotFoundError(EventStoreError):
    """No open rejection has that number."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"There is no open rejection number {number}; list the open ones first.")


class SealError(EventStoreError):
    """A seal file that cannot be relied on."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"The seal cannot be relied on: {problem}; take another copy of it.")


class StoreUnavailableError(EventStoreError):
    """The database cannot be used right now; the call may be repeated.

    Attributes:
        retry_after: seconds after which a retry makes sense.
    """

    def __init__(self, problem: str, *, retry_after: float = 1.0) -> None:
        self.problem, self.retry_after = problem, retry_after
        super().__init__(f"The store is not available: {problem}.")


class StoreVersionError(EventStoreError):
    """The data directory was written by a newer version of this software."""

    def __init__(self, name: str, found: int, known: int) -> None:
        self.name, self.found, self.known = name, found, known
        super().__init__(
            f"{name} has schema version {found}, this software knows up to {known}; run the newer version, or use "
            "another data directory."
        )


class StoreRefusedError(EventStoreError):
    """The database refuses this request and would refuse it again; nothing was written.

    Attributes:
        status: HTTP status.
        sub_status: the service's own number for the reason.
        reason: what is wrong, and what to do.
        of_data: whether it is what was to be written that is refused (its size, its form, its full partition) and not
            the caller or the set-up, so that everything else can still be written.
    """

    def __init__(self, status: int, sub_status: int) -> None:
        self.status, self.sub_status = status, sub_status
        self.reason = _REFUSALS.get((status, sub_status)) or _REFUSALS.get((status, 0), "the request was refused")
        self.of_data = status in {400, 413} or (status, sub_status) == _FULL_PARTITION
        super().__init__(f"The database refused with {status}/{sub_status}: {self.reason}.")


class WrongContainerError(EventStoreError):
    """A container whose partition key or unique keys, fixed for life, are not those that it must have.

    Attributes:
        container: its name.
        problems: what is there and what was expected.
    """

    def __init__(self, container: str, problems: Sequence[str]) -> None:
        self.container, self.problems = container, tuple(problems)
        super().__init__(
            f"The container {container} cannot be used: {'; '.join(self.problems)}. Its keys are fixed for life: move its "
            "documents to one that `client-flow provision` makes, or use another database."
        )


_FULL_PARTITION = (403, 1014)
_REFUSALS = {
    (400, 0): "the request is not valid for this container",
    (401, 0): "the key or token is not accepted; check the credentials",
    (403, 0): "the identity may not do this; give it the data contributor role",
    _FULL_PARTITION: "the partition of this client is full; nothing more can be stored for it",
    (404, 0): "there is no such database or container; provision it",
    (413, 0): "the document or batch is larger than the service takes",
}


def _arrived(kind: type[PortableError], args: tuple[Any, ...]) -> PortableError:
    return kind.__new__(kind, *args)
