"""Settings: everything that differs between two installations, read from the environment in this one place."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from .errors import MissingSettingError

DEFAULT_DOMAIN = "functions_app.sample:domain"
DEFAULT_DATA = ".client-flow"
DEFAULT_DATABASE = "client-flow"

_UNRESOLVED = "@Microsoft.KeyVault("


class Settings:
    """The settings of one process.

    | name | meaning |
    |---|---|
    | `CLIENT_FLOW_DOMAIN` | `package.module:attribute` of the domain; the sample if not given |
    | `CLIENT_FLOW_DATA` | directory of the embedded default; `.client-flow` if not given |
    | `COSMOS_CONN` | connection string of the Cosmos DB account; or |
    | `COSMOS_ENDPOINT` | its address, to go there by managed identity |
    | `DATABASE` | name of the database; `client-flow` if not given |
    | `BUS_CONN` | connection string of the Service Bus namespace; or |
    | `BUS_NAMESPACE` | its host name, to go there by managed identity |
    | `CLIENT_FLOW_KEY` | key that opens the functions on the local host; made up and shown at start if not given. With `CLIENT_FLOW_PLATFORM_AUTH` it opens the query functions wherever they run |
    | `CLIENT_FLOW_PLATFORM_AUTH` | `true` if App Service authentication is switched on before this app, so that its word on who calls can be trusted; anything else is no |
    | `CLIENT_FLOW_REF_KEY` | secret that references of clients are made with; if not given, one that is kept in the data directory, or, on Azure, one that lasts as long as the process |

    Whatever else a domain needs (addresses, secrets of its receivers and integrations) it asks for by name when it is
    first used, so that a missing setting never keeps an app from starting. A Key Vault reference that the platform could
    not resolve counts as not set.

    Args:
        environment: names and values; the process environment if not given.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment

    def _value(self, name: str) -> str | None:
        value = self._environment.get(name)
        # The platform leaves a reference that it could not resolve as it stands: anybody could guess such a secret.
        return None if value is None or value.startswith(_UNRESOLVED) else value

    @property
    def domain(self) -> str:
        """Where the domain is defined, as `package.module:attribute`."""
        return self._value("CLIENT_FLOW_DOMAIN") or DEFAULT_DOMAIN

    @property
    def data(self) -> Path:
        """Directory of the embedded default."""
        return Path(self._value("CLIENT_FLOW_DATA") or DEFAULT_DATA)

    @property
    def on_azure(self) -> bool:
        """Whether data lives on Cosmos DB; otherwise in the data directory."""
        return bool(self._value("COSMOS_CONN") or self._value("COSMOS_ENDPOINT"))

    @property
    def cosmos(self) -> str:
        """Connection string of the Cosmos DB account, or its address.

        Raises:
            MissingSettingError: neither is set.
        """
        return self._value("COSMOS_CONN") or self.text("COSMOS_ENDPOINT")

    @property
    def database(self) -> str:
        """Name of the database."""
        return self._value("DATABASE") or DEFAULT_DATABASE

    @property
    def on_bus(self) -> bool:
        """Whether a Service Bus namespace is named."""
        return bool(self._value("BUS_CONN") or self._value("BUS_NAMESPACE"))

    @property
    def bus(self) -> str:
        """Connection string of the Service Bus namespace, or its host name.

        Raises:
            MissingSettingError: neither is set.
        """
        return self._value("BUS_CONN") or self.text("BUS_NAMESPACE")

    @property
    def key(self) -> SecretStr | None:
        """Key that opens the functions on the local host."""
        value = self._value("CLIENT_FLOW_KEY")
        return SecretStr(value) if value else None

    @property
    def platform_auth(self) -> bool:
        """Whether the platform authenticates callers and removes what pretends to come from it."""
        return (self._value("CLIENT_FLOW_PLATFORM_AUTH") or "").lower() == "true"

    @property
    def ref_key(self) -> SecretStr | None:
        """Secret that references of clients are made with."""
        value = self._value("CLIENT_FLOW_REF_KEY")
        return SecretStr(value) if value else None

    @property
    def environment(self) -> Mapping[str, str]:
        """All settings by name, for what `%NAME%` stands for in schedules."""
        return self._environment

    def text(self, name: str) -> str:
        """The value of a setting.

        Raises:
            MissingSettingError: it is not set, or empty.
        """
        value = self._value(name)
        if not value:
            raise MissingSettingError(name)
        return value

    def secret(self, name: str) -> SecretStr:
        """The value of a setting that must not be shown.

        Raises:
            MissingSettingError: it is not set, or empty.
        """
        return SecretStr(self.text(name))
