"""Client ids: round trips, collisions, characters, and what is refused."""

import re
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from eventstore import MAX_CLIENT_ID_LENGTH, ClientId, InvalidClientIdError, check_client_id, field_problems
from tests.support.events import PersonId

PROPERTY = settings(max_examples=300, deadline=None, derandomize=True)
PARTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


class CountedId(ClientId):
    country: str
    number: int


def person(document_type: str, number: str) -> PersonId:
    try:
        return PersonId(document_type=document_type, number=number)
    except ValidationError as error:
        assume(error.errors()[0]["type"] != "string_too_long")
        raise


@PROPERTY
@given(PARTS, PARTS)
def test_any_value_round_trips(document_type: str, number: str) -> None:
    """Whatever the parts hold, the text reads back to the same id, and its parts are composed."""
    made = person(document_type, number)
    assert PersonId.parse(str(made)) == made
    assert made.number == unicodedata.normalize("NFC", number)


@PROPERTY
@given(PARTS, PARTS, PARTS, PARTS)
def test_no_two_ids_share_a_text(a: str, b: str, c: str, d: str) -> None:
    """Two ids have the same text exactly when their composed parts are the same."""
    one, other = person(a, b), person(c, d)
    assert (str(one) == str(other)) == (one == other)


@PROPERTY
@given(st.lists(st.sampled_from(["a", ".", "~", "2E", "~2E", "7", "-", "_", "é"]), min_size=1, max_size=8), st.data())
def test_moving_the_border_between_parts_gives_another_id(pieces: list[str], data: st.DataObject) -> None:
    """Separators and escapes inside a part never look like the border between parts."""
    text = "".join(pieces)
    assume(len(text) > 2)
    cuts = data.draw(st.lists(st.integers(1, len(text) - 1), min_size=2, max_size=2, unique=True))
    one, other = (person(text[:cut], text[cut:]) for cut in cuts)
    assert str(one) != str(other)


@PROPERTY
@given(PARTS, PARTS)
def test_the_text_is_safe_everywhere(document_type: str, number: str) -> None:
    """Unreserved URL characters only, never a dot segment, within the limit, and accepted by the store."""
    text = str(person(document_type, number))
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", text)
    assert text not in {".", ".."}
    assert len(text) <= MAX_CLIENT_ID_LENGTH
    assert check_client_id(text) == text


@PROPERTY
@given(st.text(st.sampled_from("aZ09-_.~2E4C3B1%/ é"), max_size=12))
def test_a_text_is_accepted_only_if_an_id_writes_it(text: str) -> None:
    """What `parse` accepts, `str` gives back; what the store accepts, is in that form as well."""
    try:
        parsed = PersonId.parse(text)
    except InvalidClientIdError:
        return
    assert str(parsed) == text


def test_composed_and_decomposed_spellings_are_one_client() -> None:
    """Unicode form C is applied when the id is made."""
    composed, decomposed = person("CC", "Pe\u00f1a"), person("CC", "Pen\u0303a")
    assert composed == decomposed
    assert str(composed) == str(decomposed) == "CC.Pe~C3~B1a"
    assert len({composed, decomposed}) == 1


@pytest.mark.parametrize(
    ("number", "text"),
    [("10 20", "CC.10~2020"), ("a/b", "CC.a~2Fb"), ("..", "CC.~2E~2E"), ("~", "CC.~7E"), ("'\"", "CC.~27~22")],
)
def test_special_characters_are_escaped(number: str, text: str) -> None:
    """Spaces, slashes, dots, tildes and quotes are written as their bytes."""
    assert str(person("CC", number)) == text


def test_numbers_are_parts_too() -> None:
    """A part declared as int is written in digits and read back as int."""
    made = CountedId(country="CO", number=-7)
    assert str(made) == "CO.-7"
    assert CountedId.parse("CO.-7") == made


@pytest.mark.parametrize("text", ["CO.007", "CO.+7", "CO.7~2E0", "CO.x", "CO.~D9~A3", "CO.-0"])
def test_a_number_has_one_text(text: str) -> None:
    """Other spellings of a number are no ids, so a client has one partition."""
    with pytest.raises(InvalidClientIdError):
        CountedId.parse(text)


def test_a_strict_class_with_aliases_reads_its_own_text() -> None:
    """How a class wants to be validated from outside does not matter for its own texts."""

    class Strict(ClientId, strict=True):
        kind: str = Field(alias="tipo")
        number: int

    made = Strict(tipo="CC", number=7)
    assert Strict.parse(str(made)) == made


@pytest.mark.parametrize("parts", [("", "7"), ("CC", "")])
def test_an_empty_part_is_refused_by_name(parts: tuple[str, str]) -> None:
    """The error names the part that is empty."""
    with pytest.raises(ValidationError) as caught:
        PersonId(document_type=parts[0], number=parts[1])
    name = "document_type" if parts[0] == "" else "number"
    assert field_problems(caught.value) == ((name, "string too short, min length 1"),)


def test_the_limit_counts_the_text() -> None:
    """Ninety-six characters fit, escapes included; one more does not."""
    assert len(str(person("CC", "1" * 93))) == MAX_CLIENT_ID_LENGTH
    with pytest.raises(ValidationError) as caught:
        PersonId(document_type="CC", number="1" * 94)
    assert field_problems(caught.value) == (("(whole)", "string too long, max length 96"),)
    with pytest.raises(ValidationError):
        PersonId(document_type="CC", number="ñ" * 16)


@pytest.mark.parametrize("value", [7, None, "\ud800", ["7"]])
def test_what_is_no_text_is_refused_by_name(value: object) -> None:
    """A part of another type, or with a lone surrogate, is refused."""
    with pytest.raises(ValidationError) as caught:
        PersonId.model_validate({"document_type": "CC", "number": value})
    assert field_problems(caught.value)[0].path == "number"


def test_a_number_without_end_is_too_long() -> None:
    """A number that Python itself would not write out is refused like any other long part."""
    with pytest.raises(ValidationError) as caught:
        CountedId(country="CO", number=10**5000)
    assert field_problems(caught.value) == (("number", "string too long, max length 96"),)


@pytest.mark.parametrize("text", ["", "CC", "CC.1.2", "CC.", ".1", "CC.~", "CC.~ff", "CC.~FF", "CC.~31", "a" * 97])
def test_what_str_never_writes_is_not_parsed(text: str) -> None:
    """Wrong number of parts, unfinished, broken or needless escapes, too long."""
    with pytest.raises(InvalidClientIdError):
        PersonId.parse(text)


def test_a_class_needs_parts_with_one_text_each() -> None:
    """A class without fields, or with a field of another type, is refused when it is declared."""
    with pytest.raises(InvalidClientIdError, match="declares no field"):
        type("Empty", (ClientId,), {})
    with pytest.raises(InvalidClientIdError, match="price must be declared as str or int"):
        type("Priced", (ClientId,), {"__annotations__": {"price": float}})


def test_an_id_is_frozen() -> None:
    """Nobody changes the id of a client in place."""
    made = person("CC", "7")
    with pytest.raises(ValidationError):
        made.number = "8"  # type: ignore[misc]  # the point of the test
