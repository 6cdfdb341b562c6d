"""The wire server as a process: `python -m tests.wire.cosmos` prints its connection string and ends with its input.

Then it prints, as JSON, what it was asked (requests by kind) and the databases that are left.
"""

import json
import sys

from tests.wire.cosmos.server import CosmosServer

if __name__ == "__main__":
    with CosmosServer(ranges=3) as server:
        sys.stdout.write(f"{server.connection_string}\n")
        sys.stdout.flush()
        sys.stdin.read()
        databases = list(server._account.databases)
        sys.stdout.write(json.dumps({"requests": server.meter.requests, "databases": databases}) + "\n")
