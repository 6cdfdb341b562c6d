"""Addresses of calls: values stay where they are put."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations import IntegrationDefinitionError, ResourceValueError
from integrations.resource import Resource, check_url


def test_values_fill_path_and_query() -> None:
    """Texts and whole numbers stand where their name stood."""
    resource = Resource("GET /v1/contacts/{remote}/mails?kind={kind}&page={page}")
    assert resource.method == "GET"
    assert resource.names == {"remote", "kind", "page"}
    assert resource.address({"remote": "r1", "kind": "work", "page": 2}) == "/v1/contacts/r1/mails?kind=work&page=2"


@pytest.mark.parametrize("value", ["..", ".", ""])
def test_a_value_cannot_lead_elsewhere(value: str) -> None:
    """A segment that would be dots or nothing is refused; the message does not repeat it."""
    with pytest.raises(ResourceValueError, match="remote"):
        Resource("PUT /contacts/{remote}").address({"remote": value})


def test_dots_in_two_values_cannot_join() -> None:
    """What counts is the whole segment."""
    with pytest.raises(ResourceValueError):
        Resource("PUT /contacts/{a}{b}").address({"a": ".", "b": "."})
    assert Resource("PUT /contacts/v{a}").address({"a": ".."}) == "/contacts/v.."


@pytest.mark.parametrize("value", [None, True, 1.5, ["a"], {"a": 1}])
def test_other_values_are_refused(value: object) -> None:
    """Only texts and whole numbers have one spelling in an address."""
    with pytest.raises(ResourceValueError):
        Resource("PUT /contacts/{remote}").address({"remote": value})


def test_a_missing_value_is_named() -> None:
    """A body without the field the address needs is told which."""
    with pytest.raises(ResourceValueError) as raised:
        Resource("PUT /contacts/{email}").address({})
    assert raised.value.name == "email"


@given(st.text(min_size=1).filter(lambda text: text not in {".", ".."} and text.isprintable()))
def test_no_value_adds_segments_or_parameters(value: str) -> None:
    """Slashes, question marks, ampersands and percent signs in a value stay in the value."""
    address = Resource("PUT /a/{x}/b?q={x}&r=1").address({"x": value})
    path, _, query = address.partition("?")
    assert path.count("/") == 3
    assert query.count("&") == 1
    assert "#" not in address
    assert address.isascii()


@pytest.mark.parametrize(
    "template",
    [
        "contacts",
        "FETCH /contacts",
        "POST contacts",
        "POST https://elsewhere/contacts",
        "POST /a/../b",
        "POST /./b",
        "POST /a#b",
        "POST /a b",
        "POST /{x!r}",
        "POST /{x:>9}",
        "POST /{x.y}",
        "POST /{}",
        "POST /{x",
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str) -> None:
    """A wrong declaration fails while the application starts."""
    with pytest.raises(IntegrationDefinitionError):
        Resource(template)


@pytest.mark.parametrize(
    "url", ["https://crm.example/api/", "http://localhost:8080", "http://127.0.0.1", "http://[::1]:1/x"]
)
def test_secrets_may_go_there(url: str) -> None:
    """Https anywhere, http on this machine."""
    assert check_url(url, "Base URL") == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://crm.example",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "ftp://localhost",
        "https://user:canary@crm.example",
        "https://canary@crm.example",
        "https://crm.example?key=canary",
        "https://crm.example#canary",
        "https://",
        "crm.example",
        "",
    ],
)
def test_secrets_may_not_go_there(url: str) -> None:
    """Http elsewhere and URLs that hold secrets are refused, without repeating them."""
    with pytest.raises(IntegrationDefinitionError) as raised:
        check_url(url, "Base URL")
    assert "canary" not in str(raised.value)
