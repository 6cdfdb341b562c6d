"""What a projector is asked for, and what became of it."""

from collections.abc import Sequence
from typing import NamedTuple

from eventstore import RecordedEvent

from .record import Record


class Target(NamedTuple):
    """How far a client has to come.

    Attributes:
        at_least: the version its record must reach; 0 stands for all there is.
        known: events that came with the doorbell, in any order; used if they continue the record without a gap.
        retry: fold again even if the client is parked by the same code.
        refold: start again from the first event, in place.
        silent_until: fold up to this version and announce nothing, where `at_least` is what the client waits for beyond
            it, if that is higher. A client for which this version of the projection spoke last is brought to `at_least`, and
            what that makes different is announced: nobody else would tell it.
    """

    at_least: int
    known: Sequence[RecordedEvent] = ()
    retry: bool = False
    refold: bool = False
    silent_until: int | None = None


class Outcome(NamedTuple):
    """What became of a client.

    Attributes:
        record: as it was committed last, as far as this call knows.
        announced: whether something was written to the outbox.
        error: what kept it from its target, None if it got there or is parked.
    """

    record: Record
    announced: bool
    error: Exception | None = None
