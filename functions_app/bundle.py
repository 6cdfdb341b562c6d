"""Bundles: the folder that is deployed, with one domain and pinned versions of everything that it imports."""

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .domain import Domain, load_domain
from .errors import FlowError
from .settings import DEFAULT_DATABASE

PACKAGES = ("eventstore", "projections", "integrations", "functions_app")

_DISTRIBUTION = "client-flow"
_NOT_DEPLOYED = {"__pycache__", "tests", "README.md"}
_DEPLOYING = Path(__file__).with_name("deploy")  # what deploys is not deployed
_OTHER_THREADS = 32  # HTTP requests, timers and change feed leases that one process works on beside its deliveries
_SESSIONS = 32  # that one process receives at a time from each session queue: maxConcurrentSessions in host.json
_ENTRY = '''"""Written by `client-flow bundle`: what the Functions worker indexes, with the domain that was bundled."""

import os

os.environ["CLIENT_FLOW_DOMAIN"] = "{domain}"

from functions_app.function_app import app  # noqa: E402

__all__ = ["app"]
'''
_DOMAIN = re.compile(r'^os\.environ\["CLIENT_FLOW_DOMAIN"\] = "([^"]+)"$', re.MULTILINE)


class BundleError(FlowError):
    """The domain cannot be bundled, or not into this directory."""


class Bundle(NamedTuple):
    """What was written.

    Attributes:
        directory: where.
        domain: the address of its domain.
        requirements: pinned versions of what has to be installed beside it.
        settings: app settings that it needs to have these values.
    """

    directory: Path
    domain: str
    requirements: tuple[str, ...]
    settings: dict[str, str]


def app_settings(domain: Domain) -> dict[str, str]:
    """App settings that follow from the domain.

    Each integration may hold `max_in_flight` threads of the worker while its target is slow, and each session queue one
    for every session while the database is out of reach. There are so many more that receivers, queries and the change
    feed always find one.
    """
    held = sum(integration.max_in_flight for integration in domain.integrations) + _SESSIONS * len(domain.queued)
    threads = held + _OTHER_THREADS
    return {"DATABASE": DEFAULT_DATABASE, "PYTHON_THREADPOOL_THREAD_COUNT": str(threads)}


def bundle(directory: Path, domain: str) -> Bundle:
    """Write the folder to deploy; one that an earlier call wrote is replaced, and what else lies in it stays.

    Args:
        directory: where to; made if it is not there.
        domain: `package.module:attribute`.

    Raises:
        DomainError: the domain cannot be found.
        BundleError: the directory holds something else, or the domain imports what would not be deployed.
    """
    settings = app_settings(load_domain(domain))
    own = _top_level(domain)
    packages = {name: _location(name) for name in dict.fromkeys([*PACKAGES, own])}
    requirements = _pinned({_DISTRIBUTION, *_distributions(own, packages[own])})
    stale = _written_before(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory.parent, prefix=".bundle-") as made:
        new = Path(made)
        (new / "function_app.py").write_text(_ENTRY.format(domain=domain), "utf-8")
        shutil.copyfile(packages["functions_app"] / "host.json", new / "host.json")
        (new / "requirements.txt").write_text("".join(f"{each}\n" for each in requirements), "utf-8")
        for location in packages.values():
            _copy(location, new / location.name)
        directory.mkdir(exist_ok=True)
        entries = [path.name for path in new.iterdir()]
        for name in stale - {"function_app.py"} | set(entries):
            _remove(directory / name)
        # The entry first: it is what tells a bundle that was interrupted from a directory of somebody else.
        for name in sorted(entries, key=lambda name: name != "function_app.py"):
            shutil.move(new / name, directory / name)
    return Bundle(directory, domain, requirements, settings)


def _top_level(domain: str) -> str:
    return domain.partition(":")[0].partition(".")[0]


def _location(package: str) -> Path:
    """The folder of a package, or the file of a module."""
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if len(places) == 1:
        return Path(places[0])
    if spec is None or places or not spec.origin or not spec.origin.endswith(".py") or package == "function_app":
        raise BundleError(f"{package}: one folder or one .py file was expected that can be imported by this name.")
    return Path(spec.origin)


def _written_before(directory: Path) -> set[str]:
    """Names that an earlier bundle wrote there."""
    if not directory.exists():
        return set()
    if not directory.is_dir():
        raise BundleError(f"{directory} is a file; name a directory.")
    if not any(directory.iterdir()):
        return set()
    entry = directory / "function_app.py"
    earlier = _DOMAIN.search(entry.read_text("utf-8", "replace")) if entry.is_file() else None
    if earlier is None:
        raise BundleError(f"{directory} is not empty and holds no bundle; name another directory, or empty it.")
    own = _top_level(earlier[1])
    return {"function_app.py", "host.json", "requirements.txt", *PACKAGES, own, f"{own}.py"}


def _files(location: Path) -> Iterator[Path]:
    for path in sorted(location.iterdir()):
        if path.name in _NOT_DEPLOYED or path.name.startswith(".") or path == _DEPLOYING:
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _copy(location: Path, target: Path) -> None:
    if location.is_file():
        shutil.copyfile(location, target)
        return
    for path in _files(location):
        copy = target / path.relative_to(location)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _distributions(package: str, location: Path) -> set[str]:
    """Installed distributions that the modules of a package import, wherever in them."""
    files = [path for path in _files(location) if path.suffix == ".py"] if location.is_dir() else [location]
    installed = packages_distributions()
    found: set[str] = set()
    for name in sorted({name for path in files for name in _imported(path)} - {package, *PACKAGES}):
        if name in installed:
            found.add(installed[name][0])
        elif name not in sys.stdlib_module_names and find_spec(name) is not None:
            raise BundleError(
                f"{package} imports {name}, which would not be deployed: move it into {package}, or install it."
            )
    return found


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def _pinned(roots: set[str]) -> tuple[str, ...]:
    """The versions that are installed here of these distributions and of all that they require."""
    pins: dict[str, str] = {}
    waiting = [Requirement(root) for root in sorted(roots)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found = distribution(name)
            except PackageNotFoundError:
                raise BundleError(f"{name} is required and not installed here, so its version is not known.") from None
            pins[name] = f"{found.metadata['Name']}=={found.version}"
            required = (Requirement(text) for text in found.requires or ())
            waiting += [each for each in required if not each.marker or each.marker.evaluate({"extra": extra})]
    del pins[canonicalize_name(_DISTRIBUTION)]
    return tuple(pins[name] for name in sorted(pins))
