"""Rebuild the records of an application: in this process or in several, at a pace that leaves room for others."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from multiprocessing import get_context, parent_process
from threading import Thread
from time import monotonic, sleep

from projections import Progress, Purpose, Rebuild, Share, load_progress

from .runtime import Runtime, open_runtime
from .settings import Settings

_LOOK = 0.5  # seconds between looks at what other processes have done


def shares_of(part: Share, workers: int) -> list[Share]:
    """The shares of the processes that work on one machine's part."""
    first = (part.number - 1) * workers
    return [Share(first + number, part.of * workers) for number in range(1, workers + 1)]


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
        failed=sum(each.failed for each in found),
        done=all(each.done for each in found),
    )


def count_clients(runtime: Runtime) -> int:
    """How many clients there are."""
    return sum(runtime.backend.feed.count_clients(partition) for partition in runtime.backend.feed.partitions())


def walk(
    runtime: Runtime,
    purpose: Purpose,
    share: Share,
    *,
    max_rate: float | None = None,
    pause: Callable[[float], None] = sleep,
    clock: Callable[[], float] = monotonic,
) -> Iterator[Progress]:
    """Work through one share in this process.

    Args:
        runtime: the application.
        purpose: what to do with each client.
        share: which clients.
        max_rate: events a second at most, measured over pages: the events of a page are paid for after it.
        pause: waits some seconds.
        clock: seconds that pass.

    Raises:
        FingerprintMismatchError: the code changed without a new projection version.
        StoreUnavailableError: a database is out of reach; walk again.
    """
    backend = runtime.backend
    rebuild = Rebuild(
        runtime.projector,
        backend.projections,
        backend.predecessors,
        backend.feed,
        backend.checkpoints,
        purpose,
        on_announced=runtime.publish_soon,
    )
    before = load_progress(backend.checkpoints, runtime.domain.projection, purpose, share)
    events = 0 if before is None or before.done else before.events
    began = clock()
    for progress in rebuild.walk(share):
        yield progress
        if max_rate is not None:
            left = (progress.events - events) / max_rate - (clock() - began)
            if left > 0:
                pause(left)
        events, began = progress.events, clock()


def walk_side_by_side(
    runtime: Runtime, purpose: Purpose, shares: Sequence[Share], *, max_rate: float | None = None
) -> Iterator[Progress]:
    """Work through shares in a process each, which opens the application that the environment describes.

    Args:
        runtime: the application, as this process sees it.
        purpose: what to do with each client.
        shares: one for each process.
        max_rate: events a second at most, all processes together.

    Raises:
        StoreUnavailableError: a database is out of reach; walk again.
    """
    rate = None if max_rate is None else max_rate / len(shares)
    with ProcessPoolExecutor(len(shares), mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        working = [pool.submit(_work, purpose, share, rate) for share in shares]
        while wait(working, timeout=_LOOK, return_when=FIRST_EXCEPTION).not_done:
            if any(future.done() and future.exception() for future in working):
                break
            yield progress_of(runtime, purpose, shares)
        for future in working:
            future.result()
    yield progress_of(runtime, purpose, shares)


def _end_with_parent() -> None:
    """Let this process end at once when the one that started it is killed: its successor works on the same shares."""

    def watch() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _work(purpose: Purpose, share: Share, max_rate: float | None) -> None:
    runtime = open_runtime(Settings())
    try:
        for _ in walk(runtime, purpose, share, max_rate=max_rate):
            pass
    finally:
        runtime.close()
