"""Deliveries by session queue: requests go in at once, messages come out and become events like any other delivery."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from time import monotonic, sleep
from typing import NamedTuple, TypeVar

from eventstore import ContentionError, EventData, FieldProblem, StoreUnavailableError, utc_text
from integrations import MESSAGE_LIMIT, QueuedMessage, QueueMessage, SessionQueues

from .domain import Receiver, Source
from .errors import InputRefusedError
from .event_keys import NoKey
from .intake import Delivered, Intake, Trace, Translated
from .problems import log_unexpected
from .request_body import BodyError, BodyTooLargeError, parse_json

EVENT_KEY, RECEIVED_AT, TRACEPARENT = "event_key", "received_at", "traceparent"
"""Application properties of a message: the event key, where the payload does not say it, the time the delivery was
received, if that was before it came to the queue, and the trace context."""

PATIENCE = 240.0
"""Seconds for which a message is tried again while the store is out of reach: less than hosts renew a lock for."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_WHOLE = "(whole)"

_T = TypeVar("_T")

Keep = Callable[[Source, Delivered, InputRefusedError], None]
Pause = Callable[[float], bool]


class Queued(NamedTuple):
    """A delivery that is in the queue: the events it will become, by client."""

    events: Mapping[str, Sequence[EventData]]


class QueueIntake:
    """Brings deliveries through session queues.

    Args:
        intake: turns deliveries into events.
        queues: the session queues.
        keep: keeps a delivery that was refused.
        clock: time of receipt.
    """

    def __init__(self, intake: Intake, queues: SessionQueues, keep: Keep, *, clock: Callable[[], datetime]) -> None:
        self._intake, self._queues, self._keep = intake, queues, keep
        self._clock = clock

    def send(
        self, receiver: Receiver, delivered: Sequence[Delivered], trace: Trace
    ) -> list[Queued | InputRefusedError]:
        """Check deliveries and put those that can become events into the receiver's queue.

        Returns:
            For each delivery what it will become, or why it was refused.

        Raises:
            QueueUnavailableError: the queue is out of reach; some may be in it, sending all again is safe.
        """
        results: list[Queued | InputRefusedError] = []
        messages: list[QueueMessage] = []
        now = self._clock()
        for each in delivered:
            try:
                translated = self._intake.translate(receiver, each, trace)
                if translated.events:
                    messages.append(_message(receiver, each, translated, trace, now))
                results.append(Queued(translated.events))
            except InputRefusedError as error:
                results.append(error)
        self._queues.send(receiver.queue_name, messages)
        return results

    def take(self, receiver: Receiver, queued: QueuedMessage, pause: Pause) -> None:
        """Append what a message holds, or keep it as a rejection; afterwards the message can be forgotten.

        Args:
            receiver: whose queue it came by.
            queued: the message.
            pause: waits so many seconds while the store is out of reach; False if there is no more time.

        Raises:
            StoreUnavailableError: the store stayed out of reach.
            ContentionError: other writers went on winning.
        """
        persistently(lambda: self._append(receiver, queued), pause)

    def drain(self, receiver: Receiver) -> None:
        """Take what ended among the dead letters of the receiver's queue; what fails even now is kept as a rejection.

        Newer messages of the same client may have been taken before: their events have lower versions. The record is
        the same, since it is decided by the time at which a fact became true or, where nobody told, was received.

        Raises:
            QueueUnavailableError: the queue is out of reach.
            StoreUnavailableError: the store is out of reach; the rest stays where it is.
        """
        contended: set[str] = set()

        def take(queued: QueuedMessage) -> bool:
            if queued.message.session_id in contended:
                return False  # it comes after one that was left
            try:
                self._append(receiver, queued)
            except ContentionError:
                contended.add(queued.message.session_id)
                return False
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - it failed ten times before; as a rejection people can see it
                problem = FieldProblem(_WHOLE, f"appending failed, reference {log_unexpected(error)}")
                self._keep(receiver, _read(receiver, queued)[0], InputRefusedError("append_failed", [problem]))
            return True

        self._queues.drain(receiver.queue_name, take)

    def _append(self, receiver: Receiver, queued: QueuedMessage) -> None:
        delivered, malformed = _read(receiver, queued)
        properties = queued.message.properties
        try:
            if malformed is not None:
                raise malformed
            self._intake.accept(
                receiver, delivered, Trace.of(queued.message.correlation_id, properties.get(TRACEPARENT))
            )
        except InputRefusedError as error:
            self._keep(receiver, delivered, error)


def persistently(action: Callable[[], _T], pause: Pause) -> _T:
    """Do something again while the store is out of reach, after ever longer pauses.

    Args:
        action: what to do.
        pause: waits so many seconds; False if there is no more time.

    Raises:
        StoreUnavailableError: the store stayed out of reach.
        ContentionError: other writers went on winning.
    """
    seconds = _FIRST_PAUSE
    while True:
        try:
            return action()
        except (StoreUnavailableError, ContentionError) as error:
            asked = error.retry_after if isinstance(error, StoreUnavailableError) else 0.0
            if not pause(max(seconds, min(asked, _LONGEST_PAUSE))):
                raise
            seconds = min(seconds * 2, _LONGEST_PAUSE)


def patience(seconds: float = PATIENCE, wait: Callable[[float], object] = sleep) -> Pause:
    """A pause for `persistently` that has an end.

    Args:
        seconds: for all pauses together and what is done between them, from now on.
        wait: waits so many seconds.
    """
    end = monotonic() + seconds

    def pause(asked: float) -> bool:
        if monotonic() + asked > end:
            return False
        wait(asked)
        return True

    return pause


def _message(
    receiver: Receiver, delivered: Delivered, translated: Translated, trace: Trace, now: datetime
) -> QueueMessage:
    """A delivery as a message, in the session of the first client it is about.

    The message id covers key and content: a repeat is dropped by the queue, and the same key with other content comes
    through, to be refused where that is known.
    """
    body = json.dumps(delivered.payload, separators=(",", ":")).encode()
    if len(body) > MESSAGE_LIMIT:
        problem = FieldProblem(_WHOLE, f"{len(body)} bytes, a message of the queue holds {MESSAGE_LIMIT}")
        raise InputRefusedError("message_too_large", [problem])
    identity = json.dumps([receiver.name, translated.key, delivered.payload], sort_keys=True).encode()
    properties = {EVENT_KEY: translated.key, RECEIVED_AT: utc_text(now)}
    if trace.traceparent is not None:
        properties[TRACEPARENT] = trace.traceparent
    message_id = blake2b(identity, digest_size=16).hexdigest()
    return QueueMessage(message_id, next(iter(translated.events)), body, properties, trace.correlation_id)


def _read(receiver: Receiver, queued: QueuedMessage) -> tuple[Delivered, InputRefusedError | None]:
    """The delivery in a message, and what is wrong with its body, if anything is."""
    message = queued.message
    key = message.properties.get(EVENT_KEY)
    if key is None and isinstance(receiver.key, NoKey):
        key = message.message_id or None  # a message that comes again must not be another event
    malformed: InputRefusedError | None = None
    payload = None
    try:
        if len(message.body) > receiver.max_bytes:
            raise BodyTooLargeError(len(message.body), receiver.max_bytes)
        payload = parse_json(message.body)
        if key is None and isinstance(receiver.key, NoKey):
            problem = FieldProblem("message_id", "by it a message that comes again is recognised; send one")
            malformed = InputRefusedError("event_key_missing", [problem])
    except BodyError as error:
        payload = message.body.decode(errors="replace")
        malformed = InputRefusedError(error.code, [FieldProblem(_WHOLE, str(error))])
    return Delivered(payload, message.properties, key, received_at=_received_at(queued)), malformed


def _received_at(queued: QueuedMessage) -> datetime:
    try:
        told = datetime.fromisoformat(queued.message.properties[RECEIVED_AT])
    except (KeyError, ValueError):
        return queued.enqueued_at
    return told if told.tzinfo is not None else queued.enqueued_at
