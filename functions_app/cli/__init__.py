"""The command `client-flow`."""

import typer

from . import delivering, history, operations, provisioning, records, running

app = typer.Typer(
    help="One correct record of each client, from the events of your systems.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
for group in (running, records, history, operations, delivering, provisioning):
    app.add_typer(group.app)

__all__ = ["app"]
