"""The account with its databases and containers: routes every request to what answers it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import orjson

from tests.wire.cosmos import charges
from tests.wire.cosmos.container import Container, Settings, resource_id
from tests.wire.cosmos.feed import answer_feed, answer_ranges
from tests.wire.cosmos.items import answer_batch, answer_item
from tests.wire.cosmos.messages import Answer, CosmosError, Request, listing, not_served
from tests.wire.cosmos.search import answer_query
from tests.wire.cosmos.values import DEFAULT_POLICY

_PARENT_MISSING = 1003
_WRONG_RID = 1024
_ON_DOCUMENTS: dict[str, Callable[[Container, Request], Answer]] = {
    "query": answer_query,
    "feed": answer_feed,
    "batch": answer_batch,
    **dict.fromkeys(("create", "upsert", "read", "replace", "delete"), answer_item),
}
_T = TypeVar("_T")


@dataclass
class Database:
    """A database and its containers by name."""

    properties: dict[str, Any]
    containers: dict[str, Container] = field(default_factory=dict)


class Account:
    """Everything that the server stores."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.databases: dict[str, Database] = {}
        self._numbers = count(1)

    def answer(self, request: Request) -> Answer:
        """Answer a request; errors of the service come back as answers too."""
        try:
            return self._route(request)
        except CosmosError as error:
            return error.answer(0.0 if request.kind == "metadata" else charges.REFUSED)

    def container(self, database: str, container: str) -> Container:
        """Find a container.

        Raises:
            CosmosError: 404 (1003) when it or its database is missing.
        """
        return _find(_find(self.databases, database, _PARENT_MISSING).containers, container, _PARENT_MISSING)

    def _route(self, request: Request) -> Answer:
        match request.method, *request.segments:
            case ["GET"]:
                return Answer(200, orjson.dumps(_properties(request.headers["host"])))
            case ["GET", "dbs"]:
                return Answer(200, listing("", "Databases", [each.properties for each in self.databases.values()]))
            case ["POST", "dbs"]:
                return self._create_database(request.json()["id"])
            case ["GET", "dbs", name]:
                return _resource(200, _find(self.databases, name).properties)
            case ["DELETE", "dbs", name] if name in self.databases:
                del self.databases[name]
                return Answer(204)
            case [_, "dbs", name, "colls", *rest]:
                return self._route_container(request, _find(self.databases, name, _PARENT_MISSING), rest)
        raise _refusal(request)

    def _route_container(self, request: Request, database: Database, rest: list[str]) -> Answer:
        match request.method, *rest:
            case ["POST"]:
                return self._create_container(database, request.json())
            case ["GET", name]:
                return _resource(200, _find(database.containers, name).properties)
            case ["PUT", name]:
                container = _find(database.containers, name)
                unique_keys = {"uniqueKeyPolicy": container.properties["uniqueKeyPolicy"]}  # stays when left out
                container.replace(self._complete(unique_keys | request.json(), database, container.rid))
                return _resource(200, container.properties)
            case ["DELETE", name] if name in database.containers:
                del database.containers[name]
                return Answer(204)
            case [_, name, _, *_]:
                return _answer_data(_find(database.containers, name, _PARENT_MISSING), request)
        raise _refusal(request)

    def _create_database(self, name: str) -> Answer:
        if name in self.databases:
            raise CosmosError(409)
        rid = resource_id("", next(self._numbers), 4)
        properties = {"id": name, "_rid": rid, "_self": f"dbs/{rid}/", "_colls": "colls/", "_users": "users/"}
        self.databases[name] = Database(properties | self._stamp())
        return _resource(201, self.databases[name].properties)

    def _create_container(self, database: Database, body: dict[str, Any]) -> Answer:
        if body["id"] in database.containers:
            raise CosmosError(409)
        rid = resource_id(database.properties["_rid"], 0x80000000 | next(self._numbers), 4)
        properties = self._complete(body, database, rid)
        database.containers[body["id"]] = Container(properties, self.settings)
        return _resource(201, properties)

    def _complete(self, body: dict[str, Any], database: Database, rid: str) -> dict[str, Any]:
        """The properties of a container with what the service fills in."""
        return {
            "indexingPolicy": DEFAULT_POLICY,
            "uniqueKeyPolicy": {"uniqueKeys": []},
            **{name: value for name, value in body.items() if value is not None},
            "partitionKey": {"kind": "Hash", "version": 2, **body["partitionKey"]},
            "_rid": rid,
            "_self": f"{database.properties['_self']}colls/{rid}/",
            **self._stamp(),
        }

    def _stamp(self) -> dict[str, Any]:
        return {"_etag": f'"{next(self._numbers):08x}"', "_ts": int(time.time())}


def _answer_data(container: Container, request: Request) -> Answer:
    if request.headers.get("x-ms-cosmos-intended-collection-rid", container.rid) != container.rid:
        raise CosmosError(400, _WRONG_RID, "The container was created anew.")
    if request.method == "GET" and request.segments[4:] == ("pkranges",):
        return answer_ranges(container, request)
    if request.kind not in _ON_DOCUMENTS:
        raise _refusal(request)
    answer = _ON_DOCUMENTS[request.kind](container, request)
    answer.headers["x-ms-alt-content-path"] = "/".join(request.segments[:4])
    return answer


def _find(among: Mapping[str, _T], name: str, sub_status: int = 0) -> _T:
    if name not in among:
        raise CosmosError(404, sub_status)
    return among[name]


def _resource(status: int, properties: dict[str, Any]) -> Answer:
    return Answer(status, orjson.dumps(properties), {"etag": properties["_etag"]})


def _properties(host: str) -> dict[str, Any]:
    location = [{"name": "Local", "databaseAccountEndpoint": f"http://{host}/"}]
    return {
        "id": "local",
        "_rid": "local",
        "_self": "",
        "writableLocations": location,
        "readableLocations": location,
        "enableMultipleWriteLocations": False,
        "userConsistencyPolicy": {"defaultConsistencyLevel": "Session"},
        "queryEngineConfiguration": "{}",
    }


def _refusal(request: Request) -> CosmosError:
    return not_served(f"{request.method} /{'/'.join(request.segments)} ({request.kind})")
