"""Answers that say what went wrong and what to do: `application/problem+json` (RFC 9457).

A problem names fields and never their values. What nobody foresaw becomes a 500 that carries nothing but a reference;
the log holds the same reference beside the class of the error and the lines of code it came through.
"""

import logging
import math
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import orjson
from azure.functions import HttpResponse

from eventstore import (
    AppendTooLargeError,
    ContentionError,
    DuplicateEventIdError,
    EventIdReusedError,
    EventStoreError,
    FieldProblem,
    InvalidClientIdError,
    InvalidEventError,
    RejectionNotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    WrongExpectedVersionError,
)

from .errors import FlowError

MEDIA_TYPE = "application/problem+json"
_CONTENTION_RETRY = 1.0
_FRAMES_LOGGED = 8

_log = logging.getLogger(__name__)


class RequestError(FlowError):
    """Base of what can be wrong with a request before anybody looks at its meaning.

    Attributes:
        status: HTTP status of the answer.
        code: stable short name of the reason, for programs.
        title: the reason in a few words, for people.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "The request cannot be accepted"


# Only errors that speak about the caller's request stand here; the rest is the server's own trouble.
_KNOWN: dict[type[EventStoreError], tuple[int, str, str]] = {
    InvalidEventError: (422, "invalid_event", "The event was refused"),
    DuplicateEventIdError: (422, "duplicate_event_id", "The same event id stands twice in one call"),
    AppendTooLargeError: (422, "append_too_large", "Too much for one call"),
    InvalidClientIdError: (422, "invalid_client_id", "The client id is none"),
    EventIdReusedError: (422, "event_id_reused", "The event id is taken by other content"),
    WrongExpectedVersionError: (409, "wrong_expected_version", "The client is at another version"),
    RejectionNotFoundError: (404, "rejection_not_found", "There is no such rejection"),
    ContentionError: (503, "contention", "Too many writers on one client"),
    StoreRefusedError: (507, "store_refused", "The store refuses to keep this"),
    StoreUnavailableError: (503, "store_unavailable", "The store is not available"),
}


def problem(
    status: int,
    title: str,
    *,
    code: str,
    detail: str | None = None,
    errors: Sequence[FieldProblem] = (),
    retry_after: float | None = None,
    **extension: Any,
) -> HttpResponse:
    """A problem document as the answer to an HTTP request.

    Args:
        status: HTTP status.
        title: what is wrong, the same for every occurrence of `code`.
        code: stable short name of the reason, for programs.
        detail: what is wrong this time and what to do; must hold no value of the request.
        errors: the fields concerned, as `{"field": path, "problem": text}`.
        retry_after: seconds after which a retry makes sense; sent as a whole number in `Retry-After`.
        extension: further members of the document.
    """
    document: dict[str, Any] = {
        "type": f"urn:problem-type:client-flow:{code}",
        "title": title,
        "status": status,
        "code": code,
    }
    if detail is not None:
        document["detail"] = detail
    if errors:
        document["errors"] = [{"field": error.path, "problem": error.problem} for error in errors]
    headers = {"Cache-Control": "no-store"}
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return HttpResponse(orjson.dumps(document | extension), status_code=status, mimetype=MEDIA_TYPE, headers=headers)


def problem_for(error: Exception, *, new_reference: Callable[[], str] = lambda: uuid4().hex) -> HttpResponse:
    """The answer to a request that failed with this error.

    Args:
        error: a `RequestError`, an error of the event store, or anything else.
        new_reference: gives the text that ties a 500 to its line in the log.
    """
    if isinstance(error, RequestError):
        return problem(error.status, error.title, code=error.code, detail=str(error))
    known = next((_KNOWN[kind] for kind in type(error).__mro__ if kind in _KNOWN), None)
    if known is None:
        return unexpected(error, new_reference=new_reference)
    status, code, title = known
    return problem(
        status,
        title,
        code=code,
        detail=str(error),
        errors=error.problems if isinstance(error, InvalidEventError) else (),
        retry_after=_retry_after(error),
    )


def unexpected(error: BaseException, *, new_reference: Callable[[], str] = lambda: uuid4().hex) -> HttpResponse:
    """A 500 with a reference and nothing else; the log line with that reference says where to look."""
    reference = log_unexpected(error, new_reference=new_reference)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Something went wrong on our side",
        code="internal_error",
        detail="Quote the reference when you report this.",
        reference=reference,
    )


def log_unexpected(
    error: BaseException, *, client_ref: str | None = None, new_reference: Callable[[], str] = lambda: uuid4().hex
) -> str:
    """Log the class of an error and the lines of code it came through, and give the reference of that log line.

    The error's message stays out of the log: it may quote a payload.

    Args:
        error: what was raised.
        client_ref: the client it is about, if it is about one.
        new_reference: gives the reference.
    """
    reference = new_reference()
    frames = [f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)]
    _log.error(
        "Unexpected %s%s, reference %s, raised through %s",
        type(error).__name__,
        "" if client_ref is None else f" about client {client_ref}",
        reference,
        " > ".join(frames[-_FRAMES_LOGGED:]) or "no code",
    )
    return reference


def _retry_after(error: Exception) -> float | None:
    if isinstance(error, StoreUnavailableError):
        return error.retry_after
    return _CONTENTION_RETRY if isinstance(error, ContentionError) else None
