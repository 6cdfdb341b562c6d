"""How a unified schema is declared, worked out once for each class: its id, its sub-schemas, its plain values."""

from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PydanticUndefinedAnnotation
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError

from eventstore import ClientId, InvalidEventError, canonical_json, normalize

from .errors import SchemaDefinitionError
from .record import ROOT, WHOLE, Json, Values

Schema = TypeVar("Schema", bound=BaseModel)

ONE_VALUE: Final = "one value"
"""Annotation of a sub-schema that is asserted, compared and audited as a whole: `Annotated[Address, ONE_VALUE]`."""

_ID: Final = {"id"}
_RECENT_IDS = 4096  # parsed ids kept: clients come again and again


class SubSchema(BaseModel):
    """Base of sub-schemas: a group of fields that belong together, as contact or address.

    Late events and audit work field by field; what is inside a field (a list, a model) is one value.
    """

    # Fields are stored under their names, whatever aliases they have; what is not finite is to be refused rather than
    # stored as null; and errors are not to quote values.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
    )


class SubSchemaLayout(NamedTuple):
    """How a sub-schema is declared.

    Attributes:
        model: its class.
        optional: whether it can be None.
        one_value: whether it is asserted, compared and audited as a whole.
        names: its fields.
        asserted_whole: the fields that replacing or removing it asserts.
        computed: its computed fields, which are no state.
    """

    model: type[SubSchema]
    optional: bool
    one_value: bool
    names: frozenset[str]
    asserted_whole: frozenset[str]
    computed: set[str] | None

    def empty(self) -> SubSchema | None:
        """The sub-schema without any asserted field."""
        return None if self.optional else self.model()

    def values(self, sub_schema: SubSchema | None) -> dict[str, Json]:
        """The asserted fields as JSON values.

        Raises:
            pydantic_core.PydanticSerializationError: a value has no JSON form.
        """
        if sub_schema is None:
            return {}
        values: dict[str, Json] = self.model.__pydantic_serializer__.to_python(
            sub_schema, mode="json", by_alias=False, exclude_unset=True, exclude=self.computed, warnings=False
        )
        if self.one_value:
            return {WHOLE: values} if values else {}
        return values


class Layout(Generic[Schema]):
    """How a unified schema is declared: which field is the id, which are sub-schemas, which plain values.

    Args:
        schema: the class the user declared.

    Attributes:
        schema: that class.
        sub_schemas: its sub-schemas by name.
        root: names of its plain values.
        nothing: contents of a record without any asserted value.

    Raises:
        SchemaDefinitionError: a record of it has no client id, could not start empty, or not be kept as JSON.
    """

    def __init__(self, schema: type[Schema]) -> None:
        self.schema = schema
        self.sub_schemas: dict[str, SubSchemaLayout] = {}
        self._complete()
        self.parse_id = lru_cache(_RECENT_IDS)(self._id_class().parse)
        for name, field in schema.model_fields.items():
            if name != "id" and (sub_schema := self._sub_schema(name, field)):
                self.sub_schemas[name] = sub_schema
        self.root = frozenset(schema.model_fields.keys() - self.sub_schemas.keys() - {"id"})
        if ROOT in schema.model_fields:
            raise SchemaDefinitionError(f"{schema.__name__}.{ROOT}: that name is taken by the plain values at the top.")
        _refuse_sets(schema)
        self.nothing = self._contents_of_nothing()

    @property
    def names(self) -> tuple[str, ...]:
        """The sub-schemas, with `root` if there are plain values."""
        return (*self.sub_schemas, *([ROOT] if self.root else []))

    def build(self, client_id: str, values: Values) -> Schema:
        """The record with these values.

        Raises:
            InvalidClientIdError: the text is no id of this schema.
            pydantic.ValidationError: they do not fit the schema.
        """
        return self._build(self.parse_id(client_id), values)

    def rebuild(self, record: Schema, values: Values) -> Schema:
        """The record of the same client with these values.

        Raises:
            pydantic.ValidationError: they do not fit the schema.
        """
        return self._build(record.__dict__["id"], values)

    def validated(self, record: Schema) -> Schema:
        """The record with what was set in it validated, as it may be a copy made without.

        Raises:
            pydantic.ValidationError: it does not fit the schema.
        """
        fields = record.__dict__
        validated: Schema = self.schema.__pydantic_validator__.validate_python(
            {name: fields[name] for name in record.__pydantic_fields_set__}
        )
        return validated

    def values(self, record: Schema, name: str) -> dict[str, Json]:
        """The asserted fields of a sub-schema, or of `root`, as JSON values.

        Raises:
            pydantic_core.PydanticSerializationError: a value has no JSON form.
        """
        if name != ROOT:
            return self.sub_schemas[name].values(record.__dict__[name])
        values: dict[str, Json] = record.__pydantic_serializer__.to_python(
            record, mode="json", by_alias=False, include=record.__pydantic_fields_set__ & self.root, warnings=False
        )
        return values

    def contents(self, record: BaseModel) -> dict[str, Json]:
        """The record by sub-schema as JSON objects, with defaults filled in; None for a sub-schema that is not there.

        Raises:
            InvalidEventError: a computed field has a value that no backend could keep.
        """
        dumped = record.__pydantic_serializer__.to_python(
            record, mode="json", by_alias=False, exclude=_ID, warnings=False
        )
        contents: dict[str, Json] = {
            name: None if dumped[name] is None else _normalized(dumped[name], name) for name in self.sub_schemas
        }
        if self.root:
            contents[ROOT] = _normalized({name: dumped[name] for name in sorted(self.root)}, ROOT)
        return contents

    def _build(self, parsed_id: object, values: Values) -> Schema:
        fields: dict[str, Any] = {"id": parsed_id}
        for name, given in values.items():
            if name == ROOT:
                fields.update(given)
            else:
                fields[name] = given.get(WHOLE, given)
        built: Schema = self.schema.__pydantic_validator__.validate_python(fields)
        return built

    def _contents_of_nothing(self) -> dict[str, Json]:
        try:
            return self.contents(self.schema.model_construct(id=None))
        except (InvalidEventError, PydanticSerializationError) as error:
            raise SchemaDefinitionError(f"{self.schema.__name__} has a default that cannot be kept as JSON.") from error

    def _complete(self) -> None:
        """Resolve annotations that were mere names when the class was made."""
        try:
            self.schema.model_rebuild()
        except PydanticUndefinedAnnotation as error:
            problem = f"{self.schema.__name__}: {error.name} is unknown; define it before the schema is projected."
            raise SchemaDefinitionError(problem) from error

    def _id_class(self) -> type[ClientId]:
        field = self.schema.model_fields.get("id")
        id_class: Any = field.annotation if field else None
        if not _is_a(id_class, ClientId):
            raise SchemaDefinitionError(f"{self.schema.__name__} needs a field `id` of a ClientId class.")
        parsed: type[ClientId] = id_class
        return parsed

    def _sub_schema(self, name: str, field: FieldInfo) -> SubSchemaLayout | None:
        """The layout of a field that is a sub-schema, None if it is a plain value."""
        where = f"{self.schema.__name__}.{name}"
        if field.is_required():
            raise SchemaDefinitionError(f"{where} needs a default: a record starts empty.")
        models, optional, marks = _unwrap(field.annotation)
        if not any(_is_a(model, BaseModel) for model in models):
            return None
        model = models[0]
        if len(models) > 1 or not _is_a(model, SubSchema):
            raise SchemaDefinitionError(f"{where}: one model derived from SubSchema was expected, or None beside it.")
        default = field.get_default(call_default_factory=True, validated_data={})
        if (default is not None) if optional else (type(default) is not model or default.model_fields_set):
            expected = "None" if optional else f"{model.__name__}()"
            raise SchemaDefinitionError(f"{where}: the default must be {expected}, since a record starts empty.")
        names = frozenset(model.model_fields)
        one_value = ONE_VALUE in {*marks, *field.metadata}
        asserted_whole = frozenset({WHOLE}) if one_value else names
        computed = set(model.model_computed_fields) or None
        return SubSchemaLayout(model, optional, one_value, names, asserted_whole, computed)


def _normalized(fields: dict[str, Json], path: str) -> dict[str, Json]:
    return {name: normalize(value, f"{path}.{name}") for name, value in fields.items()}


def _unwrap(annotation: Any) -> tuple[list[Any], bool, list[Any]]:
    """The types an annotation stands for, whether None is among them, and what it is annotated with."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        types, optional, inner_marks = _unwrap(inner)
        return types, optional, marks + inner_marks
    if get_origin(annotation) in {Union, UnionType}:
        parts = [_unwrap(argument) for argument in get_args(annotation)]
        return (
            [found for types, _, _ in parts for found in types],
            any(optional for _, optional, _ in parts),
            [mark for _, _, marks in parts for mark in marks],
        )
    return ([], True, []) if annotation is NoneType else ([annotation], False, [])


def _is_a(annotation: Any, base: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, base)


def _refuse_sets(schema: type[BaseModel]) -> None:
    try:
        described = schema.model_json_schema(by_alias=False)
    except PydanticInvalidForJsonSchema as error:
        problem = f"{schema.__name__} has a type that JSON Schema cannot describe, so it cannot be kept as JSON."
        raise SchemaDefinitionError(problem) from error
    for model in (described, *described.get("$defs", {}).values()):
        for name, field in model.get("properties", {}).items():
            if b'"uniqueItems":true' in canonical_json(field):
                path = f"{model['title']}.{name}"
                raise SchemaDefinitionError(f"{path} holds a set, whose order differs from run to run; declare a list.")
