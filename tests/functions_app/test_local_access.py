import json
from collections.abc import Iterator

import azure.functions as func
import pytest
from pydantic import SecretStr

from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from tests.support.local_app import HOST, KEYS, MASTER, NEVER, OTHER, OWN, call, keyed, sample_app, swept


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A running host with the sample app."""
    with LocalHost(sample_app(), keys=KEYS, settings=NEVER).started() as host:
        yield host.url


class TestKeys:
    @pytest.mark.parametrize(
        ("function", "headers", "query", "status"),
        [
            ("plain", {}, "", 200),
            ("plain", keyed("wrong"), "", 200),
            ("guarded", {}, "", 401),
            ("guarded", keyed(OWN), "", 200),
            ("guarded", {"X-Functions-Key": OWN}, "", 200),
            ("guarded", keyed(HOST), "", 200),
            ("guarded", keyed(MASTER), "", 200),
            ("guarded", keyed(OTHER), "", 401),
            ("guarded", keyed(OWN + "x"), "", 401),
            ("guarded", keyed(OWN[:-1]), "", 401),
            ("guarded", keyed(OWN.upper()), "", 401),
            ("guarded", keyed(""), "", 401),
            ("guarded", keyed("ñ"), "", 401),
            ("guarded", {}, f"?code={OWN}", 200),
            ("guarded", {}, f"?code={HOST}", 200),
            ("guarded", {}, "?code=wrong", 401),
            ("guarded", {}, "?code=", 401),
            ("guarded", {}, f"?CODE={OWN}", 401),
            ("guarded", {}, f"?code=x&code={OWN}", 401),
            ("guarded", keyed("wrong"), f"?code={OWN}", 401),
            ("guarded", keyed(""), f"?code={OWN}", 401),
            ("guarded", keyed(OWN), "?code=wrong", 200),
            ("administered", {}, "", 401),
            ("administered", keyed(HOST), "", 401),
            ("administered", keyed(MASTER), "", 200),
        ],
    )
    def test_who_may_call_what(self, url: str, function: str, headers: dict[str, str], query: str, status: int) -> None:
        """The header before the query, even when it is wrong; each key opens what it opens on Azure."""
        assert call(url, "GET", f"/api/{function}{query}", headers=headers).status == status

    def test_without_keys_only_anonymous_functions_open(self) -> None:
        """No key configured means no key is right, least of all the empty one."""
        with LocalHost(sample_app(), keys=HostKeys(), settings=NEVER).started() as host:
            assert call(host.url, "GET", "/api/plain").status == 200
            assert call(host.url, "GET", "/api/guarded", headers=keyed("")).status == 401
            assert call(host.url, "GET", "/admin/host/status", headers=keyed("None")).status == 401

    @pytest.mark.parametrize("name", ["master", "host", "functions"])
    def test_an_empty_key_cannot_be_configured(self, name: str) -> None:
        """It would open the door to everybody."""
        empty = {"master": SecretStr(""), "host": [SecretStr("")], "functions": {"f": [SecretStr("")]}}[name]
        with pytest.raises(ValueError, match="empty"):
            HostKeys(**{name: empty})  # type: ignore[arg-type]  # one of three types

    def test_no_key_is_in_the_text_of_the_keys(self) -> None:
        """Whoever logs the object logs no secret."""
        assert not any(key in repr(KEYS) for key in (MASTER, HOST, OWN, OTHER))


class TestAdministration:
    @pytest.mark.parametrize(
        ("method", "path", "key", "status"),
        [
            ("POST", "/admin/functions/sweep", MASTER, 202),
            ("POST", "/Admin/Functions/SWEEP", MASTER, 202),
            ("POST", "/admin/functions/sweep", HOST, 401),
            ("POST", "/admin/functions/sweep", "", 401),
            ("GET", "/admin/functions/sweep", MASTER, 404),
            ("POST", "/admin/functions/plain", MASTER, 404),
            ("POST", "/admin/functions/project", MASTER, 404),
            ("POST", "/admin/functions/nobody", MASTER, 404),
            ("POST", "/admin/functions/nobody", HOST, 401),
            ("POST", "/admin/functions/failing", MASTER, 500),
            ("GET", "/admin/host/status", HOST, 401),
            ("GET", "/admin/host/status", MASTER, 200),
            ("GET", "/admin", MASTER, 404),
        ],
    )
    def test_the_master_key_administers(self, url: str, method: str, path: str, key: str, status: int) -> None:
        """Timers are run by hand, nothing else; without the key not even names can be guessed."""
        assert call(url, method, path, body=b'{"input": ""}', headers=keyed(key)).status == status

    def test_a_run_by_hand_is_over_when_it_is_answered(self, url: str) -> None:
        """Whoever asked for a sweep can look at its effect."""
        before = len(swept)
        assert call(url, "POST", "/admin/functions/sweep", headers=keyed(MASTER)).status == 202
        assert len(swept) == before + 1
        assert isinstance(swept[-1], func.TimerRequest)

    def test_a_timer_that_fails_by_hand_keeps_its_message_to_itself(
        self, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As with any function: a reference, the class in the log, no payload."""
        reply = call(url, "POST", "/admin/functions/failing", headers=keyed(MASTER))
        assert json.loads(reply.body)["reference"] in caplog.text
        assert "CANARY" not in caplog.text + reply.body.decode()

    def test_the_status_lists_functions_and_loops(self, url: str) -> None:
        """Data triggers too, though nothing drives them here; timers are loops."""
        status = json.loads(call(url, "GET", "/admin/host/status", headers=keyed(MASTER)).body)
        assert status["state"] == "Running"
        assert {"name": "project", "trigger": "cosmosDBTrigger"} in status["functions"]
        assert {"name": "sweep", "running": True, "failures": 0} in status["loops"]
