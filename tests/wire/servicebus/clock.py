"""The broker's time: it runs by itself, and a test can push it on."""

import asyncio
import heapq
import itertools
from collections.abc import Callable


class Timer:
    """Something to do later, until it is cancelled."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Forgets the action; doing it twice is fine."""
        self.action = None


class Clock:
    """Seconds since the epoch, and timers that follow them.

    Timers outlive the event loop: they wait while the broker is stopped and those that fell due run when it starts.

    Args:
        now: where the time comes from; `advance` is added to it.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ahead = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._tie_break = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._now() + self._ahead

    def milliseconds(self) -> int:
        """Milliseconds since the epoch, as AMQP timestamps count."""
        return int(self.time() * 1000)

    def call_later(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Runs the action once this much of the broker's time has passed."""
        return self.call_at(self.time() + seconds, action)

    def call_at(self, when: float, action: Callable[[], object]) -> Timer:
        """Runs the action at this time, in seconds since the epoch; equal times in the order of the calls."""
        timer = Timer(action)
        entry = (when, next(self._tie_break), timer)
        heapq.heappush(self._timers, entry)
        if self._timers[0] is entry:
            self._set_alarm()
        return timer

    def advance(self, seconds: float) -> None:
        """Pushes the time on and runs what falls due by that, in order."""
        self._ahead += seconds
        self._run_due()

    def reset(self) -> None:
        """Takes back all of `advance`."""
        self._ahead = 0.0
        self._set_alarm()

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Lets the loop (None for no loop) run the timers from now on."""
        self._loop = loop
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._loop is not None and self._timers:
            self._alarm = self._loop.call_later(max(0.0, self._timers[0][0] - self.time()), self._run_due)

    def _run_due(self) -> None:
        while self._timers and self._timers[0][0] <= self.time():
            action = heapq.heappop(self._timers)[2].action
            if action is not None:
                action()
        self._set_alarm()
