"""The command provision: what has to exist on Azure before the application can run there."""

from typing import Annotated

import typer

from functions_app.bicep import cosmos_bicep
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
    """Compare the database with what the application needs, and create what is missing. Ends with 3 if work is left."""
    from eventstore import open_cosmos
    from functions_app.azure_host import CONTAINERS  # loads the SDKs, which no other command needs
    from functions_app.provision import inspect, provision

    settings = Settings()
    if bicep:
        typer.echo(cosmos_bicep(settings.database, CONTAINERS))
        return
    with open_cosmos(settings.cosmos) as client:
        findings = (provision if yes else inspect)(client, settings.database, CONTAINERS)
    if as_json:
        print_json({"containers": [finding._asdict() for finding in findings], "done": yes})
    else:
        rows = [[finding.container, finding.state, "; ".join(finding.details)] for finding in findings]
        print_table(f"Database {settings.database}", ["container", "state before" if yes else "state", "details"], rows)
    unusable = any(finding.state == "cannot be used" for finding in findings)
    to_do = any(finding.state in {"missing", "differs"} for finding in findings)
    if to_do and not yes:
        dry_run("what is missing is created, what differs is changed")
    if unusable or (to_do and not yes):
        raise typer.Exit(ATTENTION)
