"""Timer functions on one machine: due by their schedule, one run at a time.

What falls due while a run goes on, or while the machine sleeps, is made up for by one run with `past_due` set.
"""

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol

import orjson
from azure.functions.meta import Datum

from .local_functions import LocalFunction
from .problems import log_unexpected
from .schedules import Schedule

_LATE = timedelta(seconds=1)
_LONGEST_WAIT = 30.0


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """The present moment, in UTC."""

    def wait_until(self, moment: datetime, stop: threading.Event) -> bool:
        """Wait; True when the moment has come, False when `stop` was set first."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)

    def wait_until(self, moment: datetime, stop: threading.Event) -> bool:
        """Wait; True when the moment has come, False when `stop` was set first.

        Looks at the clock at least every 30 seconds: it may be set, or the machine may have slept.
        """
        while (left := (moment - self.now()).total_seconds()) > 0:
            if stop.wait(min(left, _LONGEST_WAIT)):
                return False
        return not stop.is_set()


class Timer:
    """A timer function and its schedule; a `Loop` of the host.

    Args:
        function: a function with a timer trigger.
        schedule: when it is due.
        run_on_startup: run it once more when the host starts.
        clock: the time.
    """

    def __init__(self, function: LocalFunction, schedule: Schedule, *, run_on_startup: bool, clock: Clock) -> None:
        self.name = function.name
        self._function = function
        self._schedule = schedule
        self._run_on_startup = run_on_startup
        self._clock = clock
        self._running = threading.Lock()
        self._last: datetime | None = None

    def run(self, stop: threading.Event) -> None:
        """Run the function whenever it is due, until `stop` is set."""
        seen = self._clock.now()
        if self._run_on_startup:
            self._run_and_log(due=seen)
        while self._clock.wait_until(due := self._schedule.next_after(seen), stop):
            seen = self._run_and_log(due=due)

    def fire(self, *, patience: float) -> bool:
        """Run the function now, whatever its schedule says; its errors come through.

        Args:
            patience: seconds to wait for a run that is going on.

        Returns:
            False if that run was still going on.
        """
        if not self._running.acquire(timeout=patience):
            return False
        try:
            self._call(past_due=False)
        finally:
            self._running.release()
        return True

    def _run_and_log(self, *, due: datetime) -> datetime:
        with self._running:
            started = self._clock.now()
            try:
                self._call(past_due=started - due > _LATE)
            except BaseException as error:  # noqa: BLE001 - even after SystemExit the timer is due again next time
                log_unexpected(error)
        return started

    def _call(self, *, past_due: bool) -> None:
        now = self._clock.now()
        status = {
            "Last": None if self._last is None else self._last.isoformat(),
            "Next": self._schedule.next_after(now).isoformat(),
            "LastUpdated": now.isoformat(),
        }
        self._last = now
        request = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": past_due}
        self._function.invoke(Datum(orjson.dumps(request).decode(), "json"))
