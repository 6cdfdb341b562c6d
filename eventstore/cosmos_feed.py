"""The change feed of the events container on Cosmos DB, and the clients that are in it."""

import json
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from azure.cosmos import ContainerProxy

from .cosmos_client import cosmos_errors, cosmos_query
from .cosmos_event import event_in, foreign_in, is_client_id, place_of
from .ports import CheckpointStore, ClientPage, FeedPage, ForeignDocument

_FIRST_EVENTS = f"FROM c WHERE c.version = 1 AND c.id = '{place_of(1)}'"


class CosmosChangeFeed:
    """`ChangeFeed` and `ClientDirectory` of the events container, in pull mode: one partition for each range the container had at first.

    The set of ranges is stored when the feed is first read and stays. The service may split a range later; the cursor of
    the old range goes on and covers its parts.

    Args:
        container: the events container.
        checkpoints: where the set of ranges is kept.
    """

    def __init__(self, container: ContainerProxy, checkpoints: CheckpointStore) -> None:
        self._container = container
        self._checkpoints = checkpoints

    def partitions(self) -> Sequence[str]:
        """See `ChangeFeed.partitions`."""
        stored = self._checkpoints.load("feed-ranges")
        if stored is None:
            with cosmos_errors():
                ranges = [_packed(found) for found in self._container.read_feed_ranges()]
            stored = self._checkpoints.create("feed-ranges", json.dumps(ranges))
        names: list[str] = json.loads(stored)
        return names

    def feed(self, partition: str, *, after: str | None, limit: int) -> FeedPage:
        """See `ChangeFeed.feed`: one page, so one request for a range that was not split."""
        known = 1 if after is None else len(_parts(after))
        foreign: list[ForeignDocument] = []
        while True:
            documents, cursor = self._page(partition, after, limit)
            found = [(document, event_in(document)) for document in documents]
            foreign += [foreign_in(document) for document, event in found if event is None]
            events = [event for _, event in found if event is not None]
            if events:
                return FeedPage(events, cursor, foreign)
            # In the round that finds a split out, the SDK passes over the new parts.
            if not documents and len(_parts(cursor)) == known:
                return FeedPage((), cursor, foreign)
            after, known = cursor, len(_parts(cursor))

    def _page(self, partition: str, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str]:
        headers: list[Mapping[str, str]] = []
        where: dict[str, Any] = (
            {"feed_range": _unpacked(partition), "start_time": "Beginning"}
            if after is None
            else {"continuation": after}
        )
        with cosmos_errors():
            pages = self._container.query_items_change_feed(
                max_item_count=limit, response_hook=lambda found, _: headers.append(found), **where
            ).by_page()
            documents = [document for page in islice(pages, 1) for document in page]
        # The page's own token may be another caller's; the hook's headers hold the right one once the page is read.
        cursor = headers[-1]["etag"]
        return documents, _with_starts(cursor) if after is None else cursor

    def clients(self, partition: str, *, after: str | None, limit: int) -> ClientPage:
        """See `ClientDirectory.clients`: the first events of a range, by the index; one request for a page."""
        with cosmos_errors():
            pages: Any = self._container.query_items(
                f"SELECT c.client_id {_FIRST_EVENTS}", feed_range=_unpacked(partition), max_item_count=limit
            ).by_page(after)
            documents = [document for page in islice(pages, 1) for document in page]
        found = [document["client_id"] for document in documents if is_client_id(document.get("client_id"))]
        return ClientPage(found, pages.continuation_token)

    def known(self, client_ids: Sequence[str]) -> Collection[str]:
        """See `ClientDirectory.known`: one query by the index, a request for each range they are in."""
        if not client_ids:
            return set()
        these = {f"client{number}": client_id for number, client_id in enumerate(client_ids)}
        marks = ", ".join(f"@{name}" for name in these)
        text = f"SELECT c.client_id {_FIRST_EVENTS} AND c.client_id IN ({marks})"
        found = cosmos_query(self._container, text, None, page=len(these), **these)
        return {str(document["client_id"]) for document in found}

    def count_clients(self, partition: str) -> int:
        """See `ClientDirectory.count_clients`."""
        with cosmos_errors():
            counts: Any = self._container.query_items(
                f"SELECT VALUE COUNT(1) {_FIRST_EVENTS}", feed_range=_unpacked(partition)
            )
            return int(sum(counts))


def _parts(cursor: str) -> list[dict[str, Any]]:
    """The ranges that a cursor of the SDK covers, each with its token."""
    parts: list[dict[str, Any]] = json.loads(b64decode(cursor))["continuation"]["continuation"]
    return parts


def _with_starts(cursor: str) -> str:
    """A first cursor that can be gone on from.

    If the range was split before it was ever read, the SDK writes no token for the parts that it has not come to yet, and
    refuses to go on from that. Position 0 is before everything in them.
    """
    state = json.loads(b64decode(cursor))
    for part in state["continuation"]["continuation"]:
        part["token"] = part["token"] or '"0"'
    return b64encode(json.dumps(state).encode()).decode()


def _packed(feed_range: Mapping[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(feed_range, sort_keys=True).encode()).decode()


def _unpacked(partition: str) -> dict[str, Any]:
    feed_range: dict[str, Any] = json.loads(urlsafe_b64decode(partition))
    return feed_range
