"""Parked clients: where one stands, what is in its way, and the version from which on it is one among others again.

Events behind the one that fails are passed by every cursor, so the record itself has to remember how far it has to come.
It does so until it is there: a client that goes on stays marked as catching up in every commit before that, and any
projector that meets the mark takes it up again.
"""

from eventstore import StoreRefusedError

from .fold import Failure, Folded
from .record import Parked, Record

CATCHING_UP = "catching_up"


def park(record: Record, failure: Failure, waiting_for: int, fingerprint: str) -> Record:
    """The record, parked because of a failure of the code with that fingerprint."""
    waiting_for = max(waiting_for, failure.version)
    return record._replace(parked=Parked(failure.version, waiting_for, failure.code, failure.problems, fingerprint))


def commit_refused(version: int, refusal: StoreRefusedError) -> Failure:
    """That the database will never take what this event comes to."""
    problem = f"(whole): {refusal.reason} ({refusal.status}/{refusal.sub_status})"
    return Failure(version, "commit_refused", (problem,))


def on_its_way(record: Record, waiting_for: int) -> Record:
    """The record, marked as on its way if it is not there yet; every fingerprint differs from the one it bears."""
    if record.version >= waiting_for:
        return record._replace(parked=None)
    return record._replace(parked=Parked(record.version, waiting_for, CATCHING_UP, (), ""))


def is_stuck(record: Record) -> bool:
    """Whether something is in the client's way."""
    return record.parked is not None and record.parked.code != CATCHING_UP


def may_be_passed(record: Record, version: int) -> bool:
    """Whether a cursor may pass that version: it is reached, or the record is stuck and knows that it is waited for."""
    if record.parked is None or not is_stuck(record):
        return record.version >= version
    return record.parked.waiting_for >= version


def still_parked(parked: Parked | None, until: int, head: int, tried: Folded | None, fingerprint: str) -> Parked | None:
    """Why a record should be parked, as far as that can be said; None if it should not.

    Args:
        parked: what the record says of itself.
        until: version at which it stands.
        head: version of the client's last event.
        tried: what came of the event at which it is parked, None if that was not tried.
        fingerprint: of the running code; what other code failed at is not questioned.
    """
    if parked is None:
        return None
    if parked.code == CATCHING_UP:
        return parked if parked.version == until < parked.waiting_for <= head else None
    version, code, problems = parked.version, parked.code, parked.problems
    if parked.version != until:
        if tried is None or tried.last is not None:  # it does not fail
            if tried is None or tried.audit[0].note != "annulled":
                return None
        elif tried.failure is not None and parked.fingerprint == fingerprint:
            version, code, problems = tried.failure
        version = until + 1
    waiting_for = max(version, min(parked.waiting_for, head))
    return Parked(version, waiting_for, code, tuple(problems), parked.fingerprint)
