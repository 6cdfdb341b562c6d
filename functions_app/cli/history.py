"""Commands about history: verify, seal, diff, export."""

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from eventstore import Sealed, check_sealed, open_seal, utc_text, write_seal
from functions_app.export import check_export, write_export
from functions_app.runtime import Runtime
from functions_app.verifying import Result, all_clients, pages_of, sample, verify_clients
from functions_app.views import diff_json
from projections import ABSENT, Difference, UnknownClientError

from .output import (
    ATTENTION,
    FAILED,
    AnyClient,
    AsJson,
    Client,
    Yes,
    command,
    console,
    dry_run,
    errors,
    opened_for,
    print_json,
    print_table,
    progress,
)

app = typer.Typer()

_SHOWN = 1000  # clients that are listed; all are counted, and mended

File = Annotated[Path, typer.Argument(help="The file.", show_default=False, dir_okay=False)]


@app.command()
@command
def verify(
    client: AnyClient = None,
    sample_size: Annotated[int | None, typer.Option("--sample", help="Only so many random clients.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses the sample; the same seed, the same clients.")] = None,
    workers: Annotated[int, typer.Option(help="Processes side by side.", min=1, max=64)] = 1,
    seal_file: Annotated[
        Path | None, typer.Option("--seal", help="Compare the streams with this seal.", exists=True, dir_okay=False)
    ] = None,
    export_file: Annotated[
        Path | None, typer.Option("--export", help="Check this exported trail.", exists=True, dir_okay=False)
    ] = None,
    heal: Annotated[bool, typer.Option("--heal", help="Mend what differs; events are never touched.")] = False,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Let CLIENT be as it is; health counts it no more.")
    ] = False,
    values: Annotated[
        bool, typer.Option("--values", help="Show the values that differ, which are a client's data.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Compare records, audit, announcements and events with what the events come to. Ends with 3 if something differs."""
    if export_file is not None:
        _check_export(export_file, as_json=as_json)
        return
    done = "".join([" --heal"] * (heal and yes) + [" --acknowledge"] * acknowledge + [" --values"] * values)
    runtime = opened_for(f"verify{done}", client)
    if seal_file is not None:
        _check_seal(runtime, seal_file, as_json=as_json)
        return
    if acknowledge:
        if client is None:
            raise typer.BadParameter("name the client that is to be acknowledged")
        known = runtime.findings.acknowledge(client)
        console.print("It is acknowledged" if known else "Nothing was found of this client")
        return
    chosen = _chosen(runtime, client, sample_size, seed)
    total, shown = _verify(runtime, chosen, heal=heal and yes, workers=workers)
    if client is not None and not (total["events"] or shown):
        raise UnknownClientError(client)
    if as_json:
        print_json({**total, "results": [_result_json(result, values=values) for result in shown]})
    else:
        _print_results(shown, total, values=values)
        if heal and not yes and shown:
            dry_run("the documents listed are mended; what was announced wrongly is announced anew")
    if total["left"]:
        raise typer.Exit(ATTENTION)


def _chosen(runtime: Runtime, client: str | None, number: int | None, seed: int | None) -> Sequence[str] | None:
    """The clients to verify, None for all."""
    if client is not None and number is not None:
        raise typer.BadParameter("either CLIENT or --sample")
    if number is not None:
        return sample(all_clients(runtime), number, seed=secrets.randbits(32) if seed is None else seed)
    return None if client is None else [client]


def _verify(
    runtime: Runtime, chosen: Sequence[str] | None, *, heal: bool, workers: int
) -> tuple[dict[str, int], list[Result]]:
    """Counts, and what is to be listed."""
    total: Counter[str] = Counter(clients=0, events=0, differing=0, left=0)
    shown: list[Result] = []
    with progress() as bar:
        task = bar.add_task("clients", total=_count(runtime) if chosen is None else len(chosen))
        pages = all_clients(runtime) if chosen is None else pages_of(chosen)
        for portion in verify_clients(runtime, pages, heal=heal, workers=workers):
            total["clients"] += portion.clients
            total["events"] += portion.events
            total["differing"] += len(portion.differing)
            total["left"] += sum(bool(result.left) for result in portion.differing)
            shown += portion.differing[: _SHOWN - len(shown)]
            bar.update(task, advance=portion.clients)
    return dict(total), shown


def _count(runtime: Runtime) -> int:
    return sum(map(runtime.backend.feed.count_clients, runtime.backend.feed.partitions()))


def _print_results(results: Sequence[Result], total: dict[str, int], *, values: bool) -> None:
    if results:
        _print_differences(results, values=values)
    if total["differing"] > len(results):
        console.print(f"and {total['differing'] - len(results)} more clients")
    console.print("{clients} clients, {events} events: {differing} clients differ, {left} still".format(**total))


def _print_differences(results: Sequence[Result], *, values: bool) -> None:
    columns = ["client", "document", "field", "problem", "", *(["stored", "expected"] if values else [])]
    rows = [
        [result.client_id, document, each.path, each.problem, "" if each in result.left else "mended"]
        + ([_value(each.stored), _value(each.expected)] if values else [])
        for result in results
        for each in result.found
        for document in [f"{each.kind} {each.number}" if each.number else each.kind]
    ]
    print_table("Differences", columns, rows)


def _value(value: Any) -> Any:
    return "(absent)" if value is ABSENT else value


def _result_json(result: Result, *, values: bool) -> dict[str, Any]:
    return {
        "client_id": result.client_id,
        "found": [_difference_json(each, values=values) for each in result.found],
        "left": [_difference_json(each, values=values) for each in result.left],
    }


def _difference_json(each: Difference, *, values: bool) -> dict[str, Any]:
    document = {"kind": each.kind, "number": each.number, "path": each.path, "problem": each.problem}
    shown = {"stored": each.stored, "expected": each.expected} if values else {}
    return document | {name: value for name, value in shown.items() if value is not ABSENT}


def _check_seal(runtime: Runtime, path: Path, *, as_json: bool) -> None:
    sealed, heads = open_seal(path)
    found: list[list[Any]] = []
    with progress() as bar:
        task = bar.add_task("clients", total=sealed.clients)
        for head in heads:
            problems = check_sealed(runtime.backend.events, head)
            found += [[head.client_id, problem.version, problem.problem] for problem in problems]
            bar.update(task, advance=1)
    if as_json:
        listed = [dict(zip(("client_id", "version", "problem"), row, strict=True)) for row in found]
        print_json({**sealed._asdict(), "results": listed})
    else:
        if found:
            print_table("Not as sealed", ["client", "event", "problem"], found)
        console.print(f"{sealed.clients} clients sealed at {sealed.sealed_at}: {len(found)} events are not as sealed")
        console.print(f"seal {sealed.hash}", markup=False)
    if found:
        raise typer.Exit(ATTENTION)


def _check_export(path: Path, *, as_json: bool) -> None:
    found = check_export(path)
    if as_json:
        print_json(found._asdict())
    else:
        for problem in found.problems:
            console.print(problem, style="red", markup=False)
        state = "does not fit together" if found.problems else "is whole and fits together"
        console.print(
            f"{found.client_id}: {found.events} events, record at version {found.version}; it {state}", markup=False
        )
        console.print(f"export {found.hash}", markup=False)
    if found.problems:
        raise typer.Exit(ATTENTION)


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
        task = bar.add_task("clients", total=_count(runtime))

        def heads() -> Iterator[Sealed]:
            for page in all_clients(runtime):
                for client_id in page:
                    head = runtime.backend.events.head(client_id)
                    if head.version:
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
        console.print(f"{done.events} events, record at version {done.version}; check it with verify --export")
        console.print(f"export {done.hash}", markup=False)
