"""Commands about integrations: deliveries, deliver, pause, resume."""

from collections import Counter
from typing import Annotated

import typer

from functions_app.runtime import Runtime
from functions_app.views import log_json, state_json
from integrations import DeliveryResult, UnknownIntegrationError

from .output import (
    ATTENTION,
    AsJson,
    Client,
    Yes,
    caller,
    command,
    console,
    dry_run,
    opened,
    opened_for,
    print_json,
    print_table,
)

app = typer.Typer()

_AT_ONCE = 500  # clients looked up at once

Name = Annotated[str, typer.Argument(help="Name of the integration.", show_default=False)]


@app.command()
@command
def deliveries(
    client: Client,
    integration: Annotated[str | None, typer.Option(help="Only this integration.")] = None,
    limit: Annotated[int, typer.Option(help="Log entries of a page.", min=1)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after the page that ended with this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a client stands with each integration, and what was sent."""
    runtime = opened_for("deliveries", client)
    store = runtime.backend.deliveries
    states = [state for state in store.of_client(client) if integration in {None, state.integration}]
    page = store.entries(client, integration=integration, cursor=cursor, limit=limit)
    if not states:
        runtime.reader.current(client)  # nothing of a client is an answer, of nobody it is none
    if as_json:
        log = [log_json(entry) for entry in page.entries]
        print_json({"states": [state_json(state) for state in states], "log": log, "cursor": page.cursor})
        return
    print_table(
        f"Deliveries of {client}",
        ["integration", "wanted", "delivered", "remote", "attempts", "next", "refused"],
        [[s.integration, s.wanted, s.delivered, s.remote, s.attempts, s.due_at, s.failed_code] for s in states],
    )
    print_table(
        "Log, newest first",
        ["at", "integration", "seq", "action", "verdict", "code", "request", "answer"],
        [[e.at, e.integration, e.seq, e.action, e.verdict, e.code, e.request, e.answer] for e in page.entries],
    )
    if page.cursor:
        console.print(f"more with --cursor {page.cursor}", markup=False)


@app.command()
@command
def deliver(
    integration: Name,
    everything: Annotated[bool, typer.Option("--all", help="Send every client again, changed or not.")] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="Send the clients whose body is not what was sent.")
    ] = False,
    client: Annotated[str | None, typer.Option("--dry-run", metavar="CLIENT", help="Show what it would get.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ring every client of an integration: for a new one, a changed mapping, a rollback; or look at one client."""
    if client is not None:
        runtime = opened_for(f"deliver --dry-run to {integration}", client)
        found = runtime.deliverer.dry_run(client, integration)
        if as_json:
            print_json(found._asdict())
        else:
            print_table(
                f"{integration}: {found.action} {found.code or ''}", ["field", "value"], (found.body or {}).items()
            )
        return
    if everything is changed:
        raise typer.BadParameter("either --all or --changed")
    runtime = opened()
    known = tuple(each.name for each in runtime.domain.integrations)
    if integration not in known:
        raise UnknownIntegrationError(integration, known)
    if not yes:
        dry_run(f"every client is rung for {integration}")
        return
    runtime.accesses.record(caller(), f"deliver {'--all' if everything else '--changed'} to {integration}")
    rung, after = 0, ""
    while page := runtime.backend.projections.client_ids(after=after):
        after = page[-1]
        rung += runtime.deliverer.ring(integration, page, resend=everything)
    results = _deliver(runtime, integration)
    if as_json:
        print_json({"rung": rung, **results})
    else:
        console.print(
            f"{rung} clients rung for {integration}: {', '.join(f'{n} {r}' for r, n in results.items()) or '-'}"
        )
    if not {"delivered", "unchanged"}.issuperset(results):
        raise typer.Exit(ATTENTION)


def _deliver(runtime: Runtime, integration: str) -> dict[str, int]:
    """Deliver what is due until nothing is, or nothing can be; counts what became of the clients."""
    total: Counter[str] = Counter()
    while results := runtime.deliverer.deliver_due(limit=_AT_ONCE).get(integration):
        total.update({result.value: number for result, number in results.items()})
        if not results.keys() & {DeliveryResult.DELIVERED, DeliveryResult.UNCHANGED}:
            break
    return dict(total)


@app.command()
@command
def pause(
    integration: Name, reason: Annotated[str, typer.Option(help="Why, for those who wonder.")] = "paused by an operator"
) -> None:
    """Make no calls to an integration until it is resumed; what is announced meanwhile waits."""
    opened_for(f"pause {integration}").deliverer.pause(integration, reason)
    console.print(f"{integration} is paused")


@app.command()
@command
def resume(integration: Name) -> None:
    """End the pause of an integration, an operator's or its target's."""
    opened_for(f"resume {integration}").deliverer.resume(integration)
    console.print(f"{integration} is called again")
