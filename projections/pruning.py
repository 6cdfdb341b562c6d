"""Pruning: remove what earlier generations left, once the running one holds all of it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .errors import IncompleteGenerationError
from .passed import Passed
from .ports import Predecessors, ProjectionStore
from .record import Record

_PAGE = 100


class Prunable(NamedTuple):
    """What could be removed.

    Attributes:
        clients: clients of which earlier generations hold something.
        incomplete: those among them that the running generation has not brought as far.
    """

    clients: int
    incomplete: int


def prunable(store: ProjectionStore, predecessors: Predecessors, *, audit: bool = False) -> Prunable:
    """Look at every client of earlier generations.

    Args:
        store: the records of the running generation.
        predecessors: what is left of earlier ones.
        audit: count clients as well of which only audit entries are left.

    Raises:
        StoreUnavailableError: the database is out of reach.
    """
    clients = incomplete = 0
    for page in _pages(predecessors, audit=audit):
        clients += len(page)
        incomplete += len(page) - len(_complete(page, store, predecessors))
    return Prunable(clients, incomplete)


def prune(store: ProjectionStore, predecessors: Predecessors, *, audit: bool = False) -> Iterator[tuple[int, int]]:
    """Remove the records of earlier generations, with `audit` their audit as well; gives clients and documents by page.

    Code of these generations must not run any more. A removal that was cut off is done by calling again.

    Raises:
        IncompleteGenerationError: a client is not complete in the running generation; nothing was removed.
        StoreUnavailableError: the database is out of reach.
    """
    found = prunable(store, predecessors, audit=audit)
    if found.incomplete:
        raise IncompleteGenerationError(found.incomplete, found.clients)
    for page in _pages(predecessors, audit=audit):
        complete = _complete(page, store, predecessors)
        yield len(complete), predecessors.remove(complete, audit=audit)


def _pages(predecessors: Predecessors, *, audit: bool) -> Iterator[Sequence[str]]:
    after = ""
    while page := predecessors.owners(audit=audit, after=after, limit=_PAGE):
        after = page[-1]
        yield page


def _complete(client_ids: Sequence[str], store: ProjectionStore, predecessors: Predecessors) -> list[str]:
    passed, loaded = predecessors.passed(client_ids), store.load(client_ids)
    return [each for each in client_ids if _is_complete(loaded[each].record, passed.get(each, Passed(0, 0)))]


def _is_complete(record: Record | None, passed: Passed) -> bool:
    return record is not None and record.parked is None and record.version >= passed.waiting_for
