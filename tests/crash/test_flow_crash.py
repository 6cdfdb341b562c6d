"""The process may be killed anywhere: it is started again, and nothing is lost, doubled or left undone.

Each gap between two durable writes is a kill point. A worker does the whole flow (sources post and are asked, records
are projected, announcements published, targets called) and dies at a crossing of the point; the next one goes on until
all is quiet. Then the oracle looks at what is kept and at the targets.

Data is kept in files, or on Cosmos DB: on a server in this process, which survives as Azure would and misbehaves at first.
There a worker also dies where the server has stored something and nobody heard of it. `CLIENT_FLOW_CRASH_SEEDS=5` hits
each point there as often as on files.
"""

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random

import pytest

from tests.crash.flow_backend import POINTS
from tests.crash.flow_cosmos import COSMOS_POINTS
from tests.crash.flow_round import KILLED, Round, Zygote

pytestmark = pytest.mark.crash

SEEDS = {"files": range(5), "cosmos": range(int(os.environ.get("CLIENT_FLOW_CRASH_SEEDS", "1")))}
"""Each is another work with other faults; each point is hit once in each, at another crossing."""
ANYWHERE = {"files": 20, "cosmos": 4 * len(SEEDS["cosmos"])}
BACKENDS = {"files": POINTS, "cosmos": (*POINTS, *COSMOS_POINTS)}
"""The kill points by where data is kept."""


@pytest.fixture(scope="session")
def crossings(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], dict[str, int]]:
    """How often an undisturbed worker crosses each point, by backend and seed; checked as well."""

    @cache
    def counted(backend: str, seed: int) -> dict[str, int]:
        directory = tmp_path_factory.mktemp("undisturbed") / "round"
        with Round(directory, zygote, seed, cosmos=backend == "cosmos") as undisturbed:
            undisturbed.finish()
            undisturbed.check()
            return undisturbed.crossings()

    return counted


@pytest.fixture(scope="module")
def hits() -> Iterator[dict[str, list[int]]]:
    """The crossings at which workers died, by point; printed in the end, see `pytest -s`."""
    counted: dict[str, list[int]] = {}
    yield counted
    lines = [f"{point:<40} {len(at):>4}  {', '.join(map(str, at))}\n" for point, at in sorted(counted.items())]
    sys.stdout.writelines([f"\n{'kill point':<40} hits  at crossings\n", *lines])


@pytest.mark.parametrize(
    ("backend", "point"), [(backend, point) for backend, points in BACKENDS.items() for point in points]
)
def test_nothing_is_lost_when_the_process_dies_at(
    backend: str,
    point: str,
    zygote: Zygote,
    crossings: Callable[[str, int], dict[str, int]],
    hits: dict[str, list[int]],
    tmp_path: Path,
) -> None:
    """A worker that dies in a gap leaves nothing that the next one does not make good."""
    seeds = SEEDS[backend]
    for seed in seeds:
        crossing = 1 + (2 * seed + 1) * (crossings(backend, seed)[point] - 1) // (2 * len(seeds))
        cosmos = backend == "cosmos"
        if not died(Round(tmp_path / f"{seed}", zygote, seed, cosmos=cosmos), point, crossing):
            # How often integrations pause depends on how threads run: the first crossing always comes.
            crossing = 1
            assert died(Round(tmp_path / f"{seed} again", zygote, seed, cosmos=cosmos), point, crossing)
        hits.setdefault(f"{backend}: {point}", []).append(crossing)


def died(round_: Round, point: str, crossing: int) -> bool:
    """Whether a worker died at that crossing; all is well in the end, whether or not it did."""
    with round_:
        ended = round_.run(point, crossing)
        assert ended in {0, KILLED}
        if ended == KILLED:
            assert round_.died_at() == point
            round_.finish()
        round_.check()
    return ended == KILLED


@pytest.mark.parametrize(
    ("backend", "number"), [(backend, number) for backend, times in ANYWHERE.items() for number in range(times)]
)
def test_nothing_is_lost_when_processes_die_anywhere(
    backend: str, number: int, zygote: Zygote, crossings: Callable[[str, int], dict[str, int]], tmp_path: Path
) -> None:
    """Several workers that die one after the other, each at a random crossing of any point, change nothing either."""
    random = Random(number)
    seed = number % len(SEEDS[backend])
    total = sum(crossings(backend, seed).values())
    with Round(tmp_path / "round", zygote, seed, cosmos=backend == "cosmos") as killed:
        assert killed.run(crossing=random.randint(1, total * 4 // 5)) == KILLED
        for _ in range(random.randrange(3)):
            ended = killed.run(crossing=random.randint(1, total // 4))
            assert ended in {0, KILLED}  # there may be less left to do
        killed.finish()
        killed.check()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_point_is_crossed(backend: str, crossings: Callable[[str, int], dict[str, int]]) -> None:
    """No gap is forgotten: the points that are tested are those that a worker crosses, in each work."""
    for seed in SEEDS[backend]:
        assert set(crossings(backend, seed)) == set(BACKENDS[backend])
