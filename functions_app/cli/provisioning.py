"""The command provision: what has to exist on Azure before the application can run there."""

from typing import Annotated

import typer

from functions_app.bicep import cosmos_bicep
from functions_app.bus_bicep import bus_bicep
from functions_app.bus_entities import BusEntity, bus_entities
from functions_app.domain import load_domain
from functions_app.errors import MissingSettingError
from functions_app.settings import Settings

from .output import ATTENTION, AsJson, Yes, command, dry_run, print_json, print_table

app = typer.Typer()


@app.command(name="provision")
@command
def provision_command(
    bicep: Annotated[bool, typer.Option("--bicep", help="Print the same as Bicep; asks nobody.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Compare database and bus with what the application needs, and create what is missing. Ends with 3 if work is left.

    Looks at those of the two that the settings name; deletes nothing.
    """
    from functions_app.azure_host import CONTAINERS  # loads the SDKs, which no other command needs

    settings = Settings()
    if bicep:
        typer.echo(cosmos_bicep(settings.database, CONTAINERS))
        typer.echo(bus_bicep(_entities(settings)))
        return
    if not settings.on_azure and not settings.on_bus:
        raise MissingSettingError("COSMOS_CONN")
    found = {}
    if settings.on_azure:
        from eventstore import open_cosmos
        from functions_app.provision import inspect, provision

        with open_cosmos(settings.cosmos) as client:
            found["containers"] = (provision if yes else inspect)(client, settings.database, CONTAINERS)
    if settings.on_bus:
        from functions_app.provision_bus import inspect_bus, provision_bus
        from integrations import is_emulator, open_administration

        entities = _entities(settings, emulator=is_emulator(settings.bus))
        with open_administration(settings.bus) as administration:
            found["entities"] = (provision_bus if yes else inspect_bus)(administration, entities)
    if as_json:
        print_json({**{kind: [each._asdict() for each in findings] for kind, findings in found.items()}, "done": yes})
    else:
        titles = {"containers": f"Database {settings.database}", "entities": "Service Bus"}
        for kind, findings in found.items():
            rows = [[finding.name, finding.state, "; ".join(finding.details)] for finding in findings]
            print_table(titles[kind], ["name", "state before" if yes else "state", "details"], rows)
    states = {finding.state for findings in found.values() for finding in findings}
    to_do = bool(states & {"missing", "differs"})
    if to_do and not yes:
        dry_run("what is missing is created, what differs is changed")
    if "cannot be used" in states or (to_do and not yes):
        raise typer.Exit(ATTENTION)


def _entities(settings: Settings, *, emulator: bool = False) -> list[BusEntity]:
    domain = load_domain(settings.domain)
    queues = [receiver.queue_name for receiver in domain.queued]
    return bus_entities(domain.projection.name, domain.integrations, queues, emulator=emulator)
