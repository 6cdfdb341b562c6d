"""What tests that use azure-servicebus have to know about it."""

import asyncio
import gc
import importlib
import time
import types
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

_POLL = 0.05  # seconds the SDK sleeps between two looks at a handshake
_KEEP_ALIVE = 1  # seconds its keep-alive threads sleep, and so how long closing a link takes
_SYNC_MODULES = ("_servicebus_sender", "_servicebus_receiver", "_session_browser", "_pyamqp.client")
_AIO_MODULES = (
    "aio._servicebus_sender_async",
    "aio._servicebus_receiver_async",
    "aio._session_browser_async",
    "_pyamqp.aio._client_async",
)


@contextmanager
def fast_polling() -> Generator[None]:
    """Shortens the fixed sleeps inside the SDK: opening and closing a link takes about a second without it.

    In the SDK's modules named above, `time` and `asyncio` become stand-ins whose `sleep` is shorter for exactly those
    two lengths; everything else, the protocol above all, is untouched. Leaving puts the modules back. The names are
    private to the SDK, so the test set has a part that runs without this.
    """
    stand_in_time = _StandIn(time, sleep=lambda seconds: time.sleep(_shorter(seconds)))
    stand_in_asyncio = _StandIn(asyncio, sleep=lambda seconds, *args: asyncio.sleep(_shorter(seconds), *args))
    with ExitStack() as stack:
        for names, attribute, stand_in in (
            (_SYNC_MODULES, "time", stand_in_time),
            (_AIO_MODULES, "asyncio", stand_in_asyncio),
        ):
            for name in names:
                module = importlib.import_module(f"azure.servicebus.{name}")
                stack.callback(setattr, module, attribute, getattr(module, attribute))
                setattr(module, attribute, stand_in)
        yield


@contextmanager
def leaked_sockets_ignored() -> Generator[None]:
    """Tolerates that the SDK forgets sockets of connections that were cut instead of closing them.

    Python warns about such a socket when it is collected, in whatever test that happens; so they are collected here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


class _StandIn(types.ModuleType):
    """A module with some names replaced."""

    def __init__(self, module: types.ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__)
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _shorter(seconds: float) -> float:
    if seconds == _KEEP_ALIVE:
        return 0.02
    return min(seconds, 0.002) if seconds <= _POLL else seconds
