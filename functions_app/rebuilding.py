"""Rebuild the records of an application: in this process or in several, at a pace that leaves room for others."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import closing, contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import NamedTuple

from eventstore import EventStoreError
from projections import Progress, ProjectionError, Projector, Purpose, Rebuild, Share

from .pace import Pace, PacedReads
from .problems import log_unexpected
from .rebuild_status import progress_of
from .runtime import Runtime, open_runtime
from .settings import Settings
from .workers import end_with_parent, worker_processes

_log = logging.getLogger(__name__)

_LOOK = 0.5  # seconds between looks at what other processes have done


class Job(NamedTuple):
    """What one process does: its share, and how fast it may."""

    purpose: Purpose
    share: Share
    rate: float | None


def jobs_of(purpose: Purpose, shares: Sequence[Share], max_rate: float | None) -> list[Job]:
    """One for each share; together they keep the rate."""
    rate = None if max_rate is None else max_rate / len(shares)
    return [Job(purpose, share, rate) for share in shares]


def walk(runtime: Runtime, purpose: Purpose, share: Share, *, workers: int = 8) -> Iterator[Progress]:
    """Work through one share in this process.

    Args:
        runtime: the application.
        purpose: what to do with each client.
        share: which clients.
        workers: clients worked on side by side, where a store commits them one by one.

    Raises:
        FingerprintMismatchError: the code changed without a new projection version.
        OvertakenError: another version of the projection came in between.
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
        on_failed=lambda failed: _tell_failures(runtime, failed),
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

    If one of them fails, the others stop after the page they are at.

    Raises:
        WorkerLostError: one of the processes was killed; walk again.
        OvertakenError: another version of the projection came in between.
        StoreUnavailableError: a database is out of reach; walk again.
    """
    stop = get_context("spawn").Event()
    with worker_processes(len(shares), _prepare, stop) as pool:
        try:
            working = [pool.submit(_work, job) for job in jobs_of(purpose, shares, max_rate)]
            while (looked := wait(working, timeout=_LOOK, return_when=FIRST_EXCEPTION)).not_done:
                if any(future.exception() for future in looked.done):
                    break
                yield progress_of(runtime, purpose, shares)
            for future in looked.done:
                future.result()
        finally:
            stop.set()
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


_stop: Event
"""In a worker process: set when another one failed."""


def _prepare(stop: Event) -> None:
    global _stop  # noqa: PLW0603 - what is shared with the other processes can only be given when this one is made
    _stop = stop
    end_with_parent()


def _work(job: Job) -> None:
    with paced(Settings(), None if job.rate is None else Pace(job.rate)) as runtime:
        # At a pace one after the other: what several threads spend at once is only known afterwards.
        for _ in walk(runtime, job.purpose, job.share, workers=8 if job.rate is None else 1):
            if _stop.is_set():
                return


def _tell_failures(runtime: Runtime, failed: Mapping[str, Exception]) -> None:
    for client_id, error in failed.items():
        reference = runtime.references.client(client_id)
        if isinstance(error, EventStoreError | ProjectionError):
            _log.warning("Client %s is left behind: %s: %s", reference, type(error).__name__, error)
        else:
            log_unexpected(error, client_ref=reference)
