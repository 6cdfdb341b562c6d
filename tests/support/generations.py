"""The rules of the test clients in their next version, and walks over them."""

from typing import Any

from projections import Progress, Projection, Purpose, Rebuild
from tests.support.clients import (
    Client,
    Contacted,
    Graded,
    Scored,
    Tagged,
    add_rules,
    contacted,
    events,
    tagged,
)
from tests.support.projecting import AnyWorld


def louder(version: int = 2) -> Projection[Client]:
    """The same rules, but for one that grades in capitals."""
    projection = Projection("clients", Client, events, version=version)
    add_rules(projection, but=Graded)
    projection.on(Graded)(grade_loudly)
    return projection


def grade_loudly(record: Client, event: Graded) -> Client:
    """In capitals."""
    return record.evolve(segment=event.segment.upper())


def digestible(version: int = 2) -> Projection[Client]:
    """The same rules, but for one that takes a negative score as well."""
    projection = Projection("clients", Client, events, version=version)
    add_rules(projection, but=Scored)
    projection.on(Scored)(lambda record, event: record.evolve(score=event.score))
    return projection


def successor(version: int) -> Projection[Client]:
    """Rules of a version after the first: digest negative scores, grade in capitals, more emphatically in each version."""
    projection = Projection("clients", Client, events, version=version)
    for event, rule in ((Contacted, contacted), (Tagged, tagged)):
        projection.on(event)(rule)
    projection.on(Graded)(lambda record, event: record.evolve(segment=_emphasised(event.segment, version)))
    projection.on(Scored)(lambda record, event: record.evolve(score=event.score))
    return projection


def succeeded(values: dict[str, dict[str, Any]], version: int) -> dict[str, dict[str, Any]]:
    """What values of the first version are in a later one."""
    root = values.get("root", {})
    return values | {"root": root | {"segment": _emphasised(root["segment"], version)}} if "segment" in root else values


def _emphasised(segment: str, version: int) -> str:
    return segment if version == 1 else segment.upper() + "!" * (version - 2)


def rebuild(world: AnyWorld, purpose: Purpose = Purpose.FOLD, rung: list[str] | None = None) -> Rebuild:
    """A walk over the clients of a world."""
    return Rebuild(
        world.projector(),
        world.store,
        world.predecessors,
        world.feed,
        world.checkpoints,
        purpose,
        on_announced=(rung if rung is not None else []).extend,
    )


def walked(world: AnyWorld, purpose: Purpose = Purpose.FOLD) -> Progress:
    """Walk to the end."""
    *_, last = rebuild(world, purpose).walk()
    return last


def loud(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What values of the first version are in the next."""
    root = values.get("root", {})
    return values | {"root": root | {"segment": root["segment"].upper()}} if "segment" in root else values
