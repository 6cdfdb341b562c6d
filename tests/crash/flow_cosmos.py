"""The backend of the crash tests on Cosmos DB: dies also where the server stored something and its answer was not seen."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.cosmos import ContainerProxy, CosmosClient

from functions_app.backend import Backend
from tests.crash.flow_domain import clients
from tests.support.cosmos import on_cosmos
from tests.support.kill import KillPoints
from tests.wire.cosmos.messages import Request

DATABASE = "flow"

COSMOS_POINTS = (
    "events.create unseen",
    "events.batch unseen",
    "intake.create unseen",
    "intake.upsert unseen",
    "projections.batch unseen",
    "projections.delete unseen",
    "deliveries.batch unseen",
)
"""Named after container and operation: it is stored, and nobody heard of it."""

_STORED = {200, 201, 204}  # a batch that was refused is a 207
_READS = {"read", "query", "feed", "metadata"}


class DeadlyTransport(RequestsTransport):  # type: ignore[misc]  # azure-core gives it no type
    """HTTP with a kill point between the answer to each write and whoever waits for it."""

    def __init__(self, kill: KillPoints) -> None:
        super().__init__(use_env_settings=False)
        self._kill = kill

    def send(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().send(request, **kwargs)
        headers = {name.lower(): str(value) for name, value in request.headers.items()}
        sent = Request.parse(str(request.method), request.url.split("/", 3)[3], headers, b"")
        if sent.kind not in _READS and response.status_code in _STORED:
            self._kill.cross(f"{sent.container}.{sent.kind} unseen")
        return response


def move_to_cosmos(local: Backend, connection: str, kill: KillPoints, clock: Callable[[], datetime]) -> Backend:
    """The backend with everything that is kept in the account; only the topic stays local."""
    client = CosmosClient.from_connection_string(connection, transport=DeadlyTransport(kill))
    database = client.get_database_client(DATABASE)

    def container(description: dict[str, Any]) -> ContainerProxy:
        return database.get_container_client(description["id"])

    return on_cosmos(local, container, clients, clock)
