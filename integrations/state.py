"""What is known of one client at one target, and how each event in the life of a delivery changes it. Pure."""

from enum import Enum
from typing import NamedTuple

from .outcome import Effect, Outcome, Verdict

NOTHING = ""
"""Hash that stands for no body: the target has, or shall have, nothing of the client."""


class DeliveryState(NamedTuple):
    """What an integration owes its target of one client, and what the target has.

    Attributes:
        client_id: text of the client id.
        integration: name of the integration.
        wanted: seq of the last announcement that concerns the integration; never decreases.
        delivered: seq up to which the target is known to have it; never decreases, never above `wanted`.
        body_hash: hash of the body last delivered, `NOTHING` if none is there.
        remote: the target's own reference of the client.
        uncertain: whether a call since then may have changed the target unnoticed; the next send goes out even if the
            body is the one last delivered.
        resends: how often somebody asked to send again whatever was delivered.
        attempts: calls in a row that ended in a retry.
        failed_code: why the target or the mapping refuses, None if nothing is refused.
        failed_hash: the body that is refused, None if there was none because mapping failed.
        due_at: from when on a delivery has something to do, in UTC text form; None is never. Indexed.
        claimed_until: until when a caller may be calling the target, in UTC text form; one that has passed tells of a
            call that ended without an answer.
        entries: number of entries in the delivery log.
    """

    client_id: str
    integration: str
    wanted: int = 0
    delivered: int = 0
    body_hash: str = NOTHING
    remote: str | None = None
    uncertain: bool = False
    resends: int = 0
    attempts: int = 0
    failed_code: str | None = None
    failed_hash: str | None = None
    due_at: str | None = None
    claimed_until: str | None = None
    entries: int = 0

    @property
    def in_doubt(self) -> bool:
        """Whether the target may have something else than what was last delivered."""
        return self.uncertain or self.claimed_until is not None


class Attempt(NamedTuple):
    """One call, as its claim fixed it.

    Attributes:
        seq: what was wanted then.
        body_hash: what it sends, `NOTHING` for a retraction.
        resends: of the state then.
        until: end of the claim, which identifies it: while a call is under way, the next claim is taken only after that.
    """

    seq: int
    body_hash: str
    resends: int
    until: str


class Step(Enum):
    """What a due delivery does with the body it has."""

    SEND = "send"
    RETRACT = "retract"
    UNCHANGED = "unchanged"
    STILL_FAILED = "still failed"


def decide(state: DeliveryState, body_hash: str) -> Step:
    """What to do with the body that the record gives now (`NOTHING` if it gives none)."""
    if state.failed_hash == body_hash:
        return Step.STILL_FAILED
    if body_hash == state.body_hash and not state.in_doubt:
        return Step.UNCHANGED
    return Step.RETRACT if body_hash == NOTHING else Step.SEND


def raised(state: DeliveryState, seq: int, at: str) -> DeliveryState:
    """After an announcement: due at once, unless it waits for something already; the same state if it knew."""
    if seq <= state.wanted:
        return state
    return state._replace(wanted=seq, due_at=state.due_at or at)


def rung(state: DeliveryState, at: str, *, resend: bool) -> DeliveryState:
    """After somebody asked to look again (changed mapping), or to send again whatever was delivered or refused."""
    state = state._replace(due_at=at)
    if not resend:
        return state
    return state._replace(uncertain=True, resends=state.resends + 1, attempts=0, failed_code=None, failed_hash=None)


def claimed(state: DeliveryState, until: str) -> DeliveryState:
    """While a caller calls the target; a claim found is the trace of a call without an answer."""
    return state._replace(uncertain=state.in_doubt, claimed_until=until, due_at=until)


def unchanged(state: DeliveryState) -> DeliveryState:
    """After the record turned out to give what the target has."""
    return state._replace(delivered=state.wanted, attempts=0, failed_code=None, failed_hash=None, due_at=None)


def refused(state: DeliveryState, code: str, body_hash: str | None) -> DeliveryState:
    """After the body turned out to be refused: by the mapping (None), or by the target before."""
    return state._replace(
        failed_code=code,
        failed_hash=body_hash,
        attempts=0,
        uncertain=state.in_doubt,
        claimed_until=None,
        due_at=None,
    )


def settled(state: DeliveryState, attempt: Attempt, outcome: Outcome, *, now: str, retry_at: str) -> DeliveryState:
    """After a call.

    Args:
        state: as it is now: more may be wanted than when the call was claimed.
        attempt: the call.
        outcome: how it ended.
        now: present time in UTC text form.
        retry_at: when it may be tried again.
    """
    state = state._replace(entries=state.entries + 1)
    if state.claimed_until != attempt.until:
        # The call outlived its claim and may have undone what was sent since: one more send makes good for it.
        return rung(state, now, resend=True)
    moved_on = state.wanted > attempt.seq or state.due_at != attempt.until
    due_at = now if moved_on else None
    if outcome.verdict is Verdict.DELIVERED:
        gone = attempt.body_hash == NOTHING
        return state._replace(
            delivered=max(state.delivered, attempt.seq),
            body_hash=attempt.body_hash,
            remote=None if gone else outcome.remote or state.remote,
            uncertain=state.resends != attempt.resends,
            attempts=0,
            failed_code=None,
            failed_hash=None,
            claimed_until=None,
            due_at=due_at,
        )
    state = state._replace(
        remote=None if outcome.remote_gone else outcome.remote or state.remote,
        uncertain=state.uncertain or outcome.effect is not Effect.NONE,
        claimed_until=attempt.until if outcome.effect is Effect.PENDING else None,
    )
    if outcome.verdict is Verdict.FAILED:
        return state._replace(attempts=0, failed_code=outcome.code, failed_hash=attempt.body_hash, due_at=due_at)
    # Whatever may still land has landed when the claim ends; nothing is sent before.
    return state._replace(attempts=state.attempts + 1, due_at=max(retry_at, state.claimed_until or retry_at))
