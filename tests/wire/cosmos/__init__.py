"""A wire test server for azure-cosmos: the SDK talks to it unmodified, over a real socket."""

from tests.wire.cosmos import faults
from tests.wire.cosmos.charges import Meter, Usage
from tests.wire.cosmos.faults import Fault, Gate, Injection
from tests.wire.cosmos.server import CosmosServer

__all__ = ["CosmosServer", "Fault", "Gate", "Injection", "Meter", "Usage", "faults"]
