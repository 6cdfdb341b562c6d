"""What commands print: tables for people, JSON for programs, errors in one line; exit codes tell."""

import getpass
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import wraps
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from eventstore import EventStoreError, InvalidClientIdError, check_client_id
from functions_app.errors import FlowError, NoDataError
from functions_app.runtime import Runtime, open_runtime
from functions_app.settings import Settings
from integrations import IntegrationError
from projections import ProjectionError

FAILED: Final = 1
"""Exit code of a command that could not do its work."""
ATTENTION: Final = 3
"""Exit code of a command that did its work and found something that needs a person."""

_open = ExitStack()  # what the command that runs has opened
console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this only what would be done is shown.")]


def _client_id(text: str | None) -> str | None:
    try:
        return None if text is None else check_client_id(text)
    except InvalidClientIdError as error:
        raise typer.BadParameter(str(error)) from None


Client = Annotated[str, typer.Argument(help="Client id in its text form.", show_default=False, callback=_client_id)]
AnyClient = Annotated[str | None, typer.Argument(help="One client; all if not given.", callback=_client_id)]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def command(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a command close what it opened, and end with its error's message and exit code 1 instead of a traceback."""

    @wraps(function)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            with _open:
                return function(*args, **kwargs)
        except (EventStoreError, ProjectionError, IntegrationError, FlowError) as error:
            errors.print(Text(str(error), style="red"))
            raise typer.Exit(FAILED) from None

    return guarded


def opened(*, anew: bool = False) -> Runtime:
    """The runtime that the environment describes, closed when the command ends.

    Args:
        anew: make a data directory where there is none; without it, a mistyped one would look like one without clients.

    Raises:
        NoDataError: there is none.
    """
    settings = Settings()
    data = settings.data
    if not settings.on_azure and not data.is_dir() and (data.exists() or not anew):
        raise NoDataError(data)
    return _open.enter_context(closing(open_runtime(settings)))


def login() -> str:
    """Who types."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"


def caller() -> str:
    """What the access log calls who types."""
    return f"cli:{login()}"


def opened_for(what: str, client_id: str | None = None, *, anew: bool = False) -> Runtime:
    """The runtime that the environment describes, for what is entered in the access log first.

    Args:
        what: the command and what it is to do, without ids or values of a client.
        client_id: the client it is about, if it is about one.
        anew: make a data directory where there is none.

    Raises:
        NoDataError: there is none.
        AccessNotRecordedError: it could not be entered, so it must not be done.
    """
    runtime = opened(anew=anew)
    runtime.accesses.record(caller(), what, client_id)
    return runtime


def print_json(document: Any) -> None:
    """Print one JSON document on one line."""
    typer.echo(orjson.dumps(document).decode())


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table. Cells are printed as they are: what came from outside is never read as markup or control codes."""
    table = Table(title=Text(title), title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    console.print(table)


def print_fields(title: str, fields: Mapping[str, Any]) -> None:
    """Print names and values as a table."""
    print_table(title, ["", ""], fields.items())


def progress() -> Progress:
    """A progress bar on standard error, so that standard output stays clean."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
    )


def dry_run(what: str) -> None:
    """Say that nothing was done."""
    console.print(Text(f"Nothing was done. With --yes: {what}.", style="yellow"))


def _shown(cell: Any) -> str:
    if cell is None:
        return "-"
    text = cell if isinstance(cell, str) else orjson.dumps(cell).decode()
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
