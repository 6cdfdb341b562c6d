"""A Service Bus broker for tests: AMQP 1.0 on a real socket, in process, for the unmodified azure-servicebus SDK.

    with Broker(config) as broker:  # the Config.json of Microsoft's Service Bus emulator, as a dict or a path
        client = ServiceBusClient.from_connection_string(broker.connection_string)

From the wire up: `codec` and `frames` (AMQP 1.0), `connection`, `session`, `incoming` and `outgoing` links (the
protocol), `management` ($cbs and $management), `message`, `entities`, `queues`, `session_queues`, `topics`, `filters`
(what a namespace holds), `namespace` (all of it), `administration` and `gateway` (managing it over HTTP), `broker` (the thread it runs on, and what a test asks of it).
`faults`, `meter` and `clock` are the hooks of tests.
"""

from tests.wire.servicebus.broker import Broker
from tests.wire.servicebus.errors import (
    BrokerError,
    ConfigError,
    UnsupportedFilterError,
)
from tests.wire.servicebus.faults import Fault
from tests.wire.servicebus.message import StoredMessage
from tests.wire.servicebus.meter import Meter
from tests.wire.servicebus.sdk import fast_polling, leaked_sockets_ignored

__all__ = [
    "Broker",
    "BrokerError",
    "ConfigError",
    "Fault",
    "Meter",
    "StoredMessage",
    "UnsupportedFilterError",
    "fast_polling",
    "leaked_sockets_ignored",
]
