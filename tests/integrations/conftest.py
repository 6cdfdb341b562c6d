"""What the tests of the integrations share: a real database, a real target, a clock that stands still."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import SqliteDatabase
from integrations import open_deliveries
from tests.integrations.world import Clock, World
from tests.support.rest_target import RestTarget


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = open_deliveries(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def world(database: SqliteDatabase, clock: Clock) -> World:
    return World(database, clock)


@pytest.fixture
def rest() -> Iterator[RestTarget]:
    with RestTarget() as running:
        yield running
