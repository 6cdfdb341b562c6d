"""Queues that require sessions: one receiver at a time for all messages of a session, in order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.wire.servicebus.clock import Clock, Timer
from tests.wire.servicebus.entities import Settings
from tests.wire.servicebus.errors import (
    NOT_ALLOWED,
    SESSION_CANNOT_BE_LOCKED,
    SESSION_LOCK_LOST,
    TIMEOUT,
    RefusedError,
)
from tests.wire.servicebus.message import Message
from tests.wire.servicebus.queues import Consumer, Outcome, Queue


class SessionConsumer(Consumer, Protocol):
    """A session receiver's link, as a queue sees it."""

    name: str

    def grant(self, queue: "SessionQueue", session_id: str, locked_until: int) -> None:
        """Tells the receiver that it holds the session, until (milliseconds since the epoch)."""
        ...

    def refuse(self, condition: str, description: str) -> None:
        """Tells the receiver that it gets no session."""
        ...

    def detach(self, condition: str, description: str) -> None:
        """Ends the link."""
        ...


@dataclass
class HeldSession:
    """State of one session.

    Attributes:
        holder: the link that holds it, if any.
        locked_until: milliseconds since the epoch.
        state: what receivers stored with `set_state`; it outlives the holder.
    """

    holder: SessionConsumer | None = None
    locked_until: int = 0
    timer: Timer | None = None
    state: bytes | None = None


class SessionQueue(Queue):
    """A queue whose messages are received session by session.

    Args:
        path: see `Entity`.
        settings: see `Settings`.
        clock: the broker's time.
        is_subscription: whether messages come through a topic, which cannot refuse one that has no session id.
    """

    def __init__(self, path: str, settings: Settings, clock: Clock, *, is_subscription: bool) -> None:
        super().__init__(path, settings, clock)
        self.sessions: dict[str, HeldSession] = {}
        self._waiting: dict[SessionConsumer, Timer] = {}  # in order of arrival
        self._is_subscription = is_subscription

    # ---- storing

    def check(self, message: Message) -> None:
        """Refuses messages without a session id."""
        if message.session_id is None:
            raise RefusedError(
                NOT_ALLOWED,
                f"The SessionId was not set on a message, and it cannot be sent to the entity. Entity '{self.path}' "
                "requires a session id.",
            )

    def store(self, message: Message) -> int:
        """Stores the message; a subscription dead-letters one without a session id."""
        if self._is_subscription and message.session_id is None:
            self.number(message)
            self.dead_letter(message, "Session ID is null", "A session-enabled subscription needs a session id.")
            return message.sequence_number
        return super().store(message)

    def clear(self) -> None:
        """Forgets messages and session states; holders keep their sessions."""
        super().clear()
        for session in self.sessions.values():
            session.state = None

    def _group(self, message: Message) -> str | None:
        return message.session_id

    # ---- delivering

    def deliver(self, group: str | None = None) -> None:
        """Hands a session's messages to its holder, or a session nobody holds to who waits for one."""
        session = self.sessions.get(group) if group is not None else None
        if session is None or session.holder is None:
            self._serve_waiting()
            return
        holder = session.holder
        while session.holder is holder and holder.can_send():
            if not self._deliver_next(holder, group):
                return

    def detach(self, consumer: Consumer) -> None:
        """Frees what the receiver held, and does not count that as a delivery."""
        for waiting, timer in list(self._waiting.items()):
            if waiting is consumer:
                timer.cancel()
                del self._waiting[waiting]
        for session_id, session in list(self.sessions.items()):
            if session.holder is consumer:
                self._free(session_id, session, Outcome.RELEASE)

    # ---- accepting

    def accept(self, consumer: SessionConsumer, wanted: str | None, wait: float, waits: Callable[[], None]) -> None:
        """Gives the receiver the session it wants or, where it wants any, the one with the oldest message.

        Args:
            consumer: told through `grant`, or through `refuse` when it waited in vain.
            wanted: a session id, or None for the next one available.
            wait: seconds to wait for the next one available.
            waits: called where the receiver has to wait.

        Raises:
            RefusedError: the wanted session is held by another receiver.
        """
        if wanted is not None:
            if self.sessions.setdefault(wanted, HeldSession()).holder is not None:
                text = f"The requested session '{wanted}' cannot be accepted. It may be locked by another receiver."
                raise RefusedError(SESSION_CANNOT_BE_LOCKED, text)
            self._grant(consumer, wanted)
            return
        self._waiting[consumer] = self.clock.call_later(wait, lambda: self._give_up(consumer))
        self._serve_waiting()
        if consumer in self._waiting:
            waits()

    def _give_up(self, consumer: SessionConsumer) -> None:
        del self._waiting[consumer]
        consumer.refuse(TIMEOUT, "The operation did not complete within the allotted time. No session is available.")

    def _serve_waiting(self) -> None:
        while self._waiting:
            session_id = self._oldest_free_session()
            if session_id is None:
                return
            consumer = next(iter(self._waiting))
            self._waiting.pop(consumer).cancel()
            self._grant(consumer, session_id)

    def _oldest_free_session(self) -> str | None:
        free = []
        for session_id in list(self._ready):
            session = self.sessions.get(session_id or "")
            message = self._first(session_id) if session is None or session.holder is None else None
            if message is not None and session_id is not None:
                free.append((message.sequence_number, session_id))
        return min(free)[1] if free else None

    def _grant(self, consumer: SessionConsumer, session_id: str) -> None:
        session = self.sessions.setdefault(session_id, HeldSession())
        session.holder = consumer
        self._hold_session(session_id, session)
        consumer.grant(self, session_id, session.locked_until)

    # ---- session locks

    def held(self, session_id: str, link_name: str | None) -> HeldSession:
        """The session, held by the link of that name (None: by any).

        Raises:
            RefusedError: it is not held.
        """
        session = self.sessions.get(session_id)
        if session is None or session.holder is None or link_name not in {None, session.holder.name}:
            raise self._lost()
        return session

    def renew_session(self, session_id: str, link_name: str | None) -> int:
        """Starts the session's lock anew; returns its end in milliseconds since the epoch.

        Raises:
            RefusedError: it is not held.
        """
        session = self.held(session_id, link_name)
        self._hold_session(session_id, session)
        return session.locked_until

    def expire_locks(self) -> None:
        """Makes every session lock run out now, and with it the locks on messages."""
        held = [(session_id, session) for session_id, session in self.sessions.items() if session.holder is not None]
        for session_id, session in held:
            self._expire_session(session_id, session)

    def _hold_session(self, session_id: str, session: HeldSession) -> None:
        duration = self.settings.lock_duration
        session.locked_until = self.clock.milliseconds() + int(duration * 1000)
        if session.timer is not None:
            session.timer.cancel()
        session.timer = self.clock.call_later(duration, lambda: self._expire_session(session_id, session))

    def _expire_session(self, session_id: str, session: HeldSession) -> None:
        holder = session.holder
        self._free(session_id, session, Outcome.ABANDON)
        if holder is not None:
            holder.detach(SESSION_LOCK_LOST, self._lost().description)

    def _free(self, session_id: str, session: HeldSession, outcome: Outcome) -> None:
        if session.timer is not None:
            session.timer.cancel()
        session.holder = session.timer = None
        for token, message in list(self.locks.items()):
            if message.session_id == session_id:
                self.settle(token, outcome, deliver=False)  # all are back in order before anybody gets one
        self.deliver(session_id)

    def _hold(self, message: Message, token: object) -> None:
        session = self.sessions.get(message.session_id or "")
        message.locked_until = session.locked_until if session is not None else 0

    def _lost(self) -> RefusedError:
        text = "The session lock has expired on the MessageSession. Accept a new MessageSession."
        return RefusedError(SESSION_LOCK_LOST, text, 410)
