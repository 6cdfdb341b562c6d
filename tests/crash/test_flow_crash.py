"""The process may be killed anywhere: it is started again, and nothing is lost, doubled or left undone.

Each gap between two durable writes is a kill point. A worker does the whole flow (sources post and are asked, records
are projected, announcements published, targets called) and dies at a crossing of the point; the next one goes on until
all is quiet. Then the oracle looks at files and targets.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.crash.flow_backend import POINTS
from tests.crash.flow_round import KILLED, Round, Zygote

pytestmark = pytest.mark.crash

SEEDS = range(5)
"""Each is another work with other faults of the targets; each point is hit once in each, at another crossing."""
ANYWHERE = range(20)


@pytest.fixture(scope="session")
def crossings(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, int]]:
    """How often an undisturbed worker crosses each point, by seed; checked as well."""
    counted = []
    for seed in SEEDS:
        with Round(tmp_path_factory.mktemp("undisturbed") / "round", zygote, seed) as undisturbed:
            undisturbed.finish()
            undisturbed.check()
            counted.append(undisturbed.crossings())
    return counted


@pytest.fixture(scope="module")
def hits() -> Iterator[dict[str, list[int]]]:
    """The crossings at which workers died, by point; printed in the end, see `pytest -s`."""
    counted: dict[str, list[int]] = {}
    yield counted
    lines = [f"{point:<32} {len(at):>4}  {', '.join(map(str, at))}\n" for point, at in sorted(counted.items())]
    sys.stdout.writelines([f"\n{'kill point':<32} hits  at crossings\n", *lines])


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_when_the_process_dies_at(
    point: str, zygote: Zygote, crossings: list[dict[str, int]], hits: dict[str, list[int]], tmp_path: Path
) -> None:
    """A worker that dies in a gap leaves nothing that the next one does not make good."""
    for seed in SEEDS:
        crossing = 1 + seed * (crossings[seed][point] - 1) // len(SEEDS)
        if not died(Round(tmp_path / f"{seed}", zygote, seed), point, crossing):
            # How often integrations pause depends on how threads run: the first crossing always comes.
            crossing = 1
            assert died(Round(tmp_path / f"{seed} again", zygote, seed), point, crossing)
        hits.setdefault(point, []).append(crossing)


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


@pytest.mark.parametrize("seed", ANYWHERE)
def test_nothing_is_lost_when_processes_die_anywhere(
    seed: int, zygote: Zygote, crossings: list[dict[str, int]], tmp_path: Path
) -> None:
    """Several workers that die one after the other, each at a random crossing of any point, change nothing either."""
    random = Random(seed)
    total = sum(crossings[seed % len(SEEDS)].values())
    with Round(tmp_path / "round", zygote, seed % len(SEEDS)) as killed:
        assert killed.run(crossing=random.randint(1, total * 4 // 5)) == KILLED
        for _ in range(random.randrange(3)):
            ended = killed.run(crossing=random.randint(1, total // 4))
            assert ended in {0, KILLED}  # there may be less left to do
        killed.finish()
        killed.check()


def test_every_point_is_crossed(crossings: list[dict[str, int]]) -> None:
    """No gap is forgotten: the points that are tested are those that a worker crosses, in each work."""
    assert [set(counted) for counted in crossings] == [set(POINTS)] * len(SEEDS)
