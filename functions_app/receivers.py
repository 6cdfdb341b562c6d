"""Receiver functions: one HTTP POST function for each source that posts."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import orjson
from azure.functions import AuthLevel, Blueprint, HttpRequest, HttpResponse

from . import telemetry
from .answers import answered, json_answer, refused, trace_of
from .domain import Receiver
from .errors import InputRefusedError
from .intake import Accepted, Delivered, Result
from .problems import RequestError
from .queue_intake import Queued
from .request_body import BodyTooLargeError, read_json
from .runtime import Runtime
from .signatures import HmacSignature

MAX_BATCH = 1000


class BatchTooLargeError(RequestError):
    """A list with more items than one request may bring."""

    status, code, title = 413, "batch_too_large", "Too many items in one request"


class EventFunctionBuilder:
    """Builds the HTTP functions of receivers.

        EventFunctionBuilder(blueprint, runtime).add(receiver)     # POST /api/<name>_receive_event

    A JSON object is one delivery: 202 with client id, version and whether it was a duplicate for each event. A list is
    a batch: 207 with a result for each item. A receiver whose queue comes first answers when the deliveries are in it.
    A source with a signature needs no function key, all others do.

    Args:
        blueprint: where the functions are registered.
        runtime: gives the composed application, on first use.
    """

    def __init__(self, blueprint: Blueprint, runtime: Callable[[], Runtime]) -> None:
        self._blueprint = blueprint
        self._runtime = runtime

    def add(self, receiver: Receiver) -> None:
        """Register the function of one receiver."""
        name = f"{receiver.name}_receive_event"
        runtime = self._runtime

        @cache
        def signature() -> HmacSignature | None:
            return None if receiver.signature is None else receiver.signature(runtime().settings)

        def handle(request: HttpRequest) -> HttpResponse:
            return _receive(runtime(), receiver, signature(), request)

        def receive_event(req: HttpRequest) -> HttpResponse:
            with telemetry.received(receiver.name, req.headers) as span:
                answer = answered(handle, req)
                span.set_attribute("http.response.status_code", answer.status_code)
            return answer

        level = AuthLevel.FUNCTION if receiver.signature is None else AuthLevel.ANONYMOUS
        decorate = self._blueprint.route(route=name, methods=["POST"], auth_level=level)
        self._blueprint.function_name(name)(decorate(receive_event))


def _receive(
    runtime: Runtime, receiver: Receiver, signature: HmacSignature | None, request: HttpRequest
) -> HttpResponse:
    body = request.get_body()
    if len(body) > receiver.max_bytes:
        raise BodyTooLargeError(len(body), receiver.max_bytes)
    if signature is not None:
        signature.verify(body, request.headers)
    document = read_json(request, limit=receiver.max_bytes)
    headers = dict(request.headers)
    trace = trace_of(request)
    batch = isinstance(document, list)
    if batch and len(document) > MAX_BATCH:
        raise BatchTooLargeError(f"{len(document)} items came, at most {MAX_BATCH} are taken; send them in parts.")
    deliveries = (
        [Delivered(item, headers, place=place) for place, item in enumerate(document)]
        if batch
        else [Delivered(document, headers)]
    )
    results: Sequence[Result | Queued]
    if receiver.queue == "first":
        results = runtime.queue_intake.send(receiver, deliveries, trace)
    else:
        results = runtime.intake.accept_all(receiver, deliveries, trace)
    if batch:
        return json_answer({"results": [_result(index, result) for index, result in enumerate(results)]}, 207)
    [only] = results
    if isinstance(only, InputRefusedError):
        raise only
    return json_answer(_told(only), 202)


def _result(index: int, result: Result | Queued) -> dict[str, Any]:
    if isinstance(result, InputRefusedError):
        answer = refused(result)
        return {"index": index, "status": answer.status_code, "problem": orjson.loads(answer.get_body())}
    return {"index": index, "status": 202, **_told(result)}


def _told(result: Sequence[Accepted] | Queued) -> dict[str, Any]:
    if isinstance(result, Queued):
        queued = [
            {"client_id": client_id, "event_id": event.event_id, "event_type": event.event_type}
            for client_id, events in result.events.items()
            for event in events
        ]
        return {"queued": True, "events": queued}
    stored = [
        {
            "client_id": event.client_id,
            "version": event.version,
            "event_id": event.event_id,
            "event_type": event.event_type,
            "duplicate": duplicate,
        }
        for event, duplicate in result
    ]
    return {"events": stored}
