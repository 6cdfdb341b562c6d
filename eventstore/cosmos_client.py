"""Cosmos DB through azure-cosmos: clients that open late, and SDK errors in the words of this package."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError
from azure.cosmos import ContainerProxy, CosmosClient

from .errors import EventStoreError, StoreUnavailableError

_READ_SECONDS = 10  # the SDK's own 65 s outlast the lock of a queue message
_CONNECT_SECONDS = 5

_CONFLICT = {409, 412}
_NOT_STORED = {429, 449}
_PERMANENT = {
    400: "the request is not valid for this container",
    401: "the key or token is not accepted; check the credentials",
    403: "the identity may not do this; give it the data contributor role",
    404: "there is no such database or container; run `client-flow provision`",
    413: "the document or batch is larger than the service takes",
}
_PARTITION_FULL = 1014


class WriteConflictError(Exception):
    """Somebody else wrote first: an id, a unique key or an etag was not what the write expected. Never leaves adapters."""


class OutcomeUnknownError(StoreUnavailableError):
    """No answer came, or one that leaves open whether the write was stored; reading tells."""


class StoreRefusedError(EventStoreError):
    """The service refuses this request and would refuse it again.

    Attributes:
        status: HTTP status.
        sub_status: the service's own number for the reason.
    """

    def __init__(self, status: int, sub_status: int) -> None:
        self.status, self.sub_status = status, sub_status
        reason = _PERMANENT.get(status, "the request was refused")
        if sub_status == _PARTITION_FULL:
            reason = "the partition of this client is full (20 GB); nothing more can be stored for it"
        super().__init__(f"Cosmos DB refused with {status}/{sub_status}: {reason}.")


def open_client(connection: str) -> CosmosClient:
    """A client for a connection string (`AccountEndpoint=...;AccountKey=...`) or, by managed identity, for an endpoint.

    Asks the account where it is, so it must not be called while a module is imported.

    Raises:
        StoreUnavailableError: the account is out of reach.
    """
    for name in ("azure.core.pipeline.policies.http_logging_policy", "azure.cosmos", "azure.identity"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log addresses with client ids
    timeouts: dict[str, Any] = {"connection_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS}
    with translated():
        if connection.startswith("https://"):
            from azure.identity import DefaultAzureCredential

            return CosmosClient(connection, DefaultAzureCredential(), **timeouts)
        return CosmosClient.from_connection_string(connection, **timeouts)


@contextmanager
def translated() -> Iterator[None]:
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
    with translated():
        if len(documents) == 1:
            container.create_item(documents[0], no_response=True)
        else:
            # Built anew for every call: the SDK takes conditions out of what it is given.
            container.execute_item_batch([("create", (document,)) for document in documents], partition_key)


def query(
    container: ContainerProxy, text: str, partition_key: str, *, page: int, **parameters: Any
) -> Iterator[dict[str, Any]]:
    """The results of a query in one partition, fetched a page at a time.

    Raises:
        StoreUnavailableError: the account is out of reach.
        StoreRefusedError: the query is not accepted.
    """
    named = [{"name": f"@{name}", "value": value} for name, value in parameters.items()]
    pages = container.query_items(text, parameters=named, partition_key=partition_key, max_item_count=page).by_page()
    while True:
        with translated():
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
    if status in _PERMANENT:
        return StoreRefusedError(status, int(getattr(error, "sub_status", 0) or 0))
    return OutcomeUnknownError(f"the answer leaves the outcome open ({status})")
