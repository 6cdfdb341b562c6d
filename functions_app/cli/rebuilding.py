"""The command rebuild: bring all clients into the generation of the running code."""

import re
from time import monotonic
from typing import Annotated

import typer

from functions_app.rebuilding import (
    count_clients,
    note_shares,
    noted_shares,
    progress_of,
    shares_of,
    walk,
    walk_side_by_side,
)
from projections import Progress, Purpose, Share, prunable, prune

from .output import ATTENTION, AsJson, Yes, command, console, dry_run, errors, opened, opened_for, print_json, progress

app = typer.Typer()


@app.command()
@command
def rebuild(
    workers: Annotated[int, typer.Option(help="Processes on this machine.", min=1, max=64)] = 1,
    shard: Annotated[str, typer.Option(metavar="N/OF", help="This machine's part of the clients, as 1/4.")] = "1/1",
    max_rate: Annotated[
        float | None, typer.Option(help="Events a second at most; on Cosmos DB request units.", min=1)
    ] = None,
    publish_differences: Annotated[
        bool, typer.Option("--publish-differences", help="Announce of each client what the new rules made different.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="After a rollback: take announcing back from newer code.")
    ] = False,
    prune_older: Annotated[
        bool,
        typer.Option("--prune", help="Remove the records of earlier versions, if everybody is complete in this one."),
    ] = False,
    with_audit: Annotated[bool, typer.Option("--with-audit", help="With --prune: their audit as well.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show how far the walk is.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Fold every client by the rules of a new version; goes on where it was interrupted. Ends with 3 if clients are left.

    Those that failed are taken up first by the next call. Announces nothing unless asked to. With several workers or
    shards, use the same numbers when going on.
    """
    if publish_differences + take_over + prune_older > 1:
        raise typer.BadParameter("one of --publish-differences, --take-over and --prune")
    if prune_older or with_audit:
        _prune(audit=with_audit, yes=yes, as_json=as_json)
        return
    purpose = Purpose.PUBLISH_DIFFERENCES if publish_differences else Purpose.TAKE_OVER if take_over else Purpose.FOLD
    shares = shares_of(_part(shard), workers)
    if not status and purpose is not Purpose.FOLD and not yes:
        dry_run("what differs from what was announced is announced, client by client")
        return
    runtime = opened() if status else opened_for(f"rebuild {purpose}")
    generation = runtime.domain.projection.generation
    if status:
        shares = noted_shares(runtime, purpose)
    else:
        note_shares(runtime, purpose, shares[0].of)
        walking = (
            walk(runtime, purpose, shares[0])
            if workers == 1 and max_rate is None
            else walk_side_by_side(runtime, purpose, shares, max_rate=max_rate)
        )
        started, before = monotonic(), progress_of(runtime, purpose, shares)
        if before.done:
            before = Progress()
        with progress() as bar:
            task = bar.add_task(generation, total=count_clients(runtime) // _part(shard).of, completed=before.clients)
            for done in walking:
                rate = max(done.events - before.events, 0) / max(monotonic() - started, 0.001)
                bar.update(task, completed=done.clients, description=f"{generation}, {rate:,.0f} events/s")
    found = progress_of(runtime, purpose, shares)
    told = {**found._asdict(), "failed": len(found.failed)}
    del told["cursors"]
    if as_json:
        print_json({"generation": generation, "purpose": purpose, **told})
    else:
        console.print(f"{generation}: " + ", ".join(f"{name} {value}" for name, value in told.items()), markup=False)
    if found.parked or not found.done:
        raise typer.Exit(ATTENTION)


def _prune(*, audit: bool, yes: bool, as_json: bool) -> None:
    runtime = opened_for("rebuild --prune" + " --with-audit" * audit) if yes else opened()
    store, predecessors = runtime.backend.projections, runtime.backend.predecessors
    if not yes:
        found = prunable(store, predecessors, audit=audit)
        if as_json:
            print_json(found._asdict())
        else:
            dry_run(f"what earlier versions hold of {found.clients} clients is removed")
        if found.incomplete:
            errors.print(
                f"{found.incomplete} of them are behind or parked in this version, so nothing would be removed"
            )
            raise typer.Exit(ATTENTION)
        return
    clients = documents = 0
    for of_page, removed in prune(store, predecessors, audit=audit):
        clients, documents = clients + of_page, documents + removed
    if as_json:
        print_json({"clients": clients, "documents": documents})
    else:
        console.print(f"{documents} documents of {clients} clients removed")


def _part(text: str) -> Share:
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise typer.BadParameter(f"--shard {text}: N/OF was expected, as 1/4")
    return Share(int(found[1]), int(found[2]))
