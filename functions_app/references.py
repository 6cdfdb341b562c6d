"""References: what logs, spans, metrics and access entries call a client or event, since none of them may hold an id.

A reference is a keyed hash, the same wherever the key is the same. Ids are few and easily guessed, so that without a
key anybody could try them all.
"""

import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from pydantic import SecretStr

from .settings import Settings

_BYTES = 8  # of a reference: among 100,000 clients two share one with a chance of one in three billion
_KEY_BYTES = 32

_log = logging.getLogger(__name__)


class References:
    """Makes references.

    Args:
        key: whoever has it can find the client of a reference by trying ids.
    """

    def __init__(self, key: SecretStr) -> None:
        secret = blake2b(key.get_secret_value().encode(), digest_size=_KEY_BYTES).digest()
        self._client = _maker(secret, b"client")
        self._event = _maker(secret, b"event")

    def client(self, client_id: str) -> str:
        """16 hexadecimal digits that stand for a client."""
        return self._client(client_id)

    def event(self, event_id: str) -> str:
        """16 hexadecimal digits that stand for an event."""
        return self._event(event_id)


def references_for(settings: Settings) -> References:
    """The references of an installation: made with the key that is set, or the one kept in the data directory."""
    if settings.ref_key is not None:
        return References(settings.ref_key)
    if not settings.on_azure:
        with suppress(OSError):  # a directory that can only be read
            return References(_kept_key(settings.data))
    _log.warning("Clients are called differently in each process and after each start; set CLIENT_FLOW_REF_KEY")
    return References(random_key())


def random_key() -> SecretStr:
    """A new key."""
    return SecretStr(secrets.token_hex(_KEY_BYTES))


def _kept_key(directory: Path) -> SecretStr:
    """The key of a data directory, in its file `references.key`, which is made for its owner only if it is missing.

    Raises:
        OSError: it can neither be read nor be made.
    """
    file = directory / "references.key"
    if not file.exists():
        mine = directory / f"references.key.{secrets.token_hex(8)}"
        with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600), "w") as written:
            written.write(random_key().get_secret_value())
            written.flush()
            os.fsync(written.fileno())
        try:
            os.link(mine, file)  # whole or not at all: another process may open the directory at the same moment
        except FileExistsError:
            pass  # it was faster, and its key is the one
        finally:
            mine.unlink()
    return SecretStr(file.read_text())


def _maker(secret: bytes, person: bytes) -> Callable[[str], str]:
    started = blake2b(key=secret, person=person, digest_size=_BYTES)

    def reference(text: str) -> str:
        hashed = started.copy()
        hashed.update(text.encode())
        return hashed.hexdigest()

    return reference
