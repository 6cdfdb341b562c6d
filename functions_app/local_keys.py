"""Access keys of the local host, with the meaning they have on Azure.

Source: https://learn.microsoft.com/azure/azure-functions/function-keys-how-to. A function key opens its function, a
host key every function, the master key everything including the administration.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from azure.functions import AuthLevel
from pydantic import SecretStr


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKeys:
    """The keys a host accepts; without any, only anonymous functions can be called.

    Attributes:
        master: opens functions of every level and the administration.
        host: open every function of level `function`.
        functions: open the function they are listed under.

    Raises:
        ValueError: a key is empty.
    """

    master: SecretStr | None = None
    host: Sequence[SecretStr] = ()
    functions: Mapping[str, Sequence[SecretStr]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an empty key, which a request without one would present."""
        listed = [key for keys in self.functions.values() for key in keys]
        if not all(key.get_secret_value() for key in [*self._master(), *self.host, *listed]):
            raise ValueError("an access key is empty; leave it out instead")

    def admits(self, presented: str | None, level: AuthLevel, function: str) -> bool:
        """Whether a request that presents this key may call a function of this level."""
        if level is AuthLevel.ANONYMOUS:
            return True
        if presented is None:
            return False
        accepted = self._master()
        if level is AuthLevel.FUNCTION:
            accepted = [*accepted, *self.host, *self.functions.get(function, ())]
        matches = [hmac.compare_digest(key.get_secret_value().encode(), presented.encode()) for key in accepted]
        return any(matches)  # a list, so that the time does not tell which key it was

    def _master(self) -> list[SecretStr]:
        return [] if self.master is None else [self.master]
