"""Rebuild the records of an application: in this process or in several, at a pace that leaves room for others."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import closing, contextmanager

from projections import Progress, Projector, Purpose, Rebuild, Share, load_progress

from .pace import Pace, PacedReads
from .runtime import Runtime, open_runtime
from .settings import Settings
from .workers import worker_processes

_LOOK = 0.5  # seconds between looks at what other processes have done


def shares_of(part: Share, workers: int) -> list[Share]:
    """The shares of the processes that work on one machine's part."""
    first = (part.number - 1) * workers
    return [Share(first + number, part.of * workers) for number in range(1, workers + 1)]


def note_shares(runtime: Runtime, purpose: Purpose, of: int) -> None:
    """Keep in how many shares a walk was begun, for whoever asks how far it is."""
    runtime.backend.checkpoints.save(_layout(runtime, purpose), str(of))


def noted_shares(runtime: Runtime, purpose: Purpose) -> list[Share]:
    """All shares of the walk that was begun last."""
    of = int(runtime.backend.checkpoints.load(_layout(runtime, purpose)) or 1)
    return [Share(number, of) for number in range(1, of + 1)]


def progress_of(runtime: Runtime, purpose: Purpose, shares: Sequence[Share]) -> Progress:
    """How far some shares are together; done if each is."""
    found = [
        load_progress(runtime.backend.checkpoints, runtime.domain.projection, purpose, share) or Progress()
        for share in shares
    ]
    return Progress(
        clients=sum(each.clients for each in found),
        events=sum(each.events for each in found),
        announced=sum(each.announced for each in found),
        parked=sum(each.parked for each in found),
        failed=tuple(client_id for each in found for client_id in each.failed),
        done=all(each.done for each in found),
    )


def _layout(runtime: Runtime, purpose: Purpose) -> str:
    return f"{runtime.domain.projection.generation}:{purpose}:shares"


def count_clients(runtime: Runtime) -> int:
    """How many clients there are."""
    return sum(runtime.backend.feed.count_clients(partition) for partition in runtime.backend.feed.partitions())


def walk(runtime: Runtime, purpose: Purpose, share: Share, *, workers: int = 8) -> Iterator[Progress]:
    """Work through one share in this process.

    Args:
        runtime: the application.
        purpose: what to do with each client.
        share: which clients.
        workers: clients worked on side by side, where a store commits them one by one.

    Raises:
        FingerprintMismatchError: the code changed without a new projection version.
        StoreUnavailableError: a database is out of reach; walk again.
    """
    _ = runtime.projector  # refuses code that is not the one that projected this version
    backend = runtime.backend
    projector = Projector(
        runtime.domain.projection,
        backend.events,
        backend.projections,
        on_announced=runtime.publish_soon,
        workers=workers,
    )
    rebuild = Rebuild(
        projector,
        backend.projections,
        backend.predecessors,
        backend.feed,
        backend.checkpoints,
        purpose,
        on_announced=runtime.publish_soon,
    )
    return rebuild.walk(share)


def walk_side_by_side(
    runtime: Runtime, purpose: Purpose, shares: Sequence[Share], *, max_rate: float | None = None
) -> Iterator[Progress]:
    """Work through shares in a process each, which opens the application that the environment describes.

    Args:
        runtime: the application, as this process sees it.
        purpose: what to do with each client.
        shares: one for each process.
        max_rate: events a second at most, on Cosmos DB request units, all processes together.

    Raises:
        WorkerLostError: one of the processes was killed; walk again.
        StoreUnavailableError: a database is out of reach; walk again.
    """
    rate = None if max_rate is None else max_rate / len(shares)
    with worker_processes(len(shares)) as pool:
        working = [pool.submit(_work, purpose, share, rate) for share in shares]
        while wait(working, timeout=_LOOK, return_when=FIRST_EXCEPTION).not_done:
            if any(future.done() and future.exception() for future in working):
                break
            yield progress_of(runtime, purpose, shares)
        for future in working:
            future.result()
    yield progress_of(runtime, purpose, shares)


@contextmanager
def paced(settings: Settings, pace: Pace | None) -> Iterator[Runtime]:
    """The application that the settings describe, such that reading history, or asking Cosmos DB, keeps a pace."""
    if pace is None:
        runtime = open_runtime(settings)
    elif settings.on_azure:
        runtime = open_runtime(settings, on_charge=pace.spend)
    else:
        runtime = open_runtime(settings)
        backend = runtime.backend._replace(events=PacedReads(runtime.backend.events, pace))
        runtime = Runtime(runtime.domain, settings, backend, references=runtime.references)
    with closing(runtime):
        yield runtime


def _work(purpose: Purpose, share: Share, rate: float | None) -> None:
    with paced(Settings(), None if rate is None else Pace(rate)) as runtime:
        # At a pace one after the other: what several threads spend at once is only known afterwards.
        for _ in walk(runtime, purpose, share, workers=8 if rate is None else 1):
            pass
