"""Query functions: record, record as of, audit trail, blame, deliveries, health and lag over HTTP.

Each read of what is known of a client is entered in the access log before it takes place.
"""

from collections.abc import Callable
from datetime import datetime

from azure.functions import AuthLevel, Blueprint, HttpRequest, HttpResponse

from eventstore import check_client_id, utc_text
from projections import AuditFilter, RecordView

from .admission import KEY_HOLDER, Role, admit
from .answers import answered, json_answer
from .lag import Health, Status, lag_json, measure_lag
from .problems import RequestError, problem
from .runtime import Runtime
from .views import audit_document, blame_json, diff_json, log_json, parked_json, record_json, state_json

Query = Callable[[Runtime, HttpRequest], HttpResponse]

MAX_LIMIT = 500


class InvalidParameterError(RequestError):
    """A query parameter that is not what it should be."""

    code, title = "invalid_parameter", "A query parameter is not valid"

    def __init__(self, name: str, expected: str) -> None:
        self.name = name
        super().__init__(f"{name}: {expected} was expected.")


def add_queries(blueprint: Blueprint, runtime: Callable[[], Runtime], *, platform_auth: bool) -> None:
    """Register the query functions.

    Args:
        blueprint: where.
        runtime: gives the composed application, on first use.
        platform_auth: whether the platform authenticates callers, see `admission`. Then the functions look at roles
            themselves, and the host asks for no key.
    """
    host_asks, nobody_asks = AuthLevel.FUNCTION, AuthLevel.ANONYMOUS
    health = Health(runtime)

    def register(name: str, route: str, query: Query, role: Role) -> None:
        def answer(request: HttpRequest) -> HttpResponse:
            app = runtime()
            who = admit(request, role, app.settings.key) if platform_auth else KEY_HOLDER
            if "client_id" in request.route_params:
                app.accesses.record(who, name, _client_id(request))
            return query(app, request)

        def function(req: HttpRequest) -> HttpResponse:
            return answered(answer, req)

        decorate = blueprint.route(route=route, methods=["GET"], auth_level=nobody_asks if platform_auth else host_asks)
        blueprint.function_name(name)(decorate(function))

    def health_function(req: HttpRequest) -> HttpResponse:
        return answered(lambda _: _health(health), req)

    register("record", "clients/{client_id}", _record, Role.READ)
    register("record_as_of", "clients/{client_id}/as-of", _as_of, Role.READ)
    register("diff", "clients/{client_id}/diff", _diff, Role.READ)
    register("audit", "clients/{client_id}/audit", _audit, Role.AUDIT)
    register("blame", "clients/{client_id}/blame", _blame, Role.AUDIT)
    register("deliveries", "clients/{client_id}/deliveries", _deliveries, Role.AUDIT)
    register("lag", "lag", _lag, Role.OPERATE)
    decorate = blueprint.route(route="health", methods=["GET"], auth_level=nobody_asks)
    blueprint.function_name("health")(decorate(health_function))


def _record(runtime: Runtime, request: HttpRequest) -> HttpResponse:
    """The record; with `min_version` brought to that version first, so that a writer reads what it wrote."""
    client_id = _client_id(request)
    min_version = _number(request, "min_version", 0)
    if min_version:
        record = runtime.record_at_least(client_id, min_version)
        if record.version < min_version:
            return problem(
                409,
                "The client is parked before that version",
                code="parked",
                detail="An earlier event of the client cannot be folded; see `parked`.",
                parked=parked_json(record.parked),
            )
    return json_answer(record_json(runtime.domain.projection, runtime.reader.current(client_id)))


def _as_of(runtime: Runtime, request: HttpRequest) -> HttpResponse:
    """The record after a version, or as it was known at a time."""
    client_id = _client_id(request)
    version, time = _number(request, "version", 0), _time(request, "time")
    if bool(version) is (time is not None):
        raise InvalidParameterError("version", "either a version or a time")
    view: RecordView = (
        runtime.reader.as_of_version(client_id, version) if time is None else runtime.reader.as_of_time(client_id, time)
    )
    return json_answer(record_json(runtime.domain.projection, view))


def _diff(runtime: Runtime, request: HttpRequest) -> HttpResponse:
    """What differs between two versions of the record."""
    client_id = _client_id(request)
    first, second = _number(request, "from", 0), _number(request, "to", 0)
    for name, version in (("from", first), ("to", second)):
        if not version:
            raise InvalidParameterError(name, "a version from 1 on")
    return json_answer(diff_json(runtime.reader.diff(client_id, first, second)))


def _audit(runtime: Runtime, request: HttpRequest) -> HttpResponse:
    """A page of the audit trail, filtered."""
    where = AuditFilter(
        sub_schema=request.params.get("sub_schema"),
        field=request.params.get("field"),
        event_type=request.params.get("event_type"),
        source=request.params.get("source"),
        since=_time(request, "since"),
        until=_time(request, "until"),
    )
    client_id = _client_id(request)
    limit = _number(request, "limit", 100)
    page = runtime.reader.audit(client_id, where, cursor=request.params.get("cursor"), limit=limit)
    if not page.entries:
        runtime.reader.current(client_id)  # nothing of a client is an answer, of nobody it is none
    return json_answer({"entries": [audit_document(entry) for entry in page.entries], "cursor": page.cursor})


def _blame(runtime: Runtime, request: HttpRequest) -> HttpResponse:
    """For each field, the event that asserted it last."""
    return json_answer({"fields": [blame_json(each) for each in runtime.reader.blame(_client_id(request))]})


def _deliveries(runtime: Runtime, request: HttpRequest) -> HttpResponse:
    """Where the client stands with each integration, and what was sent."""
    client_id = _client_id(request)
    page = runtime.backend.deliveries.entries(
        client_id,
        integration=request.params.get("integration"),
        cursor=request.params.get("cursor"),
        limit=max(1, min(_number(request, "limit", 100), MAX_LIMIT)),
    )
    states = runtime.backend.deliveries.of_client(client_id)
    if not states:
        runtime.reader.current(client_id)  # nothing of a client is an answer, of nobody it is none
    return json_answer(
        {
            "states": [state_json(state) for state in states],
            "log": [log_json(entry) for entry in page.entries],
            "cursor": page.cursor,
        }
    )


def _lag(runtime: Runtime, request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - takes no parameters
    """How far each stage is behind."""
    return json_answer(lag_json(measure_lag(runtime)))


def _health(health: Health) -> HttpResponse:
    """Whether anything needs a person; tells nothing else, since anybody may ask."""
    status = health.status()
    return json_answer({"status": status}, 503 if status is Status.RED else 200)


def _client_id(request: HttpRequest) -> str:
    return check_client_id(request.route_params["client_id"])


def _number(request: HttpRequest, name: str, default: int) -> int:
    text = request.params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9):  # noqa: PLR2004 - below any limit of a database
        raise InvalidParameterError(name, "a whole number")
    return int(text)


def _time(request: HttpRequest, name: str) -> str | None:
    text = request.params.get(name)
    return None if text is None else time_text(name, text.replace(" ", "+"))  # a plus sign in a query means a space


def time_text(name: str, text: str) -> str:
    """A time that somebody typed, in UTC text form.

    Raises:
        InvalidParameterError: it is no time with an offset.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidParameterError(name, "a time such as 2026-01-31T12:00:00Z") from None
    if moment.utcoffset() is None:
        raise InvalidParameterError(name, "a time with an offset")
    try:
        return utc_text(moment)
    except OverflowError:
        raise InvalidParameterError(name, "a time between the years 1 and 9999 in UTC") from None
