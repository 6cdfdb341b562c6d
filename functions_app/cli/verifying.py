"""The command verify: what is stored beside what the events come to, a seal, or an export."""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from eventstore import check_sealed, open_seal
from functions_app.export import check_export
from functions_app.rebuild_status import count_clients
from functions_app.runtime import Runtime
from functions_app.verifying import Result, all_clients, pages_of, sample, verify_clients
from projections import ABSENT, Difference, UnknownClientError

from .output import (
    ATTENTION,
    AnyClient,
    AsJson,
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
_BESIDE = {  # what may be given together with what decides the kind of work
    "--export": set[str](),
    "--seal": set[str](),
    "--acknowledge": {"CLIENT"},
    "CLIENT": {"--acknowledge", "--heal", "--values", "--yes", "--workers"},
}
_NEEDS = {"--acknowledge": "CLIENT", "--seed": "--sample", "--yes": "--heal"}


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
    _refuse_what_makes_no_sense(
        {
            "CLIENT": client is not None,
            "--sample": sample_size is not None,
            "--seed": seed is not None,
            "--workers": workers > 1,
            "--seal": seal_file is not None,
            "--export": export_file is not None,
            "--heal": heal,
            "--acknowledge": acknowledge,
            "--values": values,
            "--yes": yes,
        }
    )
    if export_file is not None:
        _check_export(export_file, as_json=as_json)
        return
    done = "".join([" --heal"] * (heal and yes) + [" --acknowledge"] * acknowledge + [" --values"] * values)
    runtime = opened_for(f"verify{done}", client)
    if seal_file is not None:
        _check_seal(runtime, seal_file, as_json=as_json)
        return
    if acknowledge and client is not None:
        known = runtime.findings.acknowledge(client)
        console.print("It is acknowledged" if known else "Nothing was found of this client")
        return
    chosen = _chosen(runtime, client, sample_size, seed)
    total, shown = _verify(runtime, chosen, heal=heal and yes, workers=workers)
    if client is not None and not (total["events"] or shown):
        raise UnknownClientError(client)
    if total["without_events"] and count_clients(runtime) == 0:
        errors.print(
            "The event store holds no client at all, although documents of clients are stored. Is it the right one, "
            "and whole? Nothing is removed.",
            style="bold red",
        )
    if as_json:
        print_json({**total, "results": [_result_json(result, values=values) for result in shown]})
    else:
        _print_results(shown, total, values=values, healed=heal and yes)
        if heal and not yes and shown:
            dry_run("the documents listed are mended; what was announced wrongly is announced anew")
    if total["left"]:
        raise typer.Exit(ATTENTION)


def _refuse_what_makes_no_sense(options: Mapping[str, bool]) -> None:
    """Refuse options of which one would be ignored."""
    given = {name for name, is_given in options.items() if is_given}
    for name, beside in _BESIDE.items():
        if name in given and (others := given - beside - {name}):
            raise typer.BadParameter(f"{name} and {min(others)}: give one or the other")
    for name, needed in _NEEDS.items():
        if name in given and needed not in given:
            raise typer.BadParameter(f"{name} needs {needed}")


def _chosen(runtime: Runtime, client: str | None, number: int | None, seed: int | None) -> Sequence[str] | None:
    """The clients to verify, None for all."""
    if number is not None:
        return sample(all_clients(runtime), number, seed=secrets.randbits(32) if seed is None else seed)
    return None if client is None else [client]


def _verify(
    runtime: Runtime, chosen: Sequence[str] | None, *, heal: bool, workers: int
) -> tuple[dict[str, int], list[Result]]:
    """Counts, and what is to be listed."""
    total = Counter(clients=0, events=0, without_events=0, not_folded=0, differing=0, left=0)
    shown: list[Result] = []
    with progress() as bar:
        task = bar.add_task("clients", total=count_clients(runtime) if chosen is None else len(chosen))
        pages = all_clients(runtime) if chosen is None else pages_of(chosen)
        for portion in verify_clients(runtime, pages, heal=heal, workers=workers):
            total["clients"] += portion.clients
            total["events"] += portion.events
            total["without_events"] += portion.without_events
            total["not_folded"] += portion.not_folded
            total["differing"] += len(portion.differing)
            total["left"] += sum(bool(result.left) for result in portion.differing)
            shown += portion.differing[: _SHOWN - len(shown)]
            bar.update(task, advance=portion.clients)
    return dict(total), shown


def _print_results(results: Sequence[Result], total: Mapping[str, int], *, values: bool, healed: bool) -> None:
    if results:
        _print_differences(results, values=values)
    if total["differing"] > len(results):
        console.print(f"and {total['differing'] - len(results)} more clients")
    still = f", {total['left']} still" if healed else ""
    console.print(f"{total['clients']} clients, {total['events']} events: {total['differing']} clients differ{still}")
    if total["not_folded"]:
        console.print(
            f"{total['not_folded']} of them this version of the projection has not folded yet, "
            "so there was nothing of it to compare"
        )


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
        record = "no record" if found.version is None else f"record at version {found.version}"
        console.print(f"{found.client_id}: {found.events} events, {record}; it {state}", markup=False)
        console.print(f"export {found.hash}", markup=False)
    if found.problems:
        raise typer.Exit(ATTENTION)
