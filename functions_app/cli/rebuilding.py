"""The command rebuild: bring all clients into the generation of the running code."""

import re
from time import monotonic
from typing import Annotated, Any

import typer

from functions_app.rebuild_status import (
    count_clients,
    note_start,
    progress_of,
    shares_of,
    status_of,
    unfinished,
)
from functions_app.rebuilding import walk, walk_side_by_side
from functions_app.runtime import Runtime
from projections import Progress, Purpose, Share, forget_progress, prunable, prune

from .output import (
    ATTENTION,
    AsJson,
    Yes,
    command,
    console,
    dry_run,
    errors,
    opened,
    opened_for,
    print_json,
    print_table,
    progress,
)

_FAILURES_SHOWN = 10

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

    Those that failed are taken up first by the next call. Announces nothing unless asked to. When going on, use the same
    number of shards, and on the same machine the same number of workers.
    """
    if publish_differences + take_over + prune_older > 1:
        raise typer.BadParameter("one of --publish-differences, --take-over and --prune")
    if with_audit and not prune_older:
        raise typer.BadParameter("--with-audit goes with --prune only")
    if status and prune_older:
        raise typer.BadParameter("--status does not go with --prune, which shows what it would do without --yes")
    if prune_older:
        _prune(audit=with_audit, yes=yes, as_json=as_json)
        return
    purpose = Purpose.PUBLISH_DIFFERENCES if publish_differences else Purpose.TAKE_OVER if take_over else Purpose.FOLD
    part = _part(shard)
    if status:
        _show_status(opened(), purpose, as_json=as_json)
        return
    if purpose is not Purpose.FOLD and not yes:
        dry_run("what differs from what was announced is announced, client by client")
        return
    runtime = opened_for(f"rebuild {purpose}")
    found = _walk(runtime, purpose, part, workers, max_rate)
    generation = runtime.domain.projection.generation
    if as_json:
        print_json({"generation": generation, "purpose": purpose, **_document(found)})
    else:
        _print(generation, found)
    _end(found)


def _walk(runtime: Runtime, purpose: Purpose, part: Share, workers: int, max_rate: float | None) -> Progress:
    """Do a machine's part, or what is left of it, with a bar that shows how far it is."""
    shares, checkpoints = shares_of(part, workers), runtime.backend.checkpoints
    left = unfinished(runtime, purpose, shares)
    if not left:
        for share in shares:
            forget_progress(checkpoints, runtime.domain.projection, purpose, share)
        left = shares
    note_start(runtime, purpose, part, workers)
    before = progress_of(runtime, purpose, shares)
    if before.clients:
        errors.print(f"Goes on after {before.clients} clients.")
    walking = (
        walk(runtime, purpose, left[0])
        if workers == 1 and max_rate is None
        else walk_side_by_side(runtime, purpose, left, max_rate=max_rate)
    )
    generation, started = runtime.domain.projection.generation, monotonic()
    finished = progress_of(runtime, purpose, [share for share in shares if share not in left])
    with progress() as bar:
        task = bar.add_task(generation, total=count_clients(runtime) // part.of, completed=before.clients)
        for done in walking:
            rate = max(finished.events + done.events - before.events, 0) / max(monotonic() - started, 0.001)
            description = f"{generation}, {rate:,.0f} events/s"
            bar.update(task, completed=finished.clients + done.clients, description=description)
    return progress_of(runtime, purpose, shares)


def _show_status(runtime: Runtime, purpose: Purpose, *, as_json: bool) -> None:
    generation, status = runtime.domain.projection.generation, status_of(runtime, purpose)
    if status is None:
        if as_json:
            print_json({"generation": generation, "purpose": purpose, "begun": False})
        else:
            console.print(f"{generation}: no walk was begun, or not since another version was started", markup=False)
        return
    shares = [
        {
            "share": f"{share.number}/{share.of}",
            "clients": found.clients if found else 0,
            "failed": len(found.failed) if found else 0,
            "begun": found is not None,
            "done": found is not None and found.done,
        }
        for share, found in status.shares
    ]
    if as_json:
        told = {"begun": True, "total": status.total, **_document(status.progress), "seconds_left": status.seconds_left}
        print_json({"generation": generation, "purpose": purpose, **told, "shares": shares})
    else:
        _print(generation, status.progress, total=status.total)
        if status.seconds_left is not None:
            console.print(f"at the speed so far about {status.seconds_left:,.0f} s are left")
        if len(shares) > 1:
            print_table("Shares", list(shares[0]), [list(share.values()) for share in shares])
    _end(status.progress)


def _document(found: Progress) -> dict[str, Any]:
    failures = [{"client_id": client_id, "why": why} for client_id, why in found.failed.items()]
    counted = {"clients": found.clients, "events": found.events, "announced": found.announced, "parked": found.parked}
    return {**counted, "failed": len(failures), "done": found.done, "failures": failures[:_FAILURES_SHOWN]}


def _print(generation: str, found: Progress, *, total: int | None = None) -> None:
    document = _document(found)
    failures = document.pop("failures")
    if total is not None:
        document["clients"] = f"{found.clients} of {total}"
    console.print(f"{generation}: " + ", ".join(f"{name} {value}" for name, value in document.items()), markup=False)
    if failures:
        print_table("Failed", ["client", "why"], [list(failure.values()) for failure in failures])
    if len(found.failed) > len(failures):
        console.print(f"and {len(found.failed) - len(failures)} more")


def _end(found: Progress) -> None:
    if found.parked or not found.done:
        raise typer.Exit(ATTENTION)


def _prune(*, audit: bool, yes: bool, as_json: bool) -> None:
    runtime = opened_for("rebuild --prune" + " --with-audit" * audit) if yes else opened()
    store, predecessors = runtime.backend.projections, runtime.backend.predecessors
    if yes:
        _ = runtime.projector  # refuses code that is not the one that projected this version
    else:
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
