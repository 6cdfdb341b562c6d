"""Bulk import: files of lines go through the same intake, each line on its own, in constant memory."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventstore import RecordedEvent
from functions_app import ImportFileError, Runtime
from functions_app.bulk import Imported, RejectedLine, import_file
from tests.support.flow import listening, open_flow

CANARY = "Canary7"

# In the shape of a public record-linkage data set: blanks after commas, missing cells, typing errors, an impossible
# date. The people are made up.
REGISTRY = """\
rec_id, given_name, surname, street_number, address_1, address_2, suburb, postcode, state, date_of_birth, soc_sec_id
rec-0-org, imogen, hale, 14, kestrel street, the mews, weston, 2615, nsw, 19620814, 7701345
rec-0-dup-0, imogem, hale, 14, kestrelstreet, the mews, weston, 2615, nsw, 19620814, 7701345
rec-0-dup-1, imogen, , 41, kestrel street, , weston, 2651, nsw, 19620814, 7701345
rec-1-org, tobias, okafor, 3, banksia close, , norbury, 4350, qld, 19751102, 8820146
rec-1-dup-0, okafor, tobias, 3, banksia close, , norbury, 4350, qld, 19751102, 8820146
rec-2-org, maeve, lindqvist, , station road, "rosedale, block b", harrow, 3073, vic, 19880229, 1234567
rec-2-dup-0, maeve, lindqvist, , station road, "rosedale, block b", harrow, 3073, vic, 19880230, 1234567
rec-3-org, , petrov, 220, gum tree drive, , glenfield, 5158, sa, , 9941200
rec-4-org, yusuf, demir, 8, wharf lane, , portside, 7000, tas, 19401231, 3300189
rec-4-dup-0, yusuf, demir, 8, wharf lane, , portside, , tas, 19401231, 3300189
rec-5-org, chloe, nakamura, 77, acacia avenue, unit 4, eastlake, 2604, act, 19930607, 5612378
rec-5-dup-0, chloe, nakamura, 77, acacia avenue, unit 4, eastlake, 26O4, act, 19930607, 5612378
rec-6-org, dmitri, walsh, 1, mill court, , hopetoun, 6348, wa, 19690921, 4478213
rec-7-org, priya, "o'brien", 19, fern crescent, , darley, 3340, vic, 20010101, 2290457
rec-7-dup-0, priya, "o'brien", 19, fern crescent, , darley, 3340, vic, 20010101, 2290457
rec-8-org, hugo, silva, 5, lakeview parade, , taree, 2430, nsw, 19550505, 6019284
rec-9-org, anna, kowalski, 101, windmill road, flat 2, millgrove, 3799, vic, 19790317, 7183920
rec-9-dup-0, anna, kowalski, 101, windmill road, flat 2, millgrove, 3799, vic, 19790317, 7183920
rec-9-dup-1, ana, kowalsky, 110, windmill rd, flat 2, milgrove, 3799, vic, 19790317, 7183920
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return open_flow(tmp_path / "data")


class Import:
    """Imports files and remembers what was rejected."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime, self.directory = runtime, directory
        self.rejected: list[tuple[int, str]] = []
        self.problems: list[str] = []

    def __call__(
        self,
        name: str,
        content: str | bytes,
        *,
        source: str | None = None,
        columns: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Imported:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.rejected.clear()
        return import_file(
            self.runtime,
            self.runtime.domain.source(source or ("registry" if name.endswith(".csv") else "crm")),
            path,
            columns=columns or {},
            key=key,
            on_reject=self._on_reject,
            on_portion=lambda _: None,
        )

    def _on_reject(self, line: RejectedLine) -> None:
        self.rejected.append((line.number, line.error.code))
        self.problems += [f"{path}: {problem}" for path, problem in line.error.problems]

    def events(self) -> list[RecordedEvent]:
        return list(self.runtime.backend.feed.feed("all", after=None, limit=1_000_000).events)


@pytest.fixture
def imported(runtime: Runtime, tmp_path: Path) -> Import:
    return Import(runtime, tmp_path)


def change(change_id: str, person: int = 1, email: str = "a@example.org") -> dict[str, Any]:
    return {
        "change_id": change_id,
        "person": person,
        "changed_at": "2026-01-01T00:00:00Z",
        "contact": {"email": email},
    }


def lines(*documents: Any) -> bytes:
    return b"\n".join(map(orjson.dumps, documents)) + b"\n"


# --- CSV -------------------------------------------------------------------------------------------------------------


def test_a_registry_file_becomes_persons(imported: Import) -> None:
    """Entries about one person are events of one client; an impossible date and a letter in a postcode are refused."""
    done = imported("registry.csv", REGISTRY, key="rec_id")
    assert (done.lines, done.rejected, done.duplicates) == (19, 2, 0)
    assert imported.rejected == [(8, "invalid_payload"), (13, "invalid_payload")]
    events = imported.events()
    assert len(events) == done.appended == 34
    assert {event.client_id for event in events} == set("0123456789")
    runtime = imported.runtime
    runtime.sweep()
    record = runtime.reader.current("2").model.model_dump(mode="json")
    assert record["identity"] == {
        "given_name": "maeve",
        "surname": "lindqvist",
        "date_of_birth": "1988-02-29",
        "social_security_id": "1234567",
    }
    assert record["address"]["district"] == "rosedale, block b"


def test_a_second_run_adds_nothing(imported: Import) -> None:
    """With a key column and without; rejections are not kept twice either."""
    for key in ("rec_id", None):
        first = imported("registry.csv", REGISTRY, key=key)
        kept = len(imported.runtime.backend.rejections.open())
        again = imported("registry.csv", REGISTRY, key=key)
        assert (again.appended, again.duplicates, again.rejected) == (0, first.appended, first.rejected)
        assert len(imported.runtime.backend.rejections.open()) == kept


def test_without_a_key_equal_lines_are_counted(imported: Import) -> None:
    """The same line twice in a file is two events, and still two when the file comes again with one more."""
    line = lines(change("x"))
    done = imported("twice.jsonl", line * 2)
    assert (done.appended, done.duplicates) == (2, 0)
    done = imported("thrice.jsonl", line * 3)
    assert (done.appended, done.duplicates) == (1, 2)
    assert len({event.event_id for event in imported.events()}) == 3


def test_with_a_key_a_repeated_line_is_one_event(imported: Import) -> None:
    """The key says that it is the same; with other content it is refused."""
    done = imported("k.jsonl", lines(change("a"), change("a"), change("a", email="b@example.org")), key="change_id")
    assert (done.appended, done.duplicates) == (1, 1)
    assert imported.rejected == [(3, "event_id_reused")]
    assert imported.events()[0].event_id == "crm:a"


def test_columns_can_be_renamed_and_left_out(imported: Import) -> None:
    """FIELD=COLUMN gives a column the name of a payload field, an empty FIELD drops it."""
    content = "number,Vorname,surname,comment\nrec-1-org,Ana,Ruiz,anything\n"
    done = imported("renamed.csv", content, columns={"number": "rec_id", "Vorname": "given_name", "comment": ""})
    assert done.appended == 1
    assert imported.events()[0].data["given_name"] == "Ana"


def test_the_key_is_named_as_the_file_names_it(imported: Import) -> None:
    """Renaming changes the payload, not the column."""
    content = "number,given_name\nrec-1-org,Ana\n"
    imported("renamed.csv", content, columns={"number": "rec_id"}, key="number")
    assert imported.events()[0].event_id == "registry:rec-1-org"


@pytest.mark.parametrize(("columns", "key"), [({"nowhere": "rec_id"}, None), ({}, "nowhere")])
def test_a_column_that_is_not_there_stops_the_import(
    imported: Import, columns: dict[str, str], key: str | None
) -> None:
    """Before any line: all of them would be wrong in the same way. The columns there are, are named."""
    with pytest.raises(ImportFileError, match="no column 'nowhere'; the file has rec_id, given_name"):
        imported("missing.csv", "rec_id,given_name\nrec-1-org,Ana\n", columns=columns, key=key)
    assert imported.events() == []
    assert imported.runtime.backend.rejections.open() == []


@pytest.mark.parametrize("content", ["", "\n", "a,a\n1,2\n", '"rec_id\n'], ids=["empty", "blank", "twice", "open"])
def test_a_csv_file_needs_a_header(imported: Import, content: str) -> None:
    """An empty file, a blank first line, a column twice, a quote that is never closed."""
    with pytest.raises(ImportFileError):
        imported("header.csv", content)


def test_a_file_with_nothing_but_a_header_is_an_empty_file(imported: Import) -> None:
    """Nothing to do is no error."""
    assert imported("empty.csv", "rec_id,given_name\n") == Imported()


def test_broken_rows_take_no_other_row_with_them(imported: Import) -> None:
    """An open quote, too few and too many cells: each is refused under its own line number, the rest goes in."""
    content = (
        "rec_id,given_name,surname\n"
        "rec-1-org,Ana,Ruiz\n"
        f'rec-2-org,"{CANARY},Li\n'
        "rec-3-org,Bo,Li\n"
        "rec-4-org,Cy\n"
        "rec-5-org,Di,Ek,Fo\n"
        '"rec-6-org"x,Ed,Ek\n'
        "\n"
        "rec-7-org,Flo,Gil\n"
        'rec-8-org,Hal,"'
    )
    done = imported("broken.csv", content)
    assert [number for number, _ in imported.rejected] == [3, 5, 6, 7, 10]
    assert {code for _, code in imported.rejected} == {"malformed_csv"}
    assert sorted(event.client_id for event in imported.events()) == ["1", "3", "7"]
    assert (done.lines, done.appended, done.rejected) == (8, 3, 5)
    kept = imported.runtime.backend.rejections.open()
    assert CANARY.encode() in kept[0].payload
    assert CANARY not in str([each.problems for each in kept])
    assert kept[0].problems[0].startswith("line 3, ")


def test_an_open_quote_in_a_long_file_costs_one_row(imported: Import) -> None:
    """However far the next quote is: rows after it are not part of the cell."""
    rows = [f"rec-{number}-org,given{number}" for number in range(1, 1001)]
    rows[500] = 'rec-501-org,"open'
    done = imported("long.csv", "rec_id,given_name\n" + "\n".join(rows) + "\n")
    assert (done.lines, done.appended, done.rejected) == (1000, 999, 1)
    assert imported.rejected == [(502, "malformed_csv")]


def test_a_cell_may_span_lines(imported: Import) -> None:
    """The row counts under the number of its first line, and the numbers after it are right."""
    content = 'rec_id,given_name,surname\nrec-1-org,"Ana\nMaria",Ruiz\nrec-2-org,Bo,Li,x\n'
    done = imported("spans.csv", content)
    assert done.appended == 1
    assert imported.events()[0].data["given_name"] == "Ana\nMaria"
    assert imported.rejected == [(4, "malformed_csv")]


def test_what_is_no_utf8_is_refused_where_it_stands(imported: Import) -> None:
    """In CSV the field is named; in JSON lines the line. Its neighbours are accepted."""
    content = b"rec_id,given_name\nrec-1-org,Ana\nrec-2-org,B\xf6rn\nrec-3-org,Cy\n"
    imported("latin.csv", content)
    assert [number for number, _ in imported.rejected] == [3]
    assert any(problem.startswith("given_name: ") for problem in imported.problems)
    imported("latin.jsonl", lines(change("a")) + b'{"change_id": "\xff"}\n' + lines(change("b")))
    assert imported.rejected == [(2, "malformed_json")]
    assert [event.client_id for event in imported.events()] == ["1", "3", "1", "1"]


def test_a_byte_order_mark_is_no_content(imported: Import) -> None:
    """Spreadsheets put one in front."""
    assert imported("bom.csv", b"\xef\xbb\xbfrec_id,given_name\nrec-1-org,Ana\n").appended == 1
    assert imported("bom.jsonl", b"\xef\xbb\xbf" + lines(change("a"))).appended == 1


def test_windows_line_ends_are_line_ends(imported: Import) -> None:
    """They are part of neither the last cell nor the last column's name."""
    imported("windows.csv", "rec_id,given_name\r\nrec-1-org,Ana\r\n")
    assert imported.events()[0].data["given_name"] == "Ana"


# --- JSON lines ------------------------------------------------------------------------------------------------------


def test_bad_lines_are_kept_with_their_numbers(imported: Import) -> None:
    """Whatever is wrong with a line, the rest goes in; nothing of its content is in the problem or in a log."""
    content = b"\n".join(
        [
            orjson.dumps(change("a")),
            b"",
            b'{"change_id": "' + CANARY.encode(),
            orjson.dumps([CANARY]),
            orjson.dumps({**change("b"), "person": CANARY}),
            b'{"person": NaN}',
            b'{"a": 1, "a": 2}',
            b"[" * 5000 + b"]" * 5000,
            orjson.dumps(change("c")),
        ]
    )
    with listening() as heard:
        done = imported("bad.jsonl", content)
    assert imported.rejected == [
        (3, "malformed_json"),
        (4, "invalid_payload"),
        (5, "invalid_payload"),
        (6, "malformed_json"),
        (7, "malformed_json"),
        (8, "malformed_json"),
    ]
    assert (done.lines, done.appended) == (8, 2)
    kept = imported.runtime.backend.rejections.open()
    assert [each.problems[0].partition(",")[0] for each in kept] == [f"line {n}" for n in range(3, 9)]
    assert CANARY not in str(imported.problems) + heard.text


def test_a_missing_key_is_refused_line_by_line(imported: Import) -> None:
    """Lines of JSON need not have the same fields."""
    documents = [{**change("a"), "change_id": value} for value in ("k", "", None, 7)]
    imported("keys.jsonl", lines(*documents), key="change_id")
    assert imported.rejected == [
        (2, "event_key_missing"),
        (3, "event_key_missing"),
        (4, "invalid_payload"),
    ]


def test_an_empty_file_is_nothing_to_do(imported: Import) -> None:
    """No line, no event, no error."""
    assert imported("empty.jsonl", "") == Imported()


@pytest.mark.parametrize("name", ["huge.jsonl", "huge.csv"])
def test_a_line_without_end_stops_the_import(imported: Import, name: str) -> None:
    """A megabyte is no line; what came before it is stored, and running again adds the rest."""
    head = "rec_id\nrec-1-org\n" if name.endswith(".csv") else ""
    with pytest.raises(ImportFileError, match="longer than 1000000 bytes"):
        imported(name, head + "x" * 1_000_001)


def test_a_file_that_is_not_there_is_named_by_its_trouble(imported: Import) -> None:
    """A directory cannot be read either."""
    (imported.directory / "folder.csv").mkdir()
    with pytest.raises(ImportFileError, match="cannot be read"):
        import_file(
            imported.runtime,
            imported.runtime.domain.source("registry"),
            imported.directory / "folder.csv",
            columns={},
            key=None,
            on_reject=lambda _: None,
            on_portion=lambda _: None,
        )


def test_an_import_that_was_cut_off_is_completed_by_running_it_again(imported: Import) -> None:
    """Half a file first, then all of it: every line is one event, in the order of the file."""
    documents = [change(f"c-{number}", person=number % 7 + 1) for number in range(1200)]
    imported("cut.jsonl", lines(*documents[:700]))
    done = imported("cut.jsonl", lines(*documents))
    assert (done.appended, done.duplicates) == (500, 700)
    for person in range(1, 8):
        stored = [event.data for event in imported.events() if event.client_id == str(person)]
        assert len(stored) == sum(document["person"] == person for document in documents)


def test_progress_is_told_in_bytes(runtime: Runtime, tmp_path: Path) -> None:
    """After each portion how far the reading is; at the end it is the size of the file."""
    path = tmp_path / "progress.jsonl"
    path.write_bytes(lines(*(change(f"c-{number}") for number in range(1100))))
    told: list[Imported] = []
    done = import_file(
        runtime,
        runtime.domain.source("crm"),
        path,
        columns={},
        key="change_id",
        on_reject=lambda _: None,
        on_portion=told.append,
    )
    assert [each.lines for each in told] == [500, 1000, 1100]
    assert told[-1] == done
    assert done.read == path.stat().st_size
    assert sorted(each.read for each in told) == [each.read for each in told]


# --- memory ----------------------------------------------------------------------------------------------------------

_PEAK = """
import resource, sys
from pathlib import Path
from functions_app import Settings, open_runtime
from functions_app.bulk import import_file
runtime = open_runtime(Settings({"CLIENT_FLOW_DATA": sys.argv[2]}))
done = import_file(runtime, runtime.domain.source("crm"), Path(sys.argv[1]), columns={}, key=None,
                   on_reject=lambda _: None, on_portion=lambda _: None)
print(done.appended, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture
def peak(tmp_path: Path) -> Callable[[int], float]:
    """Imports so many lines in a process of its own and gives its peak memory in MB."""

    def measure(number: int) -> float:
        path = tmp_path / f"{number}.jsonl"
        with path.open("wb") as file:
            for each in range(number):
                file.write(orjson.dumps(change(f"c-{each}", person=each % 50 + 1)) + b"\n")
        command = [sys.executable, "-c", _PEAK, str(path), str(tmp_path / f"data-{number}")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=dict(os.environ))
        appended, kilobytes = map(int, done.stdout.split())
        assert appended == number
        return kilobytes / 1024

    return measure


def test_memory_does_not_grow_with_the_file(peak: Callable[[int], float]) -> None:
    """Ten times the lines, the same peak within 20 MB; nothing of a file is kept but one portion."""
    assert peak(100_000) - peak(10_000) < 20
