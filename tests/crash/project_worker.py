"""The projector as a process that is killed: `python -m tests.crash.project_worker DIRECTORY POINT CROSSING`.

Hears some doorbells, folds one client again, sweeps and retries what is parked. Prints how often each kill point was
crossed, if it lives to the end.
"""

import json
import sys
from pathlib import Path

from projections import FeedFollower, Projection, Projector, Target, retry_parked
from tests.support.clients import Client, Scored, add_rules, events
from tests.support.kill import KillPoints
from tests.support.projecting import World

POINTS = {
    "commit": ("before ProjectionStore.commit", "after ProjectionStore.commit"),
    "save": ("before CheckpointStore.save", "after CheckpointStore.save"),
}


def fixed() -> Projection[Client]:
    """Code that digests what the code before it could not: a negative score."""
    projection = Projection("clients", Client, events, version=1)
    add_rules(projection, but=Scored)

    @projection.on(Scored)
    def scored(record: Client, event: Scored) -> Client:
        return record.evolve(score=event.score)

    return projection


def work(world: World, kill: KillPoints) -> None:
    """All the ways in which clients are projected, on stores that kill."""
    projector = Projector(world.projection, world.events, kill.around(world.store, {"commit": POINTS["commit"]}))
    for client_id in ("long", "late"):
        stream = world.stream(client_id)
        projector.catch_up(client_id, Target(stream[2].version, stream[1:3]))
    checkpoints = kill.around(world.checkpoints, {"save": POINTS["save"]})
    FeedFollower(projector, world.events, checkpoints, page=30).sweep()
    projector.catch_up("long", Target(0, refold=True))
    retry_parked(projector, world.store)


if __name__ == "__main__":
    directory, point, crossing = sys.argv[1:]
    points = KillPoints(point, int(crossing))
    work(World(Path(directory), fixed()), points)
    sys.stdout.write(json.dumps(points.crossings))
