import re

import orjson
import pytest
from azure.functions import HttpRequest, HttpResponse

from eventstore import (
    AppendTooLargeError,
    ContentionError,
    DuplicateEventIdError,
    EventIdReusedError,
    FieldProblem,
    HistoryForkedError,
    InvalidClientIdError,
    InvalidEventError,
    RejectionNotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    WrongExpectedVersionError,
)
from functions_app.answers import answered
from functions_app.problems import RequestError, log_unexpected, problem, problem_for
from projections import UnreadableRecordError


def document(answer: HttpResponse) -> dict[str, object]:
    parsed: dict[str, object] = orjson.loads(answer.get_body())
    return parsed


def test_a_problem_is_a_problem_document() -> None:
    """Status, media type and members are those of RFC 9457, with the code as extension."""
    answer = problem(422, "Refused", code="invalid_event", detail="Mend it.", line=7)
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"
    assert document(answer) == {
        "type": "urn:problem-type:client-flow:invalid_event",
        "title": "Refused",
        "status": 422,
        "code": "invalid_event",
        "detail": "Mend it.",
        "line": 7,
    }


def test_a_problem_is_never_cached() -> None:
    """A cache between us and the caller must not repeat an error."""
    assert problem(404, "Gone", code="gone").headers["Cache-Control"] == "no-store"


def test_field_problems_are_listed_by_path() -> None:
    """Each field concerned has an entry of its own."""
    answer = problem(422, "Refused", code="x", errors=[FieldProblem("contact.email", "missing")])
    assert document(answer)["errors"] == [{"field": "contact.email", "problem": "missing"}]


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (30.0, "30")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    """The header takes whole seconds; zero would ask for a retry at once."""
    assert problem(503, "Busy", code="busy", retry_after=seconds).headers["Retry-After"] == header


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (InvalidEventError(FieldProblem("email", "missing")), 422, "invalid_event", None),
        (DuplicateEventIdError("shop:1"), 422, "duplicate_event_id", None),
        (AppendTooLargeError("events", 101, 100), 422, "append_too_large", None),
        (InvalidClientIdError("it is empty"), 422, "invalid_client_id", None),
        (EventIdReusedError("CC.1", "shop:1", 3), 422, "event_id_reused", None),
        (WrongExpectedVersionError("CC.1", 1, 2), 409, "wrong_expected_version", None),
        (RejectionNotFoundError(4), 404, "rejection_not_found", None),
        (StoreRefusedError(403, 1014), 507, "store_refused", None),
        (ContentionError("CC.1", 8), 503, "contention", "1"),
        (StoreUnavailableError("the disk is full", retry_after=20), 503, "store_unavailable", "20"),
    ],
)
def test_errors_of_the_event_store_have_their_status(
    error: Exception, status: int, code: str, retry_after: str | None
) -> None:
    """Each error a caller can cause or wait out is told apart by status and code."""
    answer = problem_for(error)
    assert (answer.status_code, document(answer)["code"]) == (status, code)
    assert document(answer)["detail"] == str(error)
    assert answer.headers.get("Retry-After") == retry_after


def test_an_invalid_event_names_its_fields() -> None:
    """The fields that pydantic or the store found wrong are in the answer."""
    answer = problem_for(InvalidEventError(FieldProblem("a", "missing"), FieldProblem("b.0", "too long")))
    assert document(answer)["errors"] == [
        {"field": "a", "problem": "missing"},
        {"field": "b.0", "problem": "too long"},
    ]


def test_no_client_id_is_in_an_answer() -> None:
    """Errors carry ids as attributes; the answer does not repeat them."""
    for error in (EventIdReusedError("CANARY", "CANARY", 1), WrongExpectedVersionError("CANARY", 1, 2)):
        assert b"CANARY" not in problem_for(error).get_body()


def test_a_request_error_brings_its_own_status() -> None:
    """Errors about the request itself say what they are."""

    class TeapotError(RequestError):
        status, code, title = 418, "teapot", "A teapot"

    answer = problem_for(TeapotError("Use the kettle."))
    assert answer.status_code == 418
    assert document(answer)["detail"] == "Use the kettle."


@pytest.mark.parametrize("error", [ValueError("CANARY"), HistoryForkedError("CANARY", 3), KeyError("CANARY")])
def test_the_unexpected_says_nothing_but_a_reference(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets a reference, the log the class under the same reference, nobody the message."""
    answer = problem_for(error, new_reference=lambda: "ref-1")
    assert answer.status_code == 500
    assert document(answer)["reference"] == "ref-1"
    assert type(error).__name__ in caplog.text
    assert "ref-1" in caplog.text
    assert "CANARY" not in caplog.text + answer.get_body().decode()


def test_references_differ() -> None:
    """Two errors of the same kind can be told apart in the log."""
    first, second = (document(problem_for(ValueError()))["reference"] for _ in range(2))
    assert first != second


def test_the_log_says_through_which_lines_an_error_came(caplog: pytest.LogCaptureFixture) -> None:
    """Without the message the place is what helps; code is no personal data."""
    with pytest.raises(ValueError, match="invalid literal") as raised:
        int("CANARY")
    log_unexpected(raised.value)
    assert re.search(r"test_problems\.py:\d+", caplog.text)
    assert "CANARY" not in caplog.text


def test_a_record_that_the_code_cannot_read_says_what_to_do() -> None:
    """It is no fault of the caller's, and names places in the schema only."""

    def read(_: HttpRequest) -> HttpResponse:
        raise UnreadableRecordError("1", ["contact.email: missing"])

    answer = answered(read, HttpRequest(method="GET", url="/api/clients/1", body=b""))
    assert (answer.status_code, document(answer)["code"]) == (409, "record_unreadable")
    assert "contact.email: missing" in str(document(answer)["detail"])
