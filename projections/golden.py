"""Golden payloads: stored events of every schema version, kept as files, and what they are read as today."""

import re
from pathlib import Path
from typing import Any

import orjson

from eventstore import Event, EventRegistry, UndecodableEventError

_FILE = re.compile(r"(?P<type>[a-z0-9_.]+)\.v(?P<version>\d+)(?:\.[A-Za-z0-9_-]+)?\.json")
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def check_golden(registry: EventRegistry, directory: Path) -> None:
    """Replay the payloads of a directory: each is read through the upcasters as its file says.

    A file is named `<event type>.v<version>.json` or `<event type>.v<version>.<name>.json`, and holds
    `{"payload": ..., "reads_as": ...}`. Each version of each registered event needs at least one.

    Raises:
        AssertionError: a version has no file, or a payload is read otherwise; names all of them.
    """
    wanted = {(each.name, version) for each in registry for version in range(1, each.version + 1)}
    problems: list[str] = []
    for path in sorted(directory.glob("*.json")):
        named = _FILE.fullmatch(path.name)
        if named is None:
            problems.append(f"{path.name}: <event type>.v<version>.json was expected as name")
            continue
        event_type, version = named["type"], int(named["version"])
        wanted.discard((event_type, version))
        if problem := _problem(registry, event_type, version, path.read_bytes()):
            problems.append(f"{path.name}: {problem}")
    problems += [f"{name} version {version}: no golden payload" for name, version in sorted(wanted)]
    if problems:
        raise AssertionError("\n".join(problems))


def write_golden(registry: EventRegistry, directory: Path, event: Event, name: str | None = None) -> Path:
    """Write the golden payload of an event in its current version; to be kept for ever.

    Args:
        registry: where the event is registered.
        directory: created if it does not exist.
        event: an example.
        name: tells several examples of one version apart.

    Raises:
        FileExistsError: there is such a file; a golden payload is never changed.
    """
    entry = registry.type_of(type(event))
    payload = _dump(event)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".".join([entry.name, f"v{entry.version}", *([name] if name else []), "json"])
    with path.open("xb") as file:
        file.write(orjson.dumps({"payload": payload, "reads_as": payload}, option=_OPTIONS))
    return path


def _problem(registry: EventRegistry, event_type: str, version: int, text: bytes) -> str | None:
    try:
        document: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "JSON was expected"
    match document:
        case {"payload": dict(payload), "reads_as": dict(expected)}:
            pass
        case _:
            return '{"payload": {...}, "reads_as": {...}} was expected'
    try:
        found = _dump(registry.decode(event_type, version, payload))
    except UndecodableEventError as error:
        return str(error)
    return None if found == expected else f"expected to be read as {expected}, is read as {found}"


def _dump(event: Event) -> dict[str, Any]:
    return event.model_dump(mode="json", round_trip=True)
