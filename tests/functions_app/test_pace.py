"""A pace: in no ten seconds more than ten times the rate."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eventstore import RecordedEvent, SqliteEventStore, open_events
from functions_app import rebuilding, workers
from functions_app.azure_host import CONTAINERS
from functions_app.embedded import open_embedded
from functions_app.intake import Delivered
from functions_app.pace import Pace, PacedReads
from functions_app.rebuild_status import shares_of
from functions_app.rebuilding import walk_side_by_side
from functions_app.runtime import Runtime, open_runtime
from functions_app.sample import domain as sample
from functions_app.settings import Settings
from projections import Progress, Purpose, Share
from tests.support.cosmos import Containers, on_cosmos
from tests.support.events import emails
from tests.wire.cosmos import CosmosServer
from tests.wire.cosmos.messages import Answer, Request

WINDOW = 10


class Time:
    """Passes only while somebody waits, or works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def busiest(spent: list[tuple[float, float]]) -> float:
    """The most that was spent in any ten seconds: a window that begins with each moment something was spent."""
    return max(sum(amount for at, amount in spent if start <= at < start + WINDOW) for start, _ in spent)


@pytest.mark.parametrize("rate", [1, 7, 400, 25_000])
@pytest.mark.parametrize("seed", range(3))
def test_no_window_is_exceeded(rate: int, seed: int) -> None:
    """Whatever is spent at once, up to a second's worth, and whatever the work itself takes."""
    random, time = Random(seed), Time()
    pace = Pace(rate, clock=time, pause=time.wait)
    spent: list[tuple[float, float]] = []
    while time.now < 50:
        time.wait(random.choice([0, 0, 0.001, 0.3]) * random.random())
        amount = random.random() * rate
        spent.append((time.now, amount))
        pace.spend(amount)
    assert busiest(spent) <= rate * WINDOW
    assert sum(amount for _, amount in spent) >= rate * 50 * 0.7, "and most of it is used"
    if rate > 100:
        time.wait(100)
        pace.spend(1)
        assert time.now < 160, "time that passed without spending is not owed"


def test_long_histories_are_read_at_a_pace(tmp_path: Path) -> None:
    """Not paid for by the page of clients: one client may have more events than a minute allows."""
    time = Time()
    with closing(open_events(tmp_path)) as database:
        store = SqliteEventStore(database)
        for start in range(0, 600, 100):
            store.append("1", emails(*range(start, start + 100)), expected_version=start)
        spent: list[tuple[float, float]] = []
        for event in PacedReads(store, Pace(20, clock=time, pause=time.wait)).read("1"):
            spent.append((time.now, 1.0))
            assert event.version == len(spent)
    assert len(spent) == 600
    assert busiest(spent) <= 20 * WINDOW


class Here(Executor):
    """Processes that are none: each does its work when it gets it, and the next one begins after it."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what a pool of processes is told."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done


class Spending:
    """What several processes spent, each by a clock of its own that starts at the same time.

    Attributes:
        spent: time and amount.
        clocks: one for each process that was given a pace, in the order in which they began.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.spent: list[tuple[float, float]] = []
        self.clocks: list[Time] = []
        patch.setattr(workers, "ProcessPoolExecutor", Here)
        patch.setattr(rebuilding, "Pace", self._pace)

    def _pace(self, rate: float) -> Pace:
        self.clocks.append(Time())
        return Pace(rate, clock=self.clocks[-1], pause=self.clocks[-1].wait)

    def note(self, amount: float) -> None:
        """The process that began last has just spent something, if it has a pace."""
        if self.clocks:
            self.spent.append((self.clocks[-1].now, amount))

    def check(self, rate: float, processes: int) -> None:
        """In no window more than is allowed, whichever process began how much later; and most of it is used."""
        assert len(self.clocks) == processes
        most = busiest(self.spent)
        assert most <= rate * WINDOW, f"{most} in ten seconds"
        lasted = min(clock.now for clock in self.clocks)
        assert lasted > 1.5 * WINDOW, "shorter than what is to be checked"
        assert sum(amount for at, amount in self.spent if at < lasted) >= 0.7 * rate * lasted


def accept(runtime: Runtime, persons: int, changes: int) -> None:
    """Persons with one change each, and one of them with many more; all are projected."""
    crm = sample.source("crm")
    for number in range(1, persons + changes):
        person = min(number, persons)
        change = {"change_id": f"{number}", "person": person, "changed_at": "2026-03-01T12:00:00Z"}
        runtime.intake.accept(crm, Delivered({**change, "contact": {"email": f"a{number}@x.example"}}))
    assert runtime.sweep().done


@pytest.mark.parametrize("processes", [1, 3])
def test_a_rebuild_keeps_a_pace_of_events(processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is really read of the history; all processes together, of which each has its part."""
    rate, persons = 6.0, 180
    with closing(Runtime(sample, Settings({}), open_embedded(tmp_path, sample))) as runtime:
        accept(runtime, persons, 90)
    spending, read = Spending(monkeypatch), SqliteEventStore.read

    def noting(*arguments: Any, **options: Any) -> Iterator[RecordedEvent]:
        for event in read(*arguments, **options):
            spending.note(1)
            yield event

    monkeypatch.setattr(SqliteEventStore, "read", noting)
    monkeypatch.setenv("CLIENT_FLOW_DATA", str(tmp_path))
    monkeypatch.setenv("CLIENT_FLOW_DOMAIN", "tests.support.newer:domain")
    with closing(open_runtime(Settings())) as runtime:
        shares = shares_of(Share(1, 1), processes)
        *_, done = walk_side_by_side(runtime, Purpose.FOLD, shares, max_rate=rate)
    assert (done.clients, done.events, done.failed, done.done) == (persons, persons + 89, {}, True)
    assert sum(amount for _, amount in spending.spent) >= persons + 89
    spending.check(rate, processes)


def test_a_part_is_not_the_whole_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that each took all of it would be noticed."""
    sabotaged = rebuilding.walk_side_by_side

    def walk(*arguments: Any, max_rate: float) -> Iterator[Progress]:
        return sabotaged(*arguments, max_rate=3 * max_rate)

    monkeypatch.setitem(globals(), "walk_side_by_side", walk)
    with pytest.raises(AssertionError, match="in ten seconds"):
        test_a_rebuild_keeps_a_pace_of_events(3, tmp_path, monkeypatch)


class NotingServer(CosmosServer):
    """Notes the charge of each answer."""

    def __init__(self, note: Callable[[float], None]) -> None:
        super().__init__(ranges=2)
        self._note = note

    def _run(self, request: Request) -> Answer:
        answer = super()._run(request)
        self._note(answer.charge)
        return answer


@pytest.mark.cosmos_wire
@pytest.mark.parametrize("processes", [1, 2])
def test_a_rebuild_keeps_a_pace_of_request_units(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the server charged; all processes together, of which each has its part."""
    rate, persons = 40.0 * processes, 40 * processes
    spending = Spending(monkeypatch)
    with NotingServer(spending.note) as server:
        with Containers(server, "client-flow") as containers:
            for described in CONTAINERS:
                containers.open(described)
            local = open_embedded(tmp_path, sample)
            accept(Runtime(sample, Settings({}), on_cosmos(local, containers.open, sample.projection)), persons, 1)
            local.close()
        monkeypatch.setenv("COSMOS_CONN", server.connection_string)
        monkeypatch.setenv("BUS_CONN", "Endpoint=sb://localhost;SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0")
        monkeypatch.setenv("CLIENT_FLOW_DOMAIN", "tests.support.newer:domain")
        with closing(open_runtime(Settings())) as runtime:
            shares = shares_of(Share(1, 1), processes)
            *_, done = walk_side_by_side(runtime, Purpose.FOLD, shares, max_rate=rate)
    assert (done.clients, done.failed, done.done) == (persons, {}, True)
    assert max(units for _, units in spending.spent) <= rate / processes, "more at once than a second's worth"
    spending.check(rate, processes)
