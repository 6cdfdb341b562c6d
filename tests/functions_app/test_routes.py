import pytest

from functions_app.local_errors import InvalidRouteError
from functions_app.routes import MalformedPathError, RouteTable, RouteTemplate, path_parts


def match(template: str, path: str) -> dict[str, str] | None:
    return RouteTemplate(template).match(path_parts(path.encode()))


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("items", "/items", {}),
        ("items", "/ITEMS", {}),
        ("Items/List", "/items/list/", {}),
        ("items", "/items/7", None),
        ("items", "/item", None),
        ("items", "/", None),
        ("items", "//items", None),
        ("", "/", {}),
        ("items/{id}", "/items/Seven", {"id": "Seven"}),
        ("items/{id}", "/items", None),
        ("items/{id}", "/items/", None),
        ("items/{id}", "/items//", None),
        ("items/{id}/parts", "/items/7/parts", {"id": "7"}),
        ("items/{id}/parts", "/items//parts", None),
        ("{a}/{b}", "/1/2", {"a": "1", "b": "2"}),
        ("items/{id?}", "/items", {}),
        ("items/{id?}", "/items/7", {"id": "7"}),
        ("items/{id:int?}", "/items", {}),
        ("items/{id:int?}", "/items/x", None),
        ("items/{page=1}", "/items", {"page": "1"}),
        ("items/{page=1}", "/items/2", {"page": "2"}),
        ("items/{page:int=1}", "/items", {"page": "1"}),
        ("files/{*rest}", "/files/a/b", {"rest": "a/b"}),
        ("files/{**rest}", "/files/a/b/", {"rest": "a/b"}),
        ("files/{*rest}", "/files", {}),
        ("files/{*rest=index}", "/files", {"rest": "index"}),
        ("files/{*rest:maxlength(3)}", "/files/a/b", {"rest": "a/b"}),
        ("files/{*rest:maxlength(3)}", "/files/a/bc", None),
        ("report-{year:int}.csv", "/Report-2026.CSV", {"year": "2026"}),
        ("report-{year:int}.csv", "/report-x.csv", None),
        ("{a}-{b}", "/1-2", {"a": "1", "b": "2"}),
        ("{a}-{b}", "/12", None),
        ("{a}-{b}", "/", None),
    ],
)
def test_templates_match_as_on_azure(template: str, path: str, values: dict[str, str] | None) -> None:
    """Literals in any case, values in theirs; optional, default, catch-all and mixed segments."""
    assert match(template, path) == values


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ("int", ["0", "-7", "+7", "2147483647"], ["x", "1.0", "2147483648", "1_0", "٣", "9" * 5000]),
        ("long", ["9223372036854775807"], ["9223372036854775808", "1e3"]),
        ("bool", ["true", "FALSE"], ["1", "yes"]),
        ("decimal", ["1", "-1.5", ".5", "1."], ["1e3", "x", "."]),
        ("double", ["1", "1.5e-3"], ["x", "1e"]),
        ("float", ["1", "1.5E3"], ["NaNs", "1,5"]),
        ("alpha", ["abcXYZ"], ["a1", "é"]),
        (
            "guid",
            [
                "cd2c1638163872d5162372d51638cd2c",
                "CD2C1638-1638-72D5-1638-DEADBEEF1638",
                "(cd2c1638-1638-72d5-1638-deadbeef1638)",
            ],
            ["cd2c1638", "{cd2c1638-1638-72d5-1638-deadbeef1638", "g" * 32],
        ),
        ("datetime", ["2026-11-24", "2026-11-24T05:00:00+00:00"], ["2026-13-01", "soon"]),
        ("min(5)", ["5", "500"], ["4", "x"]),
        ("max(5)", ["5", "-3"], ["6"]),
        ("range(5,7)", ["5", "7"], ["4", "8"]),
        ("length(3)", ["abc"], ["ab", "abcd"]),
        ("length(2,3)", ["ab", "abc"], ["a", "abcd"]),
        ("minlength(2)", ["ab"], ["a"]),
        ("maxlength(2)", ["ab"], ["abc"]),
        ("required", ["x"], []),
        ("regex(^a+$)", ["aa", "A"], ["ab"]),
        (r"regex(^\d{{3}}-\d{{2}}$)", ["123-45"], ["123-4"]),
        (r"regex(^(ab)?c$)", ["abc", "c"], ["bc"]),
        ("int:min(3)", ["3"], ["2", "x"]),
        ("INT", ["3"], ["x"]),
    ],
)
def test_constraints_decide_by_the_text(check: str, good: list[str], bad: list[str]) -> None:
    """Each inline constraint of ASP.NET Core, with what it lets through and what not."""
    template = RouteTemplate(f"{{id:{check}}}")
    assert [text for text in good if template.match([text]) != {"id": text}] == []
    assert [text for text in bad if template.match([text]) is not None] == []


@pytest.mark.parametrize(
    "template",
    [
        "items/{id",
        "items/id}",
        "items/{}",
        "items/{{id}}",
        "items/{1d}",
        "items/{a b}",
        "items/{id:integer}",
        "items/{id:int(3)}",
        "items/{id:min}",
        "items/{id:min(x)}",
        "items/{id:range(1)}",
        "items/{id:regex([)}",
        "{*rest}/items",
        "{id?}/items",
        "a-{id?}",
        "a-{*rest}",
        "{id}/{ID}",
        "{id}-{id}",
    ],
)
def test_a_template_that_cannot_be_read_is_refused_by_name(template: str) -> None:
    """When the app starts, not when the first request comes."""
    with pytest.raises(InvalidRouteError) as refused:
        RouteTemplate(template)
    assert refused.value.template == template


@pytest.mark.parametrize(
    ("path", "winner"),
    [
        ("/items/list", "items/list"),
        ("/items/7", "items/{id:int}"),
        ("/items/x", "items/{id}"),
        ("/items/x/parts", "items/{id}/parts"),
        ("/items/x/y/z", "items/{*rest}"),
        ("/other", "{*all}"),
        ("/", "{*all}"),
    ],
)
def test_routes_are_tried_from_the_particular_to_the_general(path: str, winner: str) -> None:
    """Literals, then more constraints, then length; however they were declared."""
    templates = [
        "{*all}",
        "items/{*rest}",
        "items/{id}",
        "items/{id}/parts",
        "items/{id:int}",
        "items/list",
    ]
    for declared in (templates, templates[::-1]):
        table = RouteTable((RouteTemplate(template), None, template) for template in declared)
        found = table.find("GET", path_parts(path.encode()))
        assert found is not None
        assert found[0] == winner


def test_a_route_of_another_method_does_not_match() -> None:
    """Two functions share a path; a third method finds neither."""
    table = RouteTable(
        (RouteTemplate("items"), frozenset({method}), f"{method} function") for method in ("GET", "POST")
    )
    assert table.find("GET", ["items"]) == ("GET function", {})
    assert table.find("POST", ["items"]) == ("POST function", {})
    assert table.find("DELETE", ["items"]) is None
    assert table.find("HEAD", ["items"]) is None


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"/", []),
        (b"/a/b", ["a", "b"]),
        (b"/a/b/", ["a", "b"]),
        (b"/a//b", ["a", "", "b"]),
        (b"/a%20b", ["a b"]),
        (b"/a+b", ["a+b"]),
        (b"/Bogot%C3%A1", ["Bogotá"]),
        (b"/a%2Fb/c%2fd", ["a%2Fb", "c%2fd"]),
        (b"/a%252Fb", ["a%2Fb"]),
        (b"/a/./b", ["a", "b"]),
        (b"/a/../b", ["b"]),
        (b"/a/%2e%2E/b", ["b"]),
        (b"/../../a", ["a"]),
        (b"/a/...", ["a", "..."]),
        (b"/a/..%2f..%2fetc", ["a", "..%2f..%2fetc"]),
    ],
)
def test_a_path_is_decoded_and_resolved(path: bytes, parts: list[str]) -> None:
    """No part is ever `.` or `..`, and an encoded slash separates nothing."""
    assert path_parts(path) == parts


@pytest.mark.parametrize("path", [b"/%", b"/%4", b"/%zz", b"/a%", b"/%ff", b"/%C3", b"/%ed%a0%80", b"/a%00b"])
def test_a_path_that_is_no_text_is_refused(path: bytes) -> None:
    """Broken escapes, bytes that are not UTF-8, and NUL."""
    with pytest.raises(MalformedPathError):
        path_parts(path)
