"""What earlier generations of a projection left on Cosmos DB."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from azure.cosmos import ContainerProxy

from eventstore import cosmos_errors, cosmos_query

from .documents import Document
from .ports import Passed
from .rules import Projection

_PAGE = 1000
_OPERATIONS = 100  # of one batch


class CosmosPredecessors:
    """`Predecessors` of one projection on the container of its store.

    Args:
        container: the container.
        projection: its name and version tell which generations were before.
    """

    def __init__(self, container: ContainerProxy, projection: Projection[Any]) -> None:
        self._container = container
        self._there, self._generations = _among("c.generation", "generation", projection.predecessors)

    def passed(self, client_ids: Sequence[str]) -> Mapping[str, Passed]:
        """See `Predecessors.passed`: one query for all clients, a request for each range they are in."""
        these, clients = _among("c.client_id", "client", client_ids)
        found: dict[str, Passed] = {}
        if clients:
            fields = "SELECT c.client_id, c.body.version, c.body.parked"
            for document in self._query(f"{fields} FROM c WHERE c.kind = 'record' AND {these}", None, **clients):
                version, parked = int(document["version"]), document["parked"]
                before = found.get(document["client_id"], Passed(0, 0))
                waiting_for = max(before.waiting_for, version, int(parked["waiting_for"]) if parked else 0)
                found[document["client_id"]] = Passed(max(before.version, version), waiting_for)
        return found

    def owners(self, *, audit: bool, after: str = "", limit: int = 1000) -> Sequence[str]:
        """See `Predecessors.owners`: by records, and by the first audit entry, which is removed last."""
        kinds = "(c.kind = 'record' OR (c.kind = 'audit' AND c.version = 1))" if audit else "c.kind = 'record'"
        text = f"SELECT c.client_id FROM c WHERE {kinds} AND c.client_id > @after"  # noqa: S608 - constant conditions
        owners: dict[str, None] = {}
        for document in self._query(text, None, "ORDER BY c.client_id", after=after):
            owners[document["client_id"]] = None
            if len(owners) == limit:
                break
        return list(owners)

    def remove(self, client_ids: Sequence[str], *, audit: bool) -> int:
        """See `Predecessors.remove`: one query or two for each client, and a batch for each 100 documents."""
        return sum(self._remove(client_id, audit=audit) for client_id in client_ids)

    def _remove(self, client_id: str, *, audit: bool) -> int:
        records = self._query("SELECT c.id FROM c WHERE c.kind = 'record'", client_id)
        entries = self._query("SELECT c.id FROM c WHERE c.kind = 'audit'", client_id, "ORDER BY c.version DESC")
        found = chain(entries, records) if audit else records
        removed = 0
        while portion := list(islice(found, _OPERATIONS)):
            with cosmos_errors():
                # Built for this one call: the SDK takes conditions out of what it is given.
                self._container.execute_item_batch([("delete", (each["id"],)) for each in portion], client_id)
            removed += len(portion)
        return removed

    def _query(self, text: str, client_id: str | None, order: str = "", **parameters: Any) -> Iterator[Document]:
        if not self._generations:
            return iter(())  # nothing was before the first version
        where = f"{text} AND {self._there} {order}".strip()
        return cosmos_query(self._container, where, client_id, page=_PAGE, **self._generations, **parameters)


def _among(path: str, name: str, values: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The condition that a property has one of some values, and its parameters."""
    parameters = {f"{name}{number}": value for number, value in enumerate(values)}
    return f"{path} IN ({', '.join(f'@{each}' for each in parameters)})", parameters
