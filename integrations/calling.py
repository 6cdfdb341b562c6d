"""One call of a target: from the record to a body, through the strategy, into the log."""

import time
from hashlib import blake2b
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from eventstore import canonical_json

from .integration import Body, Delivery, Integration, ReadRecord
from .masking import masked
from .outcome import Effect, Outcome, Verdict
from .ports import LogEntry
from .state import NOTHING, Attempt, DeliveryState


class Mapped(NamedTuple):
    """What a client's record gives a target.

    Attributes:
        body: what to send, None for nothing.
        body_hash: hash of it, `NOTHING` for nothing.
        failed: how the mapping ended if it gave no result.
    """

    body: Body | None
    body_hash: str
    failed: Outcome | None = None


def mapped(integration: Integration, read: ReadRecord, client_id: str) -> Mapped:
    """The body for a client. A record that does not fit its schema and a mapping that raises are results, not errors.

    Raises:
        StoreUnavailableError: the record cannot be read.
    """
    try:
        record = read(client_id)
    except ValidationError as error:
        return _unmapped("record_invalid", type(error).__name__)
    if record is None:
        return Mapped(None, NOTHING)
    try:
        model: object = integration.mapping(record)  # a declaration is no proof
        if model is None:
            return Mapped(None, NOTHING)
        if not isinstance(model, BaseModel):
            return _unmapped("mapping_result", f"a pydantic model or None was expected, not {type(model).__name__}")
        body = model.model_dump(mode="json", by_alias=True)
        return Mapped(body, body_hash(body))
    except Exception as error:  # noqa: BLE001 - user code; listed as failed delivery, its message may hold values
        return _unmapped("mapping_raised", type(error).__name__)


def body_hash(body: Body | None) -> str:
    """Hash of a body, `NOTHING` for nothing."""
    return NOTHING if body is None else blake2b(canonical_json(body), digest_size=16).hexdigest()


def idempotency_key(state: DeliveryState, attempt: Attempt) -> str:
    """The same for each repetition of a call; another one once the target may answer differently.

    Besides client, integration, seq and body it covers the reference used, so that creating anew what has gone is
    not taken for the update that failed, and the resends asked for, so that they are not taken for repetitions.
    """
    parts = [state.client_id, state.integration, attempt.seq, attempt.body_hash, state.remote, attempt.resends]
    return blake2b(canonical_json(parts), digest_size=16).hexdigest()


def call(integration: Integration, state: DeliveryState, attempt: Attempt, body: Body | None) -> tuple[Outcome, float]:
    """Call the target once; what the strategy raises is an outcome, too. Returns it and the seconds it took."""
    key = idempotency_key(state, attempt)
    delivery = Delivery(state.client_id, attempt.seq, state.remote, key, state.uncertain)
    started = time.monotonic()
    try:
        strategy = integration.strategy
        outcome = strategy.retract(delivery) if body is None else strategy.send(body, delivery)
    except Exception as error:  # noqa: BLE001 - user code; retried and logged, its message may hold values
        outcome = Outcome(
            verdict=Verdict.RETRY, code="strategy_raised", effect=Effect.PENDING, answer=type(error).__name__
        )
    return outcome, time.monotonic() - started


def log_entry(
    state: DeliveryState, outcome: Outcome, body: Body | None, *, seq: int, at: str, action: str, seconds: float = 0.0
) -> LogEntry:
    """The entry of an attempt, as it goes with the state that the attempt led to."""
    return LogEntry(
        client_id=state.client_id,
        integration=state.integration,
        number=state.entries,
        at=at,
        seq=seq,
        action=action,
        verdict=outcome.verdict,
        code=outcome.code,
        status=outcome.status,
        seconds=round(seconds, 6),
        body_hash=body_hash(body),
        request=outcome.request,
        body="" if body is None else masked(canonical_json(body).decode()),
        answer=masked(outcome.answer),
    )


def _unmapped(code: str, detail: str) -> Mapped:
    return Mapped(None, NOTHING, Outcome(verdict=Verdict.FAILED, code=code, answer=detail))
