"""The unified schema: what a client's record is, as the user declares it."""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NamedTuple, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from eventstore import ClientId

from .errors import InvalidEvolutionError, SchemaDefinitionError
from .record import ROOT, WHOLE, Json, Values

_RECENT_IDS = 4096  # parsed ids kept: clients come again and again

ONE_VALUE: Final = "one value"
"""Annotation of a sub-schema that is asserted, compared and audited as a whole: `Annotated[Address, ONE_VALUE]`."""


class SubSchema(BaseModel):
    """Base of sub-schemas: a group of fields that belong together, as contact or address.

    Late events and audit work field by field; what is inside a field (a list, a model) is one value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class UnifiedSchema(BaseModel):
    """Base of the record of a client: its id, sub-schemas and plain values.

        class Client(UnifiedSchema):
            id: PersonId
            contact: Contact | None = None
            address: Annotated[Address | None, ONE_VALUE] = None
            segment: str = "standard"          # belongs to the sub-schema `root`

    Everything but `id` needs a default, since a record starts empty. Records are immutable; a rule returns a new one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    __slots__ = ("_asserted",)

    def evolve(self, **changes: Any) -> Self:
        """A new record in which fields are asserted, the ones that keep their value included.

            record.evolve(contact={"email": event.email})          # one field, the others stay
            record.evolve(contact=Contact(email=event.email))      # all fields, the unset ones are removed
            record.evolve(contact=None, segment="gold")            # the whole sub-schema is removed

        Args:
            changes: by name of sub-schema a mapping of fields, a model, or None; by name of plain value its value.

        Raises:
            InvalidEvolutionError: no such sub-schema or field.
            pydantic.ValidationError: the new record is not valid.
        """
        layout = layout_of(type(self))
        present = self.__dict__
        state = {name: present[name] for name in self.model_fields_set}
        asserted = set(assertions(self))
        for name, change in changes.items():
            fields = layout.sub_schemas.get(name)
            if fields is None:
                if name not in layout.root:
                    raise InvalidEvolutionError(name, "the schema has no such sub-schema or value")
                asserted.add((ROOT, name))
                state[name] = change
            elif isinstance(change, Mapping) and not fields.one_value:
                unknown = change.keys() - fields.names
                if unknown:
                    raise InvalidEvolutionError(f"{name}.{min(unknown)}", "the sub-schema has no such field")
                asserted.update([(name, field) for field in change])
                state[name] = {**_set_fields(present[name]), **change} if change else present[name]
            else:
                asserted.update([(name, field) for field in fields.asserted_whole])
                state[name] = fields.empty() if change is None else change
        evolved: Self = self.__pydantic_validator__.validate_python(state)  # model_validate without its wrapper
        object.__setattr__(evolved, "_asserted", frozenset(asserted))
        return evolved


def assertions(record: UnifiedSchema) -> frozenset[tuple[str, str]]:
    """The (sub-schema, field) pairs that `evolve` asserted on the way to this record."""
    found: frozenset[tuple[str, str]] = getattr(record, "_asserted", frozenset())
    return found


def forget_assertions(record: UnifiedSchema) -> None:
    """Make the record the base of the next rule: what led to it is no longer asserted."""
    object.__setattr__(record, "_asserted", frozenset())


class SubSchemaLayout(NamedTuple):
    """How a sub-schema is declared."""

    model: type[SubSchema]
    optional: bool
    one_value: bool
    names: frozenset[str]

    @property
    def asserted_whole(self) -> frozenset[str]:
        """The fields that replacing or removing the sub-schema asserts."""
        return frozenset({WHOLE}) if self.one_value else self.names

    def empty(self) -> SubSchema | None:
        """The sub-schema without any asserted field."""
        return None if self.optional else self.model()


class Layout:
    """How a unified schema is declared: which field is the id, which are sub-schemas, which plain values.

    Raises:
        SchemaDefinitionError: a record of it could not start empty, has no client id, or a sub-schema is no `SubSchema`.
    """

    def __init__(self, schema: type[UnifiedSchema]) -> None:
        self.schema = schema
        self.sub_schemas: dict[str, SubSchemaLayout] = {}
        self.root: set[str] = set()
        id_field = schema.model_fields.get("id")
        if id_field is None or not _is_a(id_field.annotation, ClientId):
            raise SchemaDefinitionError(f"{schema.__name__} needs a field `id` of a ClientId class.")
        id_class: type[ClientId] = id_field.annotation  # type: ignore[assignment]  # checked above
        self.parse_id = lru_cache(_RECENT_IDS)(id_class.parse)
        for name, field in schema.model_fields.items():
            if name == "id":
                continue
            if field.is_required():
                raise SchemaDefinitionError(f"{schema.__name__}.{name} needs a default: a record starts empty.")
            model, optional = _unwrap(field.annotation)
            if not _is_a(model, BaseModel):
                self.root.add(name)
            elif not _is_a(model, SubSchema):
                raise SchemaDefinitionError(f"{schema.__name__}.{name}: {model.__name__} must derive from SubSchema.")
            else:
                one_value = ONE_VALUE in field.metadata
                self.sub_schemas[name] = SubSchemaLayout(model, optional, one_value, frozenset(model.model_fields))
        if ROOT in schema.model_fields:
            raise SchemaDefinitionError(f"{schema.__name__}.{ROOT}: that name is taken by the plain values at the top.")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The sub-schemas, with `root` if there are plain values."""
        return (*self.sub_schemas, *([ROOT] if self.root else []))

    def build(self, client_id: str, values: Values) -> UnifiedSchema:
        """The record with these values.

        Raises:
            pydantic.ValidationError: they do not fit the schema.
        """
        return self.schema.model_validate({"id": self.parse_id(client_id), **self._to_fields(values)})

    def rebuild(self, record: UnifiedSchema, values: Values) -> UnifiedSchema:
        """The record of the same client with these values.

        Raises:
            pydantic.ValidationError: they do not fit the schema.
        """
        return self.schema.model_validate({"id": record.__dict__["id"], **self._to_fields(values)})

    def contents(self, record: UnifiedSchema) -> dict[str, Json]:
        """The record by sub-schema as JSON objects, with defaults filled in; None for a sub-schema that is not there."""
        dumped = record.model_dump(mode="json")
        contents: dict[str, Json] = {name: dumped[name] for name in self.sub_schemas}
        if self.root:
            contents[ROOT] = {name: dumped[name] for name in sorted(self.root)}
        return contents

    def _to_fields(self, values: Values) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, given in values.items():
            if name == ROOT:
                fields.update(given)
            elif WHOLE in given:
                fields[name] = given[WHOLE]
            elif given:
                fields[name] = given
        return fields


_LAYOUTS: dict[type[UnifiedSchema], Layout] = {}


def layout_of(schema: type[UnifiedSchema]) -> Layout:
    """The layout of a schema class, worked out once.

    Raises:
        SchemaDefinitionError: the class cannot be projected.
    """
    layout = _LAYOUTS.get(schema)
    if layout is None:
        layout = _LAYOUTS[schema] = Layout(schema)
    return layout


def _set_fields(sub_schema: SubSchema | None) -> dict[str, Any]:
    if sub_schema is None:
        return {}
    values = sub_schema.__dict__
    return {name: values[name] for name in sub_schema.model_fields_set}


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """The type inside `X | None`, and whether there was a None."""
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        inner = [argument for argument in get_args(annotation) if argument is not NoneType]
        if len(inner) == 1 and len(inner) < len(get_args(annotation)):
            return _unwrap(inner[0])[0], True
    return annotation, False


def _is_a(annotation: Any, base: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, base)
