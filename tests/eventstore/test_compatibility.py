from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from eventstore import schema_breaks


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    street: str
    floor: int | None = None


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def schema(**fields: Any) -> dict[str, Any]:
    model: type[BaseModel] = create_model("Model", __config__=ConfigDict(extra="forbid"), **fields)
    return model.model_json_schema()


def breaks(reader: dict[str, Any], writer: dict[str, Any], **options: bool) -> dict[str, str]:
    return dict(schema_breaks(schema(**reader), schema(**writer), **options))


@pytest.mark.parametrize(
    "kind",
    [str, int, bool, date, Decimal, Inner, Tree, Colour, list[Inner], dict[str, int], tuple[int, str], int | str | None,
     Literal["a", 1], Annotated[str, Field(min_length=2, max_length=3, pattern="a")], Any],
)  # fmt: skip
def test_a_schema_reads_what_it_wrote(kind: Any) -> None:
    """Equal schemas are compatible, whatever they are made of."""
    assert breaks({"field": (kind, ...)}, {"field": (kind, ...)}) == {}


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (float, int),
        (str | None, str),
        (int | str, int),
        (Any, Inner),
        (list[float], list[int]),
        (Literal["a", "b"], Literal["a"]),
        (str, Literal["a"]),
        (str, Colour),
        (Annotated[str, Field(max_length=9)], Annotated[str, Field(max_length=5)]),
        (Annotated[int, Field(ge=0)], Annotated[int, Field(ge=3)]),
        (dict[str, float], dict[str, int]),
    ],
)
def test_a_wider_reader_reads_a_narrower_writer_only(reader: Any, writer: Any) -> None:
    """What was widened can still be read; the other way round it is a problem of that field."""
    assert breaks({"field": (reader, ...)}, {"field": (writer, ...)}) == {}
    back = breaks({"field": (writer, ...)}, {"field": (reader, ...)})
    assert back
    assert all(path.split(".")[0] == "field" for path in back)


def test_fields_that_come_and_go() -> None:
    """A new field needs a default, and one that is gone is missed by the reader or refused by it."""
    old, new = {"name": (str, ...)}, {"name": (str, ...), "age": (int, ...)}
    assert breaks(new, old) == {"age": "is required, and may be missing"}
    assert breaks({**old, "age": (int, 0)}, old) == {}
    assert breaks(old, new) == {"age": "is not expected"}
    assert breaks(old, new, tolerant=True) == {}


def test_a_reader_that_ignores_a_stored_field_loses_it() -> None:
    """A model that takes any extra field would silently drop what is stored in it."""
    open_to_all: type[BaseModel] = create_model("Model", name=(str, ...))
    assert dict(schema_breaks(open_to_all.model_json_schema(), schema(name=(str, ...), age=(int, ...)))) == {
        "age": "would be lost"
    }


def test_problems_are_found_at_depth() -> None:
    """A path leads through models, lists and models that hold themselves to the field concerned."""

    class Narrow(BaseModel):
        model_config = ConfigDict(extra="forbid")

        street: Annotated[str, Field(max_length=3)]
        floor: int | None = None

    found = breaks({"homes": (list[Narrow], ...)}, {"homes": (list[Inner], ...)})
    assert found == {"homes.*.street": "maxLength 3 is expected"}

    class Leaf(BaseModel):
        value: str
        children: list["Leaf"] = []

    assert breaks({"tree": (Leaf, ...)}, {"tree": (Tree, ...)}) == {"tree.value": "string is expected, integer is made"}


def test_an_alternative_that_is_gone_is_named() -> None:
    """A writer that may say null is refused by a reader that has no null, with the type it says."""
    found = breaks({"field": (int | str, ...)}, {"field": (int | None, ...)})
    assert found == {"field": "null is not expected"}


def test_what_is_not_understood_is_a_problem() -> None:
    """A keyword that is not known is reported rather than passed over."""
    plain = TypeAdapter(int).json_schema()
    assert schema_breaks({"not": {"type": "string"}}, plain)[0].problem == "'not' cannot be compared"
