"""Schemas as files: what a domain stores and tells, and whether code still fits what was exported. Pure but for the files."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from eventstore import schema_breaks
from integrations import message_schema
from projections import structure_fingerprint

from .domain import Domain
from .errors import SchemaFilesError

RECORD = "record.json"
MESSAGE = "topic-message.json"
_EVENT = re.compile(r"events/(?P<type>[a-z0-9_.]+)\.v(?P<version>\d+)\.json")
_NO_SCHEMAS = {"$defs", "const", "default", "discriminator", "enum", "examples"}
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class SchemaFinding(NamedTuple):
    """Where the code differs from the export.

    Attributes:
        file: the file concerned.
        problem: what differs, and what to do.
        breaking: whether stored events, consumers or records would suffer; otherwise exporting again is enough.
    """

    file: str
    problem: str
    breaking: bool


def schema_files(domain: Domain) -> dict[str, dict[str, Any]]:
    """Documents by file name: every event's current version, the unified schema as consumers see it, the topic message."""
    projection = domain.projection
    files = {
        _event_file(each.name, each.version): each.model.model_json_schema(by_alias=False) for each in domain.events
    }
    files[RECORD] = {
        "projection": projection.name,
        "version": projection.version,
        "structure": structure_fingerprint(projection),
        "schema": projection.schema.model_json_schema(mode="serialization"),
    }
    files[MESSAGE] = message_schema(projection)
    return files


def schema_findings(domain: Domain, exported: Mapping[str, Any]) -> list[SchemaFinding]:
    """What differs between the code and what was exported, breaking changes first."""
    files = schema_files(domain)
    found = [*_history(domain, exported), *_changes(files, exported)]
    broken = {finding.file for finding in found}
    for name, document in files.items():
        if name not in exported:
            found.append(SchemaFinding(name, "is not exported yet: export again", breaking=False))
        elif name not in broken and document != exported[name]:
            found.append(SchemaFinding(name, "changed compatibly: export again", breaking=False))
    return sorted(found, key=lambda finding: (not finding.breaking, finding))


def read_schemas(directory: Path) -> dict[str, Any]:
    """The exported documents of a directory by file name; empty if there are none.

    Raises:
        SchemaFilesError: a file cannot be read or is no JSON object.
    """
    paths = [*(directory / "events").glob("*.json"), directory / RECORD, directory / MESSAGE]
    exported = {}
    for path in (path for path in paths if path.exists()):
        name = path.relative_to(directory).as_posix()
        try:
            exported[name] = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            raise SchemaFilesError(name) from None
        whole = isinstance(exported[name], dict)
        if not whole or (name == RECORD and not {"version", "structure", "schema"} <= exported[name].keys()):
            raise SchemaFilesError(name)
    return exported


def write_schemas(directory: Path, files: Mapping[str, Any]) -> None:
    """Write documents in canonical form; files of older versions stay."""
    for name, document in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(document, option=_OPTIONS))


def _history(domain: Domain, exported: Mapping[str, Any]) -> Iterator[SchemaFinding]:
    """Event types and versions that are gone, or were never exported."""
    current = {each.name: each.version for each in domain.events}
    for name in exported:
        if (named := _EVENT.fullmatch(name)) is None:
            continue
        newest = current.get(named["type"])
        if newest is None:
            yield SchemaFinding(name, "the event type is gone: stored events could not be read", breaking=True)
        elif int(named["version"]) > newest:
            yield SchemaFinding(name, f"the version is gone, the newest is {newest}: keep it", breaking=True)
    for event_type, newest in current.items():
        for version in range(1, newest):
            if (name := _event_file(event_type, version)) not in exported:
                yield SchemaFinding(name, "an older version was never exported: add its file", breaking=True)


def _changes(files: Mapping[str, Any], exported: Mapping[str, Any]) -> Iterator[SchemaFinding]:
    """Incompatible changes of what is in both."""
    for name in files.keys() & exported.keys():
        new, old = files[name], exported[name]
        if name == RECORD:
            if new["version"] < old["version"]:
                yield SchemaFinding(name, f"the projection's version fell below {old['version']}", breaking=True)
            if new["structure"] != old["structure"] and new["version"] == old["version"]:
                problem = "schema, events, upcasters or rules changed: raise the projection's version"
                yield SchemaFinding(name, problem, breaking=True)
            new, old = new["schema"], old["schema"]
        if name in {RECORD, MESSAGE}:
            for path, problem in (*schema_breaks(old, new, tolerant=True), *_gone(old, new)):
                yield SchemaFinding(name, f"breaks consumers: {path}: {problem}", breaking=True)
        else:
            for path, problem in schema_breaks(new, old):
                advice = "raise the event's version and add an upcaster"
                yield SchemaFinding(name, f"stored events would not fit: {path}: {problem}; {advice}", breaking=True)


def _gone(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields that consumers may read although they need not be there, and that are not made any more."""
    made = set(_fields(new, new))
    for path in dict.fromkeys(_fields(old, old)):
        if path not in made:
            yield path, "the field is gone"


def _fields(
    root: Mapping[str, Any], schema: Any, path: str = "", inside: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Paths of all fields, whatever the classes that hold them are called.

    Args:
        root: the document that has the definitions.
        schema: the part to go through.
        path: where that is.
        inside: references on the way there, which are not followed again.
    """
    if isinstance(schema, list):
        for inner in schema:
            yield from _fields(root, inner, path, inside)
    elif isinstance(schema, dict):
        for name, inner in schema.items():
            if name == "properties":
                for field, below in inner.items():
                    place = f"{path}.{field}" if path else field
                    yield place
                    yield from _fields(root, below, place, inside)
            elif name == "$ref" and inner not in inside:
                definition = root["$defs"][inner.rsplit("/", 1)[1]]
                yield from _fields(root, definition, path, inside | {inner})
            elif name not in _NO_SCHEMAS:
                yield from _fields(root, inner, path, inside)


def _event_file(event_type: str, version: int) -> str:
    return f"events/{event_type}.v{version}.json"
