"""A rebuild that is killed between any two durable writes, while events come in, is finished by the next one.

In files, and on Cosmos DB: there a process also dies where the server has stored something and nobody heard of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from random import Random

import pytest

from projections import (
    Purpose,
    Share,
    annul,
    load_progress,
    prunable,
    prune,
)
from tests.crash.rebuild_checks import check_commits, check_silence, contents, spoke, told, versions
from tests.crash.rebuild_place import LONG, STUCK, Pair, Place, new_place, pair_at
from tests.crash.rebuild_traffic import Traffic, crowd
from tests.crash.rebuild_walk import KILLED, ended, go_on, start
from tests.crash.rebuild_worker import COMMIT, CREATE, REMOVE, SAVE, UNSEEN_BATCH, UNSEEN_CREATE, UNSEEN_SAVE
from tests.support.clients import NOON, Contacted, Graded, Scored, Tagged, fact
from tests.support.generations import walked
from tests.support.waiting import wait_until

pytestmark = pytest.mark.crash

BACKENDS = ("files", "cosmos")
CROWD = {"files": 3, "cosmos": 1}
"""Processes of traffic; on Cosmos DB the test server's own share of the machine is to be left."""

Source = Callable[[str], Place]
"""What there is at first, by backend."""


def at(
    *points: str, files: Sequence[int] = (1, 2), cosmos: Sequence[int] = (2,), unseen: Sequence[str] = ()
) -> list[tuple[str, str, int]]:
    """Backends, kill points and crossings."""
    return [("files", point, crossing) for point in points for crossing in files] + [
        ("cosmos", point, crossing) for point in (*points, *unseen) for crossing in cosmos
    ]


UNSEEN_WRITES = [UNSEEN_BATCH, UNSEEN_SAVE]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """New places, which are there as long as the tests run."""
    with ExitStack() as opened:
        yield lambda backend: opened.enter_context(new_place(backend, tmp_path_factory.mktemp(backend)))


@pytest.fixture(scope="module")
def projected(places: Callable[[str], Place]) -> Source:
    """Streams of several commits, late ones, a parked one and short ones, as version 1 projected them."""

    @cache
    def filled(backend: str) -> Place:
        place = places(backend)
        with pair_at(place) as (_, old, _):
            for number, client_id in enumerate(place.clients):
                old.tell(
                    client_id, fact(Graded(segment="ab"[number % 2] * (number % 4)), minute=30), Tagged(tags=["x"])
                )
            for start in range(0, 180, 60):
                old.tell(LONG, *[Graded(segment=f"g{start + number}") for number in range(60)])
            old.tell(STUCK, Scored(score=-1), Contacted(email="x"))
            old.follower().sweep()
        return place

    return filled


@pytest.fixture(scope="module")
def spoken(projected: Source, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """The same after version 2 has told everybody what its rules made different, and nobody is parked."""
    with ExitStack() as opened:

        @cache
        def filled(backend: str) -> Place:
            directory = tmp_path_factory.mktemp("spoken") / "data"
            place: Place = opened.enter_context(projected(backend).copied(directory))
            with pair_at(place) as (_, old, new):
                annul(old.events, STUCK, 3, reason="wrong", by="ana", now=NOON)
                old.follower().sweep()
                walked(new, Purpose.PUBLISH_DIFFERENCES)
            return place

        yield filled


@contextmanager
def pair(source: Place, directory: Path) -> Iterator[Pair]:
    """Code of both versions on data of its own."""
    with source.copied(directory) as place, pair_at(place) as opened:
        yield opened


@pytest.mark.parametrize(("backend", "point", "crossing"), at(*COMMIT, *SAVE, unseen=UNSEEN_WRITES))
def test_a_killed_rebuild_is_finished_while_events_come_in(
    backend: str, point: str, crossing: int, projected: Source, tmp_path: Path
) -> None:
    """Records equal the oracle, no read goes back, nothing is announced but by the sweep."""
    with pair(projected(backend), tmp_path / "data") as opened:
        traffic = Traffic(opened.old, opened.new, opened.clients, seed=crossing)
        process = start(opened.place, Purpose.FOLD, point, crossing)
        traffic.during(process)
        assert ended(process) == KILLED
        check_commits(opened)
        traffic.go_on()
        go_on(opened)
        check_silence(opened)


@pytest.mark.parametrize("backend", BACKENDS)
def test_kills_at_any_moment(backend: str, projected: Source, tmp_path: Path) -> None:
    """Several in a row, wherever the process happens to be, while several processes have events come in."""
    random = Random(7)
    with pair(projected(backend), tmp_path / "data") as opened:
        with crowd(opened.place, CROWD[backend]):
            hits = []
            for _ in range(3 if backend == "files" else 2):
                hits.append(ended(start(opened.place, Purpose.FOLD, "any", random.randint(1, 12))))
                check_commits(opened)
            assert hits[0] == KILLED
            before = versions(opened.new, opened.clients)
            process = start(opened.place, Purpose.FOLD, "none", 0)
            wait_until(
                "it has committed something, or all",
                lambda: process.poll() is not None or versions(opened.new, opened.clients) != before,
            )
            process.kill()
            ended(process)
            check_commits(opened)
            go_on(opened)
        check_silence(opened)


@pytest.mark.parametrize(("backend", "point"), [("files", COMMIT[0]), ("files", SAVE[1]), ("cosmos", UNSEEN_BATCH)])
def test_of_two_processes_one_is_killed(backend: str, point: str, projected: Source, tmp_path: Path) -> None:
    """The other one finishes its share; the same shares taken up again finish the walk, amid events of several processes."""
    with pair(projected(backend), tmp_path / "data") as opened:
        shares = (Share(1, 2), Share(2, 2))
        with crowd(opened.place, CROWD[backend]):
            killed = start(opened.place, Purpose.FOLD, point, 1, shares[0])
            other = start(opened.place, Purpose.FOLD, "none", 0, shares[1])
            assert (ended(killed), ended(other)) == (KILLED, 0)
            check_commits(opened)
            found = [
                load_progress(opened.new.checkpoints, opened.new.projection, Purpose.FOLD, each) for each in shares
            ]
            assert [each is not None and each.done for each in found] == [False, True]
            for share in shares:
                go_on(opened, share=share)
        folded = versions(opened.new, opened.clients)
        assert min(folded.values()) > 0, "a client is in no share"
        check_silence(opened)


@pytest.mark.parametrize(("backend", "point", "crossing"), at(*CREATE, files=[1], cosmos=[1], unseen=[UNSEEN_CREATE]))
def test_a_kill_at_the_birth_of_a_generation(
    backend: str, point: str, crossing: int, projected: Source, tmp_path: Path
) -> None:
    """Whether its cursor is there yet or not, nothing that comes after is missed."""
    with pair(projected(backend), tmp_path / "data") as opened:
        traffic = Traffic(opened.old, opened.new, opened.clients, seed=1)
        process = start(opened.place, Purpose.FOLD, point, crossing)
        traffic.during(process)
        assert ended(process) == KILLED
        go_on(opened)
        check_silence(opened)


@pytest.mark.parametrize(
    ("backend", "point", "crossing"), at(*COMMIT, *SAVE, files=[1, 3], cosmos=[3], unseen=UNSEEN_WRITES)
)
def test_killed_differences_are_told_once(
    backend: str, point: str, crossing: int, projected: Source, tmp_path: Path
) -> None:
    """Of each client whose contents differ, once, however often the walk is taken up; of the others nothing."""
    with pair(projected(backend), tmp_path / "data") as opened:
        _, old, new = opened
        assert ended(start(opened.place, Purpose.PUBLISH_DIFFERENCES, point, crossing)) == KILLED
        go_on(opened, Purpose.PUBLISH_DIFFERENCES)
        differing = {each for each in opened.clients if contents(old, each) != contents(new, each)}
        assert len(differing) == len(opened.clients) * 3 // 4
        for client_id in opened.clients:
            assert spoke(new, client_id, 2) == (client_id in differing)
            assert told(new, client_id) == contents(new, client_id)


@pytest.mark.parametrize(("backend", "point", "crossing"), at(*COMMIT, *SAVE, files=[2], unseen=UNSEEN_WRITES))
def test_a_killed_way_back_is_finished(backend: str, point: str, crossing: int, spoken: Source, tmp_path: Path) -> None:
    """Old code tells once what differs, speaks for everybody afterwards, and goes on speaking."""
    with pair(spoken(backend), tmp_path / "data") as opened:
        place, old, new = opened
        before = {client_id: spoke(old, client_id, 1) for client_id in opened.clients}
        assert ended(start(place, Purpose.TAKE_OVER, point, crossing)) == KILLED
        assert walked(old, Purpose.TAKE_OVER).done
        for client_id, loaded in old.store.load(opened.clients).items():
            assert loaded.announced is not None
            assert loaded.announced.projection_version == 1
            assert spoke(old, client_id, 1) - before[client_id] == spoke(new, client_id, 2)
            assert told(old, client_id) == contents(old, client_id)
        old.tell("5", Contacted(email="back"))
        old.follower().sweep()
        assert old.outbox("5")[-1].contents == {"contact": {"email": "back", "phone": None}}


@pytest.mark.parametrize(
    ("backend", "point", "crossing"),
    # Of a page all clients are removed in one call, on Cosmos DB in a batch or more for each; here the first of two.
    [*at(*REMOVE, files=[2], cosmos=[1]), ("cosmos", UNSEEN_BATCH, 6)],
)
def test_a_killed_removal_is_finished(backend: str, point: str, crossing: int, spoken: Source, tmp_path: Path) -> None:
    """Nothing of old versions is left, and nothing of the running one is touched."""
    with pair(spoken(backend), tmp_path / "data") as opened:
        place, old, new = opened
        before = {client_id: (new.record(client_id), new.trail(client_id)) for client_id in opened.clients}
        crossing = (
            2 if backend == "files" or point == UNSEEN_BATCH else 1
        )  # all clients of a page are removed in one call
        assert ended(start(place, "prune", point, crossing)) == KILLED
        list(prune(new.store, new.predecessors, audit=True))
        assert prunable(new.store, new.predecessors, audit=True) == (0, 0)
        assert (old.store.client_ids(), old.trail(LONG)) == ([], [])
        assert {client_id: (new.record(client_id), new.trail(client_id)) for client_id in opened.clients} == before
