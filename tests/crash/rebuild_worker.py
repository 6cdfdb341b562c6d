"""A rebuild as a process that is killed: `python -m tests.crash.rebuild_worker ADDRESS JOB SHARE OF POINT CROSSING`.

JOB is the purpose of a walk, or `prune`; POINT is a kill point, or `any`. Prints how often each was crossed, if it lives
to the end.
"""

import json
import sys

from projections import Projector, Purpose, Rebuild, Share, prune
from tests.crash.rebuild_place import open_world
from tests.support.clients import clients
from tests.support.generations import louder
from tests.support.kill import KillPoints

COMMIT = ("before ProjectionStore.commit", "after ProjectionStore.commit")
SAVE = ("before CheckpointStore.save", "after CheckpointStore.save")
CREATE = ("before CheckpointStore.create", "after CheckpointStore.create")
REMOVE = ("before Predecessors.remove", "after Predecessors.remove")
UNSEEN_BATCH, UNSEEN_SAVE, UNSEEN_CREATE = "projections.batch unseen", "intake.upsert unseen", "intake.create unseen"
"""On Cosmos DB: it is stored, and nobody heard of it."""


def work(address: str, job: str, share: Share, kill: KillPoints) -> None:
    """The whole job, on stores that kill."""
    world = open_world(address, clients if job == Purpose.TAKE_OVER else louder(), kill)
    store = kill.around(world.store, {"commit": COMMIT})
    predecessors = kill.around(world.predecessors, {"remove": REMOVE})
    if job == "prune":
        list(prune(store, predecessors, audit=True))
        return
    checkpoints = kill.around(world.checkpoints, {"save": SAVE, "create": CREATE})
    projector = Projector(world.projection, world.events, store)
    list(Rebuild(projector, store, predecessors, world.feed, checkpoints, Purpose(job)).walk(share))


if __name__ == "__main__":
    address, job, number, of, point, crossing = sys.argv[1:]
    points = KillPoints(None if point == "any" else point, int(crossing))
    work(address, job, Share(int(number), int(of)), points)
    sys.stdout.write(json.dumps(points.crossings))
