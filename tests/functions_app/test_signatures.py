import base64
import hashlib
import hmac
from collections.abc import Callable

import pytest
from azure.functions import HttpRequest
from pydantic import SecretStr

from functions_app.problems import problem_for
from functions_app.signatures import (
    HmacSignature,
    SignatureError,
    SignatureExpiredError,
    SignatureMalformedError,
    SignatureMissingError,
    SignatureWrongError,
    SignedTimestamp,
)

SECRET = "s3cret"
BODY = b'{"id": 1}'
SHOPIFY = "X-Shopify-Hmac-Sha256"
NOW = 1_700_000_000


def digest(content: bytes, secret: str = SECRET) -> bytes:
    return hmac.new(secret.encode(), content, hashlib.sha256).digest()


def base64_of(content: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(digest(content, secret)).decode()


def stamped(*, at: int = NOW, now: float = NOW, signed_at: int | None = None) -> Callable[[], None]:
    """Verify a signature made over one time, sent with another, at a third."""
    timestamp = SignedTimestamp("X-Time", max_age_seconds=300)
    signature = HmacSignature(SecretStr(SECRET), header="X-Sig", timestamp=timestamp, clock=lambda: now)
    content = f"{at if signed_at is None else signed_at}.".encode() + BODY
    return lambda: signature.verify(BODY, {"X-Sig": base64_of(content), "X-Time": str(at)})


def test_a_right_signature_is_accepted() -> None:
    """The default is Shopify's: base64 in its header."""
    HmacSignature(SecretStr(SECRET)).verify(BODY, {SHOPIFY: base64_of(BODY)})


def test_the_headers_of_a_request_are_understood_as_they_are() -> None:
    """Header names have no case, in a plain mapping or in the request's own."""
    signature = HmacSignature(SecretStr(SECRET))
    signature.verify(BODY, {SHOPIFY.upper(): base64_of(BODY)})
    request = HttpRequest("POST", "/", headers={SHOPIFY: base64_of(BODY)}, body=BODY)
    signature.verify(request.get_body(), request.headers)


def test_the_example_of_github_verifies() -> None:
    """Source: docs.github.com, 'Validating webhook deliveries', testing the webhook payload validation."""
    signature = HmacSignature(
        SecretStr("It's a Secret to Everybody"), header="X-Hub-Signature-256", encoding="hex", prefix="sha256="
    )
    sent = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    signature.verify(b"Hello, World!", {"X-Hub-Signature-256": sent})
    signature.verify(b"Hello, World!", {"X-Hub-Signature-256": "sha256=" + sent.removeprefix("sha256=").upper()})


def test_the_example_of_slack_verifies() -> None:
    """Source: docs.slack.dev, 'Verifying requests from Slack', step by step walk-through."""
    signature = HmacSignature(
        SecretStr("8f742231b10e8888abcd99yyyzzz85a5"),
        header="X-Slack-Signature",
        encoding="hex",
        prefix="v0=",
        timestamp=SignedTimestamp("X-Slack-Request-Timestamp", content="v0:{timestamp}:{body}"),
        clock=lambda: 1531420700,
    )
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F"
        b"96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    sent = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    signature.verify(body, {"X-Slack-Signature": sent, "X-Slack-Request-Timestamp": "1531420618"})


def test_a_changed_body_is_refused() -> None:
    """What is signed are the bytes, down to the last."""
    with pytest.raises(SignatureWrongError):
        HmacSignature(SecretStr(SECRET)).verify(BODY + b" ", {SHOPIFY: base64_of(BODY)})


def test_another_secret_is_refused() -> None:
    """Whoever does not know the secret cannot sign."""
    with pytest.raises(SignatureWrongError):
        HmacSignature(SecretStr(SECRET)).verify(BODY, {SHOPIFY: base64_of(BODY, "guess")})


def test_while_secrets_are_exchanged_each_is_accepted() -> None:
    """The new secret and the old one; no third."""
    signature = HmacSignature(SecretStr("new"), SecretStr("old"))
    signature.verify(BODY, {SHOPIFY: base64_of(BODY, "new")})
    signature.verify(BODY, {SHOPIFY: base64_of(BODY, "old")})
    with pytest.raises(SignatureWrongError):
        signature.verify(BODY, {SHOPIFY: base64_of(BODY, "older")})


@pytest.mark.parametrize("headers", [{}, {SHOPIFY: ""}, {SHOPIFY: "  "}, {"X-Other": "x"}])
def test_a_request_without_signature_is_told_so(headers: dict[str, str]) -> None:
    """A missing and an empty header are the same mistake."""
    with pytest.raises(SignatureMissingError) as refused:
        HmacSignature(SecretStr(SECRET)).verify(BODY, headers)
    assert refused.value.header == SHOPIFY


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("base64", "not base64!"),
        ("base64", base64_of(BODY)[:-4]),
        ("base64", base64_of(BODY) + "," + base64_of(BODY)),
        ("base64", "ñ" * 44),
        ("base64", digest(BODY).hex()),
        ("hex", digest(BODY).hex()[:-2]),
        ("hex", digest(BODY).hex(" ")),
        ("hex", "g" * 64),
        ("hex", "é" * 64),
        ("hex", base64_of(BODY)),
    ],
)
def test_what_cannot_be_a_signature_is_malformed(encoding: str, sent: str) -> None:
    """Wrong alphabet, wrong length, wrong encoding: a mistake in the sender's code, not in its secret."""
    form = "hex" if encoding == "hex" else "base64"
    with pytest.raises(SignatureMalformedError):
        HmacSignature(SecretStr(SECRET), encoding=form).verify(BODY, {SHOPIFY: sent})  # type: ignore[arg-type]  # a Literal


def test_a_missing_prefix_is_malformed() -> None:
    """A sender that names its algorithm must name it."""
    signature = HmacSignature(SecretStr(SECRET), encoding="hex", prefix="sha256=")
    with pytest.raises(SignatureMalformedError, match="sha256="):
        signature.verify(BODY, {SHOPIFY: digest(BODY).hex()})


@pytest.mark.parametrize("age", [-300, 0, 300])
def test_a_signed_time_near_now_is_accepted(age: int) -> None:
    """Clocks differ either way."""
    stamped(at=NOW - age)()


@pytest.mark.parametrize("age", [-301, 301, 10**6])
def test_a_signed_time_far_from_now_is_expired(age: int) -> None:
    """A request recorded earlier cannot be sent again later."""
    with pytest.raises(SignatureExpiredError):
        stamped(at=NOW - age)()


def test_the_time_itself_is_signed() -> None:
    """An old signature with a fresh time in its header is wrong."""
    with pytest.raises(SignatureWrongError):
        stamped(at=NOW, signed_at=NOW - 10_000)()


@pytest.mark.parametrize("sent", ["soon", "1.5", "-1", "\uff11\uff12", "9" * 13, "0x10"])
def test_a_time_that_is_no_number_is_malformed(sent: str) -> None:
    """Whole seconds in ASCII digits, nothing else."""
    signature = HmacSignature(SecretStr(SECRET), timestamp=SignedTimestamp("X-Time"), clock=lambda: NOW)
    with pytest.raises(SignatureMalformedError) as refused:
        signature.verify(BODY, {SHOPIFY: base64_of(BODY), "X-Time": sent})
    assert refused.value.header == "X-Time"


def test_a_missing_time_is_told_so() -> None:
    """Both headers belong to the signature."""
    signature = HmacSignature(SecretStr(SECRET), timestamp=SignedTimestamp("X-Time"), clock=lambda: NOW)
    with pytest.raises(SignatureMissingError, match="X-Time"):
        signature.verify(BODY, {SHOPIFY: base64_of(BODY)})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SignatureMissingError("X", "p"), "signature_missing"),
        (SignatureMalformedError("X", "p"), "signature_malformed"),
        (SignatureWrongError("X", "p"), "signature_wrong"),
        (SignatureExpiredError("X", "p"), "signature_expired"),
    ],
)
def test_each_reason_is_a_401_with_its_code(error: SignatureError, code: str) -> None:
    """Programs tell them apart by code."""
    answer = problem_for(error)
    assert answer.status_code == 401
    assert f'"code":"{code}"'.encode() in answer.get_body()


def test_no_message_holds_a_secret_or_the_right_signature() -> None:
    """An error must not help to forge."""
    with pytest.raises(SignatureWrongError) as refused:
        HmacSignature(SecretStr("CANARY")).verify(BODY, {SHOPIFY: base64_of(BODY)})
    assert "CANARY" not in str(refused.value)
    assert base64_of(BODY, "CANARY") not in str(refused.value)


@pytest.mark.parametrize("secrets", [(), ("",), ("good", "")])
def test_an_empty_secret_is_refused_at_once(secrets: tuple[str, ...]) -> None:
    """With it anybody could sign."""
    with pytest.raises(ValueError, match="secret"):
        HmacSignature(*map(SecretStr, secrets))


@pytest.mark.parametrize("content", ["{body}", "{timestamp}", "{body}.{timestamp}"])
def test_a_content_that_does_not_sign_both_is_refused(content: str) -> None:
    """A time that is not signed protects nothing."""
    with pytest.raises(ValueError, match="content"):
        SignedTimestamp("X-Time", content=content)
