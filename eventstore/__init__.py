"""Append-only streams of events, one for each client."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .canonical import MAX_DEPTH, SAFE_INTEGER, canonical_json, normalize
from .chain import CHANGED, MISSING, REWRITTEN, ChainCheck, ChainProblem
from .client_id import MAX_LENGTH as MAX_CLIENT_ID_LENGTH
from .client_id import ClientId, check_client_id
from .compatibility import schema_breaks
from .errors import (
    AppendTooLargeError,
    ContentionError,
    DuplicateEventIdError,
    EventIdReusedError,
    EventStoreError,
    HistoryForkedError,
    InvalidClientIdError,
    InvalidEventError,
    InvalidPayloadError,
    PortableError,
    RegistrationError,
    RejectionNotFoundError,
    SealError,
    StoreRefusedError,
    StoreUnavailableError,
    StoreVersionError,
    UndecodableEventError,
    UnknownEventTypeError,
    UnknownSchemaVersionError,
    UpcastError,
    WrongContainerError,
    WrongExpectedVersionError,
)
from .events import EMPTY_STREAM, Event, EventData, RecordedEvent, StreamHead, utc_text
from .ports import (
    ANY,
    NO_STREAM,
    Appended,
    ChangeFeed,
    CheckpointStore,
    ClientDirectory,
    ClientPage,
    EventStore,
    ExpectedVersion,
    FeedPage,
    ForeignDocument,
    Rejection,
    RejectionStore,
)
from .problems import FieldProblem, field_problems
from .registry import EventRegistry, EventType
from .seal import Seal, Sealed, check_sealed, open_seal, write_seal

if TYPE_CHECKING:
    from .cosmos import EVENTS_CONTAINER, CosmosEventStore
    from .cosmos_client import (
        OutcomeUnknownError,
        WriteConflictError,
        cosmos_container,
        cosmos_errors,
        cosmos_query,
        create_all,
        key_differences,
        open_cosmos,
    )
    from .cosmos_event import event_in, foreign_in
    from .cosmos_feed import CosmosChangeFeed
    from .cosmos_intake import INTAKE_CONTAINER, CosmosCheckpointStore, CosmosRejectionStore
    from .sqlite import SqliteEventStore, open_events
    from .sqlite_database import SqliteDatabase
    from .sqlite_intake import CHECKPOINTS_TABLE, SqliteCheckpointStore, SqliteRejectionStore

# Adapters load on first use: an application pays only for the database it runs on.
_ADAPTERS = {
    "CosmosChangeFeed": "cosmos_feed",
    "CosmosCheckpointStore": "cosmos_intake",
    "CosmosEventStore": "cosmos",
    "CosmosRejectionStore": "cosmos_intake",
    "EVENTS_CONTAINER": "cosmos",
    "INTAKE_CONTAINER": "cosmos_intake",
    "OutcomeUnknownError": "cosmos_client",
    "WriteConflictError": "cosmos_client",
    "cosmos_container": "cosmos_client",
    "cosmos_errors": "cosmos_client",
    "cosmos_query": "cosmos_client",
    "create_all": "cosmos_client",
    "event_in": "cosmos_event",
    "foreign_in": "cosmos_event",
    "key_differences": "cosmos_client",
    "open_cosmos": "cosmos_client",
    "CHECKPOINTS_TABLE": "sqlite_intake",
    "SqliteCheckpointStore": "sqlite_intake",
    "SqliteDatabase": "sqlite_database",
    "SqliteEventStore": "sqlite",
    "SqliteRejectionStore": "sqlite_intake",
    "open_events": "sqlite",
}


def __getattr__(name: str) -> Any:
    if name not in _ADAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ADAPTERS[name]}", __name__), name)


__all__ = [
    "ANY",
    "CHANGED",
    "CHECKPOINTS_TABLE",
    "EMPTY_STREAM",
    "EVENTS_CONTAINER",
    "INTAKE_CONTAINER",
    "MAX_CLIENT_ID_LENGTH",
    "MAX_DEPTH",
    "MISSING",
    "NO_STREAM",
    "REWRITTEN",
    "SAFE_INTEGER",
    "AppendTooLargeError",
    "Appended",
    "ChainCheck",
    "ChainProblem",
    "ChangeFeed",
    "CheckpointStore",
    "ClientDirectory",
    "ClientId",
    "ClientPage",
    "ContentionError",
    "CosmosChangeFeed",
    "CosmosCheckpointStore",
    "CosmosEventStore",
    "CosmosRejectionStore",
    "DuplicateEventIdError",
    "Event",
    "EventData",
    "EventIdReusedError",
    "EventRegistry",
    "EventStore",
    "EventStoreError",
    "EventType",
    "ExpectedVersion",
    "FeedPage",
    "FieldProblem",
    "ForeignDocument",
    "HistoryForkedError",
    "InvalidClientIdError",
    "InvalidEventError",
    "InvalidPayloadError",
    "OutcomeUnknownError",
    "PortableError",
    "RecordedEvent",
    "RegistrationError",
    "Rejection",
    "RejectionNotFoundError",
    "RejectionStore",
    "Seal",
    "SealError",
    "Sealed",
    "SqliteCheckpointStore",
    "SqliteDatabase",
    "SqliteEventStore",
    "SqliteRejectionStore",
    "StoreRefusedError",
    "StoreUnavailableError",
    "StoreVersionError",
    "StreamHead",
    "UndecodableEventError",
    "UnknownEventTypeError",
    "UnknownSchemaVersionError",
    "UpcastError",
    "WriteConflictError",
    "WrongContainerError",
    "WrongExpectedVersionError",
    "canonical_json",
    "check_client_id",
    "check_sealed",
    "cosmos_container",
    "cosmos_errors",
    "cosmos_query",
    "create_all",
    "event_in",
    "field_problems",
    "foreign_in",
    "key_differences",
    "normalize",
    "open_cosmos",
    "open_events",
    "open_seal",
    "schema_breaks",
    "utc_text",
    "write_seal",
]
