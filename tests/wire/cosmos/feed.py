"""The change feed (latest version of each document) and the list of physical ranges that its readers follow."""

from bisect import bisect_right

import orjson

from tests.wire.cosmos import charges
from tests.wire.cosmos.container import Container
from tests.wire.cosmos.messages import Answer, Request, listing, not_served, session_headers
from tests.wire.cosmos.partition import Document


def answer_feed(container: Container, request: Request) -> Answer:
    """One page of one range's feed, or 304 when nothing is new; the etag is the LSN to go on after.

    A transaction is never cut, so a page may hold more than was asked for.
    """
    (range_, low, high), *others = container.addressed(request)
    if others or "if-modified-since" in request.headers or request.headers.get("a-im") != "Incremental Feed":
        raise not_served("a feed of several ranges, from a point in time or with all versions; or a plain listing")
    visible = container.view(range_, request.session())
    headers = {**session_headers({range_.id: visible}), "etag": f'"{visible}"'}
    position = request.headers.get("if-none-match", '"0"')
    after = visible if position == "*" else int(position.strip('"'))
    page: list[Document] = []
    for place in range(bisect_right(container.log, after, key=lambda each: each.lsn), len(container.log)):
        document = container.log[place]
        if document.lsn > visible:
            break
        if document.is_current and low <= document.partition.epk < high:
            if len(page) >= request.page_size() and document.lsn != page[-1].lsn:
                headers["etag"] = f'"{page[-1].lsn}"'
                break
            page.append(document)
    if not page:
        return Answer(304, headers=headers, charge=charges.feed(0))
    headers["x-ms-item-count"] = str(len(page))
    items = [orjson.Fragment(b'%s,"_lsn":%d}' % (document.encoded[:-1], document.lsn)) for document in page]
    charge = charges.feed(sum(len(document.encoded) for document in page))
    return Answer(200, listing(container.rid, "Documents", items), headers, charge)


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
