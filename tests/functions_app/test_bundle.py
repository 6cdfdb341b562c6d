"""`client-flow bundle`: what lies in the folder, and what it refuses."""

import os
import shutil
from importlib import invalidate_caches
from pathlib import Path

import pytest

from functions_app import DomainError
from functions_app.bundle import BundleError, bundle
from tests.support.command_line import CommandLine

SAMPLE = Path(__file__).parents[2] / "functions_app" / "sample"
PINS = Path(__file__).parents[2] / "constraints.txt"


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the sample under a name of its own, found by import."""
    name = f"members_{os.getpid()}_{abs(hash(tmp_path))}"
    shutil.copytree(SAMPLE, tmp_path / name)
    monkeypatch.syspath_prepend(str(tmp_path))
    invalidate_caches()
    return name


def listing(directory: Path) -> dict[str, bytes]:
    """Every file with its content."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_it_holds_what_is_deployed_and_nothing_else(named: str, tmp_path: Path) -> None:
    """The entry, the host's settings, pinned requirements, the packages and the domain; no tests, nothing compiled."""
    (tmp_path / named / "tests").mkdir()
    (tmp_path / named / "tests" / "test_it.py").touch()
    made = bundle(tmp_path / "out", f"{named}:domain")
    top = {"function_app.py", "host.json", "requirements.txt", "eventstore", "projections", "integrations"}
    assert {path.name for path in made.directory.iterdir()} == {*top, "functions_app", named}
    assert not [name for name in listing(made.directory) if "__pycache__" in name or "tests/" in name]
    assert not (made.directory / "functions_app" / "deploy").exists()
    assert f'"{named}:domain"' in (made.directory / "function_app.py").read_text()
    pins = {line.lower() for line in PINS.read_text().splitlines()}
    wanted = (made.directory / "requirements.txt").read_text().splitlines()
    assert len(wanted) > 20
    assert [line for line in wanted if line.lower() not in pins] == []
    assert not [line for line in wanted if line.lower().startswith(("pytest", "mypy", "ruff", "client-flow"))]


def test_twice_is_the_same(named: str, tmp_path: Path) -> None:
    """A second run gives the same bytes, drops what is gone from the domain and leaves alone what it did not write."""
    made = bundle(tmp_path / "out", f"{named}:domain").directory
    first = listing(made)
    (made / named / "left_over.py").touch()
    (made / "local.settings.json").write_text("{}")
    bundle(made, f"{named}:domain")
    assert listing(made) == {**first, "local.settings.json": b"{}"}
    bundle(made, "functions_app.sample:domain")
    assert not (made / named).exists()


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whatever lies there stays as it is."""
    (tmp_path / "function_app.py").write_text("app = None")
    with pytest.raises(BundleError, match="holds no bundle"):
        bundle(tmp_path, "functions_app.sample:domain")
    with pytest.raises(BundleError, match="is a file"):
        bundle(tmp_path / "function_app.py", "functions_app.sample:domain")
    assert listing(tmp_path) == {"function_app.py": b"app = None"}


def test_a_domain_that_cannot_be_found_is_refused(tmp_path: Path) -> None:
    """With the address that was looked for, and without leaving anything."""
    with pytest.raises(DomainError, match="nowhere_to_be_found:domain"):
        bundle(tmp_path / "out", "nowhere_to_be_found:domain")
    assert list(tmp_path.iterdir()) == []


def test_a_domain_that_imports_what_would_be_missing_is_refused(named: str, tmp_path: Path) -> None:
    """A module of the team outside the package of the domain would only fail on Azure."""
    (tmp_path / f"{named}_shared.py").touch()
    (tmp_path / named / "more.py").write_text(f"def later():\n    import {named}_shared\n")
    with pytest.raises(BundleError, match=f"imports {named}_shared"):
        bundle(tmp_path / "out", f"{named}:domain")


def test_what_a_domain_imports_is_required(named: str, tmp_path: Path) -> None:
    """With the version that is installed, and what that requires itself."""
    (tmp_path / named / "more.py").write_text("import hypothesis\n")
    requirements = bundle(tmp_path / "out", f"{named}:domain").requirements
    assert {"hypothesis", "sortedcontainers"} <= {each.partition("==")[0] for each in requirements}


def test_the_command_says_what_has_to_be_set(tmp_path: Path) -> None:
    """Threads for all deliveries and more, and the name of the database."""
    made = CommandLine(tmp_path / "data").json("bundle", tmp_path / "out")
    assert made["domain"] == "functions_app.sample:domain"
    assert int(made["settings"]["PYTHON_THREADPOOL_THREAD_COUNT"]) == 2 * 8 + 32 + 32
