"""Commands about history: seal, diff, export."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from eventstore import Sealed, utc_text, write_seal
from functions_app.export import write_export
from functions_app.rebuild_status import count_clients
from functions_app.verifying import clients_with_events
from functions_app.views import diff_json

from .output import FAILED, AsJson, Client, command, console, errors, opened_for, print_json, print_table, progress

app = typer.Typer()

File = Annotated[Path, typer.Argument(help="The file.", show_default=False, dir_okay=False)]


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Ends with a message if the file cannot be written."""
    try:
        yield
    except OSError as error:
        errors.print(Text(f"{file} cannot be written: {error.strerror}.", style="red"))
        raise typer.Exit(FAILED) from None


@app.command()
@command
def seal(file: File, as_json: AsJson = False) -> None:
    """Write the heads of all streams to a file, by which any later change of an event is found."""
    runtime = opened_for("seal")
    with progress() as bar:
        task = bar.add_task("clients", total=count_clients(runtime))

        def heads() -> Iterator[Sealed]:
            for page in clients_with_events(runtime):
                for client_id in page:
                    head = runtime.backend.events.head(client_id)
                    yield Sealed(client_id, head.version, head.hash)
                bar.update(task, advance=len(page))

        with _writing(file):
            done = write_seal(file, heads(), sealed_at=utc_text(runtime.clock()))
    if as_json:
        print_json(done._asdict())
    else:
        console.print(f"{done.clients} clients sealed; keep the file, and this hash, where nobody writes the database:")
        console.print(f"seal {done.hash}", markup=False)


@app.command()
@command
def diff(
    client: Client,
    first: Annotated[int, typer.Argument(metavar="V1", help="A version of the record.", min=1)],
    second: Annotated[int, typer.Argument(metavar="V2", help="Another one.", min=1)],
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions of a client's record."""
    document = diff_json(opened_for("diff", client).reader.diff(client, first, second))
    if as_json:
        print_json(document)
        return
    rows = [
        [f"{change['sub_schema']}.{change['field']}", change.get("old"), change.get("new")]
        for change in document["changes"]
    ]
    title = f"{client}, from version {document['from']} to {document['to']}"
    print_table(title, ["field", f"version {document['from']}", f"version {document['to']}"], rows)


@app.command()
@command
def export(client: Client, file: File, as_json: AsJson = False) -> None:
    """Write a client's whole trail as JSON lines: events, audit, record, deliveries."""
    with _writing(file):
        done = write_export(opened_for("export", client), client, file)
    if as_json:
        print_json(done._asdict())
    else:
        record = "no record" if done.version is None else f"record at version {done.version}"
        console.print(f"{done.events} events, {record}; check it with verify --export")
        console.print(f"export {done.hash}", markup=False)
