"""One HTTP call to a target: pooled, bounded in time and size, never redirected, with a fresh token if need be."""

import logging
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from random import random
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
import requests
import urllib3
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from requests.adapters import HTTPAdapter

from .errors import NoAnswerError
from .outcome import Effect
from .rest_auth import Auth, Credential

MAX_ANSWER = 65_536  # bytes of a response that are read
_BUDGET = 10.0  # seconds for a call with everything that belongs to it
_PAUSES = (0.2, 0.8)  # seconds before the second and third try
_CHUNK = 16_384
_POOL = 64  # connections kept for one host
_UNAUTHORIZED, _TOO_EARLY = 401, 425
_FIRST_ERROR = 400

_TRACER = trace.get_tracer("client_flow")
_TRACE_CONTEXT = (
    TraceContextTextMapPropagator()
)  # and no baggage: what else a caller's context holds is not the target's


class Request(NamedTuple):
    """What a target is asked.

    Attributes:
        method: HTTP method.
        url: in full.
        headers: without the credential.
        body: JSON, None for none.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


class Response(NamedTuple):
    """What a target answered.

    Attributes:
        status: HTTP status.
        headers: by lower-case name.
        body: the first 64 KB at most.
        truncated: whether there was more, or it broke off.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False

    def json(self) -> Any:
        """The body as JSON; None if it is empty, cut or anything else."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def retry_after(self) -> float | None:
        """Seconds for which the target wants no calls (RFC 9110, section 10.2.3), None if it does not say."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            until, date = parsedate_to_datetime(text), parsedate_to_datetime(self.headers.get("date", ""))
            return max(0.0, (until - date).total_seconds())
        except (TypeError, ValueError):
            return None


class HttpCaller:
    """Makes calls on the connections that all integrations of the process share.

    Within ten seconds in all it tries again what certainly had no effect: a connection that could not be made, and the
    answer 425. A 401 is tried again once, with a renewed credential. Anything else is for the deliverer to repeat,
    which remembers the doubt.

    Args:
        auth: proves who calls.
        timeout: seconds to wait for the target at a time.
        clock: seconds that only grow.
        sleep: waits so many seconds.
        random: uniform in [0, 1), for jitter.
    """

    def __init__(
        self,
        auth: Auth,
        *,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random,  # noqa: S311 - jitter
    ) -> None:
        self._auth, self._timeout = auth, timeout
        self._clock, self._sleep, self._random = clock, sleep, random

    def call(self, request: Request) -> Response:
        """The target's answer, whatever it is.

        Raises:
            NoAnswerError: there was none; says whether the call may have had an effect.
            TokenError: no access token is to be had.
        """
        end = self._clock() + _BUDGET
        credential = self._auth.credential(timeout=self._timeout)
        answer = self._patiently(request, credential, end)
        if answer.status != _UNAUTHORIZED:
            return answer
        renewed = self._auth.renewed(credential, timeout=self._timeout)
        return answer if renewed is None else self._patiently(request, renewed, end)

    def _patiently(self, request: Request, credential: Credential | None, end: float) -> Response:
        for pause in _PAUSES:
            wait = pause * (0.5 + self._random() / 2)
            if self._clock() + wait >= end:
                break
            try:
                answer = self._once(request, credential, end)
            except NoAnswerError as error:
                if error.effect is not Effect.NONE:
                    raise
            else:
                if answer.status != _TOO_EARLY:
                    return answer
            self._sleep(wait)
        return self._once(request, credential, end)

    def _once(self, request: Request, credential: Credential | None, end: float) -> Response:
        left = end - self._clock()
        if left <= 0:
            raise NoAnswerError("out_of_time", Effect.NONE)
        # Its address may hold ids, so the span goes without.
        with _TRACER.start_as_current_span(
            request.method,
            kind=trace.SpanKind.CLIENT,
            attributes={"http.request.method": request.method, "server.address": urlsplit(request.url).hostname or ""},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                response = self._send(request, credential, min(self._timeout, left), end)
            except NoAnswerError as error:
                span.set_status(trace.StatusCode.ERROR)
                span.set_attribute("error.type", error.code)
                raise
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= _FIRST_ERROR:
                span.set_status(trace.StatusCode.ERROR)
            return response

    def _send(self, request: Request, credential: Credential | None, timeout: float, end: float) -> Response:
        headers = dict(request.headers)
        _TRACE_CONTEXT.inject(headers)
        # The messages of these errors hold the address, so none of them is kept as a cause.
        try:
            response = _session().request(
                request.method,
                request.url,
                data=request.body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
                auth=_with(credential),
            )
        except requests.exceptions.ConnectTimeout:
            raise NoAnswerError("connect_timeout", Effect.NONE) from None
        except requests.exceptions.SSLError:
            raise NoAnswerError("tls", Effect.NONE) from None
        except requests.exceptions.Timeout:
            raise NoAnswerError("timeout", Effect.PENDING) from None
        except requests.exceptions.ConnectionError as error:
            if isinstance(getattr(error.args[0], "reason", None), urllib3.exceptions.NewConnectionError):
                raise NoAnswerError("unreachable", Effect.NONE) from None
            raise NoAnswerError("connection_lost", Effect.PENDING) from None
        except requests.exceptions.RequestException:
            raise NoAnswerError("invalid_request", Effect.NONE) from None
        with response:
            body, truncated = self._read(response, end)
        received = {name.lower(): value for name, value in response.headers.items()}
        return Response(response.status_code, received, body, truncated)

    def _read(self, response: requests.Response, end: float) -> tuple[bytes, bool]:
        body = bytearray()
        raw: urllib3.HTTPResponse = response.raw
        try:
            while chunk := raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > MAX_ANSWER or self._clock() > end:
                    return bytes(body[:MAX_ANSWER]), True
        except urllib3.exceptions.HTTPError:
            return bytes(body[:MAX_ANSWER]), True  # the status stands, whatever became of the rest
        return bytes(body), False


def _with(credential: Credential | None) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Sets the credential; given even if there is none, lest requests looks for one in a netrc file."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if credential is not None:
            request.headers[credential.header] = credential.value.get_secret_value()
        return request

    return sign


@cache
def _session() -> requests.Session:
    """The connections of this process; no cookies, no retries of its own, no addresses in its log."""
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = HTTPAdapter(pool_connections=_POOL, pool_maxsize=_POOL, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers["User-Agent"] = "client-flow"
    for name in ("urllib3.connection", "urllib3.connectionpool"):
        # Its lines hold paths and queries, hence references of clients.
        logging.getLogger(name).addFilter(_silent)
    return session


def _silent(record: logging.LogRecord) -> bool:  # noqa: ARG001 - a filter is given the record
    return False
