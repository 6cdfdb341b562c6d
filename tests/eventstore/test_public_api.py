"""What the package offers: its names, its README, and that others use nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventstore

ROOT = Path(eventstore.__file__).parents[1]
# Three bases, and two that only adapters see.
NOT_IN_TABLE = {
    "EventStoreError",
    "PortableError",
    "UndecodableEventError",
    "OutcomeUnknownError",
    "WriteConflictError",
}
README = Path(eventstore.__file__).with_name("README.md")


def test_the_public_names_are_sorted_and_resolve() -> None:
    """Constants, classes, functions, each in order; adapters load when they are asked for."""

    def order(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2), name

    assert eventstore.__all__ == sorted(eventstore.__all__, key=order)
    assert len(set(eventstore.__all__)) == len(eventstore.__all__)
    for name in eventstore.__all__:
        assert getattr(eventstore, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = eventstore.nothing


def imported_modules(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@pytest.mark.parametrize("package", ["projections", "integrations", "functions_app"])
def test_other_packages_use_the_root_only(package: str) -> None:
    """What is not exported may change without notice."""
    sources = list((ROOT / package).rglob("*.py"))
    assert sources
    inside = {f"{source}: {name}" for source in sources for name in imported_modules(source) if "eventstore." in name}
    assert inside == set()


def test_the_examples_of_the_readme_run(tmp_path: Path) -> None:
    """Copied from the README, in order, they do what their assertions say."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {"directory": tmp_path}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    database = names["database"]
    assert isinstance(database, eventstore.SqliteDatabase)
    database.close()


def test_the_readme_names_every_error() -> None:
    """The table of errors is complete."""
    errors = [name for name in eventstore.__all__ if name.endswith("Error") and name not in NOT_IN_TABLE]
    missing = [name for name in errors if f"| `{name}` |" not in README.read_text()]
    assert missing == []
