"""Bulk import: the lines of a file go through the same intake as everything else, in constant memory."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from eventstore import FieldProblem, Rejection, SqliteDatabase

from .domain import Source
from .errors import InputRefusedError
from .intake import Accepted, Delivered
from .lines import Line, csv_lines, json_lines, opened
from .runtime import Runtime

_PORTION = 500  # lines in memory at once


class RejectedLine(NamedTuple):
    """A line that could not become events."""

    number: int
    error: InputRefusedError


class Imported(NamedTuple):
    """What an import did so far.

    Attributes:
        lines: lines with data.
        appended: events that are new.
        duplicates: events that had been there before.
        rejected: lines that were kept as rejections.
        read: bytes of the file read.
    """

    lines: int = 0
    appended: int = 0
    duplicates: int = 0
    rejected: int = 0
    read: int = 0


def import_file(
    runtime: Runtime,
    source: Source,
    path: Path,
    *,
    columns: Mapping[str, str],
    key: str | None,
    on_reject: Callable[[RejectedLine], None],
    on_portion: Callable[[Imported], None],
) -> Imported:
    """Append what a file holds; running it again adds nothing.

    Args:
        runtime: the application.
        source: whose payload a line is.
        path: `.csv` with a header line, anything else is JSON lines.
        columns: payload field by CSV column, for those that are called differently; an empty field leaves it out.
        key: column or JSON key that identifies a line; without it a line is identified by its hash and by how often it
            occurred before.
        on_reject: told about each line that was refused.
        on_portion: told after each portion what was done so far.

    Raises:
        ImportFileError: the file cannot be read at all.
        StoreUnavailableError: the store is out of reach; run the import again.
    """
    total = Imported()
    with (
        TemporaryDirectory(prefix="client-flow-") as scratch,
        opened(path) as file,
        closing(_Occurrences(Path(scratch))) as counts,
    ):
        lines = csv_lines(file, columns, key) if path.suffix.lower() == ".csv" else json_lines(file)
        while portion := list(islice(lines, _PORTION)):
            keys = [_column(line, key) for line in portion] if key else counts.keys(portion)
            results = _accept(runtime, source, portion, keys)
            rejections: list[Rejection] = []
            for line, each, result in zip(portion, keys, results, strict=True):
                if isinstance(result, InputRefusedError):
                    on_reject(RejectedLine(line.number, result))
                    rejections.append(_rejection(runtime, source, line, each, result))
                    continue
                new = sum(not accepted.duplicate for accepted in result)
                total = total._replace(appended=total.appended + new, duplicates=total.duplicates + len(result) - new)
            runtime.backend.rejections.add(rejections)
            total = total._replace(
                lines=total.lines + len(portion), rejected=total.rejected + len(rejections), read=portion[-1].read
            )
            on_portion(total)
    return total


def _accept(
    runtime: Runtime, source: Source, portion: Sequence[Line], keys: Sequence[str | InputRefusedError]
) -> list[list[Accepted] | InputRefusedError]:
    results: list[list[Accepted] | InputRefusedError] = []
    deliveries: list[Delivered] = []
    for line, key in zip(portion, keys, strict=True):
        refused = next((each for each in (line.payload, key) if isinstance(each, InputRefusedError)), None)
        results.append([] if refused is None else refused)
        if refused is None:
            deliveries.append(Delivered(line.payload, key=str(key)))
    accepted = iter(runtime.intake.accept_all(source, deliveries))
    return [result if isinstance(result, InputRefusedError) else next(accepted) for result in results]


def _rejection(
    runtime: Runtime, source: Source, line: Line, key: str | InputRefusedError, error: InputRefusedError
) -> Rejection:
    payload = line.raw if isinstance(line.payload, InputRefusedError) else line.payload
    delivered = Delivered(payload, key=None if isinstance(key, InputRefusedError) else key)
    at_line = [FieldProblem(f"line {line.number}, {path}", problem) for path, problem in error.problems]
    return runtime.rejection(source, delivered, InputRefusedError(error.code, at_line))


def _column(line: Line, key: str) -> str | InputRefusedError:
    value = line.fields.get(key)
    if type(value) in {str, int} and value != "":
        return str(value)
    return InputRefusedError("event_key_missing", [FieldProblem(key, "the event key: a text or integer")])


class _Occurrences:
    """Tells equal lines apart by counting them, on disk, since a file may have more lines than fit in memory."""

    def __init__(self, directory: Path) -> None:
        table = "CREATE TABLE occurrences (hash TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID"
        self._database = SqliteDatabase(directory / "occurrences.db", [[table]])

    def keys(self, lines: Sequence[Line]) -> list[str]:
        """For each line its hash and how often it occurred, this time included."""
        hashes = [sha256(line.raw.strip().encode()).hexdigest()[:32] for line in lines]
        return self._database.write(
            lambda connection: [
                f"{each}-{number}"
                for each in hashes
                for (number,) in connection.execute(
                    "INSERT INTO occurrences VALUES (?, 1) "
                    "ON CONFLICT (hash) DO UPDATE SET number = number + 1 RETURNING number",
                    (each,),
                ).fetchall()
            ]
        )

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
