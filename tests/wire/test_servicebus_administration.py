"""The broker's management endpoint, as the SDK's administration client and a bare socket see it."""

import socket
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.servicebus.management import CorrelationRuleFilter, ServiceBusAdministrationClient, SqlRuleFilter

from integrations import open_administration
from tests.support.servicebus import EMPTY
from tests.wire.servicebus import Broker

pytestmark = pytest.mark.servicebus_wire


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(EMPTY) as broker:
        yield broker


@pytest.fixture
def client(broker: Broker) -> Iterator[ServiceBusAdministrationClient]:
    with open_administration(broker.connection_string) as client:
        yield client


def test_what_is_not_there(client: ServiceBusAdministrationClient) -> None:
    """Looking for it and changing it both say so."""
    with pytest.raises(ResourceNotFoundError):
        client.get_topic("clients")
    with pytest.raises(ResourceNotFoundError):
        client.get_subscription("clients", "crm")
    with pytest.raises(ResourceNotFoundError):
        client.create_subscription("clients", "crm")
    made = client.create_topic("clients")
    client.delete_topic("clients")
    with pytest.raises(ResourceNotFoundError):
        client.update_topic(made)


def test_what_is_there_already(client: ServiceBusAdministrationClient) -> None:
    """It cannot be created a second time, whatever the case of its name."""
    client.create_queue("orders")
    with pytest.raises(ResourceExistsError):
        client.create_queue("Orders")


def test_what_is_fixed_at_creation(client: ServiceBusAdministrationClient) -> None:
    """Sessions and duplicate detection cannot be changed."""
    queue = client.create_queue("orders")
    for fixed in ({"requires_session": True}, {"requires_duplicate_detection": True}):
        with pytest.raises(HttpResponseError):
            client.update_queue(queue, **fixed)


def test_rules_come_back_as_they_were_made(client: ServiceBusAdministrationClient) -> None:
    """Properties of a correlation filter keep their types, an SQL expression its text."""
    client.create_topic("clients")
    client.create_subscription("clients", "crm")
    properties: dict[str, str | int | float | datetime | timedelta] = {"flag": True, "number": 7, "text": "a"}
    client.create_rule("clients", "crm", "one", filter=CorrelationRuleFilter(properties=properties))
    client.create_rule("clients", "crm", "two", filter=SqlRuleFilter("vip = TRUE"))
    rules = {rule.name: rule.filter for rule in client.list_rules("clients", "crm")}
    assert set(rules) == {"$Default", "one", "two"}
    one, two = rules["one"], rules["two"]
    assert isinstance(one, CorrelationRuleFilter)
    assert one.properties == properties
    assert isinstance(two, SqlRuleFilter)
    assert two.sql_expression == "vip = TRUE"


def test_nobody_manages_without_rights(broker: Broker, client: ServiceBusAdministrationClient) -> None:
    """Neither who is refused nor who shows nothing at all."""
    broker.administration.refuses = True
    with pytest.raises(ClientAuthenticationError):
        client.get_topic("clients")
    broker.administration.refuses = False
    assert ask(broker, b"GET /clients HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 401 ")


def test_a_request_in_pieces(broker: Broker) -> None:
    """It is answered once it is complete."""
    pieces = [b"G", b"ET /clients HTTP/1.1\r\nAuthorization: x\r\n", b"Content-Length: 2\r\n\r\nx", b"x"]
    assert ask(broker, *pieces).startswith(b"HTTP/1.1 200 ")


def ask(broker: Broker, *pieces: bytes) -> bytes:
    """What a bare socket gets until the broker hangs up."""
    port = int(broker.connection_string.split(":")[2].split(";")[0])
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        while part := connection.recv(4096):
            answer += part
    return answer
