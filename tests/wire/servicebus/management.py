"""Requests and answers: `$cbs` (tokens) and `<entity>/$management` (renewals, peeks, schedules, session state)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.wire.servicebus.codec import Array, Long, Symbol, Timestamp, section
from tests.wire.servicebus.entities import Entity
from tests.wire.servicebus.errors import (
    MESSAGE_NOT_FOUND,
    NOT_ALLOWED,
    NOT_IMPLEMENTED,
    SERVER_BUSY,
    UNAUTHORIZED,
    RefusedError,
)
from tests.wire.servicebus.faults import Point
from tests.wire.servicebus.message import (
    APPLICATION_PROPERTIES,
    PROPERTIES,
    VALUE,
    Message,
    State,
    sections,
)
from tests.wire.servicebus.queues import Outcome, Queue
from tests.wire.servicebus.session_queues import HeldSession, SessionQueue
from tests.wire.servicebus.topics import Topic

_RECEIVE_AND_DELETE = 0  # receiver-settle-mode
_OUTCOMES = {
    "completed": Outcome.COMPLETE,
    "abandoned": Outcome.ABANDON,
    "defered": Outcome.DEFER,  # spelt so on the wire
    "suspended": Outcome.DEAD_LETTER,
}
_STATUS = {UNAUTHORIZED: 401, SERVER_BUSY: 503}


class Request:
    """One request message.

    Attributes:
        operation: without the vendor prefix.
        body: the value in it; an empty mapping where there is none.
        properties: its application properties.
    """

    def __init__(self, payload: bytes) -> None:
        parts = {part.code: part.value for part in sections(payload)}
        self.properties: dict[str, Any] = parts.get(APPLICATION_PROPERTIES, {})
        self.operation = str(self.properties.get("operation", "")).removeprefix("com.microsoft:")
        self.body: Any = parts.get(VALUE) or {}
        self._message_id = (parts.get(PROPERTIES) or [None])[0]

    @property
    def link_name(self) -> str | None:
        """The link on whose behalf the request comes."""
        return self.properties.get("associated-link-name")

    def answer(self, properties: dict[str, Any], value: Any) -> bytes:
        """The encoded answer; its correlation id is the request's id, in the same AMQP type."""
        return (
            section(PROPERTIES, [None] * 5 + [self._message_id])
            + section(APPLICATION_PROPERTIES, properties)
            + section(VALUE, value)
        )


@dataclass(frozen=True)
class RequestNode:
    """An address that takes requests.

    Attributes:
        point: the fault point before a request is handled.
        answered: the fault point after it is handled, if there is one.
        path: the entity it speaks for.
        handle: returns the answer's value, None for "no content", or raises RefusedError.
    """

    point: Point
    answered: Point | None
    path: str
    handle: Callable[[Request], dict[str, Any] | None]
    status_key: str
    description_key: str

    def accepted(self, request: Request, value: dict[str, Any] | None) -> bytes:
        """The answer to a request that was carried out."""
        status, text = (204, "No content") if value is None else (200, "OK")
        return request.answer({self.status_key: status, self.description_key: text}, value or {})

    def refused(self, request: Request, error: RefusedError) -> bytes:
        """The answer to a request that was not."""
        properties = {
            self.status_key: _STATUS.get(error.condition, error.status),
            self.description_key: error.description,
            "errorCondition": Symbol(error.condition),
        }
        return request.answer(properties, {})


def authorization_node() -> RequestNode:
    """`$cbs`: every token is good."""
    return RequestNode("authorize", None, "$cbs", lambda _: {}, "status-code", "status-description")


def management_node(entity: Entity) -> RequestNode:
    """`$management` of an entity."""

    def handle(request: Request) -> dict[str, Any] | None:
        operation = _OPERATIONS.get(request.operation)
        if operation is None:
            raise RefusedError(NOT_IMPLEMENTED, f"'{request.operation}' is not implemented.", 501)
        return operation(entity, request)

    return RequestNode("request", "answer", entity.path, handle, "statusCode", "statusDescription")


def _queue(entity: Entity) -> Queue:
    if not isinstance(entity, Queue):
        raise RefusedError(NOT_ALLOWED, "A topic keeps no messages; name a subscription.")
    return entity


def _sessions(entity: Entity) -> SessionQueue:
    if not isinstance(entity, SessionQueue):
        raise RefusedError(NOT_ALLOWED, f"The entity '{entity.path}' does not require sessions.")
    return entity


def _held(entity: Entity, request: Request) -> HeldSession:
    return _sessions(entity).held(request.body["session-id"], request.link_name)


def _schedule(entity: Entity, request: Request) -> dict[str, Any]:
    messages = [Message(item["message"]) for item in request.body["messages"]]
    return {"sequence-numbers": Array(Long(number) for number in entity.send(messages))}


def _cancel_scheduled(entity: Entity, request: Request) -> dict[str, Any]:
    if isinstance(entity, Queue | Topic):
        entity.cancel_scheduled(request.body["sequence-numbers"])
    return {}


def _renew_lock(entity: Entity, request: Request) -> dict[str, Any]:
    queue = _queue(entity)
    return {"expirations": Array(Timestamp(queue.renew(token)) for token in request.body["lock-tokens"])}


def _peek(entity: Entity, request: Request) -> dict[str, Any] | None:
    body = request.body
    start, session_id = body["from-sequence-number"], body.get("session-id")
    found = [
        {"message": message.encoded()}
        for number, message in sorted(_queue(entity).messages.items())
        if number >= start and session_id in {None, message.session_id}
    ]
    return {"messages": found[: body["message-count"]]} if found else None


def _receive_deferred(entity: Entity, request: Request) -> dict[str, Any]:
    queue = _queue(entity)
    if isinstance(queue, SessionQueue):
        queue.held(request.body["session-id"], request.link_name)
    messages = [queue.messages.get(number) for number in request.body["sequence-numbers"]]
    available = [one for one in messages if one is not None and one.state is State.DEFERRED and not one.lock_token]
    if len(available) < len(messages):
        raise RefusedError(MESSAGE_NOT_FOUND, "Failed to lock one or more specified messages.", 404)
    found: list[dict[str, Any]] = []
    for message in available:
        if request.body.get("receiver-settle-mode") == _RECEIVE_AND_DELETE:
            del queue.messages[message.sequence_number]
            found.append({"message": message.encoded()})
        else:
            queue.lock(message)
            found.append({"message": message.encoded(), "lock-token": message.lock_token})
    return {"messages": found}


def _update_disposition(entity: Entity, request: Request) -> dict[str, Any]:
    body = request.body
    outcome = _OUTCOMES[body["disposition-status"]]
    for token in body["lock-tokens"]:
        _queue(entity).settle(token, outcome, body.get("deadletter-reason"), body.get("deadletter-description"))
    return {}


def _renew_session_lock(entity: Entity, request: Request) -> dict[str, Any]:
    until = _sessions(entity).renew_session(request.body["session-id"], request.link_name)
    return {"expiration": Timestamp(until)}


def _get_session_state(entity: Entity, request: Request) -> dict[str, Any]:
    return {"session-state": _held(entity, request).state}


def _set_session_state(entity: Entity, request: Request) -> dict[str, Any]:
    _held(entity, request).state = request.body.get("session-state")
    return {}


def _list_sessions(entity: Entity, request: Request) -> dict[str, Any] | None:
    queue, body = _sessions(entity), request.body
    ids = {message.session_id for message in queue.messages.values() if message.session_id is not None}
    ids |= {session_id for session_id, session in queue.sessions.items() if session.state is not None}
    page = sorted(ids)[body["skip"] : body["skip"] + body["top"]]
    return {"sessions-ids": page, "skip": body["skip"] + len(page)} if page else None


_Operation = Callable[[Entity, Request], dict[str, Any] | None]
_OPERATIONS: Mapping[str, _Operation] = {
    "schedule-message": _schedule,
    "cancel-scheduled-message": _cancel_scheduled,
    "renew-lock": _renew_lock,
    "peek-message": _peek,
    "receive-by-sequence-number": _receive_deferred,
    "update-disposition": _update_disposition,
    "renew-session-lock": _renew_session_lock,
    "get-session-state": _get_session_state,
    "set-session-state": _set_session_state,
    "get-message-sessions": _list_sessions,
}
