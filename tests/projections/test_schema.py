from collections.abc import Callable
from typing import Annotated, Any, Optional, Union

import pytest
from pydantic import BaseModel, Field, ValidationError, computed_field

from eventstore import ClientId, EventRegistry
from projections import (
    ONE_VALUE,
    InvalidEvolutionError,
    Projection,
    SchemaDefinitionError,
    SubSchema,
    UnifiedSchema,
    empty_record,
)
from tests.projections import postponed
from tests.support.clients import Address, Client, Contact, PersonId, clients

NOBODY = Client(id=PersonId(number="1"))
ANA = NOBODY.evolve(contact={"email": "ana@x.example", "phone": "1"}, segment="gold")


def project(schema: type[UnifiedSchema]) -> Projection[Any]:
    return Projection("clients", schema, EventRegistry(), version=1)


def test_evolve_with_a_mapping_sets_the_fields_it_names() -> None:
    """The other fields of the sub-schema stay."""
    assert ANA.evolve(contact={"email": "new@x.example"}).contact == Contact(email="new@x.example", phone="1")


def test_evolve_with_a_model_replaces_the_sub_schema() -> None:
    """Fields that the model leaves unset are removed."""
    contact = ANA.evolve(contact=Contact(email="new@x.example")).contact
    assert contact is not None
    assert contact.model_fields_set == {"email"}


def test_evolve_with_none_removes_the_sub_schema() -> None:
    """An optional sub-schema is None afterwards, one that is never None is empty."""
    tagged = ANA.evolve(profile={"tags": ["a"]})
    assert tagged.evolve(contact=None).contact is None
    assert tagged.evolve(profile=None).profile.tags == []


def test_evolve_with_an_empty_model_removes_an_optional_sub_schema() -> None:
    """No asserted field is the same as no sub-schema: that is what is read back from the stored values."""
    assert ANA.evolve(contact=Contact()).contact is None


def test_evolve_with_an_empty_mapping_changes_nothing() -> None:
    """Nothing is asserted."""
    assert ANA.evolve(contact={}) == ANA


def test_evolve_can_be_chained() -> None:
    """Each call builds on the one before."""
    chained = NOBODY.evolve(contact={"email": "a@x.example"}).evolve(contact={"phone": "2"}).evolve(segment="gold")
    assert chained == NOBODY.evolve(contact={"email": "a@x.example", "phone": "2"}, segment="gold")


def test_evolve_leaves_the_record_as_it_is() -> None:
    """Records are immutable, whatever is evolved from them."""
    before = ANA.model_dump()
    ANA.evolve(contact=None, segment="none", address=Address(street="s", city="c"), profile={"tags": ["x"]})
    assert ANA.model_dump() == before


def test_evolve_takes_one_value_as_a_whole() -> None:
    """A mapping for a sub-schema that is one value has to be complete."""
    there = NOBODY.evolve(address={"street": "s", "city": "c"})
    assert there.address == Address(street="s", city="c")
    with pytest.raises(ValidationError):
        there.evolve(address={"street": "t"})


def test_evolve_validates_a_model_that_was_made_without() -> None:
    """What a rule constructs past validation does not get into a record."""
    wrong: dict[str, Any] = {"email": 5}
    with pytest.raises(ValidationError):
        NOBODY.evolve(contact=Contact.model_construct(**wrong))


@pytest.mark.parametrize(
    ("changes", "path"),
    [({"nope": 1}, "nope"), ({"contact": {"nope": 1}}, "contact.nope"), ({"id": PersonId(number="2")}, "id")],
)
def test_evolve_refuses_what_the_schema_does_not_have(changes: dict[str, Any], path: str) -> None:
    """The error names the place."""
    with pytest.raises(InvalidEvolutionError, match=path) as caught:
        NOBODY.evolve(**changes)
    assert caught.value.path == path


def test_errors_of_a_record_do_not_quote_values() -> None:
    """The text of a validation error may end up in a log."""
    with pytest.raises(ValidationError) as caught:
        NOBODY.evolve(segment={"canary": "canary"}, contact={"email": ["canary"]})
    assert "canary" not in str(caught.value)


def test_fields_are_kept_under_their_names() -> None:
    """An alias of a field is for the outside; values are stored, read and announced by name."""

    class Aliased(SubSchema):
        given_name: str | None = Field(default=None, alias="firstName")

    class Person(UnifiedSchema):
        id: PersonId
        name: Aliased | None = None

    people = project(Person)
    record = people.build("1", {"name": {"given_name": "Ana"}})
    assert record.name == Aliased.model_validate({"firstName": "Ana"})
    assert people.contents(record.evolve(name={"given_name": "Bo"})) == {"name": {"given_name": "Bo"}}


def test_computed_fields_are_shown_but_no_state() -> None:
    """They are in the contents and not among the values that are stored."""

    class Name(SubSchema):
        given: str | None = None
        last: str | None = None

        @computed_field  # type: ignore[prop-decorator]  # pydantic's own way of writing it
        @property
        def full(self) -> str:
            return f"{self.given} {self.last}"

    class Person(UnifiedSchema):
        id: PersonId
        name: Name | None = None

    people = project(Person)
    record = people.build("1", {"name": {"given": "Ana", "last": "Díaz"}})
    assert people.contents(record)["name"] == {"given": "Ana", "last": "Díaz", "full": "Ana Díaz"}
    assert people.layout.values(record, "name") == {"given": "Ana", "last": "Díaz"}


def test_a_record_starts_empty() -> None:
    """The contents of a client nobody said anything about are the defaults."""
    assert clients.contents(clients.build("1", empty_record("1").values)) == {
        "contact": None,
        "address": None,
        "profile": {"language": "en", "tags": []},
        "root": {"score": None, "segment": "standard"},
    }


def test_optional_sub_schemas_may_be_spelled_in_every_way() -> None:
    """Defect 25: `Optional[SubSchema]` is an optional sub-schema, also under `Annotated`."""

    class Spelled(UnifiedSchema):
        id: PersonId
        a: Contact | None = None
        b: Optional[Contact] = None  # noqa: UP045 - this spelling is what is tested
        c: Union[None, Contact] = None  # noqa: RUF036, UP007 - this spelling is what is tested
        d: Annotated[Address | None, ONE_VALUE] = None
        e: Annotated[Address, ONE_VALUE] | None = None

    layout = project(Spelled).layout
    assert [(name, sub.optional, sub.one_value) for name, sub in layout.sub_schemas.items()] == [
        ("a", True, False),
        ("b", True, False),
        ("c", True, False),
        ("d", True, True),
        ("e", True, True),
    ]


def test_postponed_annotations_are_resolved() -> None:
    """Defect 25: a module with `from __future__ import annotations` can hold a schema, forward references included."""
    people = project(postponed.Client)
    assert set(people.layout.sub_schemas) == {"contact", "visits"}
    assert people.build("7", {"visits": {"count": 3}}).visits == postponed.Visits(count=3)


class PlainModel(BaseModel):
    email: str | None = None


class Required(SubSchema):
    email: str


class WithSet(SubSchema):
    tags: set[str] = Field(default_factory=set)


def bad_schemas() -> list[tuple[str, type[UnifiedSchema]]]:
    class NoId(UnifiedSchema):
        contact: Contact | None = None

    class TextId(UnifiedSchema):
        id: str

    class NoDefault(UnifiedSchema):
        id: PersonId
        contact: Contact

    class NoDefaultValue(UnifiedSchema):
        id: PersonId
        segment: str

    class Plain(UnifiedSchema):
        id: PersonId
        contact: PlainModel | None = None

    class TwoModels(UnifiedSchema):
        id: PersonId
        contact: Contact | Required | None = None

    class FilledDefault(UnifiedSchema):
        id: PersonId
        contact: Contact = Contact(email="a@x.example")

    class OptionalFilled(UnifiedSchema):
        id: PersonId
        contact: Contact | None = Contact()

    class NamedRoot(UnifiedSchema):
        id: PersonId
        root: str = ""

    class HasSet(UnifiedSchema):
        id: PersonId
        labels: WithSet | None = None

    class HugeDefault(UnifiedSchema):
        id: PersonId
        number: int = 2**60

    class Callback(UnifiedSchema):
        id: PersonId
        call: Callable[[], None] | None = None

    return [
        ("Callback has a type that JSON Schema cannot describe", Callback),
        ("NoId needs a field `id`", NoId),
        ("TextId needs a field `id` of a ClientId class", TextId),
        ("NoDefault.contact needs a default", NoDefault),
        ("NoDefaultValue.segment needs a default", NoDefaultValue),
        ("Plain.contact: one model derived from SubSchema", Plain),
        ("TwoModels.contact: one model", TwoModels),
        (r"FilledDefault.contact: the default must be Contact\(\)", FilledDefault),
        ("OptionalFilled.contact: the default must be None", OptionalFilled),
        ("NamedRoot.root: that name is taken", NamedRoot),
        ("WithSet.tags holds a set", HasSet),
        ("HugeDefault has a default", HugeDefault),
    ]


@pytest.mark.parametrize(("message", "schema"), bad_schemas(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_schema_that_cannot_be_projected_is_refused(message: str, schema: type[UnifiedSchema]) -> None:
    """The error comes at start and says what to declare instead."""
    with pytest.raises(SchemaDefinitionError, match=message):
        project(schema)


def test_a_name_that_is_never_defined_is_refused() -> None:
    """An annotation that stays a mere name would silently be no sub-schema."""
    namespace: dict[str, Any] = {"__annotations__": {"id": PersonId, "contact": "Nowhere | None"}, "contact": None}
    schema = type("Dangling", (UnifiedSchema,), namespace | {"__module__": __name__, "__qualname__": "Dangling"})
    with pytest.raises(SchemaDefinitionError, match="Nowhere is unknown"):
        project(schema)


def test_the_id_class_decides_which_texts_are_clients() -> None:
    """The parsed id is the record's id."""

    class Composite(ClientId):
        kind: str
        number: int

    class Person(UnifiedSchema):
        id: Composite

    assert project(Person).build("CC.7", {}).id == Composite(kind="CC", number=7)
