import importlib.util
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pytest

from eventstore import SqliteCheckpointStore
from projections import (
    FingerprintMismatchError,
    Projection,
    check_generation,
    code_fingerprint,
    open_projections,
    structure_fingerprint,
)
from tests.support.clients import clients
from tests.support.projecting import World

SOURCE = '''
from typing import Annotated
from eventstore import ClientId, Event, EventRegistry
from projections import ONE_VALUE, Projection, SubSchema, UnifiedSchema

events = EventRegistry()

class PersonId(ClientId):
    number: str

class Contact(SubSchema):
    """How the client is reached."""
    email: str | None = None

class Client(UnifiedSchema):
    id: PersonId
    contact: Contact | None = None

@events.register("client.told", version=2)
class Told(Event):
    email: str

@events.upcast("client.told", from_version=1)
def renamed(data):
    return {"email": data["mail"]}

clients = Projection("clients", Client, events, version=1)

@clients.on(Told)
def told(record, event):
    if event.email:
        record = record.evolve(contact={"email": event.email})
    return record
'''


class Load(Protocol):
    """Runs the source, changed at one place, as a module that was just deployed."""

    def __call__(self, old: str = "", new: str = "") -> Projection[Any]: ...


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    loaded: list[ModuleType] = []

    def run(old: str = "", new: str = "") -> Projection[Any]:
        assert old in SOURCE
        name = f"deployed_{tmp_path.name}"
        path = tmp_path / f"{len(loaded)}.py"
        path.write_text(SOURCE.replace(old, new) if old else SOURCE)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        loaded.append(module)
        spec.loader.exec_module(module)
        projection: Projection[Any] = module.clients
        return projection

    yield run
    for module in loaded:
        sys.modules.pop(module.__name__, None)


def both(projection: Projection[Any]) -> tuple[str, str]:
    return structure_fingerprint(projection), code_fingerprint(projection)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("    return record\n", "    # A comment.\n\n    return record  # another\n"),
        ('{"email": event.email}', '{\n        "email": event.email\n    }'),
    ],
)
def test_comments_and_layout_do_not_count(load: Load, old: str, new: str) -> None:
    """A formatter may run over the code."""
    assert both(load()) == both(load(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("email: str | None = None", "email: int | None = None"),
        ("    contact: Contact | None = None", "    contact: Contact | None = None\n    more: int = 0"),
        ("contact: Contact | None = None", "contact: Annotated[Contact | None, ONE_VALUE] = None"),
        ('data["mail"]', 'data["email"]'),
        ("class Told(Event):\n    email: str", "class Told(Event):\n    email: str = ''"),
        ("def told(", "def heard("),
        ("@clients.on(Told)", '@clients.on(Told, late="apply")'),
    ],
)
def test_structure_counts(load: Load, old: str, new: str) -> None:
    """Schema, event models, upcasters to the last constant, rule names, and what a rule does with late events."""
    before, after = both(load()), both(load(old, new))
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""How the client is reached."""', '"""Another sentence."""'),
        ("if event.email:", "if not event.email:"),
        (
            '        record = record.evolve(contact={"email": event.email})\n    return record',
            '        record = record.evolve(contact={"email": event.email})\n        return record',
        ),
    ],
)
def test_code_counts_apart_from_structure(load: Load, old: str, new: str) -> None:
    """What rules do is not structure; nor are descriptions."""
    before, after = both(load()), both(load(old, new))
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_generation_remembers_the_code_that_first_projected_it(load: Load, world: World) -> None:
    """The same code may go on for ever."""
    assert check_generation(load(), world.checkpoints, world.events) is False
    assert check_generation(load(), world.checkpoints, world.events) is False


def test_a_changed_rule_is_told(load: Load, world: World) -> None:
    """It is allowed, until the change is accepted it is worth a warning at each start."""
    check_generation(load(), world.checkpoints, world.events)
    changed = load("if event.email:", "if not event.email:")
    assert check_generation(changed, world.checkpoints, world.events) is True
    assert check_generation(changed, world.checkpoints, world.events) is True
    assert check_generation(changed, world.checkpoints, world.events, accept=True) is False
    assert check_generation(changed, world.checkpoints, world.events) is False


def test_of_two_codes_that_start_at_once_the_first_counts(load: Load, world: World) -> None:
    """Both saw that there was none yet; one of them was faster."""
    first = load()

    class Late:
        """Checkpoints in which what is looked for appears only afterwards."""

        create, save = world.checkpoints.create, world.checkpoints.save

        def load(self, name: str) -> str | None:
            return None if name.endswith(":fingerprint") else world.checkpoints.load(name)

    check_generation(first, world.checkpoints, world.events)
    assert check_generation(first, Late(), world.events) is False
    with pytest.raises(FingerprintMismatchError):
        check_generation(load("def told(", "def heard("), Late(), world.events)


def test_a_changed_structure_is_refused(load: Load, world: World) -> None:
    """Unless the version is raised, or it is accepted."""
    check_generation(load(), world.checkpoints, world.events)
    changed = load("def told(", "def heard(")
    with pytest.raises(FingerprintMismatchError, match=r"clients\.v1") as caught:
        check_generation(changed, world.checkpoints, world.events)
    assert caught.value.generation == "clients.v1"
    check_generation(load("version=1)\n\n@clients", "version=2)\n\n@clients"), world.checkpoints, world.events)
    check_generation(changed, world.checkpoints, world.events, accept=True)
    assert check_generation(changed, world.checkpoints, world.events) is False


def test_of_two_that_start_a_version_at_once_the_first_counts(load: Load, world: World) -> None:
    """The second looked before the first had stored its fingerprint."""
    first, second = load(), load("def told(", "def heard(")

    class Late(SqliteCheckpointStore):
        """Sees nothing of what others stored, until it stores something itself."""

        def load(self, name: str) -> str | None:
            if name.endswith(":fingerprint"):
                check_generation(first, world.checkpoints, world.events)
                return None
            return super().load(name)

    with closing(open_projections(world.directory)) as database, pytest.raises(FingerprintMismatchError):
        check_generation(second, Late(database), world.events)
    assert check_generation(first, world.checkpoints, world.events) is False


def test_the_fingerprint_does_not_disturb_the_cursors(world: World) -> None:
    """It is kept beside them under a name of its own."""
    check_generation(clients, world.checkpoints, world.events)
    assert world.checkpoints.load("clients.v1:all") is None
    assert world.checkpoints.load("clients.v1:fingerprint") is not None


def test_code_without_source_is_known_by_its_names() -> None:
    """Typed into a console, or shipped compiled."""
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec(SOURCE, namespace)
    assert len(code_fingerprint(namespace["clients"])) == 32
