"""How fast events are appended."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from eventstore import ANY, SqliteEventStore, open_events

from .harness import Figure, compared, in_portions, rates
from .plain import PlainTable, row
from .workload import change, encoded, event_data

_CALLERS = 32
_BATCH = 100
_LONG = 10_000


def figures(scale: int, rounds: int) -> Iterator[Figure]:
    """One caller, 32 callers, 100 events a call, a short and a long stream."""
    with TemporaryDirectory() as directory:
        store = SqliteEventStore(open_events(Path(directory)))
        plain = PlainTable(Path(directory))
        fresh = count()

        def appends(calls: int, prefix: str, size: int) -> Callable[[], int]:
            """Calls of so many events each; checking and encoding the events is part of the work."""
            numbers = [next(fresh) for _ in range(calls)]
            models = [(number, [change(number, place) for place in range(size)]) for number in numbers]

            def run() -> int:
                for number, facts in models:
                    events = [encoded(fact, number, place) for place, fact in enumerate(facts)]
                    store.append(f"{prefix}{number % 1000 if size == 1 else number}", events, expected_version=ANY)
                return calls * size

            return run

        def inserts(transactions: int, size: int) -> Callable[[], int]:
            """Transactions of so many rows each; the rows are there before the clock starts."""
            numbers = [next(fresh) for _ in range(transactions)]
            rows = [
                [row(f"p{number}", place, event_data(number, place)) for place in range(size)] for number in numbers
            ]

            def run() -> int:
                for each in rows:
                    plain.insert(each)
                return transactions * size

            return run

        def together() -> Callable[[], int]:
            works = [appends(scale // _CALLERS, f"t{caller}-", 1) for caller in range(_CALLERS)]

            def run() -> int:
                with ThreadPoolExecutor(_CALLERS) as pool:
                    return sum(pool.map(lambda work: work(), works))

            return run

        one, base, many, hundred, plain_hundred = rates(
            rounds,
            lambda: appends(scale, "", 1),
            lambda: inserts(scale, 1),
            together,
            lambda: appends(scale * 4 // _BATCH, "b", _BATCH),
            lambda: inserts(scale * 4 // _BATCH, _BATCH),
        )
        yield compared("append, one caller", one, "events/s", ("plain sqlite3, one commit each", base), 0.75)
        yield compared("append, 32 callers", many, "events/s", ("plain sqlite3, one commit each", base), 2.5)
        yield compared("append, 100 a call", hundred, "events/s", ("plain executemany", plain_hundred), 0.5)

        for portion in in_portions(_LONG, _BATCH):
            store.append("long", [event_data(7, place) for place in portion], expected_version=ANY)

        def to(client_id: str) -> Callable[[], int]:
            events = [event_data(7, _LONG + next(fresh)) for _ in range(scale // 4)]

            def run() -> int:
                for event in events:
                    store.append(client_id, [event], expected_version=ANY)
                return len(events)

            return run

        long, short = rates(rounds, lambda: to("long"), lambda: to(f"short{next(fresh)}"))
        yield compared("append to a stream of 10,000", long, "events/s", ("to a short stream", short), 0.9)
