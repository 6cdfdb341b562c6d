"""What takes messages from session queues where no Functions host does it: on one machine, or beside Service Bus."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Condition, Event

from eventstore import ContentionError, StoreUnavailableError
from integrations import QueueSession, QueueUnavailableError, SessionLockLostError

from .domain import Receiver
from .problems import log_unexpected
from .queue_intake import PATIENCE, patience
from .runtime import Runtime

_log = logging.getLogger(__name__)

_SESSIONS = 32  # at once, for each queue
_STRETCH = 100  # messages until others get the place of a session that has always more
_POLL = 0.5  # seconds


class QueueConsumer:
    """A loop that takes the messages of one receiver's queue: sessions side by side, one message of each at a time.

    When told to stop it ends after the messages in work; a message whose turn was still to come stays in the queue and
    does not count as received.

    Args:
        runtime: the application.
        receiver: whose queue it is.
    """

    def __init__(self, runtime: Runtime, receiver: Receiver) -> None:
        self.name = f"queue {receiver.name}"
        self._runtime, self._receiver = runtime, receiver
        self._changed = Condition()
        self._busy = 0  # places in use
        self._looking = 0  # of those, the ones that have no session yet
        self._looks = 1  # how many may look at once

    def run(self, stop: Event) -> None:
        """Work until told to stop."""
        with ThreadPoolExecutor(_SESSIONS, thread_name_prefix=self.name) as pool:
            while not stop.is_set():
                with self._changed:
                    if not self._changed.wait_for(self._may_look, _POLL):
                        continue
                    self._busy, self._looking = self._busy + 1, self._looking + 1
                pool.submit(self._look, stop)

    def _may_look(self) -> bool:
        return self._looking < self._looks and self._busy < _SESSIONS

    def _look(self, stop: Event) -> None:
        """Take a place: find a session and work on it."""
        session = None
        try:
            session = self._next(stop)
        finally:
            with self._changed:
                self._looking -= 1
                # Opening a session takes a while. As long as there are some, ever more places look at once; when there
                # are none, a single one waits.
                self._looks = min(2 * self._looks, _SESSIONS) if session is not None else 1
                self._changed.notify_all()
        try:
            if session is not None:
                self._work(session, stop)
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _next(self, stop: Event) -> QueueSession | None:
        try:
            return self._runtime.backend.queues.next_session(self._receiver.queue_name, wait=_POLL)
        except QueueUnavailableError as error:
            _log.warning("%s waits: %s", self.name, error)
            stop.wait(error.retry_after)
        except Exception as error:  # noqa: BLE001 - nobody else looks at what a thread of the pool raises
            log_unexpected(error)
            stop.wait(_POLL)
        return None

    def _work(self, session: QueueSession, stop: Event) -> None:
        """Take the messages of a session; whatever goes wrong, what was not completed comes again."""
        try:
            with closing(session):
                for _ in range(_STRETCH):
                    if stop.is_set() or not self._take_next(session, stop):
                        return
        except (QueueUnavailableError, SessionLockLostError) as error:
            _log.warning("%s left a session, its message comes again: %s", self.name, type(error).__name__)
        except Exception as error:  # noqa: BLE001 - nobody else looks at what a thread of the pool raises
            log_unexpected(error)

    def _take_next(self, session: QueueSession, stop: Event) -> bool:
        """Take one message; False if there is none, or it could not be taken."""
        queued = session.receive()
        if queued is None:
            return False

        def wait(seconds: float) -> None:
            stop.wait(seconds)
            session.renew()

        within = patience(PATIENCE, wait)
        try:
            self._runtime.queue_intake.take(
                self._receiver, queued, lambda seconds: not stop.is_set() and within(seconds) and not stop.is_set()
            )
        except (StoreUnavailableError, ContentionError) as error:
            if not stop.is_set():
                _log.warning("%s hands a message back: %s", self.name, type(error).__name__)
                session.abandon(queued)
            return False
        except (QueueUnavailableError, SessionLockLostError):
            raise
        except Exception as error:  # noqa: BLE001 - after ten tries it is a dead letter, which the sweep looks after
            log_unexpected(error)
            session.abandon(queued)
            return False
        session.complete(queued)
        return True


def queue_consumers(runtime: Runtime) -> Sequence[QueueConsumer]:
    """The loops for the queues of an application."""
    return [QueueConsumer(runtime, receiver) for receiver in runtime.domain.queued]
