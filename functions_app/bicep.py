"""What `provision` creates, as Bicep, for those who let a pipeline with more rights do it."""

from collections.abc import Mapping, Sequence
from typing import Any


def cosmos_bicep(database: str, containers: Sequence[Mapping[str, Any]]) -> str:
    """A Bicep module with the database and its containers in an account that exists; it puts out the database's name.

    Args:
        database: name of the database.
        containers: their descriptions.
    """
    name = bicep_text(database)
    parts = [
        _HEAD.replace("DATABASE", name),
        *(_container(each) for each in containers),
        _TAIL.replace("DATABASE", name),
    ]
    return "\n".join(parts)


_HEAD = """\
@description('Name of the Cosmos DB account')
param accountName string

resource account 'Microsoft.DocumentDB/databaseAccounts@2024-05-15' existing = {
  name: accountName
}

resource database 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2024-11-15' = {
  parent: account
  name: DATABASE
  properties: {
    resource: {
      id: DATABASE
    }
  }
}
"""

_TAIL = """\
output database string = DATABASE
"""

_CONTAINER = """\
resource SYMBOL 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2024-11-15' = {
  parent: database
  name: NAME
  properties: {
    resource: {
      id: NAME
      partitionKey: {
        paths: [PARTITION_KEY]
        kind: 'Hash'
        version: 2
      }
      uniqueKeyPolicy: {
        uniqueKeys: [UNIQUE_KEYS]
      }
      indexingPolicy: {
        indexingMode: 'consistent'
        automatic: true
        includedPaths: [INCLUDED]
        excludedPaths: [{ path: '/*' }]
      }TTL
    }
  }
}
"""


def _container(description: Mapping[str, Any]) -> str:
    name = str(description["id"])
    ttl = description.get("default_ttl")
    replacements = {
        "SYMBOL": name.replace("-", "_"),
        "NAME": bicep_text(name),
        "PARTITION_KEY": bicep_text(description["partition_key"]),
        "UNIQUE_KEYS": ", ".join(f"{{ paths: [{bicep_text(path)}] }}" for path in description["unique_keys"]),
        "INCLUDED": ", ".join(f"{{ path: {bicep_text(path)} }}" for path in description["indexed"]),
        "TTL": "" if ttl is None else f"\n      defaultTtl: {ttl}",
    }
    text = _CONTAINER
    for mark, value in replacements.items():
        text = text.replace(mark, value)
    return text


def bicep_text(value: str) -> str:
    """A Bicep string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${") + "'"
