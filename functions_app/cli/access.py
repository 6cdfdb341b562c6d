"""The command access: who looked at whom and who did what."""

from itertools import islice
from typing import Annotated

import typer

from functions_app.queries import time_text

from .output import AnyClient, AsJson, command, opened_for, print_json, print_table

app = typer.Typer()


@app.command()
@command
def access(
    client: AnyClient = None,
    since: Annotated[str | None, typer.Option(help="At this time or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List who looked at a client and who did what, newest first."""
    runtime = opened_for("access", client)
    entries = runtime.backend.access.entries(
        client_ref=None if client is None else runtime.references.client(client),
        since=time_text("since", since) if since else None,
        until=time_text("until", until) if until else None,
    )
    found = list(islice(entries, limit))
    if as_json:
        print_json({"entries": [entry._asdict() for entry in found]})
    else:
        print_table("Access log, newest first", ["at", "who", "what", "client"], found)
