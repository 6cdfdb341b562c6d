"""The shape of the code base: who may import whom, what is public, and that importing does nothing."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("eventstore", "projections", "integrations", "functions_app")
ADAPTERS = ("sqlite", "cosmos", "servicebus", "rest", "azure_host", "provision")  # what an adapter's name starts with
SDKS = ("sqlite3", "azure.cosmos", "azure.servicebus", "azure.identity", "azure.core", "requests", "authlib")
SPEAK_HTTP = {"functions_app/sample/sources.py", "functions_app/cli/demo.py"}  # the sample's pull, the demo's webhooks
MAX_LINES = 300


def modules(package: str) -> list[Path]:
    """The source files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """The modules that a file imports by absolute name, anywhere in it, and the lines on which it does."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_the_contracts_of_the_import_linter_hold() -> None:
    """Dependencies run one way, and only adapters know a database or the network."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_only_adapters_import_an_sdk(package: str) -> None:
    """Anywhere in a file, also inside functions; azure.functions is what the application is made of."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for name, line in imported(path)
        if any(within(name, sdk) for sdk in SDKS)
        and not path.name.startswith(ADAPTERS)
        and not (str(path.relative_to(ROOT)) in SPEAK_HTTP and within(name, "requests"))
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_other_packages_are_imported_through_their_root(package: str) -> None:
    """What is not exported there is private, and free to change."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for name, line in imported(path)
        for other in PACKAGES
        if other != package and within(name, other) and (name == other or not _is_exported(other, name))
    ]
    assert wrong == []


def _is_exported(package: str, name: str) -> bool:
    return name.removeprefix(f"{package}.") in import_module(package).__all__


def test_the_sample_uses_public_names_only() -> None:
    """It is there to be copied, so it must not reach into the package that it happens to live in."""
    wrong = [
        f"{path.name}:{line} imports {name}"
        for path in modules("functions_app/sample")
        for name, line in imported(path)
        for package in PACKAGES
        if within(name, package) and not _is_exported(package, name)
    ]
    assert wrong == []
    parents = [
        f"{path.name}:{node.lineno}"
        for path in modules("functions_app/sample")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level > 1
    ]
    assert parents == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_names_are_sorted_and_there(package: str) -> None:
    """Constants, classes, functions, each in order of the alphabet; adapters load when they are first used."""
    module = import_module(package)
    names = module.__all__
    assert len(set(names)) == len(names)
    assert names == sorted(names, key=_isort_order)
    assert all(getattr(module, name, None) is not None for name in names)
    assert not any(name.startswith("_") for name in names)


def _isort_order(name: str) -> tuple[int, str]:
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_is_short(package: str) -> None:
    """One concept each."""
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules(package)}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is_and_is_typed(package: str) -> None:
    """A docstring at the root and in each module, and the marker that lets users' type checkers look inside."""
    assert (ROOT / package / "py.typed").exists()
    undocumented = [path.name for path in modules(package) if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert undocumented == []


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_app_does_no_io_and_loads_no_sdk(tmp_path: Path) -> None:
    """A cold start pays for what it uses, and a missing setting never keeps the functions from being indexed."""
    code = (
        "import sys; from functions_app.function_app import app; names = [f.get_function_name() for f in app.get_functions()];"
        "print(*names); print(*sorted(m for m in sys.modules if m.startswith(('azure.cosmos', 'azure.servicebus', "
        "'azure.identity'))))"
    )
    data = tmp_path / "nowhere"
    names, sdks = python(code, CLIENT_FLOW_DATA=str(data)).split("\n")[:2]
    assert {"crm_receive_event", "registry_scheduled_event", "record", "health", "sweep"} <= set(names.split())
    assert sdks == ""
    assert not data.exists()


@pytest.mark.parametrize("package", ["eventstore", "projections", "integrations"])
def test_importing_a_core_package_loads_no_adapter(package: str) -> None:
    """Nor what adapters need: the core can be used with any of them."""
    code = f"import sys, {package}; print(*(m for m in sys.modules if m.split('.')[0] in ('sqlite3', 'requests', 'authlib') or m.startswith('azure')))"
    assert python(code).strip() == ""


def test_nothing_names_a_machine() -> None:
    """Neither the code nor its documents hold an absolute path of a developer's machine."""
    documents = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml", ".txt"} or path.name == "Makefile"]
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in {".py", ".md"}]
    wrong = [
        str(path.relative_to(ROOT))
        for path in (*documents, *sources)
        for mark in ("/home/", "/root/", "/Users/")
        if mark in path.read_text()
    ]
    assert wrong == []
