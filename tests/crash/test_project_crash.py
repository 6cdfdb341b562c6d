"""A projector that is killed between any two durable writes leaves nothing that the next one does not make good."""

import json
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from projections import Projection, apply_changes, retry_parked
from tests.crash.project_worker import POINTS, fixed
from tests.support.clients import Client, Contacted, ContactRemoved, Graded, Moved, Scored, Tagged, clients, fact
from tests.support.projecting import World, oracle

pytestmark = pytest.mark.crash

KILLED = -signal.SIGKILL
HITS = 6
CLIENTS = ("long", "late", "freed", "stuck", "short")


def fill(world: World) -> None:
    """Streams that take several commits, come late, wait behind a failing event, or are short."""
    long = [
        [Contacted(email=f"{n}"), Graded(segment=f"{n}"), Moved(street=f"{n}", city="c")][n % 3] for n in range(450)
    ]
    for start in range(0, len(long), 90):
        world.tell("long", *long[start : start + 90])
    for number in range(60):
        world.tell("late", fact(Contacted(email=f"{number}"), minute=60 - number), Tagged(tags=[str(number)]))
    world.tell("freed", Scored(score=-1))
    world.tell("stuck", Graded(segment="a"))
    world.events.append(
        "stuck", [replace(fact(Graded(segment="b")), event_type="client.unheard_of")], expected_version=1
    )
    world.follower().sweep()
    for start in range(0, 180, 60):
        world.tell("freed", *[Graded(segment=f"{start}.{n}") for n in range(60)])
        world.tell("stuck", Graded(segment=f"{start}"))
    world.tell("short", Contacted(email="x"), ContactRemoved())
    world.follower().sweep()  # by older code, under which `freed` stays parked
    for start in range(0, 270, 90):
        world.tell("long", *long[start : start + 90])
    world.tell("short", Graded(segment="b"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data as it is when the process starts that will be killed."""
    directory = tmp_path_factory.mktemp("filled") / "data"
    with closing(World(directory, clients)) as world:
        fill(world)
    return directory


def run(directory: Path, point: str, crossing: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.crash.project_worker", str(directory), point, str(crossing)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def crossings(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often an undisturbed process crosses each point."""
    directory = tmp_path_factory.mktemp("undisturbed") / "data"
    copytree(filled, directory)
    done = run(directory, "none", 0)
    assert done.returncode == 0, done.stderr
    counted: dict[str, int] = json.loads(done.stdout)
    return counted


@pytest.fixture(scope="module")
def hits() -> Iterator[dict[str, list[int]]]:
    """The crossings at which processes died, printed at the end; see `pytest -s`."""
    died: dict[str, list[int]] = defaultdict(list)
    yield died
    lines = [f"{point:<32} {len(at):>4}  {', '.join(map(str, at))}\n" for point, at in died.items()]
    sys.stdout.writelines([f"\n{'kill point':<32} hits  at crossings\n", *lines])


def check_commits(world: World) -> None:
    """I3: as the process left it, each record has exactly its audit, and the outbox what was announced."""
    for client_id in CLIENTS:
        loaded = world.store.load([client_id])[client_id]
        version = loaded.record.version if loaded.record else 0
        if loaded.record and loaded.record.parked and loaded.record.parked.code == "catching_up":
            continue  # being folded again in place: its audit is that of the first fold
        trail = world.trail(client_id)
        assert [entry.version for entry in trail] == list(range(1, version + 1))
        values: dict[str, dict[str, object]] = {}
        for entry in trail:
            values = apply_changes(values, entry.changes)
        assert values == (loaded.record.values if loaded.record else {})
        announced = loaded.announced.seq if loaded.announced else 0
        assert [entry.seq for entry in world.outbox(client_id)] == list(range(1, announced + 1))


def check_end(world: World, projection: Projection[Client]) -> None:
    """I4 to I7: records are what the oracle says, audits replay to them, announcements tell them."""
    for client_id in CLIENTS:
        record, stream = world.record(client_id), world.stream(client_id)
        if client_id == "stuck":  # I6: stays at the event that fails, with what came before
            assert record.parked is not None
            assert (record.version, record.parked[:3]) == (1, (2, len(stream), "unknown_event_type"))
            stream = stream[:1]
        else:
            assert (record.version, record.parked) == (len(stream), None)
        assert record.values == oracle(stream)
        told = projection.contents(projection.build(client_id, {}))
        for entry in world.outbox(client_id):
            told |= entry.contents
        assert told == projection.contents(projection.build(client_id, record.values))
    check_commits(world)


@pytest.mark.parametrize("point", [name for pair in POINTS.values() for name in pair])
def test_the_next_process_makes_it_good(
    point: str, filled: Path, crossings: dict[str, int], hits: dict[str, list[int]], tmp_path: Path
) -> None:
    """Killed at crossings spread over the whole run: what is there is whole, and a sweep completes it."""
    assert crossings[point] >= HITS
    for hit in range(HITS):
        crossing = 1 + hit * (crossings[point] - 1) // (HITS - 1)
        directory = tmp_path / str(hit)
        copytree(filled, directory)
        killed = run(directory, point, crossing)
        assert killed.returncode == KILLED, killed.stderr
        hits[point].append(crossing)
        with closing(World(directory, fixed())) as world:
            check_commits(world)
            projector = world.projector()
            assert world.follower(projector).sweep().errors == ()
            retry_parked(projector, world.store)
            check_end(world, fixed())
