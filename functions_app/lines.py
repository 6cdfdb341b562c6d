"""Reading a file to import: JSON lines or CSV, a line at a time, each with its number."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from eventstore import FieldProblem

from .errors import ImportFileError, InputRefusedError
from .request_body import BodyError, parse_json

_MAX_LINE = 1_000_000  # bytes; a longer one is no line of data


class Line(NamedTuple):
    """A line of the file.

    Attributes:
        number: counts from 1; of a CSV row that spans lines, the last.
        raw: the line as text, what is kept of it if it is refused.
        fields: by column name or JSON key.
        payload: JSON object for the source, or why there is none.
        read: bytes of the file read so far.
    """

    number: int
    raw: str
    fields: Mapping[str, Any]
    payload: dict[str, Any] | InputRefusedError
    read: int


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading.

    Raises:
        ImportFileError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ImportFileError(f"The file cannot be read: {error.strerror}.") from error


def json_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of a JSON lines file; blank ones are skipped."""
    for number, raw, read in _bounded(file):
        if not raw.strip():
            continue
        text = raw.decode(errors="replace")
        try:
            payload = parse_json(raw)
        except BodyError as error:
            yield Line(number, text, {}, InputRefusedError(error.code, [FieldProblem("(whole)", error.title)]), read)
            continue
        if isinstance(payload, dict):
            yield Line(number, text, payload, payload, read)
        else:
            problem = FieldProblem("(whole)", "a JSON object was expected")
            yield Line(number, text, {}, InputRefusedError("invalid_payload", [problem]), read)


def csv_lines(file: BinaryIO, columns: Mapping[str, str]) -> Iterator[Line]:
    """The rows of a CSV file with a header; an empty cell is left out of the payload.

    Args:
        file: comma separated, UTF-8; blanks after a comma do not matter.
        columns: payload field by column, for those that are called differently; an empty field leaves a column out.

    Raises:
        ImportFileError: there is no header, or a column to be renamed is not in it.
    """
    texts = _Texts(file)
    rows = csv.reader(texts, skipinitialspace=True, strict=True)
    try:
        header = next(rows, None)
    except csv.Error as error:
        raise ImportFileError(f"The header cannot be read: {error}.") from None
    if not header or len(set(header)) < len(header):
        raise ImportFileError("The first line must name the columns, each once.")
    unknown = set(columns) - set(header)
    if unknown:
        raise ImportFileError(f"There is no column {min(unknown)!r}; the file has {', '.join(header)}.")
    names = [columns.get(column, column) for column in header]
    while True:
        texts.row.clear()
        try:
            row = next(rows, None)
        except csv.Error:
            problem = FieldProblem("(whole)", "no CSV: quotes do not match")
            yield texts.line({}, InputRefusedError("malformed_csv", [problem]))
            continue
        if row is None:
            return
        if not row:
            continue
        if len(row) != len(header):
            problem = FieldProblem("(whole)", f"{len(row)} columns, {len(header)} were expected")
            yield texts.line({}, InputRefusedError("malformed_csv", [problem]))
        else:
            payload = {name: cell for name, cell in zip(names, row, strict=True) if name and cell}
            yield texts.line(dict(zip(header, row, strict=True)), payload)


class _Texts:
    """The file's lines as text for the CSV reader, remembering those of the present row."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _bounded(file)
        self._number = self._read = 0
        self.row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._number, raw, self._read = next(self._lines)
        # What is no UTF-8 becomes a lone surrogate, which the intake refuses with the name of the field.
        text = raw.decode("utf-8-sig" if self._number == 1 else "utf-8", errors="surrogateescape")
        self.row.append(text)
        return text

    def line(self, fields: Mapping[str, Any], payload: dict[str, Any] | InputRefusedError) -> Line:
        """The present row as line of the file."""
        raw = "".join(self.row).encode(errors="surrogateescape").decode(errors="replace")
        return Line(self._number, raw, fields, payload, self._read)


def _bounded(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Number, content and end of each line.

    Raises:
        ImportFileError: a line is longer than any data.
    """
    lines: Iterable[bytes] = iter(lambda: file.readline(_MAX_LINE + 1), b"")
    read = 0
    for number, raw in enumerate(lines, 1):
        if len(raw) > _MAX_LINE:
            raise ImportFileError(f"Line {number} is longer than {_MAX_LINE} bytes; is it a file of lines?")
        read += len(raw)
        yield number, raw, read
