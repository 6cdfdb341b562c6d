"""Signed webhooks: an HMAC over the raw body tells that the sender knows the secret.

    SignatureError (a RequestError, 401)
    +-- SignatureMissingError    a header is not there
    +-- SignatureMalformedError  a header cannot be what it should be
    +-- SignatureWrongError      made with another secret, or over another body
    +-- SignatureExpiredError    made too long ago, or in the future

Verify before parsing: what is signed are the bytes, and an unsigned body is nobody's word.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from .problems import RequestError

_DIGEST_SIZE = hashlib.sha256().digest_size
_LONGEST_TIMESTAMP = 12  # digits, enough until the year 33658


class SignatureError(RequestError):
    """Base of why a signature is not accepted.

    Attributes:
        header: name of the header concerned.
    """

    status = 401

    def __init__(self, header: str, problem: str) -> None:
        self.header = header
        super().__init__(f"{header}: {problem}.")


class SignatureMissingError(SignatureError):
    """A header that belongs to the signature is not there."""

    code, title = "signature_missing", "The request is not signed"


class SignatureMalformedError(SignatureError):
    """A header that belongs to the signature cannot be read."""

    code, title = "signature_malformed", "The signature cannot be read"


class SignatureWrongError(SignatureError):
    """The signature does not belong to this body and any accepted secret."""

    code, title = "signature_wrong", "The signature does not match"


class SignatureExpiredError(SignatureError):
    """The signature is right, but its time is too far from now: perhaps a replay."""

    code, title = "signature_expired", "The signature is too old"


@dataclass(frozen=True, slots=True)
class SignedTimestamp:
    """A time that is signed together with the body, so that an old request cannot be sent again.

    Attributes:
        header: name of the header with the seconds since 1970.
        max_age_seconds: how far from now, either way, the time may be.
        content: what is signed, with `{timestamp}` and, at the end, `{body}`.
    """

    header: str
    max_age_seconds: int = 300
    content: str = "{timestamp}.{body}"

    def __post_init__(self) -> None:
        """Refuse a form that would not sign both."""
        if "{timestamp}" not in self.content or not self.content.endswith("{body}"):
            raise ValueError("content must hold {timestamp} and end with {body}")


class HmacSignature:
    """How one sender signs: an HMAC-SHA256 in a header.

        HmacSignature(secret)                                                             # Shopify
        HmacSignature(secret, header="X-Hub-Signature-256", encoding="hex", prefix="sha256=")   # GitHub
        HmacSignature(secret, header="X-Slack-Signature", encoding="hex", prefix="v0=",
                      timestamp=SignedTimestamp("X-Slack-Request-Timestamp", content="v0:{timestamp}:{body}"))

    Args:
        secrets: one, or several while secrets are being exchanged: each is accepted.
        header: name of the header with the signature.
        encoding: how the header spells the 32 bytes.
        prefix: what stands before them.
        timestamp: the time signed with the body, if the sender sends one.
        clock: seconds since 1970.

    Raises:
        ValueError: no secret, or an empty one.
    """

    def __init__(
        self,
        *secrets: SecretStr,
        header: str = "X-Shopify-Hmac-Sha256",
        encoding: Literal["base64", "hex"] = "base64",
        prefix: str = "",
        timestamp: SignedTimestamp | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not secrets or not all(secret.get_secret_value() for secret in secrets):
            raise ValueError("at least one secret is needed, and none may be empty: anybody could sign with that")
        self._secrets = secrets
        self._header, self._encoding, self._prefix = header, encoding, prefix
        self._timestamp = timestamp
        self._clock = clock

    def verify(self, raw_body: bytes, headers: Mapping[str, str]) -> None:
        """Return if the body is signed with one of the secrets.

        Args:
            raw_body: the body exactly as it came.
            headers: the request's headers, in any case.

        Raises:
            SignatureMissingError: a header is not there.
            SignatureMalformedError: a header cannot be read.
            SignatureWrongError: the signature is not of this body and any of the secrets.
            SignatureExpiredError: it is, but its time is too far from now.
        """
        presented = self._presented(headers)
        if self._timestamp is None:
            self._compare(presented, raw_body)
            return
        signed_at = _header(headers, self._timestamp.header)
        if not (signed_at.isascii() and signed_at.isdigit() and len(signed_at) <= _LONGEST_TIMESTAMP):
            raise SignatureMalformedError(self._timestamp.header, "whole seconds since 1970 were expected")
        before_body = self._timestamp.content.removesuffix("{body}").replace("{timestamp}", signed_at)
        self._compare(presented, before_body.encode() + raw_body)
        if abs(self._clock() - int(signed_at)) > self._timestamp.max_age_seconds:
            raise SignatureExpiredError(
                self._timestamp.header,
                f"more than {self._timestamp.max_age_seconds} seconds from now; sign again, and check the clock",
            )

    def _presented(self, headers: Mapping[str, str]) -> bytes:
        text = _header(headers, self._header)
        if not text.startswith(self._prefix):
            raise SignatureMalformedError(self._header, f"{self._prefix!r} was expected in front")
        text = text.removeprefix(self._prefix)
        try:
            digest = base64.b64decode(text, validate=True) if self._encoding == "base64" else binascii.unhexlify(text)
        except ValueError:
            digest = b""
        if len(digest) != _DIGEST_SIZE:
            raise SignatureMalformedError(self._header, f"{_DIGEST_SIZE} bytes in {self._encoding} were expected")
        return digest

    def _compare(self, presented: bytes, content: bytes) -> None:
        matches = [
            hmac.compare_digest(hmac.digest(secret.get_secret_value().encode(), content, "sha256"), presented)
            for secret in self._secrets
        ]
        if not any(matches):  # a list, so that the time does not tell which secret it was
            raise SignatureWrongError(self._header, "not made with an accepted secret over this body")


def _header(headers: Mapping[str, str], name: str) -> str:
    value = next((value for key, value in headers.items() if key.lower() == name.lower()), "").strip()
    if not value:
        raise SignatureMissingError(name, "the header was expected and is not there")
    return value
