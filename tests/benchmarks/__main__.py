"""`python -m tests.benchmarks [--quick] [--history CLIENTS] [--out FILE]`: figures, as a table and as JSON lines."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from . import append, cosmos, cosmos_history, http, memory, projecting, rebuild, topic, verify, worker
from .harness import Figure, report


def all_figures(*, quick: bool) -> Iterator[Figure]:
    """The figures, in the order in which they are measured."""
    yield from append.figures(320, 1 if quick else 15)
    yield from projecting.figures(100 if quick else 1000, 1 if quick else 3)
    if not quick:
        yield from (figure._replace(name=f"{figure.name}, 200,000 events") for figure in projecting.figures(10_000, 1))
    yield from history_figures(100 if quick else 5000, 1)
    yield from http.figures(500 if quick else 5000)
    yield from cosmos.figures(10 if quick else 1000)
    yield from topic.figures(*((200, 2, 40, 1) if quick else (20_000, 20, 400, 7)))
    yield from cosmos_history.figures(2000 if quick else 100_000)
    yield from worker.figures(20 if quick else 2000, 1 if quick else 5)
    yield from memory.figures((50, 200) if quick else (1000, 10_000))


def history_figures(clients: int, rounds: int) -> Iterator[Figure]:
    """Rebuilding and verifying, with 20 events for each client."""
    with rebuild.old_data(clients) as projected:
        yield from rebuild.figures(projected, clients, rounds)
        yield from verify.figures(projected, clients, rounds)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--history", type=int, metavar="CLIENTS", help="only rebuild and verify, of so many clients")
    parser.add_argument("--rounds", type=int, default=1, help="of --history")
    parser.add_argument("--out", type=Path, help="file for the JSON lines")
    arguments = parser.parse_args()
    report(
        all_figures(quick=arguments.quick)
        if arguments.history is None
        else history_figures(arguments.history, arguments.rounds),
        arguments.out,
    )


if __name__ == "__main__":
    main()
