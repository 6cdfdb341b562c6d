"""Commands for operators: annul, parked, retry, rejections, lag."""

from contextlib import suppress
from typing import Annotated

import typer

from eventstore import Rejection
from functions_app.errors import InputRefusedError
from functions_app.lag import Status, lag_json, measure_lag
from functions_app.runtime import Runtime
from functions_app.views import parked_json
from projections import Record, Target, UnknownClientError, retry_parked

from .output import (
    ATTENTION,
    AnyClient,
    AsJson,
    Client,
    Yes,
    command,
    console,
    dry_run,
    login,
    opened,
    opened_for,
    print_fields,
    print_json,
    print_table,
)

app = typer.Typer()


@app.command()
@command
def annul(
    client: Client,
    version: Annotated[int, typer.Argument(help="The event that does not count.", min=1)],
    reason: Annotated[str, typer.Option(help="Why; stays in the history.")],
    by: Annotated[str, typer.Option(help="Who says so; your login if not given.")] = "",
    yes: Yes = False,
) -> None:
    """Append an event that says another event does not count."""
    if not reason.strip():
        raise typer.BadParameter("say why: the reason stays in the history")
    if not yes:
        dry_run(f"event {version} is annulled for good")
        return
    runtime = opened_for(f"annul version {version}", client)
    record = runtime.annul(client, version, reason=reason, by=by or login())
    state = f"parked at version {record.parked.version}" if record.parked else f"at version {record.version}"
    console.print(f"Event {version} is annulled; the record is {state}")


@app.command()
@command
def parked(as_json: AsJson = False) -> None:
    """List the clients that do not go on, and why. Ends with 3 if there are any."""
    store = opened().backend.projections
    found: list[Record] = []
    after = ""
    while page := store.parked(after=after, limit=500):
        found += page
        after = page[-1].client_id
    if as_json:
        print_json(
            {"parked": [{"client_id": record.client_id, **(parked_json(record.parked) or {})} for record in found]}
        )
    else:
        rows = [
            [record.client_id, why.version, why.waiting_for, why.code, "; ".join(why.problems)]
            for record in found
            if (why := record.parked) is not None
        ]
        print_table("Parked clients", ["client", "at version", "waiting for", "code", "problems"], rows)
    if found:
        raise typer.Exit(ATTENTION)


@app.command()
@command
def retry(
    client: AnyClient = None,
    integration: Annotated[str | None, typer.Option(help="Retry the client's delivery to this integration.")] = None,
) -> None:
    """Fold parked clients again, or deliver to an integration again. Ends with 3 if a client is still parked."""
    if integration is not None and client is None:
        raise typer.BadParameter("name the client whose delivery to retry")
    runtime = opened_for("retry" if integration is None else f"retry --integration {integration}", client)
    if integration is not None and client is not None:
        console.print(f"{integration}: {runtime.deliverer.retry(client, integration)}")
        return
    if client is not None:
        record = runtime.projector.catch_up(client, Target(0, retry=True))
        if record.version == 0 and record.parked is None:
            raise UnknownClientError(client)
        tried, freed = 1, int(record.parked is None)
    else:
        tried, freed = retry_parked(runtime.projector, runtime.backend.projections, every=True)
    console.print(f"{tried} tried, {freed} go on")
    if freed < tried:
        raise typer.Exit(ATTENTION)


@app.command()
@command
def rejections(
    source: Annotated[str | None, typer.Option(help="Only those of this source.")] = None,
    replay: Annotated[int | None, typer.Option(help="Take this one in again.")] = None,
    replay_all: Annotated[bool, typer.Option(help="Take all in again.")] = False,
    dismiss: Annotated[int | None, typer.Option(help="Forget this one.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """List what could not be accepted; take it in again, or forget it. Ends with 3 if any stay open."""
    if dismiss is not None:
        if yes:
            opened_for(f"rejections --dismiss {dismiss}").backend.rejections.resolve(dismiss)
            console.print(f"Rejection {dismiss} is dismissed")
        else:
            dry_run(f"rejection {dismiss} is dismissed and what was delivered is deleted")
        return
    if replay is not None:
        accepted = opened_for(f"rejections --replay {replay}").replay(replay)
        console.print(f"Rejection {replay} is accepted: {len(accepted)} events")
        return
    runtime = opened_for("rejections --replay-all") if replay_all else opened()
    replayed = _replay_all(runtime, source) if replay_all else 0
    found: list[Rejection] = []
    while page := runtime.backend.rejections.open(source=source, after=found[-1].number if found else 0):
        found += page
    if as_json:
        fields = ("number", "source", "key", "rejected_at", "code", "problems")
        print_json({"open": [{name: getattr(each, name) for name in fields} for each in found], "replayed": replayed})
    else:
        rows = [
            [each.number, each.source, each.key, each.rejected_at, each.code, "; ".join(each.problems)]
            for each in found
        ]
        print_table("Open rejections", ["number", "source", "key", "rejected at", "code", "problems"], rows)
        if replay_all:
            console.print(f"{replayed} accepted now")
    if found:
        raise typer.Exit(ATTENTION)


def _replay_all(runtime: Runtime, source: str | None) -> int:
    """Take all open rejections in again; how many are accepted now."""
    replayed = after = 0
    while page := runtime.backend.rejections.open(source=source, after=after):
        after = page[-1].number
        for rejection in page:
            with suppress(InputRefusedError):  # it stays open, and is listed with its reason
                runtime.replay(rejection.number)
                replayed += 1
    return replayed


@app.command()
@command
def lag(as_json: AsJson = False) -> None:
    """Show how far each stage is behind. Ends with 3 if something needs a person."""
    found = measure_lag(opened())
    if as_json:
        print_json(lag_json(found))
    else:
        stages = {
            "events to project": found.events,
            "age of the oldest, seconds": found.seconds,
            "parked clients": found.parked,
            "clients to publish": found.unpublished,
            "clients that differ from their events": found.differing,
        }
        for name, state in found.deliveries.items():
            stages[f"{name}: deliveries to make"] = state["waiting"]
            stages[f"{name}: first of them due for, seconds"] = state["seconds"]
            stages[f"{name}: refused"] = state["failed"]
            stages[f"{name}: paused"] = state["paused"]
        print_fields("Lag", stages)
        for problem in found.problems:
            console.print(problem, style="red" if problem in found.standstills else "yellow", markup=False)
        console.print(f"status: {found.status}", markup=False)
    if found.status is not Status.OK:
        raise typer.Exit(ATTENTION)
