"""Cosmos DB through azure-cosmos: clients that open late, and SDK errors in the words of this package."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError
from azure.cosmos import ContainerProxy, CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import CosmosBatchOperationError

from .errors import StoreRefusedError, StoreUnavailableError, WrongContainerError

_READ_SECONDS = 10  # the SDK's own 65 s outlast the lock of a queue message
_CONNECT_SECONDS = 5

_CONFLICT = {409, 412}
_NOT_STORED = {429, 449}
_BEHIND = (404, 1002)  # read session not available
_PERMANENT = {400, 401, 403, 404, 413}


class WriteConflictError(Exception):
    """Somebody else wrote first: an id, a unique key or an etag was not what the write expected. Never leaves adapters."""


class OutcomeUnknownError(StoreUnavailableError):
    """No answer came, or one that leaves open whether the write was stored; reading tells."""


def open_cosmos(connection: str, *, on_charge: Callable[[float], None] = lambda _: None) -> CosmosClient:
    """A client for a connection string (`AccountEndpoint=...;AccountKey=...`) or, by managed identity, for an endpoint.

    Asks the account where it is, so it must not be called while a module is imported.

    Args:
        connection: connection string or endpoint.
        on_charge: told the request units that each answer charged.

    Raises:
        StoreUnavailableError: the account is out of reach.
    """
    for name in ("azure.core.pipeline.policies.http_logging_policy", "azure.cosmos", "azure.identity"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log addresses with client ids
    options: dict[str, Any] = {
        "connection_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "enable_compact_utf8_item_writes": True,  # else a letter with an accent takes three times its size in a request
    }

    def charged(response: Any) -> None:
        charge = response.http_response.headers.get("x-ms-request-charge")
        if charge is not None:
            on_charge(float(charge))

    options["raw_response_hook"] = charged
    with cosmos_errors():
        if connection.startswith("https://"):
            from azure.identity import DefaultAzureCredential

            return CosmosClient(connection, DefaultAzureCredential(), **options)
        return CosmosClient.from_connection_string(connection, **options)


def cosmos_container(database: DatabaseProxy, description: Mapping[str, Any]) -> ContainerProxy:
    """A container that is as described, as far as its guarantees rest on it.

    With other unique keys an event could be stored twice, with another partition key far from its client, and the service
    would not say a word. Asking takes a request or two, when a process starts.

    Raises:
        WrongContainerError: partition key or unique keys differ.
        StoreRefusedError: there is no such container, or the identity may not look.
        StoreUnavailableError: the account is out of reach.
    """
    container = database.get_container_client(description["id"])
    with cosmos_errors():
        there = container.read()
    if problems := key_differences(there, description):
        raise WrongContainerError(container.id, problems)
    return container


def key_differences(there: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    """How partition key and unique keys of a container differ from its description."""
    unique = [key["paths"] for key in there.get("uniqueKeyPolicy", {}).get("uniqueKeys", [])]
    compared = {
        "partition key": (there["partitionKey"]["paths"], [description["partition_key"]]),
        "unique keys": (sorted(unique), sorted([path] for path in description["unique_keys"])),
    }
    return [f"{what}: {is_} is there, {must} was expected" for what, (is_, must) in compared.items() if is_ != must]


@contextmanager
def cosmos_errors() -> Iterator[None]:
    """Raise what the SDK raises in the words of this package.

    Raises:
        WriteConflictError: 409 or 412.
        OutcomeUnknownError: no answer, or one that leaves the outcome open.
        StoreUnavailableError: not stored, and worth another try.
        StoreRefusedError: not stored, and never will be.
    """
    try:
        yield
    except HttpResponseError as error:
        raise _of_status(error) from error
    except ServiceRequestError as error:
        raise StoreUnavailableError("the account cannot be reached") from error
    except AzureError as error:
        raise OutcomeUnknownError(f"no answer came ({type(error).__name__})") from error


def create_all(container: ContainerProxy, partition_key: str, documents: list[dict[str, Any]]) -> None:
    """Create documents of one partition, all or none, in one request.

    Raises:
        WriteConflictError: one exists, or a unique key does.
        OutcomeUnknownError: perhaps they are stored.
        StoreUnavailableError: they are not stored now.
        StoreRefusedError: they cannot be stored.
    """
    with cosmos_errors():
        if len(documents) == 1:
            container.create_item(documents[0], no_response=True)
        else:
            # Built anew for every call: the SDK takes conditions out of what it is given.
            container.execute_item_batch([("create", (document,)) for document in documents], partition_key)


def cosmos_query(
    container: ContainerProxy, text: str, partition_key: str | None, *, page: int, **parameters: Any
) -> Iterator[dict[str, Any]]:
    """The results of a query, fetched a page at a time; in one partition, or across all for None.

    Raises:
        StoreUnavailableError: the account is out of reach.
        StoreRefusedError: the query is not accepted.
    """
    named = [{"name": f"@{name}", "value": value} for name, value in parameters.items()]
    scope: dict[str, Any] = (
        {"enable_cross_partition_query": True} if partition_key is None else {"partition_key": partition_key}
    )
    pages = container.query_items(text, parameters=named, max_item_count=page, **scope).by_page()
    while True:
        with cosmos_errors():
            found = next(pages, None)
            documents = [] if found is None else list(found)
        if found is None:
            return
        yield from documents


def _of_status(error: HttpResponseError) -> Exception:
    status = int(error.status_code or 0)
    headers: dict[str, Any] = dict(getattr(error, "headers", None) or {})
    if status in _CONFLICT:
        return WriteConflictError()
    if status in _NOT_STORED:
        wait = float(headers.get("x-ms-retry-after-ms") or 1000) / 1000
        return StoreUnavailableError(f"throttled ({status})", retry_after=wait)
    sub_status = _sub_status(error)
    if (status, sub_status) == _BEHIND:
        return StoreUnavailableError("a replica is behind what this process has seen")
    if status in _PERMANENT:
        return StoreRefusedError(status, sub_status)
    return OutcomeUnknownError(f"the answer leaves the outcome open ({status})")


def _sub_status(error: HttpResponseError) -> int:
    found: int | str | None = getattr(error, "sub_status", None)
    if isinstance(error, CosmosBatchOperationError) and not found:  # it is with the operation that made the batch fail
        found = error.operation_responses[error.error_index].get("subStatusCode")
    return int(found or 0)
