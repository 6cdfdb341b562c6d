"""Events that come in while clients are rebuilt, and reads that must never go back.

As a process: `python -m tests.crash.rebuild_traffic ADDRESS SEED CLIENT...`. Writes a line once it is under way, goes on
until its standard input ends, and then writes how many events it told.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from random import Random
from subprocess import PIPE, Popen, TimeoutExpired
from threading import Event, Thread

from projections import Target
from tests.crash.rebuild_place import STUCK, Place, open_world
from tests.support.clients import Graded, clients, fact
from tests.support.generations import louder
from tests.support.projecting import AnyWorld

_SEEN = 3  # other clients looked at with each event
_PAUSE = 0.05  # seconds between two events of a process: there is to be room for those who rebuild


class Traffic:
    """Events of random clients, projected by version 1 at once, and reads through the eyes of version 2.

    Args:
        old: code of version 1.
        new: code of version 2.
        client_ids: all clients.
        seed: chooses among them, and makes its events others than those of the next.

    Attributes:
        events: how many it told.
    """

    def __init__(self, old: AnyWorld, new: AnyWorld, client_ids: Sequence[str], seed: int) -> None:
        self._old, self._new, self._client_ids, self._seed = old, new, client_ids, seed
        self._random = Random(seed)
        self._projector = old.projector()
        self._seen: dict[str, tuple[int, bool]] = {}
        self.events = 0

    def go_on(self) -> None:
        """One event, and a look at its client and some others.

        Raises:
            AssertionError: a reader was served less than before, or not what it had told itself.
        """
        self.events += 1
        client_id = self._random.choice([each for each in self._client_ids if each != STUCK])
        graded = fact(Graded(segment=f"t{self.events}"), minute=60 + self.events, source=f"traffic{self._seed}")
        told = self._old.tell(client_id, graded)
        if self.events % 4:
            self._projector.catch_up(client_id, Target(told[-1].version, told))
        else:
            assert self._old.follower(self._projector).sweep().errors == ()
        for each in (client_id, *self._random.sample(self._client_ids, _SEEN)):
            self._look(each)
        version, _ = self._seen[client_id]
        assert version >= told[-1].version, f"client {client_id}: {version} served after {told[-1].version} was told"

    def during(self, process: Popen[str]) -> None:
        """Go on until a process ends."""
        while process.poll() is None:
            self.go_on()
            with suppress(TimeoutExpired):
                process.wait(_PAUSE)

    def _look(self, client_id: str) -> None:
        """What is served has a higher version than before, or the same by the same or by the newer rules."""
        record, before = self._new.reader.current(client_id).record, self._seen.get(client_id, (0, False))
        found = record.version, str(record.values.get("root", {}).get("segment")).isupper()
        assert found >= before, f"client {client_id}: {found} served after {before}"
        self._seen[client_id] = found


@contextmanager
def crowd(place: Place, number: int) -> Iterator[None]:
    """Traffic by several processes; it ends with the context, and so far no reader was served less than before.

    Raises:
        AssertionError: one of them was, or failed otherwise; its own words are in the message.
    """
    command = [sys.executable, "-m", "tests.crash.rebuild_traffic", place.address]
    processes = [
        Popen([*command, str(seed), *place.clients], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
        for seed in range(1, number + 1)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield
        ended = [(process.communicate(), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for (told, complaint), code in ended:
        assert code == 0, complaint
        assert int(told) > 1, "the traffic stood still"


def _until_input_ends(ended: Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    address, seed, *client_ids = sys.argv[1:]
    ended = Event()
    Thread(target=_until_input_ends, args=[ended], daemon=True).start()
    with closing(open_world(address, clients)) as old, closing(open_world(address, louder())) as new:
        traffic = Traffic(old, new, client_ids, int(seed))
        traffic.go_on()
        sys.stdout.write("under way\n")
        sys.stdout.flush()
        while not ended.wait(_PAUSE):
            traffic.go_on()
    sys.stdout.write(str(traffic.events))
