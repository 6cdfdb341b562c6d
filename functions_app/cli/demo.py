"""The demo: the sample domain served on a temporary directory, fed over HTTP, and shown from all sides."""

import base64
import hmac
import json
import logging
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import requests
from pydantic import SecretStr
from rich.text import Text

from functions_app.app import build_app
from functions_app.demo_target import DemoTarget
from functions_app.errors import FlowError
from functions_app.lag import measure_lag
from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from functions_app.loops import data_loops
from functions_app.runtime import Runtime, open_runtime
from functions_app.settings import Settings
from projections import Target

from .output import console, print_table

_KEY = "demo-key"
_SHOP_SECRET = "demo-shop-secret"  # noqa: S105 - signs nothing but the demo's webhook
_FAILURES = 4
_PATIENCE = 60.0  # seconds until what should happen at once counts as not happening
_LOOK = 0.05


class DemoFailedError(FlowError):
    """Something that should have happened did not."""


def run_demo() -> None:
    """Show the whole flow once.

    Raises:
        DemoFailedError: something did not happen that should have.
    """
    logging.disable(logging.WARNING)  # a target that fails is part of the story
    target = DemoTarget(_FAILURES)
    with TemporaryDirectory(prefix="client-flow-demo-") as directory, target.running() as target_url:
        settings = Settings(
            {
                "CLIENT_FLOW_DATA": directory,
                "CRM_URL": target_url,
                "CRM_CLIENT_ID": "client-flow",
                "CRM_CLIENT_SECRET": "demo-secret",
                "MAILING_URL": target_url,
                "MAILING_KEY": "demo-mailing-key",
                "SHOP_SECRET": _SHOP_SECRET,
            }
        )
        runtime = open_runtime(settings)
        host = LocalHost(
            build_app(runtime.domain, lambda: runtime),
            keys=HostKeys(host=[SecretStr(_KEY)]),
            settings=settings.environment,
            loops=data_loops(runtime),
        )
        with closing(runtime), host.started() as served:
            _tell(runtime, f"{served.url}/api", target, Path(directory))


def _tell(runtime: Runtime, url: str, target: DemoTarget, directory: Path) -> None:
    _say(
        f"Serving the sample on {url}, data in {directory}. Its two targets answer 503 to the first {_FAILURES} calls."
    )
    _post_bodies(url)
    _until("everything is projected and delivered", lambda: _is_quiet(runtime))

    _say("Every accepted event is in its client's stream, once:")
    rows = [
        [event.client_id, event.version, event.event_id, event.event_type, event.occurred_at]
        for client_id in ("1001", "1002")
        for event in runtime.backend.events.read(client_id)
    ]
    print_table("Events", ["client", "version", "event id", "type", "occurred at"], rows)

    _say("The record of 1001. The late e-mail (crm-4) did not win over the newer one from the shop:")
    _show(url, "clients/1001", lambda answer: answer["record"])
    _say("Its audit trail, an entry for each event:")
    entries = _get(url, "clients/1001/audit")["entries"]
    rows = [
        [
            entry["version"],
            entry["event_type"],
            entry["source"],
            f"{change['sub_schema']}.{change['field']}",
            change.get("old"),
            change.get("new"),
            "superseded" if change.get("superseded") else "",
        ]
        for entry in entries
        for change in entry["changes"]
    ]
    print_table("Audit", ["version", "event", "source", "field", "old", "new", "note"], rows)
    _say("Who said what:")
    rows = [
        [f"{each['sub_schema']}.{each['field']}", each["value"], each["source"], each["event_id"]]
        for each in _get(url, "clients/1001/blame")["fields"]
    ]
    print_table("Blame", ["field", "value", "source", "event id"], rows)

    _say("1002 is parked: its rule knows no consent by post. What came after waits, nothing is skipped:")
    _show(url, "clients/1002", lambda answer: answer["parked"])
    retried = runtime.projector.catch_up("1002", Target(0, retry=True))
    _say(f"A retry with the same rules leaves it parked: {retried.parked is not None}. An operator annuls event 3:")
    runtime.annul("1002", 3, reason="the CRM offers a channel we do not have", by="demo")
    _until("1002 goes on", lambda: _get(url, "clients/1002")["parked"] is None and _is_quiet(runtime))
    _show(url, "clients/1002", lambda answer: answer["record"])

    _say("What was sent for 1001: failures are retried, the withdrawn consent took her off the mailing list:")
    rows = [
        [entry["at"], entry["integration"], entry["action"], entry["verdict"], entry["code"], entry["request"]]
        for entry in reversed(_get(url, "clients/1001/deliveries")["log"])
    ]
    print_table("Deliveries", ["at", "integration", "action", "verdict", "code", "request"], rows)
    print_table("What the CRM has", ["id", "person"], target.people.items())
    print_table("What the mailing system has", ["id", "subscriber"], target.subscribers.items())
    if set(target.subscribers) != {"1002"} or len(target.people) != 2:  # noqa: PLR2004 - the two persons of the story
        raise DemoFailedError("The targets do not have what they should have.")


def _post_bodies(url: str) -> None:
    bodies = files("functions_app.sample") / "bodies"
    crm = [line.encode() for line in (bodies / "crm.jsonl").read_text("utf-8").splitlines()]
    shop = (bodies / "shop.json").read_bytes()
    signature = base64.b64encode(hmac.digest(_SHOP_SECRET.encode(), shop, "sha256")).decode()
    key = {"x-functions-key": _KEY}
    story: list[tuple[str, str, bytes, dict[str, str]]] = [
        ("a person with contact", "crm", crm[0], key),
        ("consent to mail", "crm", crm[1], key),
        ("the first one again", "crm", crm[2], key),
        ("an impossible date", "crm", crm[3], key),
        ("a signed webhook of the shop", "shop", shop, {"X-Shopify-Hmac-Sha256": signature}),
        (
            "the same, altered on its way",
            "shop",
            shop.replace(b"Madrid", b"Malaga"),
            {"X-Shopify-Hmac-Sha256": signature},
        ),
        ("an older e-mail, late", "crm", crm[4], key),
        ("another person", "crm", crm[5], key),
        ("a consent no rule knows", "crm", crm[6], key),
        ("one after it", "crm", crm[7], key),
        ("consent withdrawn", "crm", crm[8], key),
    ]
    rows = []
    for what, source, body, headers in story:
        answer = requests.post(
            f"{url}/{source}_receive_event",
            data=body,
            headers={"Content-Type": "application/json", **headers},
            timeout=_PATIENCE,
        )
        rows.append([what, f"POST {source}_receive_event", answer.status_code, _outcome(answer.json())])
    print_table("Received", ["what", "request", "status", "answer"], rows)


def _outcome(answer: dict[str, Any]) -> str:
    if "events" in answer:
        return ", ".join(
            f"{event['client_id']} v{event['version']}{' (there before)' if event['duplicate'] else ''}"
            for event in answer["events"]
        )
    fields = "; ".join(f"{each['field']}: {each['problem']}" for each in answer.get("errors", []))
    return f"{answer['code']} {fields}"


def _is_quiet(runtime: Runtime) -> bool:
    lag = measure_lag(runtime)
    return not lag.events and not lag.unpublished and not any(each["waiting"] for each in lag.deliveries.values())


def _until(what: str, holds: Callable[[], bool]) -> None:
    clock = Event()
    for _ in range(int(_PATIENCE / _LOOK)):
        if holds():
            return
        clock.wait(_LOOK)
    raise DemoFailedError(f"Waited {_PATIENCE:.0f} seconds in vain until {what}.")


def _get(url: str, path: str) -> Any:
    answer = requests.get(f"{url}/{path}", headers={"x-functions-key": _KEY}, timeout=_PATIENCE)
    answer.raise_for_status()
    return answer.json()


def _show(url: str, path: str, part: Callable[[Any], Any]) -> None:
    console.print(Text(f"GET /api/{path}", style="dim"))
    console.print_json(json.dumps(part(_get(url, path))))


def _say(text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))
