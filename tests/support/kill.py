"""Kill points: named gaps between two durable writes, at which a process can end itself as a power cut would.

Nothing in the product knows of them: they sit in wrappers around its ports.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, TypeVar

Port = TypeVar("Port")

Name = str | Callable[..., str | None] | None
"""Name of a kill point; or what makes it of the arguments of the call; None is no kill point."""


class KillPoints:
    """Counts how often each point is crossed, and ends its own process with SIGKILL at one crossing.

    Args:
        at: the point at which the process dies; None counts the crossings of all points together.
        crossing: the crossing at which it dies, from 1; 0 is never.
        epitaph: told the point just before the end; must only do what survives a SIGKILL, as writing to a file.
    """

    def __init__(
        self, at: str | None = None, crossing: int = 0, *, epitaph: Callable[[str], None] = lambda _: None
    ) -> None:
        self.crossings: Counter[str] = Counter()
        self._at, self._crossing, self._epitaph = at, crossing, epitaph
        self._lock = Lock()

    def cross(self, point: str) -> None:
        """Pass a point, or die there."""
        with self._lock:  # kept until the end: no other thread gets past a point any more
            self.crossings[point] += 1
            if self._at not in {None, point}:
                return
            if self._crossing == (self.crossings.total() if self._at is None else self.crossings[point]):
                self._epitaph(point)
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, port: Port, points: Mapping[str, tuple[Name, Name]]) -> Port:
        """The port with points around some of its methods: `{"append": ("append.before", "append.after")}`."""
        wrapped: Any = _Wrapped(port, points, self.cross)
        guarded: Port = wrapped  # has every method of the port
        return guarded


class _Wrapped:
    def __init__(self, port: object, points: Mapping[str, tuple[Name, Name]], cross: Callable[[str], None]) -> None:
        self._port, self._points, self._cross = port, points, cross

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name not in self._points:
            return method
        before, after = self._points[name]

        def crossing(*args: Any, **kwargs: Any) -> Any:
            self._pass(before, *args, **kwargs)
            result = method(*args, **kwargs)
            self._pass(after, *args, **kwargs)
            return result

        return crossing

    def _pass(self, point: Name, *args: Any, **kwargs: Any) -> None:
        name = point(*args, **kwargs) if callable(point) else point
        if name is not None:
            self._cross(name)
