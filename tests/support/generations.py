"""The rules of the test clients in their next version, and walks over them."""

from typing import Any

from projections import Progress, Projection, Purpose, Rebuild
from tests.support.clients import Client, Graded, Scored, add_rules, events
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
