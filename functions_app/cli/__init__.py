"""The command `client-flow`."""

import sys
from pathlib import Path

import typer

from . import (
    access,
    bundling,
    delivering,
    history,
    operations,
    provisioning,
    rebuilding,
    records,
    running,
    schemas,
    verifying,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)


@app.callback()
def _find_domains_here() -> None:
    """One correct record of each client, from the events of your systems."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that nothing in it stands in for what is installed


for group in (
    running,
    records,
    rebuilding,
    verifying,
    history,
    operations,
    delivering,
    access,
    provisioning,
    bundling,
    schemas,
):
    app.add_typer(group.app)

__all__ = ["app"]
