"""`python -m tests.worker.golden`: write down anew what the host learns of the sample's functions."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from functions_app.bundle import bundle

from .host import Worker

GOLDEN = Path(__file__).with_name("sample.json")
SAMPLE = "functions_app.sample:domain"


def written(functions: dict[str, dict[str, Any]]) -> bytes:
    """Bindings and retry policies as they stand in the file."""
    return orjson.dumps(functions, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def main() -> None:
    """Index the sample and write the file."""
    with TemporaryDirectory() as directory:
        folder = Path(directory) / "app"
        bundle(folder, SAMPLE)
        with Worker(folder, {}) as worker:
            GOLDEN.write_bytes(written(worker.functions))


if __name__ == "__main__":
    main()
