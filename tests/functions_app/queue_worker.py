"""A process that consumes a session queue: `python -m tests.functions_app.queue_worker DIRECTORY [CONNECTION]`.

Reads from standard input how far its clock is ahead, in seconds, and at which append it is to die by SIGKILL, after
the event is stored and before its message is completed; 0 is never. Ends when standard input does.
"""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from threading import Lock

from functions_app.runtime import Runtime
from integrations import ServiceBusSessionQueues, SqliteSessionQueues, open_deliveries
from tests.support.flow import Clock, open_flow
from tests.support.queues import Interposed, consuming, domain
from tests.wire.servicebus import fast_polling


def main() -> None:
    directory, ahead, dies_at = Path(sys.argv[1]), *map(int, sys.stdin.readline().split())
    clock = Clock()
    clock.ahead = timedelta(seconds=ahead)
    queues = (
        ServiceBusSessionQueues(sys.argv[2])
        if len(sys.argv) > 2
        else SqliteSessionQueues(open_deliveries(directory), clock=clock)
    )
    runtime = open_flow(directory, domain, queues=queues)
    lock, appends = Lock(), [0]

    def die(_: str) -> None:
        with lock:
            appends[0] += 1
            if appends[0] == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    events = Interposed(runtime.backend.events, lambda _: None, die)
    dying = Runtime(domain, runtime.settings, runtime.backend._replace(events=events))
    with fast_polling(), consuming(dying):
        sys.stdin.read()


if __name__ == "__main__":
    main()
