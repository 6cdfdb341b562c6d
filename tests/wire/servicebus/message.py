"""A stored message: what the client sent, and what the broker knows about it."""

import copy
import uuid
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from tests.wire.servicebus.clock import Timer
from tests.wire.servicebus.codec import Described, Long, Symbol, Timestamp, UInt, decode, section

HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES = range(0x70, 0x75)
DATA, VALUE = 0x75, 0x77
_MESSAGE_ID, _TO, _SUBJECT, _REPLY_TO, _CORRELATION_ID, _CONTENT_TYPE = 0, 2, 3, 4, 5, 6
_SESSION_ID, _REPLY_TO_SESSION_ID = 10, 12
_BROKER_ANNOTATIONS = {
    Symbol(f"x-opt-{name}")
    for name in (
        "sequence-number",
        "enqueued-time",
        "locked-until",
        "enqueue-sequence-number",
        "message-state",
        "scheduled-enqueue-time",
        "lock-token",
    )
}


class State(IntEnum):
    """Whether a message can be received; the numbers travel in `x-opt-message-state`."""

    ACTIVE = 0
    DEFERRED = 1
    SCHEDULED = 2


class Section(NamedTuple):
    """One section of an encoded message."""

    code: int
    value: Any
    raw: bytes


def sections(payload: bytes) -> list[Section]:
    """Splits an encoded message into its sections.

    Raises:
        ValueError: there is something else than sections.
    """
    found, position = [], 0
    while position < len(payload):
        value, end = decode(payload, position)
        if not isinstance(value, Described):
            raise ValueError(  # noqa: TRY004 - about bytes, not about a Python type
                f"expected a message section at byte {position}, found a plain {type(value).__name__}"
            )
        found.append(Section(int(value.descriptor), value.value, payload[position:end]))
        position = end
    return found


@dataclass(frozen=True, kw_only=True)
class StoredMessage:
    """A picture of one stored message, for assertions.

    `body` is the joined data sections, or the list of values where the body is a value or sequences; `size` is the
    bytes it was sent with.
    """

    sequence_number: int
    message_id: Any
    session_id: str | None
    correlation_id: Any
    subject: str | None
    application_properties: dict[str, Any]
    body: Any
    size: int
    delivery_count: int
    state: State
    locked: bool


class Message:
    """One message inside the broker.

    Properties and body stay the bytes the client sent; only header and annotations are written anew.
    """

    def __init__(self, payload: bytes) -> None:
        self.size = len(payload)
        self.header: list[Any] = []
        self.annotations: dict[Any, Any] = {}
        self.properties: list[Any] = []
        self.application_properties: dict[str, Any] = {}
        self.body: list[Any] = []
        self._raw_properties = self._raw_body = b""
        self.scheduled_for: int | None = None
        for code, value, raw in sections(payload):
            self._read(code, value, raw)
        if self._property(_MESSAGE_ID) is None:  # the service names messages that come without an id
            self.properties = [uuid.uuid4().hex, *self.properties[1:]]
            self._raw_properties = section(PROPERTIES, self.properties)
        self.sequence_number = 0
        self.enqueue_sequence_number = 0
        self.enqueued_at = 0
        self.expires_at: int | None = None
        self.delivery_count = 0
        self.state = State.ACTIVE
        self.lock_token: uuid.UUID | None = None
        self.locked_until = 0
        self.timer: Timer | None = None  # of the lock, or of the schedule

    def _read(self, code: int, value: Any, raw: bytes) -> None:
        if code == HEADER:
            self.header = value
        elif code == MESSAGE_ANNOTATIONS:
            self.scheduled_for = value.get("x-opt-scheduled-enqueue-time")
            self.annotations = {key: item for key, item in value.items() if key not in _BROKER_ANNOTATIONS}
        elif code == PROPERTIES:
            self.properties, self._raw_properties = value, raw
        elif code == APPLICATION_PROPERTIES:
            self.application_properties = value
        elif code != DELIVERY_ANNOTATIONS:
            self._raw_body += raw
            self.body.append(value)

    def _property(self, index: int) -> Any:
        return self.properties[index] if len(self.properties) > index else None

    @property
    def message_id(self) -> Any:
        """The sender's id, or the one the broker gave."""
        return self._property(_MESSAGE_ID)

    @property
    def session_id(self) -> str | None:
        """The session the message belongs to (AMQP `group-id`)."""
        session_id: str | None = self._property(_SESSION_ID)
        return session_id

    @property
    def time_to_live(self) -> int | None:
        """Milliseconds the sender allows, if it said."""
        return self.header[2] if len(self.header) > 2 else None

    def system_properties(self) -> dict[str, Any]:
        """The properties a correlation filter can name, under the names Config.json gives them."""
        return {
            "ContentType": self._property(_CONTENT_TYPE),
            "CorrelationId": self._property(_CORRELATION_ID),
            "Label": self._property(_SUBJECT),
            "MessageId": self.message_id,
            "ReplyTo": self._property(_REPLY_TO),
            "ReplyToSessionId": self._property(_REPLY_TO_SESSION_ID),
            "SessionId": self.session_id,
            "To": self._property(_TO),
        }

    def copy(self) -> "Message":
        """A copy for one subscription; it shares nothing that a broker changes."""
        twin = copy.copy(self)
        twin.application_properties = dict(self.application_properties)
        return twin

    def encoded(self) -> bytes:
        """The message as a receiver gets it."""
        annotations = {
            **self.annotations,
            Symbol("x-opt-sequence-number"): Long(self.sequence_number),
            Symbol("x-opt-enqueue-sequence-number"): Long(self.enqueue_sequence_number),
            Symbol("x-opt-enqueued-time"): Timestamp(self.enqueued_at),
            Symbol("x-opt-message-state"): int(self.state),
        }
        if self.scheduled_for is not None:
            annotations[Symbol("x-opt-scheduled-enqueue-time")] = Timestamp(self.scheduled_for)
        if self.lock_token is not None:
            annotations[Symbol("x-opt-locked-until")] = Timestamp(self.locked_until)
        header = [*[*self.header, None, None, None, None][:4], UInt(self.delivery_count)]
        application = self.application_properties
        return (
            section(HEADER, header)
            + section(MESSAGE_ANNOTATIONS, annotations)
            + self._raw_properties
            + (section(APPLICATION_PROPERTIES, application) if application else b"")
            + self._raw_body
        )

    def stored(self) -> StoredMessage:
        """A picture of the message as it is now."""
        plain = all(isinstance(part, bytes) for part in self.body)
        return StoredMessage(
            sequence_number=self.sequence_number,
            message_id=self.message_id,
            session_id=self.session_id,
            correlation_id=self._property(_CORRELATION_ID),
            subject=self._property(_SUBJECT),
            application_properties=dict(self.application_properties),
            body=b"".join(self.body) if plain else list(self.body),
            size=self.size,
            delivery_count=self.delivery_count,
            state=self.state,
            locked=self.lock_token is not None,
        )
