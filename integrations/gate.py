"""Whether an integration may be called: one durable pause for all processes, and one trial call when it ends."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from eventstore import utc_text

from .ports import HeldPause, Pause, PauseStore

FOREVER = "9999-12-31T23:59:59.999999Z"
"""End of a pause that only an operator ends."""

_CACHE = timedelta(seconds=5)


class Admission(NamedTuple):
    """Leave to call.

    Attributes:
        probe: the pause as this caller wrote it, if it is the only one let through; None if the gate is open.
    """

    probe: HeldPause | None


class Gate:
    """The way to one target.

    What others wrote is noticed within five seconds. A pause that has ended lets exactly one caller through: the one
    whose conditional write prolongs it for the time of its call.

    Args:
        integration: its name.
        store: keeps the pause.
        probe_seconds: how long a trial call may take.
        clock: present time.
    """

    def __init__(
        self,
        integration: str,
        store: PauseStore,
        *,
        probe_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._integration, self._store = integration, store
        self._probe = timedelta(seconds=probe_seconds)
        self._clock = clock
        self._cached: tuple[datetime, HeldPause] | None = None

    def admit(self) -> Admission | None:
        """Leave to call, None while paused. Whoever gets a probe ends it with `reopen`, `postpone` or `give_back`."""
        now = self._clock()
        held = self._held(now)
        if held.pause.until is None:
            return Admission(None)
        if held.pause.until > utc_text(now):
            return None
        probe = self._save(held.pause._replace(until=utc_text(now + self._probe)), held.tag)
        return None if probe is None else Admission(probe)

    def postpone(self, until: str, reason: str) -> None:
        """No calls before that time; a longer pause stays as it is."""
        while True:
            held = self._store.load_pause(self._integration)
            if held.pause.until is not None and held.pause.until >= until:
                self._cached = (self._clock(), held)
                return
            if self._save(Pause(self._integration, until, reason), held.tag) is not None:
                return

    def reopen(self, probe: HeldPause) -> None:
        """The trial call was answered: everybody may call, unless somebody paused in the meantime."""
        self._save(Pause(self._integration), probe.tag)

    def give_back(self, probe: HeldPause) -> None:
        """There was nothing to call: the next one may try."""
        self._save(probe.pause._replace(until=utc_text(self._clock())), probe.tag)

    def resume(self) -> None:
        """End any pause."""
        while self._save(Pause(self._integration), self._store.load_pause(self._integration).tag) is None:
            pass

    def _held(self, now: datetime) -> HeldPause:
        cached = self._cached
        if cached is not None and cached[0] <= now < cached[0] + _CACHE:
            return cached[1]
        held = self._store.load_pause(self._integration)
        self._cached = (now, held)
        return held

    def _save(self, pause: Pause, tag: str | None) -> HeldPause | None:
        new_tag = self._store.save_pause(pause, tag)
        if new_tag is None:
            self._cached = None
            return None
        held = HeldPause(pause, new_tag)
        self._cached = (self._clock(), held)
        return held
