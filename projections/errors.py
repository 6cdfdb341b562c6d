"""Everything that can go wrong in the projections, under one base.

    ProjectionError
    +-- SchemaDefinitionError      a unified schema is declared wrongly
    +-- RuleDefinitionError        a rule or projection is declared wrongly
    +-- InvalidEvolutionError      a rule asked `evolve` for a field that does not exist
    +-- CommitConflictError        somebody else committed first, round after round
    +-- StreamBehindError          the stream ends before the version asked for
    +-- OutOfTimeError             a client's history is longer than one call's time
    +-- FingerprintMismatchError   the code changed without a new projection version
    +-- OvertakenError             another version came in between of a walk over all clients
    +-- IncompleteGenerationError  earlier generations are still needed
    +-- InvalidCursorError         an audit cursor that was not handed out for this query
    +-- UnknownClientError         no record and no event of that client
    +-- UnreadableRecordError      the running schema cannot read a stored record
    +-- AnnulmentError             that event cannot be annulled

Messages never hold a client id or a value of a record: they may end up in a log.
"""

from collections.abc import Sequence

from eventstore import PortableError


class ProjectionError(PortableError):
    """Base of every error this package raises."""


class SchemaDefinitionError(ProjectionError):
    """A unified schema is declared in a way that cannot be projected; raised while the application starts."""


class RuleDefinitionError(ProjectionError):
    """A rule or projection is declared wrongly; raised while the application starts."""


class InvalidEvolutionError(ProjectionError):
    """A rule asked `evolve` for something the schema does not have.

    Attributes:
        path: sub-schema, or sub-schema and field.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__(f"evolve({path}=...): {problem}.")


class CommitConflictError(ProjectionError):
    """Other projectors committed this client first, round after round; the call may be repeated."""

    def __init__(self, client_id: str, rounds: int) -> None:
        self.client_id, self.rounds = client_id, rounds
        super().__init__(f"Lost {rounds} rounds against other projectors of the same client; try again in a moment.")


class StreamBehindError(ProjectionError):
    """The stream, as read, ends before the version asked for; a stale read, or no such version."""

    def __init__(self, client_id: str, at_least: int, found: int) -> None:
        self.client_id, self.at_least, self.found = client_id, at_least, found
        super().__init__(f"Version {at_least} was asked for, the stream ends at {found}; try again, or ask for less.")


class OutOfTimeError(ProjectionError):
    """The time budget of a call was used up before the version asked for; the next call goes on from there."""

    def __init__(self, client_id: str, at_least: int, found: int) -> None:
        self.client_id, self.at_least, self.found = client_id, at_least, found
        super().__init__(f"Version {at_least} was asked for, time was up at {found}; call again to go on from there.")


class FingerprintMismatchError(ProjectionError):
    """Schema, events, upcasters or rule names changed, but the projection kept its version."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        super().__init__(
            f"The code differs from what {generation} was projected with (schema, event models, upcasters or rule "
            "names). Raise the projection's version, or accept the change with --accept-fingerprint if it cannot "
            "alter any record."
        )


class OvertakenError(ProjectionError):
    """While one version of the projection walked over the clients, another one started, or began a walk of its own.

    Attributes:
        generation: whose walk was overtaken.
    """

    def __init__(self, generation: str) -> None:
        self.generation = generation
        super().__init__(
            f"Newer code than {generation} was started, or another version began a rebuild, before this one was done. "
            "Stop it, and start this one again."
        )


class IncompleteGenerationError(ProjectionError):
    """Earlier generations hold what the running one does not; they must not be removed yet.

    Attributes:
        incomplete: clients that are behind or parked in the running generation.
        clients: clients of which earlier generations hold something.
    """

    def __init__(self, incomplete: int, clients: int) -> None:
        self.incomplete, self.clients = incomplete, clients
        super().__init__(
            f"{incomplete} of {clients} clients are behind or parked in this version of the projection; nothing was "
            "removed. Run client-flow rebuild, and deal with the parked ones."
        )


class InvalidCursorError(ProjectionError):
    """The cursor was not handed out by this query."""

    def __init__(self) -> None:
        super().__init__("The cursor does not belong to this query; start again without one.")


class UnknownClientError(ProjectionError):
    """There is neither a record nor an event of that client."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        super().__init__("No event of this client is stored.")


class UnreadableRecordError(ProjectionError):
    """A stored record does not fit the running schema.

    Attributes:
        problems: `path: problem` for each field concerned; no values.
    """

    def __init__(self, client_id: str, problems: Sequence[str]) -> None:
        self.client_id, self.problems = client_id, tuple(problems)
        super().__init__(
            f"The record does not fit the running schema ({'; '.join(self.problems)}); it was projected by other code. "
            "Raise the projection's version, or fold the client again."
        )


class AnnulmentError(ProjectionError):
    """The event named by an annulment does not exist or is an annulment itself."""

    def __init__(self, client_id: str, version: int, problem: str) -> None:
        self.client_id, self.version = client_id, version
        super().__init__(f"The event at version {version} cannot be annulled: {problem}.")
