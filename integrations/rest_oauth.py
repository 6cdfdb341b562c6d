"""Access tokens by OAuth 2.0 (RFC 6749): fetched late, kept long, renewed once for all who need it."""

import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from .errors import IntegrationDefinitionError, TokenError
from .resource import check_url
from .rest_auth import Credential, header_credential

if TYPE_CHECKING:
    from requests import Response

_LEEWAY = 60.0  # seconds before its end at which a token is no longer used
_NEVER = float("inf")
_CODES = {  # RFC 6749, section 5.2
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
}


class _OAuth2:
    """An access token, fetched when first needed and kept until it ends or the target refuses it.

    Many callers share one request to the token endpoint, and also its failure.
    """

    def __init__(
        self,
        token_url: str,
        grant: dict[str, Any],
        secrets: Sequence[SecretStr],
        client: tuple[str | None, SecretStr | None],
        clock: Callable[[], float],
    ) -> None:
        self._token_url = check_url(token_url, "Token URL")
        self._grant, self._client, self._clock = grant, client, clock
        self._fixed_secrets = secrets
        self._lock = Lock()
        self._held: tuple[Credential, float] | None = None
        self._requests = 0
        self._failure: TokenError | None = None

    def credential(self, *, timeout: float) -> Credential | None:
        """See `Auth.credential`."""
        return self._usable(None) or self._fetched(None, timeout)

    def renewed(self, refused: Credential | None, *, timeout: float) -> Credential | None:
        """See `Auth.renewed`."""
        return self._usable(refused) or self._fetched(refused, timeout)

    def secrets(self) -> Sequence[SecretStr]:
        """See `Auth.secrets`."""
        held = self._held
        if held is None:
            return self._fixed_secrets
        return (*self._fixed_secrets, SecretStr(held[0].value.get_secret_value().removeprefix("Bearer ")))

    def _usable(self, refused: Credential | None) -> Credential | None:
        held = self._held
        return held[0] if held is not None and held[0] is not refused and self._clock() < held[1] else None

    def _fetched(self, refused: Credential | None, timeout: float) -> Credential:
        seen = self._requests
        with self._lock:
            usable = self._usable(refused)
            if usable is not None:
                return usable
            if self._requests != seen and self._failure is not None:
                raise TokenError(self._failure.code, refused=self._failure.refused)
            self._requests += 1
            try:
                token = self._request(timeout)
                credential = _bearer(token.get("access_token"))
            except TokenError as error:
                self._failure = error
                raise
            self._failure = None
            self._held = (credential, self._clock() + _lifetime(token.get("expires_in")))
            return credential

    def _request(self, timeout: float) -> dict[str, Any]:
        from authlib.integrations.base_client import OAuthError
        from authlib.integrations.requests_client import OAuth2Session
        from requests import HTTPError, RequestException

        client_id, client_secret = self._client
        secret = None if client_secret is None else client_secret.get_secret_value()
        grant = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in self._grant.items()
        }
        # What the server says in words may repeat what it was sent: only its code is kept, and no cause.
        try:
            with OAuth2Session(client_id, secret) as session:
                session.register_compliance_hook("access_token_response", _check_status)
                token: dict[str, Any] = session.fetch_token(
                    self._token_url, timeout=timeout, allow_redirects=False, **grant
                )
                return token
        except OAuthError as error:
            code = str(error.error)
            code = code if code in _CODES else "token_refused"
            raise TokenError(code, refused=True) from None
        except HTTPError as error:
            raise TokenError(f"token_http_{error.response.status_code}", refused=True) from None
        except RequestException as error:
            raise TokenError(f"token_{type(error).__name__.lower()}", refused=False) from None
        except (KeyError, TypeError, ValueError):
            raise TokenError("token_answer", refused=True) from None


class OAuth2ClientCredentials(_OAuth2):
    """An access token for the application itself (RFC 6749, section 4.4).

    Args:
        token_url: the token endpoint.
        client_id: the application.
        client_secret: its secret, sent as HTTP basic authentication.
        scope: what is asked for.
        clock: seconds that only grow.

    Raises:
        IntegrationDefinitionError: secrets may not go to that URL.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: SecretStr,
        *,
        scope: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        grant: dict[str, Any] = {"grant_type": "client_credentials"}
        if scope is not None:
            grant["scope"] = scope
        super().__init__(token_url, grant, [client_secret], (client_id, client_secret), clock)


class OAuth2Password(_OAuth2):
    """An access token for a user's name and password (RFC 6749, section 4.3), for targets that offer nothing better.

    Args:
        token_url: the token endpoint.
        username: the user.
        password: the user's password, sent in the request body.
        client_id: the application, if it has to name itself.
        client_secret: its secret, sent as HTTP basic authentication.
        scope: what is asked for.
        clock: seconds that only grow.

    Raises:
        IntegrationDefinitionError: secrets may not go to that URL.
    """

    def __init__(
        self,
        token_url: str,
        username: str,
        password: SecretStr,
        *,
        client_id: str | None = None,
        client_secret: SecretStr | None = None,
        scope: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        grant: dict[str, Any] = {"grant_type": "password", "username": username, "password": password}
        if scope is not None:
            grant["scope"] = scope
        secrets = [password] if client_secret is None else [password, client_secret]
        super().__init__(token_url, grant, secrets, (client_id, client_secret), clock)


def _check_status(response: "Response") -> "Response":
    """What only a later request can change is told apart from a refusal, whatever the body says."""
    if response.status_code == 429 or response.status_code >= 500:  # noqa: PLR2004 - throttled, or out of order
        raise TokenError(f"token_http_{response.status_code}", refused=False)
    return response


def _bearer(token: object) -> Credential:
    try:
        return header_credential("Authorization", SecretStr(token if isinstance(token, str) else ""), prefix="Bearer ")
    except IntegrationDefinitionError:
        raise TokenError("token_answer", refused=True) from None


def _lifetime(expires_in: object) -> float:
    """Seconds for which a token is used; until it is refused if the server does not say."""
    try:
        seconds = float(str(expires_in))
    except ValueError:
        return _NEVER
    return seconds - min(_LEEWAY, seconds / 2)
