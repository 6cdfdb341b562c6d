"""Commands about schemas: export them, and check that the code still fits what was exported."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from functions_app.domain import load_domain
from functions_app.schemas import read_schemas, schema_files, schema_findings, write_schemas
from functions_app.settings import Settings

from .output import ATTENTION, FAILED, AsJson, command, console, errors, print_json

app = typer.Typer()
_schema = typer.Typer(no_args_is_help=True, help="Schemas of events, record and topic message as files.")
app.add_typer(_schema, name="schema")

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Where the schemas are kept.", show_default=False, file_okay=False)
]


@_schema.command()
@command
def export(
    directory: Directory,
    accept: Annotated[
        bool, typer.Option("--accept", help="Overwrite schemas that the code does not fit any more.")
    ] = False,
) -> None:
    """Write the schemas of the domain; files of older event versions stay."""
    domain = load_domain(Settings().domain)
    files = schema_files(domain)
    refused = [
        finding
        for finding in schema_findings(domain, read_schemas(directory))
        if finding.breaking and finding.file in files
    ]
    if refused and not accept:
        for finding in refused:
            errors.print(Text(f"{finding.file}: {finding.problem}", style="red"))
        errors.print("Nothing was written; --accept overwrites all the same.")
        raise typer.Exit(FAILED)
    try:
        write_schemas(directory, files)
    except OSError as error:
        errors.print(Text(f"{directory} cannot be written: {error.strerror}.", style="red"))
        raise typer.Exit(FAILED) from None
    console.print(f"{len(files)} schemas written")


@_schema.command()
@command
def check(directory: Directory, as_json: AsJson = False) -> None:
    """Compare the code with exported schemas. Ends with 1 if a change breaks something, with 3 if it is to be exported."""
    found = schema_findings(load_domain(Settings().domain), read_schemas(directory))
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        for finding in found:
            console.print(Text(f"{finding.file}: {finding.problem}", style="red" if finding.breaking else "yellow"))
        if not found:
            console.print("The code fits the exported schemas")
    if found:
        raise typer.Exit(FAILED if any(finding.breaking for finding in found) else ATTENTION)
