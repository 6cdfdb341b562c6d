"""Commands that run the application: serve and demo."""

import logging
import secrets
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.text import Text

from functions_app.app import build_app
from functions_app.cli.demo import run_demo
from functions_app.local_host import LocalHost
from functions_app.local_keys import HostKeys
from functions_app.loops import data_loops
from functions_app.queue_consumer import queue_consumers

from .output import FAILED, command, console, errors, opened

app = typer.Typer()


@app.command()
@command
def serve(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 7071,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the function app on this machine: receivers and queries over HTTP, timers, projecting and delivering."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    runtime = opened(anew=True)
    _ = runtime.projector  # refuses code that does not fit the records, before anything is served
    settings = runtime.settings
    # Query functions that look at roles themselves know no key but this one.
    key = settings.secret("CLIENT_FLOW_KEY") if settings.platform_auth else settings.key
    if key is None:
        key = SecretStr(secrets.token_urlsafe(24))
        console.print(f"x-functions-key: {key.get_secret_value()}  (set CLIENT_FLOW_KEY to choose it)", markup=False)
    host = LocalHost(
        build_app(runtime.domain, lambda: runtime, platform_auth=settings.platform_auth),
        keys=HostKeys(master=key),
        settings=settings.environment,
        loops=[*data_loops(runtime), *queue_consumers(runtime)],
    )
    try:
        host.serve(port, address=address, ready=lambda url: console.print(f"Serving on {url}/api", markup=False))
    except OSError as error:
        errors.print(Text(f"Cannot listen on {address}, port {port}: {error.strerror}.", style="red"))
        raise typer.Exit(FAILED) from None


@app.command()
@command
def demo() -> None:
    """Show the whole flow once, on a temporary directory: receive, project, audit, park, deliver."""
    run_demo()
