"""Verify and heal clients of an application: all of them side by side, a random sample, or a few each hour."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import orjson

from eventstore import utc_text
from projections import Difference, Healer, Verifier, sweep_cursor

from .runtime import Runtime, open_runtime
from .settings import Settings
from .workers import end_with_parent, worker_processes

_PAGE = 200  # clients of one portion of work
_SIDE_BY_SIDE = 8  # requests at once, where each client is requests of its own
_MARGIN = timedelta(minutes=1)  # clocks of several machines differ
_PACE = timedelta(hours=1)
_A_FEW = 10  # clients verified in that time
_OUT_OF = 1000

_log = logging.getLogger(__name__)


class Result(NamedTuple):
    """What became of a client.

    Attributes:
        client_id: the client.
        events: how many events it has.
        has_record: whether this version of the projection has a record of it.
        found: what differed.
        left: what differs still.
    """

    client_id: str
    events: int
    has_record: bool
    found: tuple[Difference, ...]
    left: tuple[Difference, ...]


class Portion(NamedTuple):
    """What became of some clients.

    Attributes:
        clients: how many they are.
        events: how many events they have together.
        without_events: clients of whom only documents are stored.
        not_folded: clients of whom this version of the projection has nothing yet that could differ.
        differing: those of which something was found.
    """

    clients: int
    events: int
    without_events: int
    not_folded: int
    differing: Sequence[Result]


_Check = Callable[[Sequence[str]], Iterator[Result]]


def clients_with_events(runtime: Runtime) -> Iterator[Sequence[str]]:
    """Every client that has events once, a page at a time.

    Raises:
        StoreUnavailableError: a database is out of reach.
    """
    for partition in runtime.backend.feed.partitions():
        cursor: str | None = None
        while True:
            page = runtime.backend.feed.clients(partition, after=cursor, limit=_PAGE)
            if page.client_ids:
                yield page.client_ids
            cursor = page.cursor
            if cursor is None:
                break


def all_clients(runtime: Runtime) -> Iterator[Sequence[str]]:
    """Every client once, a page at a time: those with events, then those of which only documents are left.

    Raises:
        StoreUnavailableError: a database is out of reach.
    """
    yield from clients_with_events(runtime)
    after = ""
    while owners := runtime.backend.documents.owners(after=after, limit=_PAGE):
        after = owners[-1]
        known = runtime.backend.feed.known(owners)
        if left := [client_id for client_id in owners if client_id not in known]:
            yield left


def sample(pages: Iterable[Sequence[str]], number: int, *, seed: int) -> list[str]:
    """That many clients, any with the same chance; all if there are fewer. The same seed chooses the same."""
    random = Random(seed)  # noqa: S311 - nobody has to be surprised
    chosen: list[str] = []
    for count, client_id in enumerate(client_id for page in pages for client_id in page):
        if count < number:
            chosen.append(client_id)
        elif (place := random.randrange(count + 1)) < number:
            chosen[place] = client_id
    return chosen


def pages_of(client_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The clients a page at a time."""
    return (client_ids[start : start + _PAGE] for start in range(0, len(client_ids), _PAGE))


def verify_clients(
    runtime: Runtime, pages: Iterable[Sequence[str]], *, heal: bool = False, workers: int = 1
) -> Iterator[Portion]:
    """Verify clients, and mend what differs if asked to, a page at a time.

    What was found and is left is noted, so that health tells; what differs no more is forgotten.

    Args:
        runtime: the application.
        pages: its clients.
        heal: mend what differs.
        workers: processes; with more than one, each opens the application that the environment describes.

    Raises:
        FingerprintMismatchError: the code is not the one that projected, so everything would differ.
        StoreUnavailableError: a database is out of reach.
        WorkerLostError: one of the processes was killed.
    """
    _ = runtime.projector
    until = projected_until(runtime)
    findings = runtime.findings
    known = set(findings.all())
    for portion, page in _portions(runtime, pages, until, heal=heal, workers=workers):
        left = {result.client_id: result.left for result in portion.differing}
        noted = {**{client_id: () for client_id in page if client_id in known}, **left}
        if noted:
            findings.note(noted)
        yield portion


def verify_a_few(runtime: Runtime, random: Random) -> int:
    """Verify a few random clients if an hour has passed since somebody last did; how many differ.

    Walks through the clients by the page, so that the cost is the same however many there are.

    Raises:
        StoreUnavailableError: a database is out of reach.
    """
    name, now = f"{runtime.domain.projection.generation}:verified", runtime.clock()
    stored = runtime.backend.checkpoints.load(name)
    pace: dict[str, Any] = orjson.loads(stored) if stored else {"at": None, "after": ""}
    at = None if pace["at"] is None else datetime.fromisoformat(pace["at"])
    if at is not None and at <= now < at + _PACE:  # a clock that was ahead must not stop it until then
        return 0
    page = runtime.backend.projections.client_ids(after=pace["after"], limit=_OUT_OF)
    if not page:
        page = runtime.backend.projections.client_ids(limit=_OUT_OF)
    after = page[-1] if len(page) == _OUT_OF else ""
    # Before the work: another host that comes now has nothing to do.
    runtime.backend.checkpoints.save(name, orjson.dumps({"at": utc_text(now), "after": after}).decode())
    chosen = random.sample(list(page), min(_A_FEW, len(page)))
    differing = sum(len(portion.differing) for portion in verify_clients(runtime, [chosen]))
    if differing:
        _log.error("Verifying found %d of %d clients that differ; see client-flow verify", differing, len(chosen))
    return differing


def projected_until(runtime: Runtime) -> str:
    """A time before which every recorded event was passed by the sweep, in UTC text form."""
    moments = [utc_text(runtime.clock())]
    for partition in runtime.backend.feed.partitions():
        _, cursor = sweep_cursor(runtime.domain.projection, runtime.backend.checkpoints, partition)
        waiting = runtime.backend.feed.feed(partition, after=cursor, limit=1).events
        moments += [event.recorded_at for event in waiting]
    return utc_text(datetime.fromisoformat(min(moments)) - _MARGIN)


def _portions(
    runtime: Runtime, pages: Iterable[Sequence[str]], until: str, *, heal: bool, workers: int
) -> Iterator[tuple[Portion, Sequence[str]]]:
    if workers == 1:
        check = _checker(runtime, until, heal=heal)
        for page in pages:
            yield _portion(check, page, side_by_side=runtime.backend.projections.group == 1), page
        return
    environment = dict(runtime.settings.environment)
    with worker_processes(workers, _open, environment, until, heal) as pool:
        running: deque[tuple[Future[Portion], Sequence[str]]] = deque()
        for page in pages:
            running.append((pool.submit(_work, list(page)), page))
            if len(running) > 2 * workers:  # bounds what is held in memory
                future, done = running.popleft()
                yield future.result(), done
        for future, done in running:
            yield future.result(), done


def _portion(check: _Check, page: Sequence[str], *, side_by_side: bool) -> Portion:
    if side_by_side:
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            results = list(pool.map(lambda client_id: next(check([client_id])), page))
    else:
        results = list(check(page))
    return Portion(
        clients=len(page),
        events=sum(result.events for result in results),
        without_events=sum(result.events == 0 for result in results),
        not_folded=sum(not (result.has_record or result.found) for result in results),
        differing=[result for result in results if result.found],
    )


def _checker(runtime: Runtime, until: str, *, heal: bool) -> _Check:
    """What is done with each client."""
    backend, projection = runtime.backend, runtime.domain.projection
    verifier = Verifier(
        projection, backend.events, backend.documents, projected_until=until, heard=backend.deliveries.wanted
    )
    if not heal:

        def look(client_ids: Sequence[str]) -> Iterator[Result]:
            for verified in verifier.verify_all(client_ids):
                found = verified.differences
                yield Result(verified.client_id, verified.events, verified.has_record, found, left=found)

        return look
    healer = Healer(projection, backend.events, backend.documents, verifier, runtime.projector)

    def mend(client_id: str) -> Result:
        healed = healer.heal(client_id)
        if healed.announced:
            runtime.publish_soon([client_id])
        if any(each.kind == "record" for each in healed.found):
            # A target may have been given what was wrong; what it has already is not sent again.
            for integration in runtime.domain.integrations:
                runtime.deliverer.ring(integration.name, [client_id])
        return Result(client_id, healed.events, healed.has_record, healed.found, healed.left)

    return lambda client_ids: map(mend, client_ids)


_check: _Check  # of a worker process
_side_by_side = False


def _open(environment: dict[str, str], until: str, heal: bool) -> None:  # noqa: FBT001 - given by the pool, by position
    global _check, _side_by_side  # noqa: PLW0603 - the one thing a worker process is there for
    end_with_parent()
    runtime = open_runtime(Settings(environment))
    _check = _checker(runtime, until, heal=heal)
    _side_by_side = runtime.backend.projections.group == 1


def _work(page: Sequence[str]) -> Portion:
    return _portion(_check, page, side_by_side=_side_by_side)
