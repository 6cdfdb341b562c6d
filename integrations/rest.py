"""The strategy for targets with a REST API."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import random
from typing import Any, Literal

from eventstore import canonical_json

from .errors import IntegrationDefinitionError, NoAnswerError, ResourceValueError, TokenError
from .integration import Body, Delivery
from .masking import masked
from .outcome import Effect, Outcome, Verdict, outcome_of
from .resource import Resource, check_url
from .rest_auth import Auth, NoAuth
from .rest_http import HttpCaller, Request, Response

Purpose = Literal["create", "update", "retract"]
ResponseProcessor = Callable[[Purpose, Response, Delivery], Outcome]
"""Makes an outcome of an answer whose meaning depends on the API: 2xx, 404, 409, 410 and 412."""

_MAX_REMOTE = 512  # characters of a reference that are believed
_NOT_FOUND = {404, 410}
_CONFLICT = 409
_PROCESSED = {*_NOT_FOUND, _CONFLICT, 412}


def reference_in(field: str) -> ResponseProcessor:
    """The usual response processor: the target's reference stands in a field of its JSON answers.

    2xx delivers and remembers the reference, if the answer holds one; an empty answer is as good as any. Nothing there
    to retract is retracted. Nothing there to update: the reference is forgotten, the next attempt creates. A 409 to a
    create that names what is there: the next attempt updates it. Anything else is refused.

    Args:
        field: name of the field, `data.id` for one inside another.
    """

    def process(purpose: Purpose, response: Response, delivery: Delivery) -> Outcome:
        outcome = outcome_of(response.status)
        remote = _reference(response.json(), field)
        if outcome.verdict is Verdict.DELIVERED:
            return replace(outcome, remote=remote)
        if response.status in _NOT_FOUND and purpose == "retract":
            return replace(outcome, verdict=Verdict.DELIVERED, code="gone")
        if response.status in _NOT_FOUND and purpose == "update" and delivery.remote is not None:
            return replace(outcome, verdict=Verdict.RETRY, code="remote_gone", remote_gone=True)
        if response.status == _CONFLICT and purpose == "create" and remote is not None:
            return replace(outcome, verdict=Verdict.RETRY, code="exists", remote=remote)
        return outcome

    return process


class RESTIntegration:
    """Sends bodies as JSON to a REST API; a `Strategy`.

        RESTIntegration(
            "https://crm.example/api",
            create="POST /contacts",
            update="PUT /contacts/{remote}",
            retract="DELETE /contacts/{remote}",
            lookup="GET /contacts?email={email}",
            auth=OAuth2ClientCredentials("https://crm.example/token", "client-flow", settings.crm_secret),
        )

    Values in addresses are `client_id`, `remote` (the target's reference) and the fields of the body; each is
    percent-encoded. One of `create` and `update` alone serves both. Calls carry
    `Idempotency-Key` and `Client-Seq`; a target should refuse a `Client-Seq` below one it has seen for the client.

    Args:
        base_url: https, or http on this machine.
        create: the call for a client the target has no reference of.
        update: the call for a client it has.
        retract: the call that takes a client away.
        lookup: asks for the reference, before a create, when an earlier call ended without an answer; the reference
            stands in `remote_field` of the answer, or of the only element of it.
        auth: proves who calls.
        remote_field: field of the answers that holds the reference.
        response_processor: makes outcomes of answers in place of `reference_in(remote_field)`.
        timeout: seconds to wait for the target at a time; ten in all for a call.
        clock: seconds that only grow.
        sleep: waits so many seconds between tries.
        random: uniform in [0, 1), for jitter.

    Raises:
        IntegrationDefinitionError: something in it cannot work.
    """

    def __init__(
        self,
        base_url: str,
        *,
        create: str | None = None,
        update: str | None = None,
        retract: str | None = None,
        lookup: str | None = None,
        auth: Auth | None = None,
        remote_field: str = "id",
        response_processor: ResponseProcessor | None = None,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random,  # noqa: S311 - jitter
    ) -> None:
        self._base_url = check_url(base_url, "Base URL")
        first, later = create or update, update or create
        if first is None or later is None:
            raise IntegrationDefinitionError("A REST integration needs create='POST ...', update='PUT ...', or both.")
        self._create, self._update = Resource(first), Resource(later)
        if "remote" in self._create.names:
            raise IntegrationDefinitionError(
                f"Resource {first!r}: the target has no reference before the first call; give create='POST ...', or an "
                "address without {remote}."
            )
        self._retract = None if retract is None else Resource(retract)
        self._lookup = None if lookup is None else Resource(lookup)
        self._remote_field = remote_field
        self._process = response_processor or reference_in(remote_field)
        self._auth = auth or NoAuth()
        self._http = HttpCaller(self._auth, timeout=timeout, clock=clock, sleep=sleep, random=random)

    def send(self, body: Body, delivery: Delivery) -> Outcome:
        """See `Strategy.send`."""
        found = self._find(body, delivery) if delivery.uncertain else delivery.remote
        if isinstance(found, Outcome):
            return found
        delivery = delivery._replace(remote=found)
        if found is None:
            return self._call("create", self._create, body, delivery)
        outcome = self._call("update", self._update, body, delivery)
        return outcome if outcome.remote_gone else replace(outcome, remote=outcome.remote or found)

    def retract(self, delivery: Delivery) -> Outcome:
        """See `Strategy.retract`."""
        if self._retract is None:
            return Outcome(verdict=Verdict.FAILED, code="no_retract")
        if "remote" not in self._retract.names:
            return self._call("retract", self._retract, None, delivery)
        found = self._find({}, delivery)
        if isinstance(found, Outcome):
            return found
        if found is None:
            return Outcome(verdict=Verdict.DELIVERED if self._lookup else Verdict.FAILED, code="no_reference")
        return self._call("retract", self._retract, None, delivery._replace(remote=found))

    def _find(self, body: Body, delivery: Delivery) -> str | Outcome | None:
        """The reference the target has, None if it has none; an outcome if it could not be asked."""
        if delivery.remote is not None or self._lookup is None:
            return delivery.remote
        asked = self._ask(self._lookup, body, delivery, None)
        if isinstance(asked, Outcome):
            return replace(asked, effect=Effect.NONE)  # a question changes nothing
        response, request = asked
        outcome = replace(
            outcome_of(response.status, retry_after=response.retry_after),
            code=f"lookup_{response.status}",
            effect=Effect.NONE,
            request=request,
            answer=self._shown(response),
        )
        if response.status in _NOT_FOUND:
            return None
        if outcome.verdict is not Verdict.DELIVERED:
            return outcome
        answer = response.json()
        if isinstance(answer, list) and len(answer) > 1:
            return replace(outcome, verdict=Verdict.FAILED, code="lookup_ambiguous")
        return _reference(answer[0] if isinstance(answer, list) and answer else answer, self._remote_field)

    def _call(self, purpose: Purpose, resource: Resource, body: Body | None, delivery: Delivery) -> Outcome:
        asked = self._ask(resource, body or {}, delivery, None if body is None else canonical_json(body))
        if isinstance(asked, Outcome):
            return asked
        response, request = asked
        if 200 <= response.status < 300 or response.status in _PROCESSED:  # noqa: PLR2004 - the class of success
            try:
                outcome = self._process(purpose, response, delivery)
            except Exception as error:  # noqa: BLE001 - user code; refused rather than sent again and again
                kind = type(error).__name__
                return Outcome(
                    verdict=Verdict.FAILED,
                    code="processor_raised",
                    effect=Effect.POSSIBLE,
                    request=request,
                    answer=kind,
                )
        else:
            outcome = outcome_of(response.status, retry_after=response.retry_after)
        return replace(outcome, status=response.status, request=request, answer=self._shown(response))

    def _ask(
        self, resource: Resource, body: Body, delivery: Delivery, content: bytes | None
    ) -> tuple[Response, str] | Outcome:
        """The answer and what was asked, for the log; an outcome if there was none."""
        values: Mapping[str, Any] = {**body, "client_id": delivery.client_id, "remote": delivery.remote}
        try:
            address = resource.address(values)
        except ResourceValueError as error:
            return Outcome(verdict=Verdict.FAILED, code="resource_value", answer=str(error))
        headers = {
            "Accept": "application/json",
            "Idempotency-Key": delivery.idempotency_key,
            "Client-Seq": str(delivery.seq),
        }
        if content is not None:
            headers["Content-Type"] = "application/json"
        line = f"{resource.method} {address}"
        try:
            return self._http.call(Request(resource.method, self._base_url + address, headers, content)), line
        except NoAnswerError as error:
            return Outcome(verdict=Verdict.RETRY, code=error.code, effect=error.effect, request=line)
        except TokenError as error:
            verdict = Verdict.PAUSE if error.refused else Verdict.RETRY
            return Outcome(verdict=verdict, code=error.code, request=line)

    def _shown(self, response: Response) -> str:
        secrets = [secret.get_secret_value() for secret in self._auth.secrets()]
        return masked(response.body.decode(errors="replace"), secrets)


def _reference(answer: Any, field: str) -> str | None:
    for name in field.split("."):
        answer = answer.get(name) if isinstance(answer, dict) else None
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        return None
    text = str(answer)
    return text if 0 < len(text) <= _MAX_REMOTE else None
