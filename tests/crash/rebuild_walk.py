"""Walks in processes that are killed, and how they are taken up again."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from math import ceil

from projections import Commit, Committed, Loaded, ProjectionStore, Projector, Purpose, Rebuild, Share
from tests.crash.rebuild_checks import versions
from tests.crash.rebuild_place import Pair, Place
from tests.support.interposing import Interposed

KILLED = -signal.SIGKILL
EVERYBODY = Share(1, 1)
_PORTION = 90  # events of one commit at most


def start(place: Place, job: str, point: str, crossing: int, share: Share = EVERYBODY) -> subprocess.Popen[str]:
    """A job as a process of its own, which dies at a crossing of a kill point."""
    command = [sys.executable, "-m", "tests.crash.rebuild_worker", place.address, job]
    arguments = [*map(str, share), point, str(crossing)]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> int:
    """How a process ended."""
    _, complaint = process.communicate(timeout=60)
    assert process.returncode in {0, KILLED}, complaint
    return process.returncode


class Counting(Interposed):
    """Notes of each client which events are in each commit that is stored."""

    def __init__(self, store: ProjectionStore) -> None:
        super().__init__(store)
        self.commits: dict[str, list[list[int]]] = {}

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        stored = super().commit(commits)
        for each, made in zip(commits, stored, strict=True):
            if each.audit and isinstance(made, Loaded):
                self.commits.setdefault(each.record.client_id, []).append([entry.version for entry in each.audit])
        return stored


def go_on(pair: Pair, purpose: Purpose = Purpose.FOLD, share: Share = EVERYBODY) -> None:
    """Take a walk up again: what was committed is not folded again, and the rest takes as few commits as it can."""
    world = pair.new
    before, counting = versions(world, pair.clients), Counting(world.store)
    rebuild = Rebuild(
        Projector(world.projection, world.events, counting),
        counting,
        world.predecessors,
        world.feed,
        world.checkpoints,
        purpose,
    )
    *_, last = rebuild.walk(share)
    assert (last.done, last.failed) == (True, {})
    for client_id, version in versions(world, pair.clients).items():
        commits = counting.commits.get(client_id, [])
        assert list(chain(*commits)) == list(range(before[client_id] + 1, version + 1))
        assert len(commits) == ceil((version - before[client_id]) / _PORTION)
