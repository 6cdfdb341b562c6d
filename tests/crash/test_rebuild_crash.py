"""A rebuild that is killed between any two durable writes, while events come in, is finished by the next one."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from shutil import copytree

import pytest

from projections import Purpose, annul, prunable, prune, retry_parked
from tests.crash.rebuild_worker import COMMIT, CREATE, REMOVE, SAVE
from tests.support.clients import NOON, Contacted, Graded, Scored, Tagged, fact
from tests.support.generations import loud, louder, walked
from tests.support.projecting import World, oracle, parked_of

pytestmark = pytest.mark.crash

KILLED = -signal.SIGKILL
CLIENTS = tuple(str(number) for number in range(120))
LONG = CLIENTS[3]
STUCK = CLIENTS[7]
"""Parked by both rules, from its second event on."""


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams of several commits, late ones, parked ones and short ones, as version 1 projected them."""
    directory = tmp_path_factory.mktemp("projected") / "data"
    with closing(World(directory)) as old:
        for number, client_id in enumerate(CLIENTS):
            old.tell(client_id, fact(Graded(segment="ab"[number % 2] * (number % 4)), minute=30), Tagged(tags=["x"]))
        for start in range(0, 180, 60):
            old.tell(LONG, *[Graded(segment=f"g{start + number}") for number in range(60)])
        old.tell(STUCK, Scored(score=-1), Contacted(email="x"))
        old.follower().sweep()
    return directory


@pytest.fixture(scope="module")
def spoken(projected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after version 2 has told everybody what its rules made different, and nobody is parked."""
    directory = tmp_path_factory.mktemp("spoken") / "data"
    copytree(projected, directory)
    with closing(World(directory)) as old, closing(World(directory, louder())) as new:
        annul(old.events, STUCK, 3, reason="wrong", by="ana", now=NOON)
        old.follower().sweep()
        walked(new, Purpose.PUBLISH_DIFFERENCES)
    return directory


@contextmanager
def pair(source: Path, directory: Path) -> Iterator[tuple[World, World]]:
    """Code of both versions on data of its own."""
    copytree(source, directory)
    with closing(World(directory)) as old, closing(World(directory, louder())) as new:
        yield old, new


def start(world: World, job: str, point: str, crossing: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.crash.rebuild_worker", str(world.directory), job, point, str(crossing)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Traffic:
    """Events of random clients, projected by version 1 at once, and reads that must never go back."""

    def __init__(self, old: World, new: World, seed: int) -> None:
        self._old, self._new, self._random = old, new, Random(seed)
        self._seen: dict[str, int] = {}
        self._number = 0

    def go_on(self) -> None:
        """One event, and a look at some clients through the eyes of version 2."""
        self._number += 1
        client_id = self._random.choice([each for each in CLIENTS if each != STUCK])
        self._old.tell(client_id, fact(Graded(segment=f"t{self._number}"), minute=60 + self._number))
        self._old.follower().sweep()
        for each in (client_id, *self._random.sample(CLIENTS, 5)):
            version = self._new.reader.current(each).record.version
            assert version >= self._seen.get(each, 0)
            self._seen[each] = version
        assert self._seen[client_id] == self._new.events.head(client_id).version

    def during(self, process: subprocess.Popen[str]) -> None:
        """Go on until a process ends."""
        while process.poll() is None:
            self.go_on()
        process.communicate()


def check_end(world: World) -> None:
    """I4, I5: every record is what its history comes to, with one audit entry for each event."""
    for client_id in CLIENTS:
        record, stream = world.record(client_id), world.stream(client_id)
        if client_id == STUCK:
            assert (record.version, parked_of(record).version) == (2, 3)
            stream = stream[:2]
        else:
            assert (record.version, record.parked) == (len(stream), None)
        assert record.values == loud(oracle(stream))
        assert [entry.version for entry in world.trail(client_id)] == list(range(1, len(stream) + 1))


def check_commits(world: World) -> None:
    """I3: as the process left it, each record has exactly its audit."""
    for client_id, loaded in world.store.load(CLIENTS).items():
        version = loaded.record.version if loaded.record else 0
        assert [entry.version for entry in world.trail(client_id)] == list(range(1, version + 1))


def contents(world: World, client_id: str) -> dict[str, object]:
    """What the world should know."""
    return dict(world.projection.contents(world.projection.build(client_id, world.record(client_id).values)))


def told(world: World, client_id: str) -> dict[str, object]:
    """What somebody knows who heard every announcement; the numbers have no gap."""
    entries = world.outbox(client_id)
    assert [(entry.previous_seq, entry.seq) for entry in entries] == [(each, each + 1) for each in range(len(entries))]
    heard = dict(world.projection.contents(world.projection.build(client_id, {})))
    for entry in entries:
        heard |= entry.contents
    return heard


def spoke(world: World, client_id: str, version: int) -> int:
    """How many announcements a version of the projection made."""
    return sum(entry.projection_version == version for entry in world.outbox(client_id))


def check_silence(old: World, new: World) -> None:
    """The rebuild said nothing; the sweep then tells, of clients with new events, all that is different."""
    assert {spoke(new, client_id, 2) for client_id in CLIENTS} == {0}
    assert new.follower().sweep().errors == ()
    retry_parked(new.projector(), new.store)
    check_end(new)
    for client_id in CLIENTS:
        speaker = new if spoke(new, client_id, 2) else old
        assert told(new, client_id) == contents(speaker, client_id)


@pytest.mark.parametrize("crossing", [1, 2])
@pytest.mark.parametrize("point", [*COMMIT, *SAVE])
def test_a_killed_rebuild_is_finished_while_events_come_in(
    point: str, crossing: int, projected: Path, tmp_path: Path
) -> None:
    """Records equal the oracle, no read goes back, nothing is announced but by the sweep."""
    with pair(projected, tmp_path / "data") as (old, new):
        traffic = Traffic(old, new, seed=crossing)
        process = start(new, Purpose.FOLD, point, crossing)
        traffic.during(process)
        assert process.returncode == KILLED
        check_commits(new)
        traffic.go_on()
        assert walked(new).done
        check_silence(old, new)


def test_kills_at_any_moment(projected: Path, tmp_path: Path) -> None:
    """Several in a row, wherever the process happens to be."""
    random = Random(7)
    with pair(projected, tmp_path / "data") as (old, new):
        traffic = Traffic(old, new, seed=3)
        for _ in range(3):
            process = start(new, Purpose.FOLD, "none", 0)
            before = new.checkpoints.load("clients.v2:rebuild:1of1")
            while process.poll() is None and new.checkpoints.load("clients.v2:rebuild:1of1") == before:
                traffic.go_on()
            for _ in range(random.randrange(3)):
                traffic.go_on()
            process.kill()
            process.communicate()
            check_commits(new)
        assert walked(new).done
        check_silence(old, new)


@pytest.mark.parametrize("point", CREATE)
def test_a_kill_at_the_birth_of_a_generation(point: str, projected: Path, tmp_path: Path) -> None:
    """Whether its cursor is there yet or not, nothing that comes after is missed."""
    with pair(projected, tmp_path / "data") as (old, new):
        process = start(new, Purpose.FOLD, point, 1)
        Traffic(old, new, seed=1).during(process)
        assert process.returncode == KILLED
        assert walked(new).done
        check_silence(old, new)


@pytest.mark.parametrize("crossing", [1, 3])
@pytest.mark.parametrize("point", [*COMMIT, *SAVE])
def test_killed_differences_are_told_once(point: str, crossing: int, projected: Path, tmp_path: Path) -> None:
    """Of each client whose contents differ, once, however often the walk is taken up; of the others nothing."""
    with pair(projected, tmp_path / "data") as (old, new):
        process = start(new, Purpose.PUBLISH_DIFFERENCES, point, crossing)
        process.communicate()
        assert process.returncode == KILLED
        assert walked(new, Purpose.PUBLISH_DIFFERENCES).done
        differing = {each for each in CLIENTS if contents(old, each) != contents(new, each)}
        assert len(differing) == len(CLIENTS) * 3 // 4
        for client_id in CLIENTS:
            assert spoke(new, client_id, 2) == (client_id in differing)
            assert told(new, client_id) == contents(new, client_id)


@pytest.mark.parametrize("point", [*COMMIT, *SAVE])
def test_a_killed_way_back_is_finished(point: str, spoken: Path, tmp_path: Path) -> None:
    """Old code tells once what differs, speaks for everybody afterwards, and goes on speaking."""
    with pair(spoken, tmp_path / "data") as (old, new):
        before = {client_id: spoke(old, client_id, 1) for client_id in CLIENTS}
        process = start(old, Purpose.TAKE_OVER, point, 2)
        process.communicate()
        assert process.returncode == KILLED
        assert walked(old, Purpose.TAKE_OVER).done
        for client_id, loaded in old.store.load(CLIENTS).items():
            assert loaded.announced is not None
            assert loaded.announced.projection_version == 1
            assert spoke(old, client_id, 1) - before[client_id] == spoke(new, client_id, 2)
            assert told(old, client_id) == contents(old, client_id)
        old.tell("5", Contacted(email="back"))
        old.follower().sweep()
        assert old.outbox("5")[-1].contents == {"contact": {"email": "back", "phone": None}}


@pytest.mark.parametrize("point", REMOVE)
def test_a_killed_removal_is_finished(point: str, spoken: Path, tmp_path: Path) -> None:
    """Nothing of old versions is left, and nothing of the running one is touched."""
    with pair(spoken, tmp_path / "data") as (old, new):
        before = {client_id: (new.record(client_id), new.trail(client_id)) for client_id in CLIENTS}
        process = start(new, "prune", point, 2)
        process.communicate()
        assert process.returncode == KILLED
        list(prune(new.store, new.predecessors, audit=True))
        assert prunable(new.store, new.predecessors, audit=True) == (0, 0)
        assert (old.store.client_ids(), old.trail(LONG)) == ([], [])
        assert {client_id: (new.record(client_id), new.trail(client_id)) for client_id in CLIENTS} == before
