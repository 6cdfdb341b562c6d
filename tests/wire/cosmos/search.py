"""Runs a query: walks an index of each partition from the continuation on, and fills one page.

A continuation is the key of the last row, so that a page costs what it returns, however many pages came before, and
writes between two pages are seen as the service shows them: rows behind the key are not repeated.
"""

import base64
import json
from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from typing import Any

import orjson

from tests.wire.cosmos import charges
from tests.wire.cosmos.conditions import Comparison
from tests.wire.cosmos.container import Container, PhysicalRange
from tests.wire.cosmos.messages import Answer, CosmosError, Request, listing, not_served, session_headers
from tests.wire.cosmos.partition import Document, Key, Partition, Row, Span
from tests.wire.cosmos.query import Query, parse_query
from tests.wire.cosmos.values import UNDEFINED, Path, dig

LARGEST_PAGE = 4 * 1024 * 1024
_START: Key = ()
_END: Key = ((8,),)  # behind the values of all types


def answer_query(container: Container, request: Request) -> Answer:
    """One page of a query, or a count."""
    query = _parsed(container, request)
    partitions, ranges = _addressed(container, request)
    lsns = {range_.id: container.view(range_, request.session()) for range_ in ranges}
    path = query.order or _lookup(container, query)
    spans = _spans(query, path, request.headers.get("x-ms-continuation"))

    def walk(partition: Partition) -> Iterator[Row]:
        index = partition.index(path, lsns[container.range_of(partition).id])
        return index.walk(spans, backwards=query.descending)

    rows = merge(*map(walk, partitions), key=itemgetter(0), reverse=query.descending)
    conditions = [each for each in query.where if not (isinstance(each, Comparison) and each.path == path)]
    matching = (row for row in rows if all(condition.holds(row[1].body) for condition in conditions))
    headers = session_headers(lsns)
    if query.counts:
        items, size = [sum(1 for _ in matching)], 0
    else:
        items, size, last = _fill(matching, query, request.page_size())
        if last is not None:
            headers["x-ms-continuation"] = base64.b64encode(orjson.dumps(last)).decode()
    headers["x-ms-item-count"] = str(len(items))
    charge = charges.query(len(ranges), len(items), size)
    return Answer(200, listing(container.rid, "Documents", items), headers, charge)


def _parsed(container: Container, request: Request) -> Query:
    body = request.json()
    query = parse_query(body["query"], {each["name"]: each["value"] for each in body.get("parameters") or []})
    for path in query.searched:
        if not container.policy.covers(path):
            raise CosmosError(
                400, message=f"The indexing policy excludes /{'/'.join(path)}, which the query filters or sorts by."
            )
    if query.top is not None and query.top > request.page_size():
        raise not_served("TOP with a smaller page size")
    return query


def _addressed(container: Container, request: Request) -> tuple[list[Partition], list[PhysicalRange]]:
    """The partitions that a request addresses, by key, by range and hash window, or all; with their ranges."""
    key = request.partition_key()
    if key is not None:
        partition = container.partition(key)
        return [partition], [container.range_of(partition)]
    headers = ("x-ms-documentdb-query-enablecrosspartition", "x-ms-documentdb-partitionkeyrangeid")
    if not any(header in request.headers for header in headers):
        raise CosmosError(400, message="The query needs a partition key, or enable_cross_partition_query.")
    windows = container.addressed(request)
    partitions = container.partitions.values()
    inside = [each for each in partitions if any(low <= each.epk < high for _, low, high in windows)]
    return inside, [range_ for range_, _, _ in windows]


def _lookup(container: Container, query: Query) -> Path:
    """What to walk by when no order is asked for: a property that is compared, other than the partition key."""
    compared = (each.path for each in query.where if isinstance(each, Comparison))
    return next((path for path in compared if path != container.key_path), ())


def _spans(query: Query, path: Path, continuation: str | None) -> list[Span]:
    """The stretches of an index over a path that can hold more of the result."""
    stretches = [each.spans for each in query.where if isinstance(each, Comparison) and each.path == path]
    if continuation is not None:
        value, *place = json.loads(base64.b64decode(continuation))
        last = (tuple(value), *place)
        stretches.append([(_START, last) if query.descending else ((*last, 0), _END)])
    spans = [(_START, _END)]
    for stretch in stretches:
        spans = [(max(low, start), min(high, stop)) for low, high in spans for start, stop in stretch]
    return spans


def _fill(rows: Iterator[Row], query: Query, page_size: int) -> tuple[list[Any], int, Key | None]:
    """One page: items, the bytes of their documents, and the key of the last one when more follows."""
    items: list[Any] = []
    size = 0
    last: Key | None = None
    for key, document in rows:
        if len(items) == query.top:
            break
        if items and (len(items) == page_size or size + len(document.encoded) > LARGEST_PAGE):
            return items, size, last
        items.append(_selected(document, query))
        size += len(document.encoded)
        last = key
    return items, size, None


def _selected(document: Document, query: Query) -> Any:
    if not query.fields:
        return orjson.Fragment(document.encoded)
    values = ((path[-1], dig(document.body, path)) for path in query.fields)
    return {name: value for name, value in values if value is not UNDEFINED}
