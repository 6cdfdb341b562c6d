"""The change feed (latest version of each document) and the list of physical ranges that its readers follow."""

import orjson

from tests.wire.cosmos import charges
from tests.wire.cosmos.container import Container
from tests.wire.cosmos.messages import Answer, CosmosError, Request, listing
from tests.wire.cosmos.storage import Document


def answer_feed(container: Container, request: Request) -> Answer:
    """One page of one range's feed, or 304 when nothing is new; the etag is the LSN to go on after.

    A transaction is never cut, so a page may hold more than was asked for.
    """
    range_ = container.addressed_range(request)
    if range_ is None or request.headers["a-im"].lower() != "incremental feed":
        raise CosmosError(400, message="Only the incremental feed (latest version) of one feed range is served.")
    if "if-modified-since" in request.headers:
        raise CosmosError(400, message="The feed is served from the beginning, from now or from a continuation.")
    visible, _ = range_.view(request.session())
    headers = {
        "x-ms-session-token": f"{range_.id}:-1#{visible}",
        "x-ms-documentdb-partitionkeyrangeid": range_.id,
        "etag": f'"{visible}"',
    }
    position = request.headers.get("if-none-match", '"0"')
    page: list[Document] = []
    if position != "*":
        low, high = request.headers.get("x-ms-start-epk", ""), request.headers.get("x-ms-end-epk", "FF")
        for document in range_.entries_after(int(position.strip('"'))):
            if document.lsn > visible:
                break
            if len(page) >= request.page_size() and document.lsn != page[-1].lsn:
                headers["etag"] = f'"{page[-1].lsn}"'
                break
            if low <= document.partition.epk < high:
                page.append(document)
    size = sum(len(document.encoded) for document in page)
    if not page:
        return Answer(304, headers=headers, charge=charges.feed(0))
    headers["x-ms-item-count"] = str(len(page))
    items = [orjson.Fragment(b'%s,"_lsn":%d}' % (document.encoded[:-1], document.lsn)) for document in page]
    return Answer(200, listing(container.rid, "Documents", items), headers, charges.feed(size))


def answer_ranges(container: Container, request: Request) -> Answer:
    """The physical ranges that came up after the generation that the client knows; 304 when there is none."""
    etag = f'"{container.generation}"'
    known = request.headers.get("if-none-match", '"0"')
    if known == etag:
        return Answer(304, headers={"etag": etag})
    ranges = [
        {
            "_rid": container.rid,
            "_self": f"{container.properties['_self']}pkranges/{range_.id}/",
            "_etag": etag,
            "_ts": int(container.settings.clock()),
            "id": range_.id,
            "minInclusive": range_.low,
            "maxExclusive": range_.high,
            "parents": range_.parents,
            "status": "online",
        }
        for range_ in container.ranges.values()
        if range_.generation > int(known.strip('"'))
    ]
    return Answer(200, listing(container.rid, "PartitionKeyRanges", ranges), {"etag": etag})
