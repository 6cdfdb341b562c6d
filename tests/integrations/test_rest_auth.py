"""Credentials: fetched once, renewed once, and never to be seen."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import SecretStr

from eventstore import SqliteDatabase
from integrations import (
    ApiKey,
    Auth,
    BearerToken,
    Delivery,
    DeliveryResult,
    Effect,
    IntegrationDefinitionError,
    OAuth2ClientCredentials,
    OAuth2Password,
    RESTIntegration,
    Verdict,
)
from tests.integrations.world import Clock, World
from tests.support.rest_target import Fault, RestTarget

SECRET = "canary-secret+&=%/:~"
PASSWORD = "canary pass+&=%/é"
DELIVERY = Delivery("CC.1", 1, None, "k", uncertain=False)
BODY = {"email": "a@x"}


@pytest.fixture
def rest() -> Any:
    """A target that wants tokens."""
    with RestTarget(clients={"app": SECRET}, users={"ana": PASSWORD}) as running:
        yield running


def by_client(target: RestTarget, secret: str = SECRET, **options: Any) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(target.token_url, "app", SecretStr(secret), **options)


def by_password(target: RestTarget, secret: str = PASSWORD) -> OAuth2Password:
    return OAuth2Password(target.token_url, "ana", SecretStr(secret))


def strategy(target: RestTarget, auth: Auth) -> RESTIntegration:
    return RESTIntegration(target.url, create="POST /contacts", auth=auth, sleep=lambda _: None)


@pytest.mark.parametrize("make", [by_client, by_password])
def test_a_token_is_fetched_late_and_kept(rest: RestTarget, make: Any) -> None:
    """Nothing is asked before the first call, and one token serves many."""
    caller = strategy(rest, make(rest))
    assert rest.token_requests == []
    for _ in range(3):
        assert caller.send(BODY, DELIVERY).verdict is Verdict.DELIVERED
    assert len(rest.token_requests) == 1


def test_secrets_are_in_no_address(rest: RestTarget) -> None:
    """Client secret and password travel in a header and a body, never in a URL."""
    strategy(rest, by_client(rest)).send(BODY, DELIVERY)
    strategy(rest, by_password(rest)).send(BODY, DELIVERY)
    assert [request.path for request in rest.token_requests] == ["/token", "/token"]
    assert [request.method for request in rest.token_requests] == ["POST", "POST"]
    assert "canary" not in " ".join(request.path for request in rest.requests)


def test_the_scope_is_asked_for(rest: RestTarget) -> None:
    """A scope goes with the request for a token."""
    strategy(rest, by_client(rest, scope="contacts.write")).send(BODY, DELIVERY)
    assert rest.token_requests[0].form["scope"] == "contacts.write"


@pytest.mark.parametrize(("lifetime", "used_at", "gone_at"), [(3600, 3539, 3541), (60, 29, 31)])
def test_a_token_is_replaced_before_it_ends(lifetime: int, used_at: float, gone_at: float) -> None:
    """A minute before its end, or at half its life if that is shorter, a new one is fetched."""
    now = [0.0]
    with RestTarget(clients={"app": SECRET}, expires_in=lifetime) as target:
        caller = strategy(target, by_client(target, clock=lambda: now[0]))
        for moment in (0.0, used_at, gone_at):
            now[0] = moment
            caller.send(BODY, DELIVERY)
        assert len(target.token_requests) == 2


def test_a_token_without_an_end_is_kept_until_refused() -> None:
    """If the server does not say how long, only a 401 ends it."""
    now = [0.0]
    with RestTarget(clients={"app": SECRET}, expires_in=None) as target:
        caller = strategy(target, by_client(target, clock=lambda: now[0]))
        caller.send(BODY, DELIVERY)
        now[0] = 1e9
        caller.send(BODY, DELIVERY)
        assert len(target.token_requests) == 1


def test_a_refused_token_is_renewed_once(rest: RestTarget) -> None:
    """After a 401 a new token is fetched and the call made again, within the same delivery."""
    caller = strategy(rest, by_client(rest))
    caller.send(BODY, DELIVERY)
    rest.revoke_tokens()
    assert caller.send(BODY, DELIVERY).verdict is Verdict.DELIVERED
    assert len(rest.token_requests) == 2


def test_a_second_401_pauses(rest: RestTarget) -> None:
    """If the new token is refused as well, the integration pauses; there is no third try."""
    rest.script(Fault(status=401), Fault(status=401))
    outcome = strategy(rest, by_client(rest)).send(BODY, DELIVERY)
    assert (outcome.verdict, outcome.code) == (Verdict.PAUSE, "http_401")
    assert (len(rest.requests), len(rest.token_requests)) == (2, 2)


def test_many_callers_share_a_token(rest: RestTarget) -> None:
    """Sixteen first calls at once ask for one token; when it is revoked, sixteen more ask for one other."""
    caller = strategy(rest, by_client(rest))
    for expected in (1, 2):
        with ThreadPoolExecutor(16) as pool:
            outcomes = list(pool.map(lambda _: caller.send(BODY, DELIVERY), range(16)))
        assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
        assert len(rest.token_requests) == expected
        rest.revoke_tokens()


@pytest.mark.parametrize(("make", "code"), [(by_client, "invalid_client"), (by_password, "invalid_grant")])
def test_a_wrong_secret_pauses(rest: RestTarget, make: Any, code: str) -> None:
    """The authorization server says no: no call is made, the integration pauses with its code."""
    outcome = strategy(rest, make(rest, "wrong")).send(BODY, DELIVERY)
    assert (outcome.verdict, outcome.code, outcome.effect) == (Verdict.PAUSE, code, Effect.NONE)
    assert rest.requests == []


@pytest.mark.parametrize(
    ("fault", "verdict", "code"),
    [
        (Fault(status=503), Verdict.RETRY, "token_http_503"),
        (Fault(status=429, body=b'{"error": "slow_down"}'), Verdict.RETRY, "token_http_429"),
        (Fault(drop="before"), Verdict.RETRY, "token_connectionerror"),
        (Fault(status=200, body=b"<html>"), Verdict.PAUSE, "token_answer"),
        (Fault(status=200, body=b"{}"), Verdict.PAUSE, "token_answer"),
        (Fault(status=200, body=b'{"access_token": "a\\nb"}'), Verdict.PAUSE, "token_answer"),
        (Fault(status=200, body=b'{"access_token": 7}'), Verdict.PAUSE, "token_answer"),
        (Fault(status=400, body=b'{"error": {"code": "odd"}}'), Verdict.PAUSE, "token_refused"),
        (Fault(status=404), Verdict.PAUSE, "token_http_404"),
        (Fault(status=302, headers={"Location": "http://127.0.0.1:1/"}), Verdict.PAUSE, "token_answer"),
    ],
)
def test_an_authorization_server_in_trouble(rest: RestTarget, fault: Fault, verdict: Verdict, code: str) -> None:
    """What passes is retried, what needs other settings pauses; the target is not called."""
    rest.script_tokens(fault)
    outcome = strategy(rest, by_client(rest)).send(BODY, DELIVERY)
    assert (outcome.verdict, outcome.code) == (verdict, code)
    assert rest.requests == []


def test_a_failed_request_for_a_token_can_be_repeated(rest: RestTarget) -> None:
    """A later call asks again."""
    rest.script_tokens(Fault(status=503))
    caller = strategy(rest, by_client(rest))
    caller.send(BODY, DELIVERY)
    assert caller.send(BODY, DELIVERY).verdict is Verdict.DELIVERED


def test_an_api_key_stands_in_its_header() -> None:
    """The key goes with each call, under the name the target wants."""
    with RestTarget(api_key="canary-key") as target:
        assert strategy(target, ApiKey(SecretStr("canary-key"))).send(BODY, DELIVERY).verdict is Verdict.DELIVERED
        assert strategy(target, ApiKey(SecretStr("wrong"))).send(BODY, DELIVERY).verdict is Verdict.PAUSE
        other = ApiKey(SecretStr("canary-key"), header="Ocp-Apim-Subscription-Key")
        strategy(target, other).send(BODY, DELIVERY)
        assert target.requests[-1].headers["ocp-apim-subscription-key"] == "canary-key"


def test_a_fixed_bearer_token_is_sent() -> None:
    """A token from the settings goes as it is."""
    with RestTarget() as target:
        strategy(target, BearerToken(SecretStr("canary-token"))).send(BODY, DELIVERY)
        assert target.requests[0].headers["authorization"] == "Bearer canary-token"


@pytest.mark.parametrize("key", ["", " x", "x\n", "x\r\nHost: y", "ключ"])
def test_a_secret_that_no_header_may_hold_is_refused(key: str) -> None:
    """A key with a line break fails while the application starts, without being repeated."""
    with pytest.raises(IntegrationDefinitionError):
        ApiKey(SecretStr(key))
    with pytest.raises(IntegrationDefinitionError):
        BearerToken(SecretStr(key))


@pytest.mark.parametrize("url", ["http://login.example/token", "https://login.example/token?secret=x"])
def test_a_token_url_must_be_safe(url: str) -> None:
    """Secrets go to no URL that is open or holds secrets itself."""
    with pytest.raises(IntegrationDefinitionError):
        OAuth2ClientCredentials(url, "app", SecretStr(SECRET))


def test_a_wrong_secret_fails_no_client(rest: RestTarget, database: SqliteDatabase, clock: Clock) -> None:
    """The integration pauses with the reason, everybody waits, and nothing of the secret is written anywhere."""
    world = World(database, clock, strategy=strategy(rest, by_client(rest, "canary-wrong")))
    for number in range(5):
        world.announce(f"c{number}", "a@x")
    assert world.deliverer.deliver_due() == {"crm": {DeliveryResult.PAUSED: 1}}
    assert list(world.store.failed("crm")) == []
    assert world.store.load_pause("crm").pause.reason == "invalid_client"
    assert len(rest.token_requests) == 1
    assert "canary" not in repr([world.log(f"c{number}") for number in range(5)])


def test_secrets_are_nowhere_to_be_seen(
    rest: RestTarget, database: SqliteDatabase, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither logs nor outcomes nor log entries nor representations hold secret, password or token, even if repeated."""
    auths: list[Auth] = [
        by_client(rest),
        by_password(rest),
        ApiKey(SecretStr("canary-key")),
        BearerToken(SecretStr("canary-token")),
    ]
    with caplog.at_level(logging.DEBUG):
        for number, auth in enumerate(auths):
            caller = strategy(rest, auth)
            world = World(database, clock, strategy=caller)
            caller.send(BODY, DELIVERY)  # from now on there is a token
            secrets = [secret.get_secret_value() for secret in auth.secrets()]
            repeated = " ".join(secrets).encode()
            rest.script(Fault(status=400, body=repeated), Fault(status=422, body=b'{"message": "' + repeated + b'"}'))
            world.announce(f"c{number}", "a@x")
            assert world.deliverer.deliver(f"c{number}", "crm") is DeliveryResult.FAILED
            seen = [world.log(f"c{number}"), caller.send(BODY, DELIVERY), auth, vars(auth), caller, vars(caller)]
            assert "***" in world.log(f"c{number}")[0].answer
            for secret in secrets:
                assert secret not in repr(seen)
                assert secret not in caplog.text
