"""The command bundle: the folder to deploy."""

from pathlib import Path
from typing import Annotated

import typer

from functions_app.bundle import bundle
from functions_app.settings import Settings

from .output import AsJson, command, print_fields, print_json

app = typer.Typer()


@app.command(name="bundle")
@command
def bundle_command(
    directory: Annotated[Path, typer.Argument(help="Where to write it; an earlier bundle there is replaced.")],
    as_json: AsJson = False,
) -> None:
    """Write the folder to deploy: the functions, your domain, and pinned versions of what they need."""
    made = bundle(directory, Settings().domain)
    if as_json:
        print_json({**made._asdict(), "directory": str(made.directory)})
        return
    print_fields(
        f"Bundle in {made.directory}",
        {"domain": made.domain, "requirements": len(made.requirements)}
        | {f"app setting {name}": value for name, value in made.settings.items()},
    )
