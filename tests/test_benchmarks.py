"""The benchmark runs and says what it promises to say; how fast anything is is not tested."""

import json
import subprocess
import sys
from pathlib import Path

FIELDS = {"name", "value", "unit", "compared_with", "ratio", "target", "met"}


def test_every_line_is_a_figure(tmp_path: Path) -> None:
    """With small sizes, the benchmark prints a table and writes a JSON object for each figure."""
    out = tmp_path / "figures.jsonl"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert all(set(figure) == FIELDS and figure["value"] > 0 for figure in figures)
    names = " ".join(figure["name"] for figure in figures)
    for what in (
        "append, one caller",
        "append, 32 callers",
        "project",
        "refold",
        "rebuild",
        "verify",
        "receiver",
        "topic",
        "p99",
        "cold import",
        "peak memory",
    ):
        assert what in names
        assert what in done.stdout
