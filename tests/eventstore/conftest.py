"""The databases of this directory's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventstore import SqliteDatabase
from tests.eventstore.writing import NUMBERS


@pytest.fixture
def open_database(tmp_path: Path) -> Iterator[Callable[..., SqliteDatabase]]:
    databases = []

    def open_database(migrations: list[list[str]] = NUMBERS, **options: float) -> SqliteDatabase:
        databases.append(SqliteDatabase(tmp_path / "data" / "numbers.db", migrations, **options))
        return databases[-1]

    yield open_database
    for database in databases:
        database.close()


@pytest.fixture
def database(open_database: Callable[..., SqliteDatabase]) -> SqliteDatabase:
    return open_database()
