"""Compose a domain into an application and run it, on one machine or as Azure Functions."""

from .app import build_app
from .domain import (
    Domain,
    Fact,
    FromSettings,
    Pull,
    Pulled,
    Receiver,
    Source,
    load_domain,
)
from .errors import (
    DomainError,
    ExportError,
    FlowError,
    ImportFileError,
    InputRefusedError,
    MissingSettingError,
    PullFailedError,
    SchemaFilesError,
    TakeFailedError,
    UnknownSourceError,
)
from .event_keys import EventKey, HeaderKey, NoKey, PayloadKey
from .intake import Accepted, Delivered, Intake
from .receivers import EventFunctionBuilder
from .runtime import Runtime, lazily, open_runtime
from .settings import Settings
from .signatures import HmacSignature, SignedTimestamp
from .timers import TimerFunctionBuilder
from .triggers import TriggerFunctionBuilder

__all__ = [
    "Accepted",
    "Delivered",
    "Domain",
    "DomainError",
    "EventFunctionBuilder",
    "EventKey",
    "ExportError",
    "Fact",
    "FlowError",
    "FromSettings",
    "HeaderKey",
    "HmacSignature",
    "ImportFileError",
    "InputRefusedError",
    "Intake",
    "MissingSettingError",
    "NoKey",
    "PayloadKey",
    "Pull",
    "PullFailedError",
    "Pulled",
    "Receiver",
    "Runtime",
    "SchemaFilesError",
    "Settings",
    "SignedTimestamp",
    "Source",
    "TakeFailedError",
    "TimerFunctionBuilder",
    "TriggerFunctionBuilder",
    "UnknownSourceError",
    "build_app",
    "lazily",
    "load_domain",
    "open_runtime",
]
