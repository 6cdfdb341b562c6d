from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.projecting import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Stores of the sample clients."""
    opened = World(tmp_path)
    yield opened
    opened.close()
