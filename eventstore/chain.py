"""Whether a stream is still the one that was written: each event covers the one before, and a known head covers all."""

from typing import Final, NamedTuple

from .events import RecordedEvent

MISSING: Final = "missing"
"""No event is stored at this version, though one was."""
CHANGED: Final = "changed"
"""The event at this version does not match its hash, or does not follow the event before it."""
REWRITTEN: Final = "rewritten"
"""The event is sound in itself, but another one stood at this version before."""


class ChainProblem(NamedTuple):
    """Where a stream is not what was written.

    Attributes:
        version: the event.
        problem: `MISSING`, `CHANGED` or `REWRITTEN`.
    """

    version: int
    problem: str


class ChainCheck:
    """Follows one stream, event by event.

        chain = ChainCheck()
        for event in store.read(client_id):
            chain.see(event)
        chain.problems

    Alone it does not find a tail that was cut, or a chain that was written anew from some event on: every hash fits then.
    Whoever knows a hash from before (a seal, a record) finds these by comparing it with the event of that version.

    Attributes:
        version: of the last event seen, 0 before the first.
        problems: what was found so far, by ascending version.
    """

    def __init__(self) -> None:
        self.version = 0
        self.problems: list[ChainProblem] = []
        self._hash: str | None = ""

    def see(self, event: RecordedEvent) -> bool:
        """Take the next event of the stream; whether all is sound up to it."""
        if event.version != self.version + 1:
            self.problems.append(ChainProblem(self.version + 1, MISSING))
            self._hash = None  # of the event before, which nobody knows: this one cannot be judged
        if self._hash is not None and not event.follows(self._hash):
            self.problems.append(ChainProblem(event.version, CHANGED))
        self.version, self._hash = event.version, event.hash
        return not self.problems
