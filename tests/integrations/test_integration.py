"""Declarations of integrations."""

from typing import Any

import pytest

from integrations import Integration, IntegrationDefinitionError
from tests.integrations.world import TargetDouble, mail


def declared(**changed: Any) -> Integration:
    options: dict[str, Any] = {"name": "crm", "cares_about": ("contact",), "mapping": mail, "strategy": TargetDouble()}
    return Integration(**{**options, **changed})


@pytest.mark.parametrize("name", ["crm", "a", "crm-2_x", "a" * 40])
def test_names_that_fit_everywhere(name: str) -> None:
    """Lower-case letters, digits, `-` and `_`, at most 40."""
    assert declared(name=name).name == name


@pytest.mark.parametrize("name", ["", "Crm", "2crm", "-crm", "c rm", "crm/x", "crm\n", "é", "a" * 41])
def test_other_names_are_refused(name: str) -> None:
    """A name that could not be a subscription or part of an id fails while the application starts."""
    with pytest.raises(IntegrationDefinitionError, match="name"):
        declared(name=name)


@pytest.mark.parametrize("wrong", [{"cares_about": ()}, {"cares_about": "contact"}, {"max_in_flight": 0}])
def test_declarations_that_would_never_deliver_are_refused(wrong: dict[str, Any]) -> None:
    """Caring about nothing, about the letters of a word, or making no calls is a mistake."""
    with pytest.raises(IntegrationDefinitionError, match="crm"):
        declared(**wrong)
