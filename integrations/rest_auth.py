"""How a REST call proves who makes it. Secrets go into headers and request bodies, never into addresses."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pydantic import SecretStr

from .errors import IntegrationDefinitionError


class Credential(NamedTuple):
    """A header that proves who calls."""

    header: str
    value: SecretStr


class Auth(Protocol):
    """Gives each call its credential. One object serves many threads."""

    def credential(self, *, timeout: float) -> Credential | None:
        """The credential for a call, None if none is needed.

        Raises:
            TokenError: there is none to be had.
        """

    def renewed(self, refused: Credential | None, *, timeout: float) -> Credential | None:
        """Another one in place of a credential that the target refused; None if there can be no other.

        Raises:
            TokenError: there is none to be had.
        """

    def secrets(self) -> Sequence[SecretStr]:
        """What must not show in any log."""


class _FixedAuth:
    """The same credential for every call."""

    def __init__(self, credential: Credential | None, *secrets: SecretStr) -> None:
        self._credential, self._secrets = credential, secrets

    def credential(self, *, timeout: float) -> Credential | None:  # noqa: ARG002 - of the protocol
        """See `Auth.credential`."""
        return self._credential

    def renewed(self, refused: Credential | None, *, timeout: float) -> Credential | None:  # noqa: ARG002 - of the protocol
        """See `Auth.renewed`."""
        return None

    def secrets(self) -> Sequence[SecretStr]:
        """See `Auth.secrets`."""
        return self._secrets


class NoAuth(_FixedAuth):
    """For targets that let everybody in."""

    def __init__(self) -> None:
        super().__init__(None)


class ApiKey(_FixedAuth):
    """A fixed key in a header.

    Args:
        key: the key.
        header: name of the header.

    Raises:
        IntegrationDefinitionError: the key cannot stand in a header.
    """

    def __init__(self, key: SecretStr, *, header: str = "X-Api-Key") -> None:
        super().__init__(header_credential(header, key), key)


class BearerToken(_FixedAuth):
    """A fixed bearer token (RFC 6750).

    Args:
        token: the token.

    Raises:
        IntegrationDefinitionError: the token cannot stand in a header.
    """

    def __init__(self, token: SecretStr) -> None:
        super().__init__(header_credential("Authorization", token, prefix="Bearer "), token)


def header_credential(header: str, secret: SecretStr, *, prefix: str = "") -> Credential:
    """A secret as the value of a header.

    Raises:
        IntegrationDefinitionError: it is empty or holds what no header may hold.
    """
    value = secret.get_secret_value()
    if not value or not value.isascii() or not value.isprintable() or value != value.strip():
        raise IntegrationDefinitionError(f"The secret for {header} is empty or holds what no header may hold.")
    return Credential(header, SecretStr(prefix + value))
