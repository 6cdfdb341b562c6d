"""A namespace for contract suites: the wire broker, or a real one.

`CLIENT_FLOW_TEST_SERVICEBUS` holds the connection string of a namespace (tier Standard or above, with the right to manage)
or of Microsoft's emulator. Every test makes topic or queues there and removes them; the queues are
`shop-events` and `crm-events`, so the namespace should be nobody else's.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, Self
from uuid import uuid4

import pytest
from azure.servicebus.management import ServiceBusAdministrationClient

from functions_app.bus_entities import BusEntity, bus_entities
from functions_app.provision_bus import provision_bus
from integrations import is_emulator, open_administration
from tests.wire.servicebus import Broker, fast_polling

VARIABLE = "CLIENT_FLOW_TEST_SERVICEBUS"
EMPTY = {"UserConfig": {"Namespaces": [{"Name": "sbemulatorns", "Queues": [], "Topics": []}]}}


class Namespace(NamedTuple):
    """Where contract suites run.

    Attributes:
        connection: connection string.
        pass_time: pushes its time on by seconds; on a real one it skips the test.
    """

    connection: str
    pass_time: Callable[[float], None]


@contextmanager
def contract_namespace() -> Iterator[Namespace]:
    """The namespace that the environment names, else an empty wire broker."""
    connection = os.environ.get(VARIABLE)
    if connection:
        yield Namespace(connection, _cannot_pass_time)
    else:
        with fast_polling(), Broker(EMPTY) as broker:
            yield Namespace(broker.connection_string, broker.advance)


class OwnTopic:
    """A topic that exists as long as the context lasts, provisioned as the application would.

    Attributes:
        name: of the topic; nobody else has it.
    """

    def __init__(self, namespace: Namespace) -> None:
        self.name = f"contract-{uuid4().hex[:12]}"
        self._emulator = is_emulator(namespace.connection)
        self._client: ServiceBusAdministrationClient = open_administration(namespace.connection)

    def __enter__(self) -> Self:
        provision_bus(self._client, bus_entities(self.name, [], emulator=self._emulator))
        return self

    def __exit__(self, *_: object) -> None:
        self._client.delete_topic(self.name)
        self._client.__exit__()

    def subscribe(self, name: str, sub_schemas: list[str]) -> None:
        """Give a subscription, which is made if need be, the rules for these sub-schemas and no others."""
        receiving = {"lock_duration": timedelta(minutes=1), "max_delivery_count": 10}
        wanted = BusEntity("subscription", name, {"requires_session": False}, receiving, self.name, tuple(sub_schemas))
        provision_bus(self._client, [wanted])
        for rule in list(self._client.list_rules(self.name, name)):
            if rule.name not in sub_schemas:
                self._client.delete_rule(self.name, name, rule.name)


@contextmanager
def own_queues(namespace: Namespace, *names: str) -> Iterator[None]:
    """Session queues that are there as long as the context lasts, provisioned as the application would."""
    emulator = is_emulator(namespace.connection)
    wanted = [each for each in bus_entities("none", [], names, emulator=emulator) if each.kind == "queue"]
    with open_administration(namespace.connection) as client:
        provision_bus(client, wanted)
        try:
            yield
        finally:
            for name in names:
                client.delete_queue(name)


def _cannot_pass_time(seconds: float) -> None:
    pytest.skip(f"nobody can push the time of a real namespace on by {seconds:g} seconds")
