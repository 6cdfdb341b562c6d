"""Runs a query: picks an index, walks it from the continuation, fills one page.

A continuation is the key of the last row, so that a page costs what it returns, however many pages came before, and
writes between two pages are seen as the service shows them: rows behind the key are not repeated.
"""

import base64
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import orjson

from tests.wire.cosmos import charges
from tests.wire.cosmos.conditions import Restriction
from tests.wire.cosmos.container import Container
from tests.wire.cosmos.index import (
    UNDEFINED,
    Key,
    Ordering,
    Row,
    SortedIndex,
    dig,
    key_from_json,
    key_to_json,
    row,
    sort_key,
)
from tests.wire.cosmos.messages import Answer, CosmosError, Request, listing
from tests.wire.cosmos.query import Query, parse_query
from tests.wire.cosmos.storage import Document, OlderVersions, Partition, PhysicalRange

LARGEST_PAGE = 4 * 1024 * 1024


def answer_query(container: Container, request: Request) -> Answer:
    """One page of a query, or of all documents (GET on docs)."""
    if request.method == "GET":
        return _page(container, request, parse_query("SELECT * FROM c", {}))
    body = request.json()
    parameters = {parameter["name"]: parameter["value"] for parameter in body.get("parameters") or []}
    query = parse_query(body["query"], parameters)
    _check_indexes(container, query)
    return _page(container, request, query)


def _check_indexes(container: Container, query: Query) -> None:
    """Refuse what no index serves; on the service such a filter reads everything, and such a sort is an error."""
    single = query.order if len(query.order) == 1 else ()
    for path in (*query.filtered, *(path for path, _ in single)):
        if not container.policy.covers(path):
            name = "/".join(path)
            raise CosmosError(
                400, message=f"The indexing policy excludes /{name}, which the query filters or sorts by."
            )
    if len(query.order) > 1 and not container.policy.covers_composite(query.order):
        raise CosmosError(400, message="The order by query does not have a corresponding composite index.")


def _page(container: Container, request: Request, query: Query) -> Answer:
    partitions, ranges = _addressed(container, request)
    older: OlderVersions = {}
    tokens = []
    for range_ in ranges:
        lsn, older_here = range_.view(request.session())
        older |= older_here
        tokens.append(f"{range_.id}:-1#{lsn}")
    backwards = bool(query.order) and query.order[0][1]
    query = replace(query, order=tuple((path, down is not backwards) for path, down in query.order))
    ordering = query.order or _lookup(container, query)
    resumed = json.loads(base64.b64decode(request.headers.get("x-ms-continuation", "")) or "{}")
    after = key_from_json(resumed["after"], ordering) if resumed else None
    rows = _matches(partitions, query, ordering, older, after, backwards=backwards)
    headers = {"x-ms-session-token": ",".join(tokens), "x-ms-documentdb-partitionkeyrangeid": ranges[0].id}
    if query.counts:
        total = sum(1 for _ in rows)
        items, size = [total], 0
    else:
        items, size, continuation = _fill(rows, query, request.page_size(), resumed.get("taken", 0))
        headers |= continuation
    headers["x-ms-item-count"] = str(len(items))
    charge = charges.query(len(ranges), len(items), size)
    return Answer(200, listing(container.rid, "Documents", items), headers, charge)


def _addressed(container: Container, request: Request) -> tuple[list[Partition], list[PhysicalRange]]:
    """The partitions that a request addresses, by key, by range and hash window, or all; with their ranges."""
    key = request.partition_key()
    if key is not None:
        partition = container.partition(key)
        return [partition], [partition.range]
    addressed = container.addressed_range(request)
    if (
        addressed is None
        and request.method == "POST"
        and not request.flag("x-ms-documentdb-query-enablecrosspartition")
    ):
        raise CosmosError(400, message="The query needs a partition key, or enable_cross_partition_query.")
    ranges = list(container.ranges.values()) if addressed is None else [addressed]
    low, high = request.headers.get("x-ms-start-epk", ""), request.headers.get("x-ms-end-epk", "FF")
    partitions = [partition for range_ in ranges for partition in range_.partitions if low <= partition.epk < high]
    return partitions, ranges


def _lookup(container: Container, query: Query) -> Ordering:
    """The order to walk in when none is asked for: by a property that the query compares with `=` or IN, if any."""
    for restriction in query.where.restrictions:
        if restriction.operator == "=" and restriction.path not in container.key_paths:
            return ((restriction.path, False),)
    return ()


def _matches(
    partitions: Sequence[Partition],
    query: Query,
    ordering: Ordering,
    older: OlderVersions,
    after: Key | None,
    *,
    backwards: bool,
) -> Iterator[Row]:
    """Yield the rows that pass the query, in order, from behind a key; `older` versions stand in for newer ones."""

    def walk(partition: Partition) -> Iterator[Row]:
        index = partition.index(ordering)
        return index.walk(_slices(index, ordering, query.where.restrictions), after, backwards=backwards)

    def merge(rows: Iterable[Iterable[Row]]) -> Iterator[Row]:
        return heapq.merge(*rows, key=lambda entry: entry.key, reverse=backwards)

    if ordering:
        rows = merge(walk(partition) for partition in partitions)
    else:  # the key starts with the partition's hash, and partitions before that of the last page are done with
        remaining = [partition for partition in partitions if after is None or partition.epk >= after[0]]
        rows = chain.from_iterable(walk(partition) for partition in sorted(remaining, key=lambda each: each.epk))
    if older:
        addressed = set(partitions)
        stale = [row(each, ordering) for (home, _), each in older.items() if each is not None and home in addressed]
        stale = [entry for entry in stale if after is None or (entry.key < after if backwards else entry.key > after)]
        rows = merge([rows, sorted(stale, key=lambda entry: entry.key, reverse=backwards)])
    for entry in rows:
        document = entry.document
        replaced = older and (document.partition, document.id) in older and document.is_current
        if not replaced and query.where.test(document.body) is True:
            yield entry


def _slices(index: SortedIndex, ordering: Ordering, restrictions: tuple[Restriction, ...]) -> list[tuple[int, int]]:
    """The ascending position slices that can hold rows under the restrictions on the first property."""
    start, stop = 0, len(index)
    chosen: list[tuple[int, int]] | None = None
    for restriction in restrictions:
        if not ordering or restriction.path != ordering[0][0]:
            continue
        values = sorted(restriction.values, key=sort_key)
        if restriction.operator == "=":
            spans = {(index.position(value, right=False), index.position(value, right=True)) for value in values}
            chosen = sorted(spans) if chosen is None else chosen
        elif restriction.operator in {">", ">="}:
            start = max(start, index.position(values[0], right=restriction.operator == ">"))
        else:
            stop = min(stop, index.position(values[0], right=restriction.operator == "<="))
    return [(max(start, low), min(stop, high)) for low, high in chosen or [(start, stop)]]


def _fill(rows: Iterator[Row], query: Query, page_size: int, taken: int) -> tuple[list[Any], int, dict[str, str]]:
    """Take one page: items, their bytes, and the continuation header when more may follow.

    `taken` counts the rows that earlier pages took of OFFSET and LIMIT together.
    """
    last = None if query.limit is None else query.offset + query.limit
    items: list[Any] = []
    size = 0
    previous: Row | None = None
    for entry in rows:
        if last is not None and taken >= last:
            break
        if previous is not None and (len(items) >= page_size or size + len(entry.document.encoded) > LARGEST_PAGE):
            position = {"after": key_to_json(previous.key), "taken": taken}
            return items, size, {"x-ms-continuation": base64.b64encode(orjson.dumps(position)).decode()}
        taken += 1
        if taken > query.offset:
            previous = entry
            item = _project(entry.document, query)
            if item is not UNDEFINED:
                items.append(item)
                size += len(entry.document.encoded)
    return items, size, {}


def _project(document: Document, query: Query) -> Any:
    if query.value is not None:
        return dig(document.body, query.value)
    if query.fields is None:
        return orjson.Fragment(document.encoded)
    values = ((name, dig(document.body, path)) for name, path in query.fields)
    return {name: value for name, value in values if value is not UNDEFINED}
