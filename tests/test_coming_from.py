"""Who comes from centraal-client-flow finds every name of it in the README, and what stands beside it exists."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from functions_app import Settings, build_app, lazily, load_domain
from functions_app.settings import DEFAULT_DOMAIN

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
SECTION = README.partition("## Coming from centraal-client-flow\n")[2].partition("\n## ")[0]
ROWS = [tuple(cell.strip() for cell in row) for row in re.findall(r"^\| (.+?) \| (.+?) \|$", SECTION, re.MULTILINE)][1:]
PACKAGES = ("eventstore", "projections", "integrations", "functions_app")
CODE = re.compile(r"`([^`]+)`")

THEIRS = re.findall(
    r"\S+",
    """
    Recieve register_function EventFunctionBuilder Pull TimerFunctionBuilder get_data process_event event_model EventoBase
    fecha_evento queue_name IDModel separator EntradaEsquemaUnificado UpdateProcessor.process_message Rule RuleSelector
    RuleProcessor AuditoriaEntry id_entrada subesquema campo old_value new_value regla root IntegrationRule v2
    IntegrationStrategy integrate modelo_unificado_mapping mapping_function RESTIntegration method resource
    OAuthConfigPassFlow AuditoriaEntryIntegracion id contenido success response COSMOS_CONN DATABASE BUS_CONN
    register_functions <source>_receive_event <source>_scheduled_event
    """,
)

EXAMPLE = SECTION.partition("```python")[2]


@pytest.fixture(scope="module")
def functions() -> set[str]:
    """What the functions of the sample's sources are called, without the source."""
    made = build_app(load_domain(DEFAULT_DOMAIN), lazily(Settings({}))).get_functions()
    return {"_" + str(each.get_function_name()).partition("_")[2] for each in made}


def exists(dotted: str) -> bool:
    """Whether a package exports the name, and the class has the attribute or field."""
    package, name, *attributes = dotted.split(".")
    assert package in PACKAGES
    module = import_module(package)
    if name not in module.__all__:
        return False
    found: Any = getattr(module, name)
    return all(attribute in dir(found) or attribute in found.__annotations__ for attribute in attributes)


def test_no_name_of_theirs_is_missing() -> None:
    """Each stands in the left column."""
    mapped = {name for theirs, _ in ROWS for name in CODE.findall(theirs)}
    assert [name for name in [*THEIRS, "func start"] if name not in mapped] == []


@pytest.mark.parametrize("ours", [ours for _, ours in ROWS])
def test_what_is_named_instead_exists(ours: str, functions: set[str]) -> None:
    """As an export of a package, a setting, a function, or an argument in the example; commands are tested as such."""
    settings = set(CODE.findall(Settings.__doc__ or ""))
    names = [name for name in CODE.findall(ours) if not name.startswith("client-flow ")]
    assert names
    for name in names:
        here = name in settings or name.removeprefix("<source>") in functions or f" {name}, " in EXAMPLE
        assert here or name == "func start" or exists(name), name
