"""How a call to a target ended, and what an HTTP status says about it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What follows from a call."""

    DELIVERED = "delivered"
    """The target has it."""
    RETRY = "retry"
    """Not this time; the same call may succeed later."""
    FAILED = "failed"
    """The target refuses this body; another body may be accepted."""
    PAUSE = "pause"
    """The target refuses the integration as such; no client is at fault."""


class Effect(StrEnum):
    """What a call that was not delivered may have done to the target."""

    NONE = "none"
    """Nothing: it was refused, or never left."""
    POSSIBLE = "possible"
    """It may have been applied, in whole or in part, but it is over."""
    PENDING = "pending"
    """No answer of the target came: it may have been applied, or still be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended.

    Attributes:
        verdict: what follows.
        code: stable short name of the reason, as `ok`, `http_503` or `timeout`; never a value.
        effect: what the call may have done, if it was not delivered.
        remote: the target's own reference of the client, if the call taught it.
        remote_gone: whether the reference used so far names nothing any more.
        retry_after: seconds for which the target wants no calls at all.
        status: HTTP status, if there was one.
        request: method and path of the call, for the delivery log.
        answer: what the target said, for the delivery log; without secrets.
    """

    verdict: Verdict
    code: str
    effect: Effect = Effect.NONE
    remote: str | None = None
    remote_gone: bool = False
    retry_after: float | None = None
    status: int | None = None
    request: str = ""
    answer: str = ""


_NOT_YET = {408, 425, 429}
_FROM_A_GATEWAY = {502, 504}


def outcome_of(status: int, *, retry_after: float | None = None) -> Outcome:
    """The usual meaning of an HTTP status (RFC 9110, RFC 6585, RFC 8470).

    A redirect is refused like wrong credentials: it means that the address is wrong, for every client alike.

    Args:
        status: of the final response.
        retry_after: what its `Retry-After` asks for, in seconds.
    """
    code = f"http_{status}"
    if 200 <= status < 300:  # noqa: PLR2004 - the class of success
        return Outcome(verdict=Verdict.DELIVERED, code="ok", status=status)
    if status in _NOT_YET:
        return Outcome(verdict=Verdict.RETRY, code=code, retry_after=retry_after, status=status)
    if status >= 500:  # noqa: PLR2004 - the class of server errors
        # A gateway answers for a target that may still be at work.
        effect = Effect.PENDING if status in _FROM_A_GATEWAY else Effect.POSSIBLE
        return Outcome(verdict=Verdict.RETRY, code=code, effect=effect, retry_after=retry_after, status=status)
    if status in {401, 403} or status < 400:  # noqa: PLR2004 - informational and redirects
        return Outcome(verdict=Verdict.PAUSE, code=code, status=status)
    return Outcome(verdict=Verdict.FAILED, code=code, status=status)
