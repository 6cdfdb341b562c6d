"""Answers to HTTP requests: JSON for what worked, a problem document for what did not."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
from azure.functions import HttpRequest, HttpResponse

from integrations import InvalidLogCursorError, QueueUnavailableError
from projections import (
    CommitConflictError,
    InvalidCursorError,
    OutOfTimeError,
    StreamBehindError,
    UnknownClientError,
    UnreadableRecordError,
)

from .access import AccessNotRecordedError
from .errors import InputRefusedError, MissingSettingError
from .intake import Trace
from .problems import log_unexpected, problem, problem_for
from .telemetry import current_traceparent

_RETRY = 1.0  # seconds
_REFUSED_WITH = {"event_key_missing": 400, "message_too_large": 413}

Handler = Callable[[HttpRequest], HttpResponse]


def json_answer(document: Any, status: int = 200) -> HttpResponse:
    """A JSON document as answer; never cached, since it tells about a person."""
    return HttpResponse(
        orjson.dumps(document), status_code=status, mimetype="application/json", headers={"Cache-Control": "no-store"}
    )


def answered(handler: Handler, request: HttpRequest) -> HttpResponse:
    """What the handler answers, or the problem that its error stands for."""
    try:
        return handler(request)
    except InputRefusedError as error:
        return refused(error)
    except QueueUnavailableError as error:
        return problem(
            503,
            "The queue is not available",
            code="queue_unavailable",
            detail=str(error),
            retry_after=error.retry_after,
        )
    except MissingSettingError as error:
        log_unexpected(error)
        return problem(503, "This function is not configured", code="not_configured", detail=str(error))
    except Exception as error:  # noqa: BLE001 - the edge: nothing may leave a function but an answer
        if type(error) not in _KNOWN:
            return problem_for(error)
        status, code, title = _KNOWN[type(error)]
        retry_after = _RETRY if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        return problem(status, title, code=code, detail=str(error), retry_after=retry_after)


def refused(error: InputRefusedError) -> HttpResponse:
    """The answer to an input that cannot become events."""
    return problem(
        _REFUSED_WITH.get(error.code, 422),
        "The input was refused",
        code=error.code,
        detail="Correct the fields and send again.",
        errors=error.problems,
    )


def trace_of(request: HttpRequest) -> Trace:
    """The correlation id of a request, if it is well-formed, and the trace context it is handled in."""
    return Trace.of(request.headers.get("x-correlation-id"), current_traceparent())


_KNOWN: dict[type[Exception], tuple[int, str, str]] = {
    UnknownClientError: (404, "unknown_client", "There is no such client"),
    InvalidCursorError: (400, "invalid_cursor", "The cursor does not belong to this query"),
    InvalidLogCursorError: (400, "invalid_cursor", "The cursor does not belong to this query"),
    StreamBehindError: (409, "version_ahead", "The client has not reached that version"),
    UnreadableRecordError: (409, "record_unreadable", "The running code cannot read the record"),
    CommitConflictError: (503, "contention", "Too many projectors on one client"),
    AccessNotRecordedError: (503, "access_not_recorded", "The access could not be recorded"),
    OutOfTimeError: (503, "out_of_time", "The client's history is longer than one call's time"),
}
