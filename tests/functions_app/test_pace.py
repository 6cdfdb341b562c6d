"""A pace: in no ten seconds more than ten times the rate."""

from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from eventstore import SqliteEventStore, open_cosmos, open_events
from functions_app.embedded import open_embedded
from functions_app.intake import Delivered
from functions_app.pace import Pace, PacedReads
from functions_app.rebuilding import walk
from functions_app.runtime import Runtime
from functions_app.sample import domain as sample
from functions_app.settings import Settings
from projections import Purpose, Share
from tests.support.cosmos import Containers, on_cosmos
from tests.support.events import emails
from tests.support.newer import domain as newer
from tests.wire.cosmos import CosmosServer

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


@pytest.mark.cosmos_wire
def test_a_rebuild_keeps_a_pace_of_request_units(tmp_path: Path) -> None:
    """By what each answer says it charged; everybody is brought over."""
    time = Time()
    spent: list[tuple[float, float]] = []
    with CosmosServer(ranges=2) as server, Containers(server) as containers:
        local = open_embedded(tmp_path, sample)
        runtime = Runtime(sample, Settings({}), on_cosmos(local, containers.open, sample.projection))
        for person in range(1, 31):
            change = {"change_id": f"{person}", "person": person, "changed_at": "2026-03-01T12:00:00Z"}
            runtime.intake.accept(sample.source("crm"), Delivered({**change, "contact": {"email": "a@x.example"}}))
        assert runtime.sweep().done

        pace = Pace(50, clock=time, pause=time.wait)

        def charged(units: float) -> None:
            spent.append((time.now, units))
            pace.spend(units)

        with closing(open_cosmos(server.connection_string, on_charge=charged)) as client:
            database = client.get_database_client("flow")
            backend = on_cosmos(local, lambda kind: database.get_container_client(kind["id"]), newer.projection)
            *_, done = walk(Runtime(newer, Settings({}), backend), Purpose.FOLD, Share(1, 1), workers=1)
        local.close()
    assert (done.clients, done.failed) == (30, 0)
    assert sum(units for _, units in spent) > 1.5 * 50 * WINDOW
    assert max(units for _, units in spent) <= 50
    assert busiest(spent) <= 50 * WINDOW
