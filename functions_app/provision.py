"""Provisioning on Cosmos DB: which containers there have to be, which there are, and what has to be done."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from azure.cosmos import CosmosClient, DatabaseProxy, PartitionKey
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from eventstore import cosmos_errors, key_differences

Description = Mapping[str, Any]


class Finding(NamedTuple):
    """What a container, topic, subscription or queue needs.

    Attributes:
        name: its name.
        state: `missing`, `as it should be`, `differs` if it can be changed, `cannot be used` if it would have to be
            made anew.
        details: what differs: what is there and what was expected.
    """

    name: str
    state: str
    details: tuple[str, ...] = ()


def inspect(client: CosmosClient, database: str, containers: Sequence[Description]) -> list[Finding]:
    """Compare what is there with what has to be there; changes nothing.

    Raises:
        StoreUnavailableError: the account is out of reach.
        StoreRefusedError: the identity may not look.
    """
    with cosmos_errors():
        found = client.get_database_client(database)
        try:
            found.read()
        except CosmosResourceNotFoundError:
            return [Finding(each["id"], "missing") for each in containers]
        return [_inspect(found, each) for each in containers]


def provision(client: CosmosClient, database: str, containers: Sequence[Description]) -> list[Finding]:
    """Create what is missing and change what differs; gives the findings before that.

    A container that cannot be used is left as it is.

    Raises:
        StoreUnavailableError: the account is out of reach.
        StoreRefusedError: the identity may not do it. Data-plane roles cannot create containers; use a key, or Bicep.
    """
    findings = inspect(client, database, containers)
    with cosmos_errors():
        target = client.create_database_if_not_exists(database)
        for finding, description in zip(findings, containers, strict=True):
            if finding.state == "missing":
                target.create_container(
                    description["id"],
                    PartitionKey(description["partition_key"]),
                    unique_key_policy=_unique_keys(description),
                    indexing_policy=indexing_policy(description),
                    default_ttl=description.get("default_ttl"),
                )
            elif finding.state == "differs":
                target.replace_container(
                    description["id"],
                    PartitionKey(description["partition_key"]),
                    indexing_policy=indexing_policy(description),
                    default_ttl=description.get("default_ttl"),
                )
    return findings


def indexing_policy(description: Description) -> dict[str, Any]:
    """Only what is searched is indexed: every further path would make each write dearer."""
    return {
        "indexingMode": "consistent",
        "automatic": True,
        "includedPaths": [{"path": path} for path in description["indexed"]],
        "excludedPaths": [{"path": "/*"}],
    }


def _inspect(database: DatabaseProxy, description: Description) -> Finding:
    name = str(description["id"])
    try:
        there = database.get_container_client(name).read()
    except CosmosResourceNotFoundError:
        return Finding(name, "missing")
    fixed = key_differences(there, description)
    policy = there.get("indexingPolicy", {})
    changeable = [
        difference("indexed paths", _paths(policy.get("includedPaths", [])), sorted(description["indexed"])),
        difference("default ttl", there.get("defaultTtl"), description.get("default_ttl")),
    ]
    return state_of(name, fixed, changeable)


def state_of(name: str, fixed: Sequence[str | None], changeable: Sequence[str | None]) -> Finding:
    """The finding that follows from what differs among the properties that are fixed and among the others."""
    problems = tuple(problem for problem in (*fixed, *changeable) if problem)
    state = "cannot be used" if any(fixed) else "differs" if problems else "as it should be"
    return Finding(name, state, problems)


def _paths(paths: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(str(path["path"]) for path in paths)


def difference(what: str, there: object, expected: object) -> str | None:
    """What there is to say of a property; None if it is as expected."""
    return None if there == expected else f"{what}: {there} is there, {expected} was expected"


def _unique_keys(description: Description) -> dict[str, Any] | None:
    paths = description["unique_keys"]
    return {"uniqueKeys": [{"paths": [path]} for path in paths]} if paths else None
