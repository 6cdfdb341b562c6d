"""How far each stage is behind, and whether anything is wrong."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from .runtime import Runtime

_LOOKED_AT = 1000  # events or clients counted at most; more is "at least"
_STALLED = timedelta(minutes=5)


class Lag(NamedTuple):
    """What waits. A count of 1000 means at least so many.

    Attributes:
        events: events that are not projected yet.
        seconds: age of the oldest of them.
        parked: parked clients.
        unpublished: clients with announcements to publish.
        deliveries: by integration: deliveries to make, refused ones, and why it is paused.
        differing: clients whose documents are not what their events come to, as far as verifying found.
    """

    events: int
    seconds: float
    parked: int
    unpublished: int
    deliveries: dict[str, dict[str, Any]]
    differing: int

    @property
    def problems(self) -> list[str]:
        """What needs a person: empty means healthy."""
        found = []
        if self.seconds > _STALLED.total_seconds():
            found.append("projecting is stalled")
        if self.parked:
            found.append("clients are parked")
        if self.differing:
            found.append("clients differ from their events")
        for name, state in self.deliveries.items():
            if state["paused"]:
                found.append(f"integration {name} is paused")
            if state["failed"]:
                found.append(f"integration {name} has refused deliveries")
        return found


def measure_lag(runtime: Runtime) -> Lag:
    """Look at every stage: a few bounded queries.

    Raises:
        StoreUnavailableError: a database is out of reach.
    """
    events, oldest = 0, None
    for partition in runtime.backend.feed.partitions():
        name = f"{runtime.domain.projection.generation}:{partition}"
        page = runtime.backend.feed.feed(partition, after=runtime.backend.checkpoints.load(name), limit=_LOOKED_AT)
        events += len(page.events)
        times = [event.recorded_at for event in page.events] + ([oldest] if oldest else [])
        oldest = min(times, default=None)
    seconds = (runtime.clock() - datetime.fromisoformat(oldest)).total_seconds() if oldest else 0.0
    return Lag(
        events=events,
        seconds=round(max(seconds, 0.0), 3),
        parked=len(runtime.backend.projections.parked(limit=_LOOKED_AT)),
        unpublished=len(runtime.backend.projections.waiting(limit=_LOOKED_AT)),
        deliveries={
            integration.name: _deliveries(runtime, integration.name) for integration in runtime.domain.integrations
        },
        differing=len(runtime.findings.open()),
    )


def _deliveries(runtime: Runtime, integration: str) -> dict[str, Any]:
    pause = runtime.backend.deliveries.load_pause(integration).pause
    return {
        "waiting": len(runtime.backend.deliveries.due(integration, limit=_LOOKED_AT)),
        "failed": len(runtime.backend.deliveries.failed(integration, limit=_LOOKED_AT)),
        "paused": pause.reason if pause.until is not None else None,
    }
