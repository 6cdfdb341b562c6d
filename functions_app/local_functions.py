"""The functions of an `azure.functions.FunctionApp`, as the local host calls them.

Triggers are decoded and results encoded by the converters of azure.functions itself, the ones the Functions worker
uses, so a handler cannot tell the hosts apart.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any, NamedTuple

from azure.functions import AuthLevel, FunctionApp, get_binding_registry
from azure.functions.decorators.core import Trigger
from azure.functions.decorators.http import HttpTrigger
from azure.functions.decorators.timer import TimerTrigger
from azure.functions.meta import Datum

from .local_errors import UnsupportedFunctionError
from .problems import unexpected

_CONVERTERS: Any = get_binding_registry()  # type: ignore[no-untyped-call]  # the library leaves it untyped
_WITHOUT_BODY = {204, 304}
_FRAMING = {"content-length", "transfer-encoding", "connection"}


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """One function: its name, what triggers it and the code behind it."""

    name: str
    trigger: Trigger
    handler: Callable[..., Any]

    @property
    def auth_level(self) -> AuthLevel:
        """Who may call it over HTTP; `function` unless declared otherwise."""
        level: AuthLevel | None = getattr(self.trigger, "auth_level", None)
        return level or AuthLevel.FUNCTION

    def invoke(self, datum: Datum) -> Any:
        """Call the handler with the decoded trigger and give what it returns."""
        decoded = _CONVERTERS.get(self.trigger.type).decode(datum, trigger_metadata={})
        return self.handler(**{self.trigger.name: decoded})


class Answer(NamedTuple):
    """An HTTP answer as it goes over the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def load_functions(app: FunctionApp) -> list[LocalFunction]:
    """All functions of the app. Works once per app object, as `get_functions` does.

    Raises:
        UnsupportedFunctionError: an HTTP or timer function is asynchronous or takes more than its trigger.
    """
    functions = [
        LocalFunction(name, trigger, function.get_user_function())
        for function in app.get_functions()
        if (name := function.get_function_name()) and (trigger := function.get_trigger())
    ]
    for function in functions:
        if isinstance(function.trigger, HttpTrigger | TimerTrigger):
            _check_callable(function)
    return functions


def respond(function: LocalFunction, request: Datum) -> Answer:
    """What an HTTP function answers; 500 with a reference when its handler raises."""
    try:
        return answer_of(function.invoke(request))
    except BaseException as error:  # noqa: BLE001 - SystemExit or CancelledError in a handler must not end the server
        return answer_of(unexpected(error))


def answer_of(result: Any) -> Answer:
    """The answer that an HTTP handler's result stands for.

    Raises:
        NotImplementedError: the result is neither `HttpResponse` nor text.
    """
    encoded = _CONVERTERS.get("http").encode(result, expected_type=None)
    cookies: list[SimpleCookie] = []
    if encoded.type == "string":
        status, body = 200, encoded.value.encode()
        headers = [("content-type", "text/plain; charset=utf-8")]
    else:
        value = encoded.value
        status, body, cookies = int(value["status_code"].value), value["body"].value, value["cookies"] or cookies
        # How a message is framed is this host's business; a handler's own idea of it could only break the connection.
        headers = [(n.lower(), h.value) for n, h in value["headers"].items() if n.lower() not in _FRAMING]
    if status in _WITHOUT_BODY:
        body = b""
    else:
        headers.append(("content-length", str(len(body))))
    headers += [("set-cookie", morsel.OutputString()) for cookie in cookies for morsel in cookie.values()]
    return Answer(status, [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers], body)


def _check_callable(function: LocalFunction) -> None:
    if inspect.iscoroutinefunction(function.handler):
        raise UnsupportedFunctionError(function.name, "handlers are called in threads; write it without async")
    others = set(inspect.signature(function.handler).parameters) - {function.trigger.name}
    if others:
        raise UnsupportedFunctionError(
            function.name, f"takes {', '.join(sorted(others))}, but the local host gives a handler its trigger only"
        )
