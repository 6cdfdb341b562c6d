"""Fold events into unified client records, with an audit trail and announcements as by-products."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .announcing import announce
from .annulment import ANNULMENT, annul, annulled_version
from .comparing import Difference, foreign_difference
from .documents import audit_document, audit_from, change_document, outbox_document, record_document, record_from
from .errors import (
    AnnulmentError,
    CommitConflictError,
    FingerprintMismatchError,
    IncompleteGenerationError,
    InvalidCursorError,
    InvalidEvolutionError,
    OutOfTimeError,
    OvertakenError,
    ProjectionError,
    RuleDefinitionError,
    SchemaDefinitionError,
    StreamBehindError,
    UnknownClientError,
    UnreadableRecordError,
)
from .fingerprint import code_fingerprint, structure_fingerprint
from .fold import CLOCK_SKEW, Failure, Folded, fold
from .follower import FeedFollower, Swept, retry_parked, targets_of
from .generation import check_generation, inherit_cursor, sweep_cursor
from .heal import Healed, Healer
from .layout import ONE_VALUE, SubSchema
from .merging import apply_changes, difference
from .passed import Passed
from .ports import (
    AuditFilter,
    AuditLog,
    Commit,
    Committed,
    DocumentStore,
    Loaded,
    Mend,
    Outbox,
    Predecessors,
    ProjectionStore,
    Served,
    StoredDocument,
)
from .progress import Progress, Purpose, forget_progress, load_progress
from .projector import Projector
from .pruning import Prunable, prunable, prune
from .reader import AuditPage, Blame, RecordDiff, RecordReader, RecordView
from .rebuild import Rebuild
from .record import (
    ABSENT,
    ROOT,
    WHOLE,
    Announced,
    Assertion,
    AuditEntry,
    FieldChange,
    OutboxEntry,
    Parked,
    Record,
    content_hash,
    empty_record,
)
from .refold import MAX_RECORD_BYTES, refold
from .rules import Projection, Rule, UpdateProcessor
from .schema import UnifiedSchema
from .share import Share
from .target import Outcome, Target
from .verify import Verified, Verifier

if TYPE_CHECKING:
    from .cosmos import PROJECTIONS_CONTAINER, CosmosProjectionStore
    from .cosmos_documents import CosmosDocumentStore
    from .cosmos_predecessors import CosmosPredecessors
    from .sqlite import SqliteProjectionStore, open_projections
    from .sqlite_documents import SqliteDocumentStore
    from .sqlite_predecessors import SqlitePredecessors

# Adapters load on first use: an application pays only for the database it runs on.
_ADAPTERS = {
    "CosmosDocumentStore": "cosmos_documents",
    "CosmosPredecessors": "cosmos_predecessors",
    "CosmosProjectionStore": "cosmos",
    "PROJECTIONS_CONTAINER": "cosmos",
    "SqliteDocumentStore": "sqlite_documents",
    "SqlitePredecessors": "sqlite_predecessors",
    "SqliteProjectionStore": "sqlite",
    "open_projections": "sqlite",
}


def __getattr__(name: str) -> Any:
    if name not in _ADAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ADAPTERS[name]}", __name__), name)


__all__ = [
    "ABSENT",
    "ANNULMENT",
    "CLOCK_SKEW",
    "MAX_RECORD_BYTES",
    "ONE_VALUE",
    "PROJECTIONS_CONTAINER",
    "ROOT",
    "WHOLE",
    "Announced",
    "AnnulmentError",
    "Assertion",
    "AuditEntry",
    "AuditFilter",
    "AuditLog",
    "AuditPage",
    "Blame",
    "Commit",
    "CommitConflictError",
    "Committed",
    "CosmosDocumentStore",
    "CosmosPredecessors",
    "CosmosProjectionStore",
    "Difference",
    "DocumentStore",
    "Failure",
    "FeedFollower",
    "FieldChange",
    "FingerprintMismatchError",
    "Folded",
    "Healed",
    "Healer",
    "IncompleteGenerationError",
    "InvalidCursorError",
    "InvalidEvolutionError",
    "Loaded",
    "Mend",
    "OutOfTimeError",
    "Outbox",
    "OutboxEntry",
    "Outcome",
    "OvertakenError",
    "Parked",
    "Passed",
    "Predecessors",
    "Progress",
    "Projection",
    "ProjectionError",
    "ProjectionStore",
    "Projector",
    "Prunable",
    "Purpose",
    "Rebuild",
    "Record",
    "RecordDiff",
    "RecordReader",
    "RecordView",
    "Rule",
    "RuleDefinitionError",
    "SchemaDefinitionError",
    "Served",
    "Share",
    "SqliteDocumentStore",
    "SqlitePredecessors",
    "SqliteProjectionStore",
    "StoredDocument",
    "StreamBehindError",
    "SubSchema",
    "Swept",
    "Target",
    "UnifiedSchema",
    "UnknownClientError",
    "UnreadableRecordError",
    "UpdateProcessor",
    "Verified",
    "Verifier",
    "announce",
    "annul",
    "annulled_version",
    "apply_changes",
    "audit_document",
    "audit_from",
    "change_document",
    "check_generation",
    "code_fingerprint",
    "content_hash",
    "difference",
    "empty_record",
    "fold",
    "foreign_difference",
    "forget_progress",
    "inherit_cursor",
    "load_progress",
    "open_projections",
    "outbox_document",
    "prunable",
    "prune",
    "record_document",
    "record_from",
    "refold",
    "retry_parked",
    "structure_fingerprint",
    "sweep_cursor",
    "targets_of",
]
