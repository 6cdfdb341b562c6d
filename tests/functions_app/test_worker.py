"""What is deployed, run by Microsoft's own worker library in an environment that holds only what the bundle asks for."""

import fcntl
import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from functions_app import Settings, load_domain, open_runtime
from functions_app.bundle import app_settings, bundle
from tests.support.flow import shop_signature
from tests.support.rest_target import RestTarget
from tests.wire.servicebus import Broker, leaked_sockets_ignored
from tests.worker.golden import GOLDEN, SAMPLE, written
from tests.worker.host import IndexingError, Worker
from tests.worker.services import NAMESPACE, changes, provisioned

pytestmark = pytest.mark.worker

ROOT = Path(__file__).parents[2]
LIBRARY = ("azure-functions-runtime", "azurefunctions-extensions-base")
SHOP_SECRET, CRM_SECRET, MAILING_KEY = "secret-of-the-shop", "secret-of-the-crm", "key-of-the-mailing"
CHANGE = {
    "change_id": "c-1",
    "person": 1001,
    "changed_at": "2026-11-02T09:00:00+01:00",
    "name": {"given": "Ana", "family": "Diaz"},
    "contact": {"email": "ana@x.example"},
    "consent": {"channel": "email", "given": True},
}


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[Path, Path]:
    """The bundle of the sample and an interpreter with its requirements; made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    folder, environment = base / "deployed" / "app", base / "deployed" / "venv"
    (base / "deployed").mkdir(exist_ok=True)
    with (base / "deployed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (environment / "ready").exists():
            bundle(folder, SAMPLE)
            venv.create(environment, with_pip=False)
            pip = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--quiet", "--no-deps"]
            options = ["--ignore-requires-python", "--disable-pip-version-check", "--no-compile"]
            what = ["-r", str(folder / "requirements.txt"), "-c", str(ROOT / "constraints.txt"), *LIBRARY]
            subprocess.run([*pip, *options, *what], check=True, timeout=300, capture_output=True)
            (environment / "ready").touch()
    return folder, environment / "bin" / "python"


@pytest.fixture
def targets() -> Iterator[tuple[RestTarget, RestTarget]]:
    """The sample's CRM and mailing system."""
    with RestTarget(clients={"client-flow": CRM_SECRET}) as crm, RestTarget(api_key=MAILING_KEY) as mailing:
        yield crm, mailing


@pytest.fixture
def settings(tmp_path: Path, targets: tuple[RestTarget, RestTarget]) -> dict[str, str]:
    """Everything set, on SQLite."""
    return {
        "CLIENT_FLOW_DATA": str(tmp_path / "data"),
        "CRM_URL": targets[0].url,
        "CRM_CLIENT_ID": "client-flow",
        "CRM_CLIENT_SECRET": CRM_SECRET,
        "MAILING_URL": targets[1].url,
        "MAILING_KEY": MAILING_KEY,
        "SHOP_SECRET": SHOP_SECRET,
        **app_settings(load_domain(SAMPLE)),
    }


@pytest.fixture
def worker(deployed: tuple[Path, Path], settings: dict[str, str]) -> Iterator[Worker]:
    with Worker(deployed[0], settings, deployed[1]) as running:
        yield running


def stored(settings: dict[str, str], client_id: str) -> list[dict[str, Any]]:
    """A client's events as the documents of the change feed, with what Cosmos DB adds to each."""
    events = open_runtime(Settings(settings)).backend.events.read(client_id)
    system = {"_rid": "r", "_self": "s", "_etag": '"e"', "_attachments": "attachments/", "_ts": 1795487400, "_lsn": 1}
    return [{"id": f"{event.version:012}", **event._asdict(), **system} for event in events]


def test_the_host_learns_exactly_this(deployed: tuple[Path, Path], tmp_path: Path) -> None:
    """Without a single setting every function is indexed, with the bindings and retry policies of the golden file."""
    with Worker(deployed[0], {}, deployed[1]) as worker:
        assert written(worker.functions).decode() == GOLDEN.read_text("utf-8"), "`make golden` writes it anew"


def test_importing_the_app_opens_nothing(deployed: tuple[Path, Path], tmp_path: Path) -> None:
    """Settings that lead nowhere do no harm until a function is called, and then the caller gets a plain answer."""
    nowhere = {"COSMOS_CONN": "AccountEndpoint=http://127.0.0.1:9/;AccountKey=a2V5", "BUS_CONN": "none"}
    with Worker(deployed[0], nowhere, deployed[1]) as worker:
        assert "project_clients" in worker.functions


def test_an_app_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    """What the host would show as no functions at all."""
    (tmp_path / "function_app.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(IndexingError, match="a_module_that_is_not_there"), Worker(tmp_path, {}):
        pass


def test_every_function_does_its_work(
    worker: Worker, settings: dict[str, str], targets: tuple[RestTarget, RestTarget]
) -> None:
    """Received, projected, announced, delivered and asked for, each through the function that the host would invoke."""
    invoke_every_function(worker, settings, targets)


def test_every_function_does_its_work_on_azure(
    deployed: tuple[Path, Path], settings: dict[str, str], targets: tuple[RestTarget, RestTarget]
) -> None:
    """The same functions, with everything on Cosmos DB and Service Bus."""
    with provisioned() as account, leaked_sockets_ignored(), Broker(NAMESPACE) as namespace:
        services = {
            "COSMOS_CONN": f"AccountEndpoint={account.url};AccountKey={account.key}",
            "BUS_CONN": namespace.connection_string,
        }
        with Worker(deployed[0], settings | services, deployed[1]) as worker:
            invoke_every_function(worker, settings | services, targets)
        assert len(namespace.messages("people/subscriptions/crm")) > 0
        assert len(changes(account)) > 0


def invoke_every_function(worker: Worker, settings: dict[str, str], targets: tuple[RestTarget, RestTarget]) -> None:
    """A person's way through the application; fails if the application has a function that it does not lead through."""
    received = worker.request("crm_receive_event", body=CHANGE)
    assert (received.status, [each["version"] for each in received.json["events"]]) == (202, [1, 2, 3])
    shop = (ROOT / "functions_app" / "sample" / "bodies" / "shop.json").read_bytes()
    signed = worker.request("shop_receive_event", body=shop, headers=shop_signature(shop, SHOP_SECRET))
    assert signed.status == 202
    assert worker.request("shop_receive_event", body=shop).status == 401

    assert worker.feed(list(reversed(stored(settings, "1001")))).raised is None
    known = worker.request("record", params={"client_id": "1001"})
    assert known.json["record"]["consent"]["email"] is True

    for name in ("crm", "mailing"):
        invoked = worker.message(f"{name}_deliver", body=b"{}", session_id="1001", message_id="m-1")
        assert invoked.raised is None
    assert [item["number"] for item in targets[0].items("people").values()] == [1001]
    assert list(targets[1].items("subscribers")) == ["1001"]

    queued = orjson.dumps({**CHANGE, "change_id": "c-3", "person": 1003})
    invoked = worker.message("crm_receive_queue", body=queued, session_id="1003", message_id="c-3")
    assert invoked.raised is None
    assert len(stored(settings, "1003")) == 3

    for timer in ("sweep", "deliver_due"):
        assert worker.tick(timer).raised is None
    asked = worker.tick("registry_scheduled_event")
    assert asked.raised is not None
    assert "REGISTRY_URL" in asked.raised

    of_client = {"client_id": "1001"}
    asked_for = {
        "record_as_of": {"params": of_client, "query": {"version": "1"}},
        "diff": {"params": of_client, "query": {"from": "1", "to": "2"}},
        "audit": {"params": of_client},
        "blame": {"params": of_client},
        "deliveries": {"params": of_client},
        "lag": {},
        "health": {},
    }
    assert {name: worker.request(name, **parts).status for name, parts in asked_for.items()} == dict.fromkeys(
        asked_for, 200
    )
    invoked_here = {"crm_receive_event", "shop_receive_event", "project_clients", "record", "registry_scheduled_event"}
    invoked_here |= {"crm_deliver", "mailing_deliver", "crm_receive_queue", "sweep", "deliver_due", *asked_for}
    assert set(worker.functions) == invoked_here, "a function that no test invokes"


def test_trouble_with_one_client_is_not_raised(worker: Worker, settings: dict[str, str]) -> None:
    """A client that no rule can digest is parked, the other one in the batch goes on, and the host moves on."""
    bad = {**CHANGE, "change_id": "c-2", "person": 7, "consent": {"channel": "post", "given": True}}
    for change in (CHANGE, bad):
        assert worker.request("crm_receive_event", body=change).status == 202
    assert worker.feed([*stored(settings, "7"), *stored(settings, "1001")]).raised is None
    parked = worker.request("record", params={"client_id": "7"}).json
    assert parked["parked"] is not None
    assert worker.request("record", params={"client_id": "1001"}).json["version"] == 3


def test_trouble_that_no_client_has_caused_is_raised(worker: Worker, settings: dict[str, str]) -> None:
    """A database that cannot be opened makes the host ring again; what it is told holds nothing of the client."""
    assert worker.request("crm_receive_event", body=CHANGE).status == 202
    documents = stored(settings, "1001")
    data = Path(settings["CLIENT_FLOW_DATA"])
    unreadable = {**settings, "CLIENT_FLOW_DATA": str(data / "events.db")}
    with Worker(worker.folder, unreadable, worker.python) as broken:
        for invoked in (
            broken.feed(documents),
            broken.message("crm_deliver", body=b"{}", session_id="1001", message_id="m"),
            broken.tick("sweep"),
        ):
            assert invoked.raised is not None
            assert invoked.raised.startswith("StoreUnavailableError")
            assert not [
                text for text in ("ana@x", "Diaz", "1001") if text in invoked.raised + invoked.trace + broken.log
            ]


def test_there_are_more_threads_than_all_integrations_may_hold() -> None:
    """A slow target leaves some to receivers, queries and the change feed."""
    domain = load_domain(SAMPLE)
    held = sum(integration.max_in_flight for integration in domain.integrations)
    assert int(app_settings(domain)["PYTHON_THREADPOOL_THREAD_COUNT"]) > held


def test_host_json_says_why(deployed: tuple[Path, Path]) -> None:
    """Each value of host.json stands with its reason in the README of the package."""
    readme = (ROOT / "functions_app" / "README.md").read_text("utf-8")

    def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from leaves(inner, f"{path}.{name}" if path else name)
        else:
            yield path, value

    values = json.loads((deployed[0] / "host.json").read_bytes())
    undocumented = [
        path
        for path, value in leaves(values, "")
        if f"| `{path}` | `{json.dumps(value).strip(chr(34))}` |" not in readme
    ]
    assert undocumented == []
