"""Reading a file to import: JSON lines or CSV, a line at a time, each with its number."""

import csv
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from eventstore import FieldProblem

from .errors import ImportFileError, InputRefusedError
from .request_body import BodyError, parse_json

_MAX_LINE = 1_000_000  # bytes; a longer one is no line of data
_MAX_ROW = 100  # lines that a CSV row may span: bounds what has to be read again after a quote that is never closed


class Line(NamedTuple):
    """A line of the file.

    Attributes:
        number: counts from 1; of a CSV row that spans lines, the first.
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


def csv_lines(file: BinaryIO, columns: Mapping[str, str], key: str | None) -> Iterator[Line]:
    """The rows of a CSV file with a header; an empty cell is left out of the payload.

    A quote that is never closed takes no other line with it: the line it stands on is refused, and reading goes on with
    the next one.

    Args:
        file: comma separated, UTF-8; blanks after a comma do not matter. A cell in quotes may span lines, a row at most
            100 of them.
        columns: payload field by column, for those that are called differently; an empty field leaves a column out.
        key: the column that identifies a row, if one does.

    Raises:
        ImportFileError: there is no header, or a column to be renamed or the key is not in it.
    """
    texts = _Texts(file)
    header = _header(texts, {*columns, *([] if key is None else [key])})
    names = [columns.get(column, column) for column in header]
    rows = _reader(texts)
    while True:
        texts.row.clear()
        try:
            row = next(rows, None)
        except csv.Error:
            row, problem = [], "no CSV: a quote does not match, or a cell is too long"
        else:
            if row is None:
                return
            if not row:
                continue
            problem = f"{len(row)} columns, {len(header)} were expected"
        if len(row) == len(header):
            payload = {name: cell for name, cell in zip(names, row, strict=True) if name and cell}
            yield texts.line(dict(zip(header, row, strict=True)), payload)
            continue
        texts.give_back()
        rows = _reader(texts)
        yield texts.line({}, InputRefusedError("malformed_csv", [FieldProblem("(whole)", problem)]))


def _header(texts: "_Texts", needed: Collection[str]) -> list[str]:
    try:
        header = next(_reader(texts), None)
    except csv.Error as error:
        raise ImportFileError(f"The header cannot be read: {error}.") from None
    if not header or len(set(header)) < len(header):
        raise ImportFileError("The first line must name the columns, each once.")
    missing = set(needed) - set(header)
    if missing:
        raise ImportFileError(f"There is no column {min(missing)!r}; the file has {', '.join(header)}.")
    return header


def _reader(texts: "_Texts") -> Iterator[list[str]]:
    return csv.reader(texts, skipinitialspace=True, strict=True)


class _Read(NamedTuple):
    """A physical line of the file: its number, its text, and where it ends."""

    number: int
    text: str
    end: int


class _Texts:
    """The file's lines as text for the CSV reader, remembering those of the present row."""

    def __init__(self, file: BinaryIO) -> None:
        # What is no UTF-8 becomes a lone surrogate, which the intake refuses with the name of the field.
        self._fresh = (_Read(number, raw.decode(errors="surrogateescape"), end) for number, raw, end in _bounded(file))
        self._again: list[_Read] = []
        self.row: list[_Read] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.row) == _MAX_ROW:
            raise csv.Error(f"a row of more than {_MAX_ROW} lines")
        read = self._again.pop() if self._again else next(self._fresh)
        self.row.append(read)
        return read.text

    def give_back(self) -> None:
        """Read all lines of the present row but the first once more, as rows of their own."""
        self._again += reversed(self.row[1:])
        del self.row[1:]

    def line(self, fields: Mapping[str, Any], payload: dict[str, Any] | InputRefusedError) -> Line:
        """The present row as line of the file."""
        text = "".join(read.text for read in self.row)
        raw = text.encode(errors="surrogateescape").decode(errors="replace")
        return Line(self.row[0].number, raw, fields, payload, self.row[-1].end)


def _bounded(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Number, content and end of each line; a byte order mark is no content.

    Raises:
        ImportFileError: a line is longer than any data.
    """
    lines: Iterable[bytes] = iter(lambda: file.readline(_MAX_LINE + 1), b"")
    read = 0
    for number, raw in enumerate(lines, 1):
        if len(raw) > _MAX_LINE:
            raise ImportFileError(f"Line {number} is longer than {_MAX_LINE} bytes; is it a file of lines?")
        read += len(raw)
        yield number, raw.removeprefix(BOM_UTF8) if number == 1 else raw, read
