"""Traces and metrics of the application, through the API of OpenTelemetry.

Whoever runs the application chooses and configures an SDK; without one, nothing of this is kept. A trace begins with
what a source delivers. Its events keep the trace context, and so do their announcements, so that every later stage, in
whatever process and after whatever time, goes on with the trace of the event that caused its work.

Attributes are names of the domain, versions, counts and references, see `references`. What an exception says is never
recorded, only its class: it may quote what came in.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach, get_value, set_value
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

CLIENT, VERSION, EVENT, SOURCE = "client_flow.client_ref", "client_flow.version", "client_flow.event_ref", "source"

_SCOPE = "client_flow"
_TRACER = trace.get_tracer(_SCOPE)
_METER = metrics.get_meter(_SCOPE)
_PROPAGATOR = TraceContextTextMapPropagator()
_DOORBELL = "client-flow-doorbell"  # key of the client whose trace a context carries
_MAX_LINKS = 32

_rejections = _METER.create_counter("client_flow.rejections", description="Deliveries of sources that were refused")
_deliveries = _METER.create_counter("client_flow.deliveries", description="Attempts at deliveries, by how they ended")
_delivery_seconds = _METER.create_histogram("client_flow.delivery.duration", "s", "How long calls of targets took")
_charge = _METER.create_counter("client_flow.cosmos.request_charge", "{RU}", "Request units that Cosmos DB charged")
_gauges = {
    name: _METER.create_gauge(f"client_flow.{name}", unit, description)
    for name, unit, description in (
        ("lag.events", "{event}", "Events that are not projected yet"),
        ("lag.seconds", "s", "Age of the oldest event that is not projected yet"),
        ("parked", "{client}", "Parked clients"),
        ("unpublished", "{client}", "Clients with announcements to publish"),
        ("deliveries.waiting", "{delivery}", "Deliveries to make"),
        ("deliveries.failed", "{delivery}", "Deliveries that are refused"),
    )
}


def is_traced() -> bool:
    """Whether there is anybody to whom spans matter, for what would cost more than a span."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def current_traceparent() -> str | None:
    """The present trace context in its W3C form, None outside of any trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def received(source: str, headers: Mapping[str, str]) -> Iterator[Span]:
    """A span around a request that a source made; goes on with the trace of the host, or else of the caller."""
    under_way = trace.get_current_span().get_span_context().is_valid
    parent = None if under_way else _context(headers.get("traceparent"))
    with _span(f"receive {source}", parent, SpanKind.SERVER) as span:
        span.set_attribute(SOURCE, source)
        yield span


@contextmanager
def pulled(source: str) -> Iterator[Span]:
    """A span around asking a source."""
    with _span(f"pull {source}", None, SpanKind.CLIENT) as span:
        span.set_attribute(SOURCE, source)
        yield span


@contextmanager
def appended(clients: int, events: int) -> Iterator[Span]:
    """A span around appends, side by side, to some clients."""
    with _span("append") as span:
        span.set_attributes({"client_flow.clients": clients, "client_flow.events": events})
        yield span


def caught_up(traceparents: Sequence[str], attributes: Mapping[str, str | int], *, started: int) -> None:
    """A span about a client that was caught up, in the trace of the last event that called for it.

    Clients are caught up side by side and share transactions, so a span tells of the batch's time, and is made after it.

    Args:
        traceparents: of the events, by version; not empty. The traces of the others are linked.
        attributes: what is to be told.
        started: nanoseconds since the epoch.
    """
    batch = trace.get_current_span().get_span_context()
    links = [*_links(traceparents[:-1]), *([Link(batch)] if batch.is_valid else [])]
    context = _context(traceparents[-1])
    _TRACER.start_span("catch-up", context, attributes=attributes, links=links, start_time=started).end()


@contextmanager
def published(traceparents: Sequence[str], attributes: Mapping[str, str | int]) -> Iterator[None]:
    """A span around sending announcements of one client, in the trace of the last one's event."""
    context = _context(traceparents[-1]) if traceparents else None
    with _span("publish", context, SpanKind.PRODUCER, _links(traceparents[:-1])) as span:
        span.set_attributes(attributes)
        yield


@contextmanager
def doorbell(client_id: str, traceparent: str | None) -> Iterator[None]:
    """Go on with the trace that an announcement of this client carried."""
    context = _context(traceparent)
    token = None if context is None else attach(set_value(_DOORBELL, client_id, context))
    try:
        yield
    finally:
        if token is not None:
            detach(token)


@contextmanager
def delivered(client_id: str, integration: str, attributes: Mapping[str, str | int]) -> Iterator[Span]:
    """A span around a call of a target: in the trace of the doorbell, if it rang for this client."""
    # A caller also takes over what others left, and their clients are none of the doorbell's business.
    context = None if get_value(_DOORBELL) in {None, client_id} else Context()
    with _span(f"deliver {integration}", context) as span:
        span.set_attributes({"integration": integration, **attributes})
        yield span


def count_delivery(integration: str, verdict: str, code: str, seconds: float) -> None:
    """Count an attempt at a delivery."""
    told = {"integration": integration, "verdict": verdict, "code": code}
    _deliveries.add(1, told)
    if seconds:
        _delivery_seconds.record(seconds, told)


def count_rejection(source: str, code: str) -> None:
    """Count what a source delivered and could not be accepted."""
    _rejections.add(1, {SOURCE: source, "code": code})


def count_charge(charge: float) -> None:
    """Count the request units of an answer of Cosmos DB."""
    _charge.add(charge)


def gauge(name: str, value: float, attributes: Mapping[str, str] | None = None) -> None:
    """Tell how things stand."""
    _gauges[name].set(value, dict(attributes or {}))


@contextmanager
def _span(
    name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL, links: Sequence[Link] = ()
) -> Iterator[Span]:
    span = _TRACER.start_span(name, context, kind, links=links)
    # The library's own way would record the message of an exception.
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR))
            span.set_attribute("error.type", type(error).__name__)
            raise


def _context(traceparent: str | None) -> Context | None:
    return None if traceparent is None else _PROPAGATOR.extract({"traceparent": traceparent})


def _links(traceparents: Sequence[str]) -> list[Link]:
    contexts = [trace.get_current_span(_context(each)).get_span_context() for each in traceparents[-_MAX_LINKS:]]
    return [Link(context) for context in contexts if context.is_valid]
