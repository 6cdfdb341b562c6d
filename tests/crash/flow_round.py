"""A round of a crash test: targets in this process, the work in another one that is killed and started again."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, Self

import orjson
import pytest

from eventstore import EVENTS_CONTAINER, INTAKE_CONTAINER
from integrations import DELIVERIES_CONTAINER
from projections import PROJECTIONS_CONTAINER
from tests.crash.flow_cosmos import DATABASE
from tests.crash.flow_domain import work
from tests.crash.flow_worker import Job
from tests.crash.kept import DeliveryStates, Kept, in_documents, in_files
from tests.crash.left import CheckError, Left
from tests.crash.oracle import check
from tests.support.cosmos import Containers
from tests.support.rest_target import Answer, Fault, Received, RestTarget
from tests.wire.cosmos import CosmosServer, faults

ROOT = Path(__file__).parents[2]
KILLED = -9
FAULTS = (
    (faults.dropped(stored=True), "events"),
    (faults.retry_with(), "events"),
    (faults.dropped(stored=True), "projections"),
    (faults.dropped(stored=False), "projections"),
    (faults.request_timeout(stored=True), "deliveries"),
    (faults.dropped(stored=False), "deliveries"),
    (faults.retry_with(), "deliveries"),
)
"""What the database does at first, to batches for a container; its user has to settle it without help from outside."""
CONTAINERS = (EVENTS_CONTAINER, INTAKE_CONTAINER, PROJECTIONS_CONTAINER, DELIVERIES_CONTAINER)


class Zygote:
    """The process that forks workers. One at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.flow_worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, job: Job) -> int:
        """Do a job in a process of its own; how that process ended, see `subprocess.Popen.returncode`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(list(job)).decode() + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


class FlowTarget(RestTarget):
    """The systems that are told; also remembers calls for one object that were under way at the same time."""

    def __init__(self) -> None:
        super().__init__(honour_idempotency=True)
        self.overlaps: list[str] = []
        self._paths_called: list[str] = []
        self._paths_lock = Lock()

    def handle(self, request: Received) -> Answer | None:
        if len(request.body) < int(request.headers.get("content-length", "0")):
            return None  # the caller died in the middle of it
        with self._paths_lock:
            if request.path in self._paths_called and request.method != "POST":
                self.overlaps.append(f"{request.method} {request.path}")
            self._paths_called.append(request.path)
        try:
            return super().handle(request)
        finally:
            with self._paths_lock:
                self._paths_called.remove(request.path)


class Round:
    """One directory, one target, and the runs over them.

    Args:
        directory: an empty one.
        zygote: does the work.
        seed: which work, and which calls fail.
        faulty: whether the targets fail at first.
        sabotage: which safeguard is removed, None for none.
        cosmos: whether data is kept on Cosmos DB; otherwise in files.
    """

    def __init__(
        self,
        directory: Path,
        zygote: Zygote,
        seed: int,
        *,
        faulty: bool = True,
        sabotage: str | None = None,
        cosmos: bool = False,
    ) -> None:
        self.directory, self.seed, self.faulty = directory, seed, faulty
        self.target = FlowTarget()
        self._zygote, self._sabotage = zygote, sabotage
        self._server = CosmosServer(ranges=2) if cosmos else None
        self._runs = 0
        self._states: list[DeliveryStates] = []
        directory.mkdir()

    def __enter__(self) -> Self:
        self.target.start()
        if self._server is not None:
            self._server.__enter__()
            with Containers(self._server, DATABASE) as containers:
                for description in CONTAINERS:
                    containers.open(description)
            if self.faulty:
                for fault, container in FAULTS:
                    self._server.inject(fault, kind="batch", container=container, times=2, skip=2 + self.seed)
        if self.faulty:
            fine = Fault()
            self.target.script(
                *[fine] * (self.seed % 3),
                Fault(status=503, headers={"Retry-After": "30"}),
                fine,
                Fault(drop="after"),
                Fault(drop="before"),
                *[fine] * 3,
                Fault(status=500),
                Fault(status=503, headers={"Retry-After": "5"}),
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.target.stop()
        if self._server is not None:
            self._server.__exit__()

    def run(self, at: str | None = None, crossing: int = 0) -> int:
        """Start the worker once, to die at that crossing or to go on until all is quiet."""
        account = None if self._server is None else self._server.connection_string
        job = Job(str(self.directory), self.target.url, self.seed, self._runs, at, crossing, self._sabotage, account)
        self._runs += 1
        ended = self._zygote.do(job)
        self.target.wait_until_idle()  # a call of the dead process may still be landing
        if self._server is not None and self._runs == 1:
            self._server.split(DATABASE, "events", "0")
        self._states.append(self.kept().delivery_states)
        return ended

    def finish(self) -> None:
        """Start the worker once more and let it finish.

        Raises:
            CheckError: it did not; says what it complained about.
        """
        ended = self.run()
        if ended != 0:
            complaint = (self.directory / "stderr").read_text()
            raise CheckError("the work gets done", f"the worker ended with {ended}: {complaint}")

    def died_at(self) -> str:
        """Where the last run died."""
        return str(self.journal()[-1]["died"])

    def crossings(self) -> dict[str, int]:
        """How often each point was crossed by the last run."""
        counted: dict[str, int] = self.journal()[-1]["crossings"]
        return counted

    def journal(self) -> list[dict[str, Any]]:
        """What the worker noted, oldest first."""
        return [orjson.loads(line) for line in (self.directory / "journal").read_bytes().splitlines()]

    def check(self) -> None:
        """Let the oracle look at what is left.

        Raises:
            CheckError: something is not as it must be.
        """
        check(self.left())

    def kept(self) -> Kept:
        """What the database holds."""
        server, files = self._server, self.directory / "data"
        if server is None:
            return in_files(files)
        return in_documents(lambda container: server.documents(DATABASE, container), files)

    def left(self) -> Left:
        """What is left in the files, at the targets and in the memory of the sources."""
        batches, portions = work(self.seed)
        deliveries = [("feed", each) for batch in batches for each in batch]
        deliveries += [("registry", each) for portion in portions for each in portion]
        valid = [(source, each) for source, each in deliveries if isinstance(each["facts"], list)]
        return Left(
            kept=self.kept(),
            sent=dict(event for source, each in valid for event in _events(source, each)),
            acknowledged=[
                (entry["client"], event_id, version)
                for entry in self.journal()
                for event_id, version in entry.get("versions", {}).items()
            ],
            broken=[each["key"] for _, each in deliveries if not isinstance(each["facts"], list)],
            people=self.target.items("people"),
            subscribers=self.target.items("subscribers"),
            overlaps=self.target.overlaps,
            before=self._states,
        )


def _events(source: str, delivery: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str, dict[str, Any]]]]:
    """What a delivery comes to: event id, and client, type and data."""
    facts = delivery["facts"]
    for number, fact in enumerate(facts, 1):
        key = f"{delivery['key']}:{number}" if len(facts) > 1 else delivery["key"]
        data = {} if fact["kind"] in {"unlisted", "poisoned"} else {"value": fact["value"]}
        yield f"{source}:{key}", (delivery["client"], f"client.{fact['kind']}", data)
