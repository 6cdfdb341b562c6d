"""Commands about events and records: append, project, view, audit, blame."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from functions_app.bulk import Imported, RejectedLine, import_file
from functions_app.lag import measure_lag
from functions_app.queries import time_text
from functions_app.runtime import Runtime
from functions_app.views import audit_document, blame_json, record_json
from projections import ABSENT, AuditEntry, AuditFilter, RecordView, Target, UnknownClientError, check_generation

from .output import (
    ATTENTION,
    AsJson,
    Client,
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

app = typer.Typer()

_REJECTIONS_SHOWN = 20


@app.command()
@command
def append(
    file: Annotated[Path, typer.Argument(help="CSV with a header line (.csv), or JSON lines.", exists=True)],
    source: Annotated[str, typer.Option(help="Whose payload a line is.")],
    column: Annotated[
        list[str] | None, typer.Option(help="FIELD=COLUMN for a CSV column that is called differently.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Column that identifies a line; without it, its content does.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Append the events in a file; running it again adds nothing. Ends with 3 if lines were rejected."""
    runtime = opened_for(f"append for {source}", anew=True)
    teller = runtime.domain.source(source)
    columns = dict(map(_renamed, column or []))
    rejected: list[RejectedLine] = []

    def on_reject(line: RejectedLine) -> None:
        if len(rejected) < _REJECTIONS_SHOWN:
            rejected.append(line)

    with progress() as bar:
        task = bar.add_task(file.name, total=file.stat().st_size)

        def on_portion(so_far: Imported) -> None:
            bar.update(task, completed=so_far.read)

        done = import_file(
            runtime,
            teller,
            file,
            columns=columns,
            key=key,
            on_reject=on_reject,
            on_portion=on_portion,
        )
    if as_json:
        print_json(done._asdict())
    else:
        lines = [[line.number, line.error.code, "; ".join(map(": ".join, line.error.problems))] for line in rejected]
        if lines:
            print_table("Rejected", ["line", "code", "problems"], lines)
        if done.rejected > len(lines):
            console.print(f"and {done.rejected - len(lines)} more; `client-flow rejections` lists them all")
        console.print(
            f"{done.lines} lines: {done.appended} events appended, {done.duplicates} there before, "
            f"{done.rejected} lines rejected"
        )
    if done.rejected:
        raise typer.Exit(ATTENTION)


def _renamed(text: str) -> tuple[str, str]:
    """Column and field of FIELD=COLUMN."""
    field, equals, name = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"--column {text}: FIELD=COLUMN was expected")
    return name, field


@app.command()
@command
def project(
    refold: Annotated[
        str | None, typer.Option(metavar="CLIENT|all", help="Fold this client, or all, again from the first event.")
    ] = None,
    accept_fingerprint: Annotated[
        bool, typer.Option("--accept-fingerprint", help="The changed code cannot alter any record: go on with it.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Fold what is new into records. Ends with 3 if clients are parked."""
    if refold is not None and not yes:
        dry_run(f"{refold} is folded again from the first event, in place")
        return
    runtime = opened_for(*_projecting(refold)) if accept_fingerprint or refold is not None else opened()
    if accept_fingerprint:
        check_generation(runtime.domain.projection, runtime.backend.checkpoints, runtime.backend.feed, accept=True)
    if refold is None:
        with progress() as bar:
            task = bar.add_task("events", total=measure_lag(runtime).events)

            def on_page(events: int) -> None:
                bar.update(
                    task, advance=events, total=max(bar.tasks[task].total or 0, bar.tasks[task].completed + events)
                )

            swept = runtime.sweep(overdue=timedelta(0), on_page=on_page)
        for error in swept.errors:
            errors.print(str(error), style="red", markup=False)
        done = {"events": swept.events, "done": swept.done}
    else:
        done = {"clients": _refold(runtime, refold), "done": True}
    done["parked"] = len(runtime.backend.projections.parked(limit=1000))
    if as_json:
        print_json(done)
    else:
        console.print(", ".join(f"{name} {value}" for name, value in done.items()))
    if done["parked"] or not done["done"]:
        raise typer.Exit(ATTENTION)


def _projecting(refold: str | None) -> tuple[str, str | None]:
    """What is entered about folding again or accepting changed code, and about whom."""
    if refold is None:
        return "project --accept-fingerprint", None
    return ("project --refold all", None) if refold == "all" else ("project --refold", refold)


def _refold(runtime: Runtime, which: str) -> int:
    if which != "all":
        record = runtime.projector.catch_up(which, Target(0, refold=True))
        if record.version == 0 and record.parked is None:
            raise UnknownClientError(which)
        return 1
    clients, after = 0, ""
    with progress() as bar:
        task = bar.add_task("clients", total=None)
        while page := runtime.backend.projections.client_ids(after=after):
            outcomes = runtime.projector.catch_up_all({client_id: Target(0, refold=True) for client_id in page})
            for outcome in outcomes.values():
                if outcome.error is not None:
                    raise outcome.error
            clients, after = clients + len(page), page[-1]
            bar.update(task, completed=clients)
    return clients


@app.command()
@command
def view(
    client: Client,
    version: Annotated[int | None, typer.Option(help="As of this version.", min=1)] = None,
    time: Annotated[str | None, typer.Option(help="As it was known at this time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a client's record, now or as of a version or time."""
    if version is not None and time is not None:
        raise typer.BadParameter("either --version or --time")
    runtime = opened_for("view", client)
    found: RecordView
    if version is not None:
        found = runtime.reader.as_of_version(client, version)
    elif time is not None:
        found = runtime.reader.as_of_time(client, time_text("time", time))
    else:
        found = runtime.reader.current(client)
    document = record_json(runtime.domain.projection, found)
    if as_json:
        print_json(document)
        return
    rows = [
        [name, field, value]
        for name, content in document["record"].items()
        for field, value in (content or {"": None}).items()
    ]
    print_table(f"{client}, version {document['version']}", ["sub-schema", "field", "value"], rows)
    if document["parked"]:
        console.print(f"parked at version {document['parked']['version']}: {document['parked']['code']}", markup=False)


@app.command()
@command
def audit(
    client: Client,
    sub_schema: Annotated[str | None, typer.Option(help="Only changes of this sub-schema.")] = None,
    field: Annotated[str | None, typer.Option(help="Only changes of this field.")] = None,
    event_type: Annotated[str | None, typer.Option(help="Only events of this type.")] = None,
    source: Annotated[str | None, typer.Option(help="Only events from this source.")] = None,
    since: Annotated[str | None, typer.Option(help="Recorded at this time or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Recorded before this time.")] = None,
    limit: Annotated[int, typer.Option(help="Entries of a page.", min=1)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Continue after the page that ended with this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a client's audit trail: what each event changed."""
    where = AuditFilter(
        sub_schema=sub_schema,
        field=field,
        event_type=event_type,
        source=source,
        since=time_text("since", since) if since else None,
        until=time_text("until", until) if until else None,
    )
    reader = opened_for("audit", client).reader
    page = reader.audit(client, where, cursor=cursor, limit=limit)
    if not page.entries:
        reader.current(client)  # nothing of a client is an answer, of nobody it is none
    if as_json:
        print_json({"entries": [audit_document(entry) for entry in page.entries], "cursor": page.cursor})
        return
    columns = ["version", "recorded at", "event", "source", "rule", "field", "old", "new", "note"]
    print_table(f"Audit trail of {client}", columns, [row for entry in page.entries for row in _audit_rows(entry)])
    if page.cursor:
        console.print(f"more with --cursor {page.cursor}", markup=False)


def _audit_rows(entry: AuditEntry) -> list[list[Any]]:
    head = [entry.version, entry.recorded_at, entry.event_type, entry.source, entry.rule]
    if not entry.changes:
        return [[*head, None, None, None, entry.note or "no change"]]
    return [
        [
            *(head if number == 0 else [""] * len(head)),
            f"{change.sub_schema}.{change.field}",
            None if change.old is ABSENT else change.old,
            None if change.new is ABSENT else change.new,
            "superseded" if change.superseded else entry.note or "",
        ]
        for number, change in enumerate(entry.changes)
    ]


@app.command()
@command
def blame(client: Client, as_json: AsJson = False) -> None:
    """Show for each field of a record the event that asserted it last."""
    found = [blame_json(each) for each in opened_for("blame", client).reader.blame(client)]
    if as_json:
        print_json({"fields": found})
        return
    columns_of_blame = ["value", "occurred_at", "version", "event_type", "source", "rule"]
    rows = [[f"{each['sub_schema']}.{each['field']}", *(each[name] for name in columns_of_blame)] for each in found]
    print_table(f"Who said what about {client}", ["field", *columns_of_blame], rows)
