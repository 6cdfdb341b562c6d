"""Who may call the query functions: principals with roles where the platform authenticates, keys elsewhere."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from azure.functions import AuthLevel, HttpRequest, HttpResponse
from pydantic import SecretStr

from functions_app import Delivered, Runtime, Settings, build_app
from functions_app.access import AccessEntry
from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from functions_app.sample import domain
from tests.support.command_line import CommandLine
from tests.support.flow import KEY, Flow, open_flow, serving

OBJECT_ID = "00000000-0000-0000-0000-0000000000a1"
CHANGE = {
    "change_id": "c-1",
    "person": 1,
    "changed_at": "2026-03-01T12:00:00Z",
    "contact": {"email": "a@example.org"},
}
ROUTES = {
    "record": "clients/1",
    "record_as_of": "clients/1/as-of",
    "audit": "clients/1/audit",
    "blame": "clients/1/blame",
    "deliveries": "clients/1/deliveries",
    "lag": "lag",
}
OPENED = {
    "read": {"record", "record_as_of"},
    "audit": {"audit", "blame", "deliveries"},
    "operate": {"lag"},
}


def principal(*roles: str, **changes: Any) -> dict[str, str]:
    """The header that the platform sets for somebody with these app roles."""
    claims = [
        {"typ": "http://schemas.microsoft.com/identity/claims/objectidentifier", "val": OBJECT_ID},
        {"typ": "preferred_username", "val": "ana@x.example"},
        *({"typ": "roles", "val": role} for role in roles),
    ]
    document = {"auth_typ": "aad", "name_typ": "name", "role_typ": "roles", "claims": claims, **changes}
    return {"x-ms-client-principal": b64encode(orjson.dumps(document)).decode()}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    runtime = open_flow(tmp_path, environment={"CLIENT_FLOW_KEY": KEY})
    runtime.intake.accept(domain.source("crm"), Delivered(CHANGE))
    runtime.sweep()
    return runtime


def functions(runtime: Runtime, *, platform_auth: bool) -> dict[str, Any]:
    app = build_app(domain, lambda: runtime, platform_auth=platform_auth)
    return {str(function.get_function_name()): function for function in app.get_functions()}


def ask(runtime: Runtime, name: str, headers: Mapping[str, str], *, platform_auth: bool = True) -> HttpResponse:
    """Call a query function as the worker does: what the host has let through."""
    route = {} if name == "lag" else {"client_id": "1"}
    params = {"version": "1"} if name == "record_as_of" else {}
    request = HttpRequest(
        "GET", f"/api/{ROUTES[name]}", headers=dict(headers), route_params=route, params=params, body=b""
    )
    answer: HttpResponse = functions(runtime, platform_auth=platform_auth)[name].get_user_function()(request)
    return answer


def accesses(runtime: Runtime) -> list[AccessEntry]:
    return list(runtime.backend.access.entries())


@pytest.mark.parametrize("role", ["read", "audit", "operate"])
def test_a_role_opens_its_functions_and_no_other(runtime: Runtime, role: str) -> None:
    """200 for those of the table, 403 for the rest, which does not count as an access."""
    for name in ROUTES:
        expected = 200 if name in OPENED[role] else 403
        assert ask(runtime, name, principal(role)).status_code == expected, name
    assert {entry.what for entry in accesses(runtime)} == OPENED[role] - {"lag"}


def test_roles_come_under_either_name(runtime: Runtime) -> None:
    """The platform passes them on as they stand in the token, or under the long name of the claim."""
    long = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
    header = principal(claims=[{"typ": "oid", "val": OBJECT_ID}, {"typ": long, "val": "read"}])
    assert ask(runtime, "record", header).status_code == 200
    assert [entry.who for entry in accesses(runtime)] == [OBJECT_ID]


def test_somebody_with_all_roles_may_do_everything(runtime: Runtime) -> None:
    """Roles add up."""
    for name in ROUTES:
        assert ask(runtime, name, principal("read", "audit", "operate")).status_code == 200, name


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"x-ms-client-principal": ""},
        {"x-ms-client-principal": "no base64"},
        {"x-ms-client-principal": b64encode(b"no JSON").decode()},
        {"x-ms-client-principal": b64encode(b"[]").decode()},
        {"x-ms-client-principal": b64encode(b'{"auth_typ": "aad"}').decode()},
        principal("read", auth_typ="google"),
        principal(claims=[{"typ": "roles", "val": "read"}]),
        principal(claims={"typ": "oid", "val": "1"}),
        principal(claims=["roles", None, {"typ": 1, "val": 2}]),
        {"x-functions-key": "wrong"},
        {"x-functions-key": ""},
        {**principal(auth_typ="google"), "x-functions-key": KEY},
    ],
    ids=str,
)
def test_who_is_nobody_is_refused(runtime: Runtime, header: dict[str, str]) -> None:
    """401 without a principal of Entra ID and without the key, and no access."""
    answer = ask(runtime, "record", header)
    assert (answer.status_code, orjson.loads(answer.get_body())["code"]) == (401, "unauthorized")
    assert accesses(runtime) == []


@pytest.mark.parametrize("roles", [(), ("READ",), ("read ",), ("write", "operate")], ids=str)
def test_who_lacks_the_role_is_told_which(runtime: Runtime, roles: tuple[str, ...]) -> None:
    """403 that names the role, not the caller."""
    answer = ask(runtime, "record", principal(*roles))
    document = orjson.loads(answer.get_body())
    assert (answer.status_code, document["code"]) == (403, "forbidden")
    assert "read" in document["detail"]
    assert "ana" not in document["detail"]
    assert accesses(runtime) == []


def test_the_key_is_the_way_in_for_programs_without_identity(runtime: Runtime) -> None:
    """Everything opens with it, as with a function key."""
    for name in ROUTES:
        assert ask(runtime, name, {"x-functions-key": KEY}).status_code == 200, name
    assert {entry.who for entry in accesses(runtime)} == {"key"}


def test_without_a_key_there_is_no_way_around_the_roles(tmp_path: Path) -> None:
    """A key that is not set is not the empty one."""
    runtime = open_flow(tmp_path)
    for shown in ("", "None"):
        assert ask(runtime, "lag", {"x-functions-key": shown}).status_code == 401


def test_a_principal_counts_only_if_the_platform_sets_it(runtime: Runtime) -> None:
    """Elsewhere anybody could send the header: the host asks for a key, and nobody is who they say."""
    off, on = functions(runtime, platform_auth=False), functions(runtime, platform_auth=True)
    levels = {name: (off[name].get_trigger().auth_level, on[name].get_trigger().auth_level) for name in ROUTES}
    assert set(levels.values()) == {(AuthLevel.FUNCTION, AuthLevel.ANONYMOUS)}
    assert off["health"].get_trigger().auth_level is on["health"].get_trigger().auth_level is AuthLevel.ANONYMOUS
    receivers = {name: function for name, function in on.items() if name.endswith("_receive_event")}
    assert {name: function.get_trigger().auth_level for name, function in receivers.items()} == {
        "crm_receive_event": AuthLevel.FUNCTION,
        "shop_receive_event": AuthLevel.ANONYMOUS,  # signed
    }
    assert ask(runtime, "record", principal(), platform_auth=False).status_code == 200  # the host has seen a key
    assert [entry.who for entry in accesses(runtime)] == ["key"]


@pytest.fixture
def trusting(runtime: Runtime) -> Iterator[Flow]:
    """The local host with an app that trusts the platform."""
    host = LocalHost(
        build_app(domain, lambda: runtime, platform_auth=True),
        keys=HostKeys(master=SecretStr("master")),
        settings=runtime.settings.environment,
    )
    with host.started() as served:
        yield Flow(runtime, f"{served.url}/api")


def test_the_local_host_lets_nobody_pretend(trusting: Flow) -> None:
    """As on Azure, the header from outside does not reach a function, however it is spelled; the key opens."""
    url = f"{trusting.url}/clients/1"
    for name in ("X-MS-CLIENT-PRINCIPAL", "x-ms-client-principal"):
        forged = {name: principal("read")["x-ms-client-principal"]}
        assert requests.get(url, headers=forged, timeout=10).status_code == 401
    assert requests.get(url, headers={"x-functions-key": "wrong"}, timeout=10).status_code == 401
    assert requests.get(url, headers={"x-functions-key": KEY}, timeout=10).status_code == 200


def test_a_caller_is_entered_with_name_and_object_id(runtime: Runtime) -> None:
    """Names change hands, object ids do not; control characters and great lengths do not get in."""
    ask(runtime, "audit", principal("audit"))
    strange = [{"typ": "oid", "val": "1\n2" + "x" * 500}, {"typ": "roles", "val": "audit"}]
    ask(runtime, "audit", principal(claims=strange))
    [second, first] = accesses(runtime)
    assert first.who == f"ana@x.example {OBJECT_ID}"
    assert second.who.startswith("12xxx")
    assert len(second.who) <= 200
    assert first.client_ref == runtime.references.client("1")


def test_keys_open_queries_on_the_local_host(runtime: Runtime) -> None:
    """Without platform authentication: 401 for a forged principal, 200 for the key."""
    with serving(runtime) as flow:
        url = f"{flow.url}/clients/1"
        assert requests.get(url, headers=principal("read", "audit", "operate"), timeout=10).status_code == 401
        assert flow.get("clients/1").status_code == 200


@pytest.mark.parametrize(
    ("value", "trusted"),
    [("true", True), ("True", True), ("false", False), ("", False), ("1", False), ("yes", False), (None, False)],
)
def test_the_platform_is_trusted_only_if_somebody_says_so(value: str | None, *, trusted: bool) -> None:
    """Whatever is not clearly a yes leaves the host asking for keys."""
    environment = {} if value is None else {"CLIENT_FLOW_PLATFORM_AUTH": value}
    assert Settings(environment).platform_auth is trusted


def test_serving_without_keys_of_the_host_needs_one_of_our_own(tmp_path: Path) -> None:
    """A key that was made up for the host would open nothing, so the command says which to set."""
    result = CommandLine(tmp_path, {"CLIENT_FLOW_PLATFORM_AUTH": "true"})("serve", code=1)
    assert "CLIENT_FLOW_KEY" in result.stderr
