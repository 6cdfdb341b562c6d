"""Session queues for tests: a namespace that has them, declared as provisioning would."""

from typing import Any


def queue_namespace(*queues: str, topic: str | None = None, subscriptions: tuple[str, ...] = ()) -> dict[str, Any]:
    """The broker's configuration with these session queues, and a topic if it is named."""
    remembering = {"RequiresDuplicateDetection": True, "DuplicateDetectionHistoryTimeWindow": "PT10M"}
    session_queue = {"RequiresSession": True, "LockDuration": "PT1M", "MaxDeliveryCount": 10, **remembering}
    topics = [
        {
            "Name": topic,
            "Properties": remembering,
            "Subscriptions": [{"Name": name} for name in subscriptions],
        }
    ]
    return {
        "UserConfig": {
            "Namespaces": [
                {
                    "Name": "sbemulatorns",
                    "Queues": [{"Name": name, "Properties": session_queue} for name in queues],
                    "Topics": topics if topic else [],
                }
            ],
            "Logging": {"Type": "Console"},
        }
    }
