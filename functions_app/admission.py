"""Who may call a query function: a principal of Entra ID with a role, or whoever has a key.

With platform authentication (App Service authentication), the platform checks the caller's token and hands its claims on
in the header `X-MS-CLIENT-PRINCIPAL`, which it removes from requests that come from outside. Without it anybody could
send that header. So it counts only when the operator says that the platform does this; then the functions themselves
decide whom they let in, and otherwise the host does, by function key.
"""

import hmac
from base64 import b64decode
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import orjson
from azure.functions import HttpRequest
from pydantic import SecretStr

from .problems import RequestError

KEY_HOLDER = "key"
"""Who is entered as caller when a key was shown: nobody knows more."""

_PRINCIPAL = "x-ms-client-principal"
_KEY = "x-functions-key"
_ENTRA = "aad"
_ROLES = {"roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"}
_OBJECT_ID = ("oid", "http://schemas.microsoft.com/identity/claims/objectidentifier")
_NAME = (
    "preferred_username",
    "upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    "azp",
    "appid",
)
_MAX_WHO = 200


class Role(StrEnum):
    """App roles of Entra ID; each opens what the table of functions says, and no more."""

    READ = "read"
    """Records."""
    AUDIT = "audit"
    """Audit trails, blame and deliveries."""
    OPERATE = "operate"
    """How far the stages are behind."""


class UnauthenticatedError(RequestError):
    """Nobody knows who calls."""

    status, code, title = 401, "unauthorized", "A token or a key is needed"


class ForbiddenError(RequestError):
    """The caller is known and may not do this."""

    status, code, title = 403, "forbidden", "A role is missing"


def admit(request: HttpRequest, role: Role, key: SecretStr | None) -> str:
    """Let a caller in, whom the platform has authenticated or who shows the key; gives who it is.

    Args:
        request: as the platform handed it on.
        role: what the principal has to have.
        key: opens every function; None if there is none.

    Raises:
        UnauthenticatedError: there is neither a principal of Entra ID nor the key.
        ForbiddenError: the principal lacks the role.
    """
    header = request.headers.get(_PRINCIPAL)
    if header is None:
        shown = request.headers.get(_KEY)
        if key is None or shown is None or not hmac.compare_digest(key.get_secret_value().encode(), shown.encode()):
            raise UnauthenticatedError("Sign in with Entra ID, or send the key in the header x-functions-key.")
        return KEY_HOLDER
    claims = list(_claims(header))
    who = _first(claims, _OBJECT_ID)
    if who is None:
        raise UnauthenticatedError("The platform named no principal of Entra ID; sign in with Entra ID.")
    if not any(kind in _ROLES and value == role for kind, value in claims):
        raise ForbiddenError(f"The app role {role} is needed; ask for it where the application is registered.")
    name = _first(claims, _NAME)
    return who if name is None else f"{name} {who}"


def _claims(header: str) -> Iterator[tuple[str, str]]:
    """Type and value of each claim; nothing if the header is not what the platform sends for Entra ID."""
    try:
        principal = orjson.loads(b64decode(header, validate=True))
    except ValueError:
        return
    if not isinstance(principal, dict) or principal.get("auth_typ") != _ENTRA:
        return
    claims: Any = principal.get("claims")
    for claim in claims if isinstance(claims, list) else ():
        if isinstance(claim, dict) and isinstance(claim.get("typ"), str) and isinstance(claim.get("val"), str):
            yield claim["typ"], claim["val"]


def _first(claims: list[tuple[str, str]], kinds: tuple[str, ...]) -> str | None:
    """The first claim of these types, as far as it can be shown."""
    found = dict(reversed(claims))
    text = next((found[kind] for kind in kinds if found.get(kind)), "")
    return "".join(character for character in text if character.isprintable())[: _MAX_WHO // 2] or None
