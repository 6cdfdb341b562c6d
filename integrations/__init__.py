"""Tell the world about changed client records, and bring them to the systems that need them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .delivery import Deliverer
from .errors import (
    BusUnavailableError,
    IncompleteError,
    IntegrationDefinitionError,
    IntegrationError,
    InvalidLogCursorError,
    InvalidMessageError,
    MessageLockLostError,
    MessageTooLargeError,
    NoAnswerError,
    QueueUnavailableError,
    ResourceValueError,
    SessionLockLostError,
    TokenError,
    TopicUnavailableError,
    UnknownDeliveryError,
    UnknownIntegrationError,
    UnknownSubscriptionError,
)
from .gate import FOREVER
from .integration import Body, Delivery, Integration, ReadRecord, Strategy
from .lane import DeliveryResult, DryRun
from .message_schema import message_schema
from .messages import MESSAGE_LIMIT, Announcement, TopicMessage, read_announcement, topic_message
from .outcome import Effect, Outcome, Verdict, outcome_of
from .ports import (
    DeliveryLog,
    DeliveryStore,
    HeldPause,
    HeldState,
    LogEntry,
    LogPage,
    Pause,
    PauseStore,
    ReceivedMessage,
    Subscriptions,
    Topic,
)
from .publisher import Publisher
from .queues import QueuedMessage, QueueMessage, QueueSession, SessionQueues
from .state import DeliveryState, raised

if TYPE_CHECKING:
    from .cosmos import DELIVERIES_CONTAINER, CosmosDeliveryStore
    from .rest import ResponseProcessor, RESTIntegration, reference_in
    from .rest_auth import ApiKey, Auth, BearerToken, Credential, NoAuth
    from .rest_http import Response
    from .rest_oauth import OAuth2ClientCredentials, OAuth2Password
    from .servicebus import ServiceBusSubscriptions, ServiceBusTopic
    from .servicebus_admin import administration_errors, is_emulator, open_administration
    from .servicebus_queue import ServiceBusSessionQueues
    from .sqlite import SqliteDeliveryStore, open_deliveries
    from .sqlite_queue import SqliteSessionQueues
    from .sqlite_topic import SqliteTopic

# Adapters load on first use: an application pays only for what it runs on.
_ADAPTERS = {
    "ServiceBusSessionQueues": "servicebus_queue",
    "ServiceBusSubscriptions": "servicebus",
    "administration_errors": "servicebus_admin",
    "is_emulator": "servicebus_admin",
    "open_administration": "servicebus_admin",
    "ServiceBusTopic": "servicebus",
    "CosmosDeliveryStore": "cosmos",
    "DELIVERIES_CONTAINER": "cosmos",
    "ApiKey": "rest_auth",
    "Auth": "rest_auth",
    "BearerToken": "rest_auth",
    "Credential": "rest_auth",
    "NoAuth": "rest_auth",
    "OAuth2ClientCredentials": "rest_oauth",
    "OAuth2Password": "rest_oauth",
    "RESTIntegration": "rest",
    "Response": "rest_http",
    "ResponseProcessor": "rest",
    "SqliteDeliveryStore": "sqlite",
    "SqliteSessionQueues": "sqlite_queue",
    "SqliteTopic": "sqlite_topic",
    "open_deliveries": "sqlite",
    "reference_in": "rest",
}


def __getattr__(name: str) -> Any:
    if name not in _ADAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ADAPTERS[name]}", __name__), name)


__all__ = [
    "DELIVERIES_CONTAINER",
    "FOREVER",
    "MESSAGE_LIMIT",
    "Announcement",
    "ApiKey",
    "Auth",
    "BearerToken",
    "Body",
    "BusUnavailableError",
    "CosmosDeliveryStore",
    "Credential",
    "Deliverer",
    "Delivery",
    "DeliveryLog",
    "DeliveryResult",
    "DeliveryState",
    "DeliveryStore",
    "DryRun",
    "Effect",
    "HeldPause",
    "HeldState",
    "IncompleteError",
    "Integration",
    "IntegrationDefinitionError",
    "IntegrationError",
    "InvalidLogCursorError",
    "InvalidMessageError",
    "LogEntry",
    "LogPage",
    "MessageLockLostError",
    "MessageTooLargeError",
    "NoAnswerError",
    "NoAuth",
    "OAuth2ClientCredentials",
    "OAuth2Password",
    "Outcome",
    "Pause",
    "PauseStore",
    "Publisher",
    "QueueMessage",
    "QueueSession",
    "QueueUnavailableError",
    "QueuedMessage",
    "RESTIntegration",
    "ReadRecord",
    "ReceivedMessage",
    "ResourceValueError",
    "Response",
    "ResponseProcessor",
    "ServiceBusSessionQueues",
    "ServiceBusSubscriptions",
    "ServiceBusTopic",
    "SessionLockLostError",
    "SessionQueues",
    "SqliteDeliveryStore",
    "SqliteSessionQueues",
    "SqliteTopic",
    "Strategy",
    "Subscriptions",
    "TokenError",
    "Topic",
    "TopicMessage",
    "TopicUnavailableError",
    "UnknownDeliveryError",
    "UnknownIntegrationError",
    "UnknownSubscriptionError",
    "Verdict",
    "administration_errors",
    "is_emulator",
    "message_schema",
    "open_administration",
    "open_deliveries",
    "outcome_of",
    "raised",
    "read_announcement",
    "reference_in",
    "topic_message",
]
