"""The account with its databases and containers: routes every request to what answers it."""

import base64
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.wire.cosmos import charges
from tests.wire.cosmos.container import Container, Settings
from tests.wire.cosmos.feed import answer_feed, answer_ranges
from tests.wire.cosmos.index import DEFAULT_POLICY
from tests.wire.cosmos.items import answer_batch, answer_item
from tests.wire.cosmos.messages import Answer, CosmosError, Request, dump, listing
from tests.wire.cosmos.search import answer_query

_PARENT_MISSING = 1003
_WRONG_RID = 1024


@dataclass
class Database:
    """A database and its containers by name."""

    properties: dict[str, Any]
    rid: bytes
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
        found = self._database(database, _PARENT_MISSING).containers.get(container)
        if found is None:
            raise CosmosError(404, _PARENT_MISSING)
        return found

    def _route(self, request: Request) -> Answer:
        match (request.method, *request.segments):
            case ["GET"]:
                return Answer(200, dump(self._properties(request.headers["host"])))
            case ["GET", "dbs"]:
                databases = [database.properties for database in self.databases.values()]
                return Answer(200, listing("", "Databases", databases))
            case ["POST", "dbs"] if not request.flag("x-ms-documentdb-isquery"):
                return self._create_database(request.json())
            case ["GET", "dbs", name]:
                return _resource(200, self._database(name).properties)
            case ["DELETE", "dbs", name]:
                self._database(name)
                del self.databases[name]
                return Answer(204)
            case [method, "dbs", name, "colls", *rest]:
                return self._route_container(request, method, self._database(name, _PARENT_MISSING), rest)
        raise _not_served(request)

    def _route_container(self, request: Request, method: str, database: Database, rest: list[str]) -> Answer:
        match (method, *rest):
            case ["GET"]:
                containers = [container.properties for container in database.containers.values()]
                return Answer(200, listing("", "DocumentCollections", containers))
            case ["POST"] if not request.flag("x-ms-documentdb-isquery"):
                return self._create_container(database, request.json())
            case [_, name] if name not in database.containers:
                raise CosmosError(404)
            case ["GET", name]:
                return _resource(200, database.containers[name].properties)
            case ["PUT", name]:
                container = database.containers[name]
                unique_keys = {"uniqueKeyPolicy": container.properties["uniqueKeyPolicy"]}  # stays when left out
                container.replace(self._complete(unique_keys | request.json(), database, container.rid))
                return _resource(200, container.properties)
            case ["DELETE", name]:
                del database.containers[name]
                return Answer(204)
            case [_, name, *_]:
                return self._route_data(request, self.container(database.properties["id"], name))
        raise _not_served(request)

    def _route_data(self, request: Request, container: Container) -> Answer:
        if request.headers.get("x-ms-cosmos-intended-collection-rid", container.rid) != container.rid:
            raise CosmosError(400, _WRONG_RID, "The container was created anew.")
        container.expire()
        match request.kind:
            case "metadata" if request.method == "GET" and request.segments[4:] == ("pkranges",):
                return answer_ranges(container, request)
            case "metadata":
                raise _not_served(request)
            case "query":
                answer = answer_query(container, request)
            case "feed":
                answer = answer_feed(container, request)
            case "batch":
                answer = answer_batch(container, request)
            case _:
                answer = answer_item(container, request)
        answer.headers["x-ms-alt-content-path"] = "/".join(request.segments[:4])
        return answer

    def _create_database(self, body: dict[str, Any]) -> Answer:
        if body["id"] in self.databases:
            raise CosmosError(409)
        rid = next(self._numbers).to_bytes(4, "big")
        name = base64.b64encode(rid, b"+-").decode()
        properties = {"id": body["id"], "_rid": name, "_self": f"dbs/{name}/", "_colls": "colls/", "_users": "users/"}
        properties |= self._stamp()
        self.databases[body["id"]] = Database(properties, rid)
        return _resource(201, properties)

    def _create_container(self, database: Database, body: dict[str, Any]) -> Answer:
        if body["id"] in database.containers:
            raise CosmosError(409)
        rid = database.rid + (0x80000000 | next(self._numbers)).to_bytes(4, "big")
        properties = self._complete(body, database, base64.b64encode(rid, b"+-").decode())
        database.containers[body["id"]] = Container(properties, rid, self.settings)
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

    def _database(self, name: str, sub_status: int = 0) -> Database:
        if name not in self.databases:
            raise CosmosError(404, sub_status)
        return self.databases[name]

    def _stamp(self) -> dict[str, Any]:
        return {"_etag": f'"{next(self._numbers):08x}"', "_ts": int(self.settings.clock())}

    @staticmethod
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


def _resource(status: int, properties: dict[str, Any]) -> Answer:
    return Answer(status, dump(properties), {"etag": properties["_etag"]})


def _not_served(request: Request) -> CosmosError:
    path = "/".join(request.segments)
    return CosmosError(400, message=f"Not served by this test server: {request.method} /{path} ({request.kind}).")
