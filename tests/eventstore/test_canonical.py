"""Canonical JSON: what is kept, what is refused, and one text for one value."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import MAX_DEPTH, SAFE_INTEGER, InvalidEventError, canonical_json, normalize

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NUMBERS = st.integers(-SAFE_INTEGER, SAFE_INTEGER) | st.floats(-SAFE_INTEGER, SAFE_INTEGER)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def as_doubles(value: Any) -> Any:
    """The value after a store that keeps numbers as doubles and writes whole ones without a fraction."""

    def back(number: str) -> float | int:
        double = float(number)
        return int(double) if double.is_integer() else double

    return json.loads(json.dumps(value), parse_int=back, parse_float=back)


@PROPERTY
@given(VALUES)
def test_a_normalized_value_survives_every_backend(value: Any) -> None:
    """Its text is the same after orjson, after the standard library, and after a store of doubles."""
    text = canonical_json(normalize(value))
    assert canonical_json(normalize(json.loads(text))) == text
    assert canonical_json(as_doubles(normalize(value))) == text


@PROPERTY
@given(VALUES)
def test_normalizing_twice_changes_nothing(value: Any) -> None:
    """What was normalized is its own normal form, and equals what it came from."""
    once = normalize(value)
    assert once == value
    assert canonical_json(normalize(once)) == canonical_json(once)


@PROPERTY
@given(st.dictionaries(TEXTS, NUMBERS, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], random: Any) -> None:
    """Objects that are equal have one text."""
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(normalize(dict(items))) == canonical_json(normalize(value))


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        ({"n": math.nan}, "n", "finite"),
        ({"a": [1, {"n": math.inf}]}, "a.1.n", "finite"),
        ({"n": -math.inf}, "n", "finite"),
        ({"n": 2**53}, "n", "2^53"),
        ({"n": -(2**53)}, "n", "2^53"),
        ({"n": 10**400}, "n", "2^53"),
        ({"n": 2.0**53}, "n", "2^53"),
        ({"n": 1e300}, "n", "2^53"),
        ({"t": "a\0b"}, "t", "NUL"),
        ({"t": "ñ\0"}, "t", "NUL"),
        ({"t": "\ud800"}, "t", "surrogate"),
        ({"a": {"bad\0key": 1}}, "a.*", "NUL"),
        ({"a": {"\udfff": 1}}, "a.*", "surrogate"),
        ({"a": {7: 1}}, "a", "keys must be texts"),
        ({"a": (1, 2)}, "a", "not a Python tuple"),
        ({"a": b"x"}, "a", "not a Python bytes"),
        (math.nan, "(whole)", "finite"),
        ({"a": {"ana@x.example": math.nan}}, "a.*", "finite"),
        ({"año": {"first-name": math.nan}}, "año.first-name", "finite"),
        (nested(MAX_DEPTH + 1), ".".join("a" * MAX_DEPTH), "deeper"),
    ],
)
def test_what_a_backend_could_not_keep_is_refused(value: Any, path: str, problem: str) -> None:
    """The error names the field and what was expected; a key that is data is not shown."""
    with pytest.raises(InvalidEventError) as caught:
        normalize(value)
    (found,) = caught.value.problems
    assert found.path == path
    assert problem in found.problem


def test_the_path_starts_where_the_caller_says() -> None:
    """A value inside something larger is named from there."""
    with pytest.raises(InvalidEventError, match=r"contact\.email\.0: "):
        normalize([math.nan], "contact.email")
    with pytest.raises(InvalidEventError, match=r"contact\.email: "):
        normalize(math.nan, "contact.email")


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle ends at the depth limit."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidEventError, match="deeper"):
        normalize(value)


def test_whole_floats_become_integers() -> None:
    """2.0 and 2 are one value in a double; so is minus zero and zero."""
    assert canonical_json(normalize([2.0, -0.0, 0.5])) == b"[2,0,0.5]"
    assert canonical_json(normalize([SAFE_INTEGER, float(SAFE_INTEGER)])) == b"[9007199254740991,9007199254740991]"


def test_the_input_is_left_alone() -> None:
    """Normalizing makes a value of its own."""
    value = {"a": [1.0]}
    normalized = normalize(value)
    assert value["a"] is not normalized["a"]
    assert type(value["a"][0]) is float
