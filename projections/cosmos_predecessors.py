"""What earlier generations of a projection left on Cosmos DB."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from azure.cosmos import ContainerProxy

from eventstore import cosmos_errors, cosmos_query

from .documents import Document
from .passed import Left, Passed, passed_of
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
        self._projection = projection
        self._there, self._generations = _among("c.generation", "generation", projection.predecessors)

    def passed(self, client_ids: Sequence[str]) -> Mapping[str, Passed]:
        """See `Predecessors.passed`: one query for all clients, a request for each range they are in.

        One more for those with whom generations are not equally far: only there it matters which of them announced.
        """
        if not client_ids:
            return {}
        these, clients = _among("c.client_id", "client", client_ids)
        fields = "c.client_id, c.generation, c.body.version, c.body.parked"
        text = f"SELECT {fields} FROM c WHERE c.kind = 'record' AND {these}"  # noqa: S608 - names of parameters
        versions = self._projection.generations
        left: dict[str, list[Left]] = {}
        for document in self._query(text, None, **clients):
            parked = document["parked"]
            found = Left(
                versions[document["generation"]],
                int(document["version"]),
                int(parked["waiting_for"]) if parked else 0,
            )
            left.setdefault(document["client_id"], []).append(found)
        # After the records: whoever announces in between only makes it look as if less was told.
        announcers = self._announcers([each for each, of in left.items() if len({one.version for one in of}) > 1])
        return {client_id: passed_of(each, announcers.get(client_id, 0)) for client_id, each in left.items()}

    def _announcers(self, client_ids: Sequence[str]) -> dict[str, int]:
        """Which earlier version of the projection announced last, of the clients of which one did."""
        if not client_ids:
            return {}
        these, clients = _among("c.client_id", "client", client_ids)
        fields = "c.client_id, c.body.projection_version"
        text = f"SELECT {fields} FROM c WHERE c.kind = 'announced' AND c.projection = @name AND {these}"  # noqa: S608 - likewise
        found = cosmos_query(self._container, text, None, page=_PAGE, name=self._projection.name, **clients)
        announcers = {document["client_id"]: int(document["projection_version"]) for document in found}
        return {client_id: each for client_id, each in announcers.items() if each < self._projection.version}

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
