"""The access log on Cosmos DB, in a container whose documents the service itself forgets."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

from azure.cosmos import ContainerProxy

from eventstore import WriteConflictError, cosmos_query, create_all

from .access import DAYS_KEPT, AccessEntry

ACCESS_CONTAINER: dict[str, Any] = {
    "id": "access",
    "partition_key": "/client_ref",
    "unique_keys": [],
    "indexed": ["/client_ref/?", "/at/?"],
    "default_ttl": DAYS_KEPT * 24 * 60 * 60,
}

_NOBODY = "-"  # partition of entries about no single client; no reference reads like this
_PAGE = 500


class CosmosAccessLog:
    """`AccessLog` on a container as described by `ACCESS_CONTAINER`; an entry is one request.

    Args:
        container: the container.
        new_id: gives a text never given before.
    """

    def __init__(self, container: ContainerProxy, *, new_id: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._container = container
        self._new_id = new_id

    def add(self, entry: AccessEntry) -> None:
        """See `AccessLog.add`."""
        client_ref = entry.client_ref or _NOBODY
        document = {**entry._asdict(), "id": self._new_id(), "client_ref": client_ref}
        with suppress(WriteConflictError):  # the SDK repeated a request that had been stored: nobody else has this id
            create_all(self._container, client_ref, [document])

    def entries(
        self, *, client_ref: str | None = None, since: str | None = None, until: str | None = None
    ) -> Iterator[AccessEntry]:
        """See `AccessLog.entries`: in one partition for one client, across all otherwise."""
        found = cosmos_query(
            self._container,
            "SELECT * FROM c WHERE c.at >= @since AND c.at < @until ORDER BY c.at DESC",
            client_ref,
            page=_PAGE,
            since=since or "",
            until=until or "z",
        )
        for document in found:
            about = document["client_ref"]
            yield AccessEntry(document["at"], document["who"], document["what"], None if about == _NOBODY else about)
