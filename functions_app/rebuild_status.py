"""How far a rebuild is, in however many processes on however many machines it runs."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from eventstore import utc_text
from projections import Progress, Purpose, Share, load_progress

from .runtime import Runtime


class Status(NamedTuple):
    """How far all shares of a walk are.

    Attributes:
        progress: of all of them together.
        total: how many clients there are.
        shares: how far each is; None if it never began.
        seconds_left: until the end, if it goes on as fast as since it was last started; None if that cannot be told.
    """

    progress: Progress
    total: int
    shares: Sequence[tuple[Share, Progress | None]]
    seconds_left: float | None


class _Start(NamedTuple):
    """When one machine's part of a walk was last started, in how many processes, and how far it was."""

    workers: int
    at: str
    clients: int


def shares_of(part: Share, workers: int) -> list[Share]:
    """The shares of the processes that work on one machine's part: stretches of its stretch."""
    first = (part.number - 1) * workers
    return [Share(first + number, part.of * workers) for number in range(1, workers + 1)]


def note_start(runtime: Runtime, purpose: Purpose, part: Share, workers: int) -> None:
    """Keep that a machine begins its part or goes on with it, for whoever asks how far the walk is.

    Machines may have different numbers of workers; of parts there are as many for each of them.
    """
    clients = progress_of(runtime, purpose, shares_of(part, workers)).clients
    start = _Start(workers, utc_text(runtime.clock()), clients)
    runtime.backend.checkpoints.save(_of_part(runtime, purpose, part), json.dumps(start._asdict()))
    runtime.backend.checkpoints.save(_parts(runtime, purpose), str(part.of))


def progress_of(runtime: Runtime, purpose: Purpose, shares: Sequence[Share]) -> Progress:
    """How far some shares are together; done if each is."""
    return _together([_progress(runtime, purpose, share) for share in shares])


def unfinished(runtime: Runtime, purpose: Purpose, shares: Sequence[Share]) -> list[Share]:
    """The shares that are not done."""
    return [share for share in shares if not progress_of(runtime, purpose, [share]).done]


def status_of(runtime: Runtime, purpose: Purpose) -> Status | None:
    """How far the walk is that was begun last; None if none was, or another version of the projection came in since."""
    of = int(runtime.backend.checkpoints.load(_parts(runtime, purpose)) or 0)
    shares: list[tuple[Share, Progress | None]] = []
    rate = 0.0
    for part in (Share(number, of) for number in range(1, of + 1)):
        start = _start_of(runtime, purpose, part)
        found = [
            (share, _progress(runtime, purpose, share)) for share in shares_of(part, start.workers if start else 1)
        ]
        shares += found
        so_far = _together([progress for _, progress in found])
        if start is not None and not so_far.done:
            passed = (runtime.clock() - datetime.fromisoformat(start.at)).total_seconds()
            rate += max(so_far.clients - start.clients, 0) / max(passed, 0.001)
    if all(progress is None for _, progress in shares):
        return None
    together = _together([progress for _, progress in shares])
    total = count_clients(runtime)
    left = None if together.done or not rate else max(total - together.clients, 0) / rate
    return Status(together, total, shares, left)


def count_clients(runtime: Runtime) -> int:
    """How many clients there are."""
    return sum(runtime.backend.feed.count_clients(partition) for partition in runtime.backend.feed.partitions())


def _progress(runtime: Runtime, purpose: Purpose, share: Share) -> Progress | None:
    return load_progress(runtime.backend.checkpoints, runtime.domain.projection, purpose, share)


def _together(found: Sequence[Progress | None]) -> Progress:
    begun = [each for each in found if each is not None]
    return Progress(
        clients=sum(each.clients for each in begun),
        events=sum(each.events for each in begun),
        announced=sum(each.announced for each in begun),
        parked=sum(each.parked for each in begun),
        failed={client_id: why for each in begun for client_id, why in each.failed.items()},
        done=len(begun) == len(found) and all(each.done for each in begun),
    )


def _start_of(runtime: Runtime, purpose: Purpose, part: Share) -> _Start | None:
    stored = runtime.backend.checkpoints.load(_of_part(runtime, purpose, part))
    return None if stored is None else _Start(**json.loads(stored))


def _parts(runtime: Runtime, purpose: Purpose) -> str:
    return f"{runtime.domain.projection.generation}:{purpose}:parts"


def _of_part(runtime: Runtime, purpose: Purpose, part: Share) -> str:
    return f"{runtime.domain.projection.generation}:{purpose}:{part.number}of{part.of}:started"
