"""Subscription filters, each alone."""

from typing import Any

import pytest

from tests.wire.servicebus import ConfigError, UnsupportedFilterError
from tests.wire.servicebus.codec import Long, section
from tests.wire.servicebus.filters import CorrelationFilter, Filter, SqlFilter
from tests.wire.servicebus.message import APPLICATION_PROPERTIES, DATA, PROPERTIES, Message

pytestmark = pytest.mark.servicebus_wire


def selects(chosen: Filter, subject: str | None = None, **properties: Any) -> bool:
    """Whether the filter selects a message with these properties."""
    system = section(PROPERTIES, ["id", None, None, subject])
    return chosen.matches(Message(system + section(APPLICATION_PROPERTIES, properties) + section(DATA, b"")))


@pytest.mark.parametrize(
    ("expression", "properties", "expected"),
    [
        ("contact = TRUE", {"contact": True}, True),
        ("contact = TRUE", {"contact": False}, False),
        ("contact = TRUE", {}, False),
        ("contact = TRUE", {"contact": 1}, False),
        ("contact = TRUE", {"contact": "TRUE"}, False),
        ("contact = FALSE", {"contact": False}, True),
        ("CONTACT = true", {"Contact": True}, True),
        ("kind = 'x'", {"kind": "x"}, True),
        ("kind = 'x'", {"kind": "X"}, False),
        ("kind = 'it''s'", {"kind": "it's"}, True),
        ("a = TRUE OR b = TRUE", {"b": True}, True),
        ("a = TRUE OR b = TRUE", {"a": False}, False),
        ("a = TRUE AND b = TRUE", {"a": True, "b": True}, True),
        ("a = TRUE AND b = TRUE", {"a": True}, False),
        ("a = TRUE OR b = TRUE AND c = TRUE", {"a": True}, True),
        ("(a = TRUE OR b = TRUE) AND c = TRUE", {"a": True}, False),
        ("NOT a = TRUE", {"a": False}, True),
        ("NOT a = TRUE AND b = TRUE", {"a": False, "b": True}, True),
        ("NOT (a = TRUE OR b = TRUE)", {"a": False, "b": False}, True),
        ("a IS NULL", {}, True),
        ("a IS NULL", {"a": None}, True),
        ("a IS NULL", {"a": False}, False),
        ("a IS NOT NULL", {"a": False}, True),
        ("a IS NOT NULL", {}, False),
        ("NOT a IS NULL", {"a": "x"}, True),
    ],
)
def test_sql(expression: str, properties: dict[str, Any], *, expected: bool) -> None:
    """The subset means what it means in the service."""
    assert selects(SqlFilter(expression), **properties) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("NOT a = TRUE", False),
        ("NOT (a = TRUE AND t = TRUE)", False),
        ("NOT (a = TRUE AND f = TRUE)", True),
        ("a = TRUE OR t = TRUE", True),
        ("NOT (a = TRUE OR f = TRUE)", False),
    ],
)
def test_a_missing_property_is_unknown(expression: str, *, expected: bool) -> None:
    """Three-valued logic: what is unknown stays so under NOT, and only a definite answer decides."""
    assert selects(SqlFilter(expression), t=True, f=False) is expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1=1",
        "a",
        "a =",
        "a = b",
        "a = 5",
        "a <> TRUE",
        "a != TRUE",
        "a LIKE 'x%'",
        "a IN ('x')",
        "EXISTS(a)",
        "sys.Label = 'x'",
        "a = TRUE b = TRUE",
        "a = TRUE AND",
        "(a = TRUE",
        "a = TRUE)",
        "a IS TRUE",
        "a = 'x",
        "[a] = TRUE",
        "a = TRUE; b",
    ],
)
def test_sql_outside_the_subset_is_refused(expression: str) -> None:
    """What is not supported fails when the filter is built, and the error shows the expression."""
    with pytest.raises(UnsupportedFilterError) as refused:
        SqlFilter(expression)
    assert refused.value.expression == expression


def test_correlation_compares_values_and_types() -> None:
    """All given properties must be there, equal and of the same kind."""
    chosen = CorrelationFilter({"Label": "changed"}, {"contact": True, "version": 1, "kind": "x"})
    good = {"contact": True, "version": Long(1), "kind": "x"}
    assert selects(chosen, "changed", **good)
    assert not selects(chosen, "other", **good)
    assert not selects(chosen, None, **good)
    for name, wrong in (("contact", 1), ("contact", False), ("version", True), ("version", 2), ("kind", "X")):
        assert not selects(chosen, "changed", **{**good, name: wrong})
    assert not selects(chosen, "changed", contact=True, version=1)


def test_correlation_filters_that_cannot_be_meant() -> None:
    """A filter that compares nothing, or compares with a fraction, is refused."""
    with pytest.raises(ConfigError, match="at least one property"):
        CorrelationFilter({}, {})
    with pytest.raises(ConfigError, match="boolean, whole number or text"):
        CorrelationFilter({}, {"share": 0.5})  # type: ignore[dict-item]  # what a configuration file may hold
