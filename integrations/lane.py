"""The way to one target: claim, call, write down, and again if more was announced meanwhile.

The record is read and mapped before the claim is written: the claim only succeeds on the very state that was loaded
before the record, so what is sent is never older than what is wanted, and a body the target has costs no claim.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from eventstore import utc_text

from .calling import call, log_entry, mapped
from .gate import Gate
from .integration import Body, Integration, ReadRecord
from .outcome import Outcome, Verdict
from .ports import DeliveryStore, HeldState, LogEntry, PauseStore
from .slots import Slots
from .state import Attempt, DeliveryState, Step, claimed, decide, refused, rung, settled, unchanged

_ROUNDS = 8  # of one client in one call; what is due after that stays due
_FIRST_RETRY = 2.0
_LONGEST_RETRY = 900.0
_PAUSE_WHEN_DENIED = 900.0
_LONGEST_PAUSE = 86_400.0


class DeliveryResult(StrEnum):
    """What became of a delivery in this call."""

    DELIVERED = "delivered"
    """The target was called and has it."""
    UNCHANGED = "unchanged"
    """The record gives what the target has; nothing was sent."""
    RETRYING = "retrying"
    """The target could not take it; due again later."""
    FAILED = "failed"
    """This body is refused; a changed record or `retry` tries again."""
    PAUSED = "paused"
    """The integration is not called at present; it stays due."""
    CLAIMED = "claimed"
    """Somebody else is at it, or a call without an answer may still land."""
    WAITING = "waiting"
    """Due later, or changed by others all the time; it stays due."""
    IDLE = "idle"
    """Nothing to do."""
    BUSY = "busy"
    """As many calls as allowed are under way; they take it over, or it stays due."""


class DryRun(NamedTuple):
    """What a delivery would do now.

    Attributes:
        action: `send`, `retract`, `unchanged`, `still failed`, or `failed` if there is nothing to send.
        body: what would be sent.
        code: why it failed.
    """

    action: str
    body: Body | None
    code: str | None = None


class Lane:
    """Delivers clients to one target. Knows nothing of a call once it is over: all that lasts is in the store."""

    def __init__(
        self,
        integration: Integration,
        deliveries: DeliveryStore,
        pauses: PauseStore,
        records: ReadRecord,
        *,
        claim_seconds: float,
        on_attempt: Callable[[LogEntry], None],
        clock: Callable[[], datetime],
        random: Callable[[], float],
    ) -> None:
        self.integration = integration
        self.slots = Slots(integration.max_in_flight)
        self.gate = Gate(integration.name, pauses, probe_seconds=claim_seconds, clock=clock)
        self._deliveries, self._records = deliveries, records
        self._claim = timedelta(seconds=claim_seconds)
        self._on_attempt = on_attempt
        self._clock, self._random = clock, random

    def deliver(self, client_id: str) -> DeliveryResult:
        """Bring the target to the client's present record, if that is due and nobody else is at it."""
        for _ in range(_ROUNDS):
            held = self._deliveries.load(client_id, self.integration.name)
            if held is None:
                return DeliveryResult.IDLE
            resting = _resting(held.state, utc_text(self._clock()))
            if resting is not None:
                return resting
            admission = self.gate.admit()
            if admission is None:
                return DeliveryResult.PAUSED
            result, outcome = self._attempt(held)
            if admission.probe is not None:
                if outcome is None:
                    self.gate.give_back(admission.probe)
                elif outcome.verdict in {Verdict.DELIVERED, Verdict.FAILED}:
                    self.gate.reopen(admission.probe)
            if result is not None:
                return result
        return DeliveryResult.WAITING

    def ring(self, client_id: str, *, resend: bool) -> None:
        """Make a delivery due now."""
        tag = None
        while tag is None:
            held = self._deliveries.load(client_id, self.integration.name)
            state, loaded = (DeliveryState(client_id, self.integration.name), None) if held is None else held
            tag = self._deliveries.save(rung(state, utc_text(self._clock()), resend=resend), loaded)

    def dry_run(self, client_id: str) -> DryRun:
        """What `deliver` would do if it were due; sends and stores nothing."""
        held = self._deliveries.load(client_id, self.integration.name)
        found = mapped(self.integration, self._records, client_id)
        if found.failed is not None:
            return DryRun("failed", None, found.failed.code)
        state = DeliveryState(client_id, self.integration.name) if held is None else held.state
        return DryRun(decide(state, found.body_hash).value, found.body)

    def _attempt(self, held: HeldState) -> tuple[DeliveryResult | None, Outcome | None]:
        """The result, None to look again; and the outcome if the target was called."""
        state, tag = held
        found = mapped(self.integration, self._records, state.client_id)
        if found.failed is not None:
            return self._refuse(held, found.failed), None
        step = decide(state, found.body_hash)
        if step is Step.UNCHANGED:
            done = self._deliveries.save(unchanged(state), tag) is not None
            return (DeliveryResult.UNCHANGED if done else None), None
        if step is Step.STILL_FAILED:
            again = refused(state, state.failed_code or "", found.body_hash)
            done = self._deliveries.save(again, tag) is not None
            return (DeliveryResult.FAILED if done else None), None
        until = utc_text(self._clock() + self._claim)
        state = claimed(state, until)
        claim = self._deliveries.save(state, tag)
        if claim is None:
            return None, None
        attempt = Attempt(state.wanted, found.body_hash, state.resends, until)
        outcome, seconds = call(self.integration, state, attempt, found.body)
        return self._settle(HeldState(state, claim), attempt, outcome, found.body, seconds), outcome

    def _refuse(self, held: HeldState, outcome: Outcome) -> DeliveryResult | None:
        """Write down that the mapping gave no result."""
        state = refused(held.state, outcome.code, None)
        state = state._replace(entries=state.entries + 1)
        entry = log_entry(state, outcome, None, seq=state.wanted, at=utc_text(self._clock()), action="map")
        if self._deliveries.save(state, held.tag, entry=entry) is None:
            return None
        self._on_attempt(entry)
        return DeliveryResult.FAILED

    def _settle(
        self, held: HeldState, attempt: Attempt, outcome: Outcome, body: Body | None, seconds: float
    ) -> DeliveryResult | None:
        """Write down how a call ended, whatever was announced meanwhile, and pause the integration if it says so."""
        now = self._clock()
        at = utc_text(now)
        pause = _pause_seconds(outcome)
        backoff = min(_FIRST_RETRY * 2.0 ** min(held.state.attempts, 20), _LONGEST_RETRY) * (0.5 + self._random() / 2)
        retry_at = utc_text(now + timedelta(seconds=pause + backoff))
        action = "send" if body is not None else "retract"
        current: HeldState | None = held
        while current is not None:
            state = settled(current.state, attempt, outcome, now=at, retry_at=retry_at)
            entry = log_entry(state, outcome, body, seq=attempt.seq, at=at, action=action, seconds=seconds)
            if self._deliveries.save(state, current.tag, entry=entry) is not None:
                self._on_attempt(entry)
                break
            current = self._deliveries.load(state.client_id, state.integration)
        else:
            return DeliveryResult.IDLE  # the client was erased during the call
        if pause:
            self.gate.postpone(utc_text(now + timedelta(seconds=pause)), outcome.code)
        if state.due_at == at:
            return None
        return _RESULTS[outcome.verdict]


_RESULTS = {
    Verdict.DELIVERED: DeliveryResult.DELIVERED,
    Verdict.RETRY: DeliveryResult.RETRYING,
    Verdict.FAILED: DeliveryResult.FAILED,
    Verdict.PAUSE: DeliveryResult.PAUSED,
}


def _resting(state: DeliveryState, now: str) -> DeliveryResult | None:
    """Why there is nothing to do now, None if there is."""
    if state.claimed_until is not None and state.claimed_until > now:
        return DeliveryResult.CLAIMED
    if state.due_at is None:
        return DeliveryResult.IDLE if state.failed_code is None else DeliveryResult.FAILED
    return DeliveryResult.WAITING if state.due_at > now else None


def _pause_seconds(outcome: Outcome) -> float:
    """For how long nobody may call the target after this."""
    if outcome.verdict is Verdict.PAUSE:
        return _PAUSE_WHEN_DENIED
    if outcome.verdict is Verdict.RETRY and outcome.retry_after is not None:
        return min(max(outcome.retry_after, 0.0), _LONGEST_PAUSE)
    return 0.0
