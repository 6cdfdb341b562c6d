"""Schemas as files: the sample's own export, and what each change of the code is found to break."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest

from functions_app import sample
from functions_app.sample import domain
from functions_app.schemas import read_schemas, schema_findings
from projections.testing import check_golden
from tests.support.command_line import CommandLine

SAMPLE = Path(sample.__file__).parent
EXPORTED = SAMPLE / "schemas"
MOVED = "events/person.moved.v1.json"


@pytest.fixture
def exported() -> dict[str, Any]:
    return deepcopy(read_schemas(EXPORTED))


def test_the_sample_fits_its_export() -> None:
    """Also every payload of every version is read as it always was."""
    assert schema_findings(domain, read_schemas(EXPORTED)) == []
    check_golden(domain.events, SAMPLE / "payloads")


def found(exported: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(finding.file, finding.breaking) for finding in schema_findings(domain, exported)]


def test_what_breaks_stored_events_is_found(exported: dict[str, Any]) -> None:
    """A field lost, a type gone, a version gone, a version never exported."""
    exported[MOVED]["properties"]["country"] = {"type": "string"}
    exported["events/person.died.v1.json"] = {"type": "object"}
    exported["events/person.moved.v2.json"] = {"type": "object"}
    del exported["events/person.identified.v1.json"]
    assert found(exported) == [
        ("events/person.died.v1.json", True),
        ("events/person.identified.v1.json", True),
        (MOVED, True),
        ("events/person.moved.v2.json", True),
    ]


def test_what_breaks_consumers_is_found(exported: dict[str, Any]) -> None:
    """A field gone or of another type, and a structure that changed under the same version."""
    exported["record.json"]["structure"] = "other"
    exported["record.json"]["schema"]["$defs"]["Contact"]["properties"]["fax"] = {"type": "string"}
    exported["topic-message.json"]["properties"]["data"]["properties"]["seq"] = {"type": "string"}
    assert found(exported) == [("record.json", True), ("record.json", True), ("topic-message.json", True)]


def test_a_class_may_be_renamed(exported: dict[str, Any]) -> None:
    """Consumers see fields, not what the classes that hold them are called; a field that is gone is named by its path."""
    schema = exported["record.json"]["schema"]
    schema["$defs"]["Reachability"] = schema["$defs"].pop("Contact")
    for field in schema["properties"].values():
        for place in (field, *field.get("anyOf", ())):
            if place.get("$ref") == "#/$defs/Contact":
                place["$ref"] = "#/$defs/Reachability"
    assert found(exported) == [("record.json", False)]
    schema["$defs"]["Reachability"]["properties"]["fax"] = {"type": "string"}
    [finding] = schema_findings(domain, exported)
    assert "contact.fax: the field is gone" in finding.problem


def test_what_is_compatible_is_only_to_be_exported(exported: dict[str, Any]) -> None:
    """A new optional field, and an event that is new."""
    del exported[MOVED]["properties"]["street"]
    del exported["events/person.consent_given.v1.json"]
    assert found(exported) == [("events/person.consent_given.v1.json", False), (MOVED, False)]


def test_the_commands(tmp_path: Path) -> None:
    """Exit codes tell; a schema that the code does not fit is only overwritten when accepted."""
    cli, schemas = CommandLine(tmp_path / "data"), tmp_path / "schemas"
    cli("schema", "export", schemas)
    cli("schema", "check", schemas, code=1)  # the first version of an event was never exported
    first = "events/person.identified.v1.json"
    (schemas / first).write_bytes((EXPORTED / first).read_bytes())
    cli("schema", "check", schemas)
    moved = schemas / MOVED
    right = moved.read_bytes()
    assert right == (EXPORTED / MOVED).read_bytes()
    document = orjson.loads(right)
    document["properties"]["country"] = {"type": "string"}
    moved.write_bytes(orjson.dumps(document))
    [finding] = orjson.loads(cli("schema", "check", schemas, "--json", code=1).stdout)
    assert finding["file"] == MOVED
    assert "country" in finding["problem"]
    cli("schema", "export", schemas, code=1)
    assert moved.read_bytes() != right
    cli("schema", "export", schemas, "--accept")
    assert moved.read_bytes() == right
    record = schemas / "record.json"
    right = record.read_bytes()
    document = orjson.loads(right)
    document["structure"] = "of other code"
    record.write_bytes(orjson.dumps(document))
    refused = cli("schema", "export", schemas, code=1).output
    assert "raise the projection's version" in " ".join(refused.split())
    cli("schema", "export", schemas, "--accept")
    assert record.read_bytes() == right
    moved.unlink()
    cli("schema", "check", schemas, code=3)
    moved.write_text("[")
    assert "person.moved.v1.json" in cli("schema", "check", schemas, code=1).output
