"""The unified schema: what a client's record is, as the user declares it, and how rules make the next record."""

from collections.abc import Mapping
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict

from .errors import InvalidEvolutionError
from .layout import Layout, SubSchema
from .record import ROOT

Asserted = Mapping[str, frozenset[str]]
"""Asserted fields by sub-schema."""

_NO_FIELDS: Final[frozenset[str]] = frozenset()
_NOTHING: Final[Asserted] = {}


class UnifiedSchema(BaseModel):
    """Base of the record of a client: its id, sub-schemas and plain values.

        class Client(UnifiedSchema):
            id: PersonId
            contact: Contact | None = None
            address: Annotated[Address | None, ONE_VALUE] = None
            segment: str = "standard"          # belongs to the sub-schema `root`

    Everything but `id` needs a default, since a record starts empty. Records are immutable; a rule returns a new one.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
    )
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
        state = {**present}
        for name in layout.root - self.__pydantic_fields_set__:
            del state[name]  # a default was asserted by nobody
        asserted = {**assertions(self)}
        for name, change in changes.items():
            sub_schema = layout.sub_schemas.get(name)
            if sub_schema is None:
                if name not in layout.root:
                    raise InvalidEvolutionError(name, "the schema has no such sub-schema or value")
                asserted[ROOT] = asserted.get(ROOT, _NO_FIELDS) | {name}
                state[name] = change
            elif isinstance(change, Mapping) and not sub_schema.one_value:
                unknown = change.keys() - sub_schema.names
                if unknown:
                    raise InvalidEvolutionError(f"{name}.{min(unknown)}", "the sub-schema has no such field")
                asserted[name] = asserted.get(name, _NO_FIELDS).union(change)
                if change:
                    state[name] = {**_set_fields(present[name]), **change}
            else:
                asserted[name] = sub_schema.asserted_whole
                # A model's fields are validated again: it may have been made without, or be of a subclass.
                whole = _set_fields(change) if change is None or isinstance(change, sub_schema.model) else change
                state[name] = sub_schema.empty() if whole == {} else whole
        evolved: Self = self.__pydantic_validator__.validate_python(state)  # model_validate without its wrapper
        object.__setattr__(evolved, "_asserted", asserted)
        return evolved


def assertions(record: UnifiedSchema) -> Asserted:
    """The fields that `evolve` asserted on the way to this record; none if it was made otherwise."""
    found: Asserted = getattr(record, "_asserted", _NOTHING)
    return found


def forget_assertions(record: UnifiedSchema) -> None:
    """Make the record the base of the next rule: what led to it is no longer asserted."""
    object.__setattr__(record, "_asserted", _NOTHING)


_LAYOUTS: dict[type[BaseModel], Layout[Any]] = {}


def layout_of(schema: type[UnifiedSchema]) -> Layout[Any]:
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
    return {name: values[name] for name in sub_schema.__pydantic_fields_set__}
