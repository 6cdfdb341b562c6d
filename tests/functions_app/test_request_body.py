import json

import pytest
from azure.functions import HttpRequest

from eventstore import MAX_DEPTH, InvalidEventError, normalize
from functions_app.request_body import (
    BodyTooLargeError,
    EmptyBodyError,
    MalformedJsonError,
    UnsupportedMediaTypeError,
    parse_json,
    read_json,
)


def post(body: bytes, **headers: str) -> HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest(
        "POST", "http://localhost/api/x", headers={"Content-Type": "application/json"} | named, body=body
    )


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "ñ"]}, [], "text", 7, None])
def test_a_json_document_is_read(value: object) -> None:
    """Any JSON value can be a document."""
    assert read_json(post(json.dumps(value).encode())) == value


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json;charset=utf8; version=1",
        "application/vnd.shop.order+json",
        "application/cloudevents+json; charset=utf-8",
    ],
)
def test_json_content_types_are_taken(content_type: str) -> None:
    """JSON under its own name, a structured suffix, and UTF-8 in any spelling."""
    assert read_json(post(b"{}", Content_Type=content_type)) == {}


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/jsonp",
        "application/x-www-form-urlencoded",
        "json",
        "+json",
        "application/json,text/plain",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
    ],
)
def test_other_content_types_are_refused(content_type: str) -> None:
    """What does not declare JSON in UTF-8 is a 415 that says what to send."""
    with pytest.raises(UnsupportedMediaTypeError) as refused:
        read_json(post(b"{}", Content_Type=content_type))
    assert refused.value.status == 415


def test_a_compressed_body_is_refused_as_such() -> None:
    """It would otherwise look like broken JSON."""
    with pytest.raises(UnsupportedMediaTypeError, match="Content-Encoding"):
        read_json(post(b"\x1f\x8b", Content_Encoding="gzip"))


def test_the_limit_is_a_number_of_bytes() -> None:
    """A body of exactly the limit is read, one byte more is a 413 with both numbers."""
    assert read_json(post(b'"ab"'), limit=4) == "ab"
    with pytest.raises(BodyTooLargeError) as refused:
        read_json(post(b'"abc"'), limit=4)
    assert (refused.value.status, refused.value.size, refused.value.limit) == (413, 5, 4)


def test_the_default_limit_is_256_kilobytes() -> None:
    """More than that is no event of a client."""
    text = b'"' + b"a" * (256 * 1024 - 2) + b'"'
    read_json(post(text))
    with pytest.raises(BodyTooLargeError):
        read_json(post(text + b" "))


@pytest.mark.parametrize("body", [b"", b"  \n\t "])
def test_an_empty_body_is_told_apart_from_a_broken_one(body: bytes) -> None:
    """Nothing at all is the commonest mistake and has a code of its own."""
    with pytest.raises(EmptyBodyError) as refused:
        read_json(post(body))
    assert (refused.value.status, refused.value.code) == (400, "empty_body")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{} {}",
        b"{'a': 1}",
        b"[1,]",
        b"nul",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1e400",
        b"01",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\\udc00 x"',
        b'"\t"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"1" * 5000,
        nested(100_000),
    ],
)
def test_what_is_not_strictly_json_is_refused(body: bytes) -> None:
    """Grammar, encoding and numbers after RFC 8259; the answer is a 400, never a crash."""
    with pytest.raises(MalformedJsonError) as refused:
        parse_json(body)
    assert refused.value.status == 400


def test_the_place_of_the_mistake_is_named_but_not_the_text() -> None:
    """Line and column help the sender; the text may be personal data."""
    with pytest.raises(MalformedJsonError, match="line 2, column") as refused:
        parse_json(b'{"email": "CANARY",\n CANARY}')
    assert "CANARY" not in str(refused.value)


def test_nesting_is_bounded_as_in_the_store() -> None:
    """32 levels are read, whatever is in the innermost; 33 are not."""
    for innermost in (b"[]", b"[1]"):
        deepest = b"[" * (MAX_DEPTH - 1) + innermost + b"]" * (MAX_DEPTH - 1)
        normalize(parse_json(deepest))
        with pytest.raises(MalformedJsonError, match="32 levels"):
            parse_json(b'{"a":' + deepest + b"}")


def test_a_key_twice_in_one_object_is_refused_by_name() -> None:
    """Two readers would take different values; at any level."""
    with pytest.raises(MalformedJsonError, match="email stands twice"):
        parse_json(b'[{"contact": {"email": "a@x", "phone": "1", "email": "b@x"}}]')
    assert parse_json(b'[{"email": 1}, {"email": 2}]') == [{"email": 1}, {"email": 2}]


def test_a_repeated_key_that_is_no_field_name_is_not_repeated_in_the_message() -> None:
    """Whoever uses addresses as keys finds none of them in an answer."""
    with pytest.raises(MalformedJsonError) as refused:
        parse_json(b'{"canary@example.com": 1, "canary@example.com": 2}')
    assert "canary" not in str(refused.value)


def test_many_different_keys_before_a_repeated_one_cost_little() -> None:
    """Finding the repeated key takes one pass; a quadratic search would take minutes here."""
    pairs = ",".join(f'"k{number}":0' for number in range(200_000))
    with pytest.raises(MalformedJsonError, match="k199999 stands twice"):
        parse_json(f'{{{pairs},"k199999":1}}'.encode())


@pytest.mark.parametrize("digits", [17, 20, 40, 300])
def test_large_integers_keep_their_digits_until_the_store_refuses_them(digits: int) -> None:
    """Turned into floats on the way they would be stored, changed and unnoticed."""
    number = int("9" * digits)
    value = parse_json(b'{"amount": %d}' % number)
    assert value == {"amount": number}
    with pytest.raises(InvalidEventError, match="amount"):
        normalize(value)
