"""A rebuild as a process that is killed: `python -m tests.crash.rebuild_worker DIRECTORY JOB POINT CROSSING`.

JOB is the purpose of a walk, or `prune`. Prints how often each kill point was crossed, if it lives to the end.
"""

import json
import sys
from pathlib import Path

from projections import Projector, Purpose, Rebuild, prune
from tests.support.clients import clients
from tests.support.generations import louder
from tests.support.kill import KillPoints
from tests.support.projecting import World

COMMIT = ("before ProjectionStore.commit", "after ProjectionStore.commit")
SAVE = ("before CheckpointStore.save", "after CheckpointStore.save")
CREATE = ("before CheckpointStore.create", "after CheckpointStore.create")
REMOVE = ("before Predecessors.remove", "after Predecessors.remove")


def work(world: World, job: str, kill: KillPoints) -> None:
    """The whole job, on stores that kill."""
    store = kill.around(world.store, {"commit": COMMIT})
    predecessors = kill.around(world.predecessors, {"remove": REMOVE})
    if job == "prune":
        list(prune(store, predecessors, audit=True))
        return
    checkpoints = kill.around(world.checkpoints, {"save": SAVE, "create": CREATE})
    projector = Projector(world.projection, world.events, store)
    list(Rebuild(projector, store, predecessors, world.events, checkpoints, Purpose(job)).walk())


if __name__ == "__main__":
    directory, job, point, crossing = sys.argv[1:]
    points = KillPoints(point, int(crossing))
    projection = clients if job == Purpose.TAKE_OVER else louder()
    work(World(Path(directory), projection), job, points)
    sys.stdout.write(json.dumps(points.crossings))
