"""Compatibility of JSON Schemas: can a reader that expects one schema take every value that a writer makes by another?

Covers what pydantic generates. What is not understood counts as a problem, so that nothing passes unseen.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from .problems import WHOLE, FieldProblem

Schema = Mapping[str, Any]

_SAID = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$defs", "discriminator"}
_KNOWN = {
    "$ref", "additionalProperties", "allOf", "anyOf", "const", "enum", "exclusiveMaximum", "exclusiveMinimum", "format",
    "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum",
    "multipleOf", "oneOf", "pattern", "prefixItems", "properties", "propertyNames", "required", "type", "uniqueItems",
}  # fmt: skip
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("pattern", "format", "multipleOf", "uniqueItems", "propertyNames")
_ALTERNATIVES = ("anyOf", "oneOf")


def schema_breaks(reader: Schema, writer: Schema, *, tolerant: bool = False) -> list[FieldProblem]:
    """Where a reader would refuse or lose what a writer makes; empty if it can take all of it.

    For stored events the running model is the reader and the model they were written with the writer. For consumers it
    is the other way round: they still expect the old schema of what is written by the new one.

    Args:
        reader: JSON Schema of what is expected.
        writer: JSON Schema of what is made; it makes no properties that it does not name.
        tolerant: whether the reader ignores properties it does not know, as consumers are asked to.
    """
    return list(dict.fromkeys(_Comparison(reader, writer, tolerant=tolerant).breaks(reader, writer, "")))


class _Comparison:
    def __init__(self, reader: Schema, writer: Schema, *, tolerant: bool) -> None:
        self._reader_defs: Schema = reader.get("$defs", {})
        self._writer_defs: Schema = writer.get("$defs", {})
        self._tolerant = tolerant
        self._compared: set[tuple[str, str]] = set()

    def breaks(self, reader: Any, writer: Any, path: str) -> Iterator[FieldProblem]:
        """The problems at and below a place."""
        names = (_reference(reader), _reference(writer))
        if all(names):
            if names in self._compared:
                return  # a model that holds itself
            self._compared.add(names)
        reader, writer = _resolved(reader, self._reader_defs), _resolved(writer, self._writer_defs)
        if not reader.keys() - _SAID:
            return  # anything is taken
        if unknown := (reader.keys() | writer.keys()) - _SAID - _KNOWN:
            yield _problem(path, f"'{min(unknown)}' cannot be compared")
        elif branches := _branches(writer):
            for branch in branches:
                yield from self.breaks(reader, branch, path)
        elif branches := _branches(reader):
            yield from self._none_of(branches, writer, path)
        else:
            yield from self._values(reader, writer, path)

    def _none_of(self, branches: list[Any], writer: Schema, path: str) -> Iterator[FieldProblem]:
        """The problems of the alternative that fits best."""
        found = [list(self.breaks(branch, writer, path)) for branch in branches]
        if all(found):
            same_type = [
                problems
                for branch, problems in zip(branches, found, strict=True)
                if _types(_resolved(branch, self._reader_defs)) & _types(writer)
            ]
            yield from min(same_type or [[_problem(path, f"{_said(writer)} is not expected")]], key=len)

    def _values(self, reader: Schema, writer: Schema, path: str) -> Iterator[FieldProblem]:
        allowed, made = _listed(reader), _listed(writer)
        if allowed is not None:
            if made is None:
                yield _problem(path, "only listed values are expected")
            elif extra := [value for value in made if value not in allowed]:
                yield _problem(path, f"values that are not listed: {len(extra)}")
            return
        expected, given = _types(reader), _types(writer)
        if expected and not (given and given <= expected | ({"integer"} if "number" in expected else set())):
            wanted = " or ".join(sorted(expected)) or "another value"
            yield _problem(path, f"{wanted} is expected, {_said(writer)} is made")
            return
        yield from _limits(reader, writer, path)
        if "object" in given:
            yield from self._objects(reader, writer, path)
        if "array" in given:
            yield from self._arrays(reader, writer, path)

    def _objects(self, reader: Schema, writer: Schema, path: str) -> Iterator[FieldProblem]:
        expected, made = reader.get("properties", {}), writer.get("properties", {})
        always = set(writer.get("required", ()))
        for name in reader.get("required", ()):
            if name not in always:
                yield _problem(_below(path, name), "is required, and may be missing")
        more = reader.get("additionalProperties", True)
        for name, schema in made.items():
            if name in expected:
                yield from self.breaks(expected[name], schema, _below(path, name))
            elif isinstance(more, dict):
                yield from self.breaks(more, schema, _below(path, name))
            elif not self._tolerant:
                yield _problem(_below(path, name), "is not expected" if more is False else "would be lost")
        if isinstance(written := writer.get("additionalProperties"), dict):
            if isinstance(more, dict):
                yield from self.breaks(more, written, _below(path, "*"))
            elif more is False and not self._tolerant:
                yield _problem(path, "free keys are not expected")

    def _arrays(self, reader: Schema, writer: Schema, path: str) -> Iterator[FieldProblem]:
        places = max(len(reader.get("prefixItems", ())), len(writer.get("prefixItems", ())))
        for place in range(places):
            expected, made = _item(reader, place), _item(writer, place)
            yield from self.breaks(expected, made, _below(path, str(place)))
        if "items" in writer:
            yield from self.breaks(reader.get("items", {}), writer["items"], _below(path, "*"))


def _reference(schema: Any) -> str:
    return str(schema.get("$ref", "")) if isinstance(schema, dict) else ""


def _resolved(schema: Any, definitions: Schema) -> Schema:
    """A schema without the references and wrappers around it."""
    if not isinstance(schema, Mapping):
        return {} if schema is True else {"enum": []}
    found: Schema = schema
    while "$ref" in found or len(found.get("allOf", ())) == 1:
        inner = definitions[found["$ref"].rsplit("/", 1)[1]] if "$ref" in found else found["allOf"][0]
        found = {**inner, **{name: value for name, value in found.items() if name not in {"$ref", "allOf"}}}
    return found


def _branches(schema: Schema) -> list[Any]:
    return [branch for kind in _ALTERNATIVES for branch in schema.get(kind, ())]


def _item(schema: Schema, place: int) -> Any:
    prefix = schema.get("prefixItems", ())
    return prefix[place] if place < len(prefix) else schema.get("items", {})


def _listed(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _types(schema: Schema) -> set[str]:
    found = schema.get("type", ())
    if found:
        return {found} if isinstance(found, str) else set(found)
    return {_type_of(value) for value in _listed(schema) or ()}


def _type_of(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _said(schema: Schema) -> str:
    return " or ".join(sorted(_types(schema))) or "any value"


def _limits(reader: Schema, writer: Schema, path: str) -> Iterator[FieldProblem]:
    for limit in _LOWER:
        if limit in reader and not (limit in writer and writer[limit] >= reader[limit]):
            yield _problem(path, f"{limit} {reader[limit]} is expected")
    for limit in _UPPER:
        if limit in reader and not (limit in writer and writer[limit] <= reader[limit]):
            yield _problem(path, f"{limit} {reader[limit]} is expected")
    for rule in _SAME:
        if rule in reader and writer.get(rule) != reader[rule]:
            yield _problem(path, f"{rule} {reader[rule]} is expected")


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _problem(path: str, problem: str) -> FieldProblem:
    return FieldProblem(path or WHOLE, problem)
