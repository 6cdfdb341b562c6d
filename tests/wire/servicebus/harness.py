"""What the broker's own tests share: a namespace to test with, and short ways to send and to compare."""

from typing import Any

from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusReceivedMessage, ServiceBusReceiver

from tests.wire.servicebus.broker import Broker

QUICK = {"retry_backoff_factor": 0.01, "retry_total": 3}
ONCE = {"retry_total": 0}
WAIT = 10.0  # seconds until a receiver that should get something gives up
NOTHING = 0.2  # seconds a receiver that should get nothing is given
SMALL = 10_000  # bytes

NAMESPACE: dict[str, Any] = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "sbemulatorns",
                "Queues": [
                    {"Name": "orders", "Properties": {"LockDuration": "PT30S"}},
                    {
                        "Name": "once",
                        "Properties": {
                            "RequiresDuplicateDetection": True,
                            "DuplicateDetectionHistoryTimeWindow": "PT20S",
                        },
                    },
                    {"Name": "clients", "Properties": {"RequiresSession": True, "LockDuration": "PT30S"}},
                    {
                        "Name": "mortal",
                        "Properties": {"DefaultMessageTimeToLive": "PT5M", "DeadLetteringOnMessageExpiration": True},
                    },
                ],
                "Topics": [
                    {
                        "Name": "changes",
                        "Properties": {"RequiresDuplicateDetection": True},
                        "Subscriptions": [
                            {"Name": "all"},
                            {
                                "Name": "contact",
                                "Rules": [
                                    {
                                        "Name": "contact",
                                        "Properties": {
                                            "FilterType": "Correlation",
                                            "CorrelationFilter": {"Properties": {"contact": True}},
                                        },
                                    }
                                ],
                            },
                            {
                                "Name": "either",
                                "Rules": [
                                    {
                                        "Name": name,
                                        "Properties": {
                                            "FilterType": "Sql",
                                            "SqlFilter": {"SqlExpression": f"{name} = TRUE"},
                                        },
                                    }
                                    for name in ("contact", "address")
                                ],
                            },
                            {"Name": "sessions", "Properties": {"RequiresSession": True}},
                        ],
                    }
                ],
            }
        ],
        "Logging": {"Type": "Console"},
    }
}


def connect(broker: Broker, **options: Any) -> ServiceBusClient:
    """A client with short pauses between its retries."""
    return ServiceBusClient.from_connection_string(broker.connection_string, **{**QUICK, **options})


def send(client: ServiceBusClient, queue: str, *messages: ServiceBusMessage) -> None:
    """Sends all messages at once."""
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(list(messages))


def publish(client: ServiceBusClient, topic: str, *messages: ServiceBusMessage) -> None:
    """Sends all messages at once to a topic."""
    with client.get_topic_sender(topic) as sender:
        sender.send_messages(list(messages))


def texts(*bodies: str, session_id: str | None = None) -> list[ServiceBusMessage]:
    """Messages with these bodies."""
    return [ServiceBusMessage(body, session_id=session_id) for body in bodies]


def bodies(broker: Broker, path: str) -> list[bytes]:
    """Bodies of what is stored."""
    return [message.body for message in broker.messages(path)]


def receive_one(receiver: ServiceBusReceiver) -> ServiceBusReceivedMessage:
    """The next message; fails where there is none."""
    [message] = receiver.receive_messages(max_wait_time=WAIT)
    return message


def receive_all(receiver: ServiceBusReceiver, count: int, *, at_once: int = 100) -> list[str]:
    """Receives and completes this many messages; returns their bodies."""
    received: list[str] = []
    while len(received) < count:
        batch = receiver.receive_messages(min(at_once, count - len(received)), max_wait_time=WAIT)
        assert batch, f"expected {count} messages, got {len(received)}"
        for message in batch:
            receiver.complete_message(message)
            received.append(str(message))
    return received


def properties_of(message: ServiceBusReceivedMessage) -> dict[Any, Any]:
    """Application properties; their names are bytes, as the SDK hands them over."""
    return dict(message.application_properties or {})
