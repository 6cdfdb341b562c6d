"""The deployment files fit together and fit the code; whether Azure takes them, only Azure can tell."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pycep import BicepParser

from functions_app import MissingSettingError, Settings, load_domain
from functions_app.bundle import app_settings
from functions_app.bus_entities import BusEntity, bus_entities, sql_of
from functions_app.settings import DEFAULT_DOMAIN
from functions_app.triggers import BUS_CONNECTION, COSMOS_CONNECTION
from integrations import is_emulator
from tests.support.command_line import CommandLine

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "functions_app" / "deploy"
INFRA = DEPLOY / "infra"
WRITTEN = sorted(path.stem for path in INFRA.glob("*.bicep") if path.stem != "domain")
GENERATED = "domain"

DOCUMENTED_ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39": "Azure Service Bus Data Sender",
    "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0": "Azure Service Bus Data Receiver",
    "00000000-0000-0000-0000-000000000002": "Cosmos DB Built-in Data Contributor",
}
HOST_SETTINGS = {
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AZURE_CLIENT_ID",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY",
    *(f"{COSMOS_CONNECTION}__{part}" for part in ("accountEndpoint", "credential", "clientId")),
    *(f"{BUS_CONNECTION}__{part}" for part in ("fullyQualifiedNamespace", "credential", "clientId")),
}
OWN_SETTINGS = set(re.findall(r"^    \| `([A-Z_]+)`", Settings.__doc__ or "", re.MULTILINE))

_ASKED = re.compile(r'settings\.(text|secret)\("([A-Z_]+)"\)')
_LOCAL_PORT = re.compile(r"127\.0\.0\.1:(\d+):\1")
_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every Bicep file without its comments, with the one that the command writes for the sample."""
    printed = CommandLine(tmp_path_factory.mktemp("data"))("provision", "--bicep").stdout
    written = {name: (INFRA / f"{name}.bicep").read_text("utf-8") for name in WRITTEN}
    return {name: _COMMENT.sub("", text) for name, text in {**written, GENERATED: printed}.items()}


@pytest.fixture(scope="module")
def modules(texts: dict[str, str]) -> dict[str, Any]:
    """The same, parsed."""
    return {name: BicepParser().parse(text=text) for name, text in texts.items()}


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What main.bicepparam gives; the grammar is that of variables, except for the first line."""
    text = (INFRA / "main.bicepparam").read_text("utf-8")
    assert "using './main.bicep'" in text
    as_variables = re.sub(r"^param ", "var ", text.replace("using './main.bicep'", ""), flags=re.MULTILINE)
    return {name: each["value"] for name, each in BicepParser().parse(text=as_variables)["variables"].items()}


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a parsed file."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from nodes(each)
    elif isinstance(value, list):
        for each in value:
            yield from nodes(each)


def resources(module: Any, kind: str) -> list[dict[str, Any]]:
    """Configurations of the resources of a type that a module makes."""
    made = [each for each in module["resources"].values() if each["type"] == kind and not each["existing"]]
    return [each["config"]["config"] if "loop_type" in each["config"] else each["config"] for each in made]


def test_modules_get_their_parameters(modules: dict[str, Any], given: dict[str, Any]) -> None:
    """Each module file is there, and gets every parameter without a default and none that it does not have."""
    calls = {each["detail"]["path"]: set(each["config"]["params"]) for each in modules["main"]["modules"].values()}
    assert set(calls) == {f"{name}.bicep" for name in modules if name != "main"}
    for path, names in {**calls, "main.bicep": set(given)}.items():
        declared = modules[path.removesuffix(".bicep")]["parameters"]
        required = {name for name, each in declared.items() if each["default"] is None}
        assert required <= names <= set(declared), path


def test_outputs_are_there(modules: dict[str, Any], texts: dict[str, str]) -> None:
    """Each output that main.bicep asks a module for is one of it."""
    asked = re.findall(r"\b(\w+)\.outputs\.(\w+)", texts["main"])
    assert {name for name, _ in asked} == set(modules) - {"main", "roles"}
    assert [each for each in asked if each[1] not in modules[each[0]]["outputs"]] == []


def test_nothing_is_declared_in_vain(modules: dict[str, Any], texts: dict[str, str]) -> None:
    """Every parameter and every variable is used."""
    declared = [
        (name, each) for name in WRITTEN for each in (*modules[name]["parameters"], *modules[name].get("variables", ()))
    ]
    assert len(declared) > 30
    assert [(name, each) for name, each in declared if len(re.findall(rf"\b{each}\b", texts[name])) < 2] == []


def test_the_sample_gets_its_settings(given: dict[str, Any]) -> None:
    """What it asks for as a secret is one here, too, and goes into the vault; nothing is given that nobody asks for."""
    code = "".join(path.read_text("utf-8") for path in (ROOT / "functions_app" / "sample").glob("*.py"))
    asked = {kind: {name for each, name in _ASKED.findall(code) if each == kind} for kind in ("text", "secret")}
    assert set(given["domainSettings"]) == asked["text"]
    assert set(given["secrets"]) == asked["secret"] | {"CLIENT_FLOW_REF_KEY"}


def test_secrets_have_no_default(given: dict[str, Any]) -> None:
    """One that is missing ends the deployment, instead of being empty."""
    for name, read in given["secrets"].items():
        assert read["function"] == {"type": "readEnvironmentVariable", "parameters": {"arg_1": name}}


def test_settings_of_the_app_are_read_by_somebody(modules: dict[str, Any]) -> None:
    """By the host or by us, under the names that triggers and settings use; what a bundle asks for is among them."""
    names = set(modules["app"]["variables"]["settings"]["value"])
    assert names >= HOST_SETTINGS
    assert names - HOST_SETTINGS - OWN_SETTINGS == {"PYTHON_THREADPOOL_THREAD_COUNT"}
    assert names >= set(app_settings(load_domain(DEFAULT_DOMAIN)))
    settings = Settings(dict.fromkeys(names, "by-identity"))
    assert (settings.on_azure, settings.on_bus) == (True, True)
    assert (settings.cosmos, settings.bus) == ("by-identity", "by-identity")


def test_there_are_threads_enough(given: dict[str, Any]) -> None:
    """Parameter and local settings say for the sample what its bundle asks for."""
    wanted = app_settings(load_domain(DEFAULT_DOMAIN))
    assert str(given["threads"]) == wanted["PYTHON_THREADPOOL_THREAD_COUNT"]
    assert local_settings().items() >= wanted.items()


def test_the_app_trusts_authentication_only_once_it_stands(modules: dict[str, Any]) -> None:
    """Its settings come after; set before, anybody could send the header that names a caller."""
    kept = modules["app"]["resources"]["configured"]["config"]
    assert kept["name"] == "appsettings"
    assert kept["dependsOn"] == ["authentication"]
    calls = modules["main"]["modules"]
    assert calls["app"]["config"]["dependsOn"] == ["roles"]  # references to the vault need the role


def test_roles_are_the_documented_ones(modules: dict[str, Any]) -> None:
    """No other role is assigned, each where its resource is, and all to the identity of the app."""
    roles = modules["roles"]
    assert {each["value"] for each in roles["variables"].values()} == set(DOCUMENTED_ROLES)
    assigned = resources(roles, "Microsoft.Authorization/roleAssignments")
    used = [each["properties"]["roleDefinitionId"]["function"]["parameters"]["resource_name_1"] for each in assigned]
    assert sorted(used) == sorted([*(set(roles["variables"]) - {"cosmosDataContributor"}), "busSender", "busReceiver"])
    for each in assigned:
        scope = next((node["operand_1"] for node in nodes(each["scope"]) if "operand_1" in node), each["scope"])
        assert roles["resources"][scope]["existing"], "a role on the whole resource group"
        assert each["properties"]["principalId"] == "principalId"
    [items] = resources(roles, "Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments")
    assert items["properties"]["scope"] == "${account.id}/dbs/${database}"


def test_the_roles_in_the_readme_are_those() -> None:
    """By their documented names."""
    told = (
        (DEPLOY / "README.md")
        .read_text("utf-8")
        .partition("## What the identity may do")[2]
        .replace("Data Receiver and Data Sender", "Data Receiver, Azure Service Bus Data Sender")
    )
    assert [name for name in DOCUMENTED_ROLES.values() if name not in told] == []


def test_no_key_opens_anything(modules: dict[str, Any], texts: dict[str, str]) -> None:
    """Keys are switched off where there are any, and none is asked for or written down."""
    for name, text in texts.items():
        assert re.search(r"list\w*Keys|AccountKey|SharedAccessKey|password", text, re.IGNORECASE) is None, name
    off = {
        "Microsoft.DocumentDB/databaseAccounts": ("stores", "disableLocalAuth", True),
        "Microsoft.ServiceBus/namespaces": ("stores", "disableLocalAuth", True),
        "Microsoft.Storage/storageAccounts": ("foundation", "allowSharedKeyAccess", False),
        "Microsoft.Insights/components": ("foundation", "DisableLocalAuth", True),
        "Microsoft.Web/sites/basicPublishingCredentialsPolicies": ("app", "allow", False),
    }
    for kind, (module, switch, value) in off.items():
        [one] = resources(modules[module], kind)
        assert one["properties"][switch] is value, kind
    for module in ("main", "foundation"):
        assert "secure" in str(modules[module]["parameters"]["secrets"]["decorators"])


def test_azd_finds_the_code_and_where_it_goes(texts: dict[str, str]) -> None:
    """The service is the bundle that the README writes, and the app has its tag."""
    [(name, service)] = yaml.safe_load((DEPLOY / "azure.yaml").read_text("utf-8"))["services"].items()
    assert f"'azd-service-name': '{name}'" in texts["app"]
    bundle = (DEPLOY / service["project"]).resolve().relative_to(ROOT)
    assert f"client-flow bundle {bundle}\n" in (DEPLOY / "README.md").read_text("utf-8")


def local_settings() -> dict[str, str]:
    """What `func start` is to use."""
    document = json.loads((DEPLOY / "local.settings.example.json").read_text("utf-8"))
    assert document["IsEncrypted"] is False
    return dict(document["Values"])


def test_local_settings_go_to_the_emulators() -> None:
    """To the ports that compose opens, on this machine only."""
    values = local_settings()
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    opened = {match[1] for port in ports if (match := _LOCAL_PORT.fullmatch(port))}
    assert len(opened) == len(ports)
    assert opened >= {"5672", "5300", "10000"}  # messages and management of the bus, storage of the host
    assert values[COSMOS_CONNECTION].startswith("AccountEndpoint=http://localhost:8081/;")
    assert "8081" in opened
    assert is_emulator(values[BUS_CONNECTION])
    assert values["AzureWebJobsStorage"] == "UseDevelopmentStorage=true"
    files = [volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    assert files == ["./servicebus.json"]


def described(entity: BusEntity) -> dict[str, Any]:
    """An entity as the emulator's configuration writes it."""
    properties = {}
    for name, value in {**entity.fixed, **entity.changeable}.items():
        key = "".join(word.capitalize() for word in name.split("_"))
        properties[key] = f"PT{value // timedelta(minutes=1)}M" if isinstance(value, timedelta) else value
    written: dict[str, Any] = {"Name": entity.name, "Properties": properties}
    if entity.kind == "subscription":
        rules = {name: {"FilterType": "Sql", "SqlFilter": {"SqlExpression": sql_of(name)}} for name in entity.admits}
        written["Rules"] = [{"Name": name, "Properties": rule} for name, rule in rules.items()]
    return written


def test_the_emulator_has_the_entities_of_the_sample() -> None:
    """Under their names, with their properties and filters, within its limits."""
    domain = load_domain(DEFAULT_DOMAIN)
    queues = [receiver.queue_name for receiver in domain.queued]
    entities = bus_entities(domain.projection.name, domain.integrations, queues, emulator=True)
    document = json.loads((DEPLOY / "servicebus.json").read_text("utf-8").replace('"PT1H"', '"PT60M"'))
    [namespace] = document["UserConfig"]["Namespaces"]
    [topic] = namespace["Topics"]
    subscriptions = topic.pop("Subscriptions")
    assert [topic, *subscriptions, *namespace["Queues"]] == [described(entity) for entity in entities]
    assert namespace["Name"] == "sbemulatorns"  # it takes no other


def test_a_reference_that_was_not_resolved_is_no_setting() -> None:
    """Or signatures and references of clients would be made with a text that anybody can guess."""
    left = "@Microsoft.KeyVault(VaultName=kv;SecretName=shop-secret)"
    settings = Settings(dict.fromkeys(["SHOP_SECRET", "CLIENT_FLOW_REF_KEY", "CLIENT_FLOW_KEY"], left))
    assert (settings.ref_key, settings.key) == (None, None)
    with pytest.raises(MissingSettingError, match="SHOP_SECRET"):
        settings.secret("SHOP_SECRET")
