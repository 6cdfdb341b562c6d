"""Measuring: work is timed in alternating rounds, so that a machine that slows down slows all of it down alike."""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Figure(NamedTuple):
    """One measured figure.

    Attributes:
        name: what was measured.
        value: median of the rounds.
        unit: of the value.
        compared_with: what it stands beside in the same run, None if it stands alone.
        ratio: how it compares; above 1 is better than what it is compared with.
        target: the least ratio, or the most for a memory or latency limit; None if there is none.
        met: whether it is kept.
    """

    name: str
    value: float
    unit: str
    compared_with: str | None = None
    ratio: float | None = None
    target: float | None = None
    met: bool | None = None


def compared(
    name: str, values: Sequence[float], unit: str, other: tuple[str, Sequence[float]], target: float | None
) -> Figure:
    """A figure beside another one of the same rounds; more is better. The ratio is the median of the rounds' ratios."""
    ratio = statistics.median(value / beside for value, beside in zip(values, other[1], strict=True))
    return Figure(
        name, statistics.median(values), unit, other[0], ratio, target, None if target is None else ratio >= target
    )


def limited(name: str, value: float, unit: str, most: float) -> Figure:
    """A figure that should stay under a limit."""
    return Figure(name, value, unit, target=most, met=value <= most)


Work = Callable[[], Callable[[], int]]
"""Makes ready, outside the clock, what is then timed; that says how much it has done."""


def rates(rounds: int, *works: Work) -> list[list[float]]:
    """Rates of each work in each round, in what it says to have done a second.

    The works take turns, in reversed order every other round, so that each meets the same moods of the machine.
    """
    measured: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        turns = list(zip(works, measured, strict=True))
        for work, results in turns if number % 2 == 0 else reversed(turns):
            ready = work()
            gc.collect()
            started = time.perf_counter()
            done = ready()
            results.append(done / (time.perf_counter() - started))
    return measured


def report(figures: Iterable[Figure], out: Path | None) -> None:
    """Print a table as the figures come, and write a JSON object for each line to `out`."""
    console = Console()
    shown = Table("figure", "value", "compared with", "ratio", "target", "", box=None)
    if out is not None:
        out.write_text("", "utf-8")
    for figure in figures:
        console.print(f"  {figure.name}: {figure.value:,.2f} {figure.unit}", markup=False, highlight=False)
        if out is not None:
            with out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(figure._asdict()) + "\n")
        shown.add_row(
            figure.name,
            f"{figure.value:,.2f} {figure.unit}",
            figure.compared_with or "",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            "" if figure.target is None else f"{figure.target:g}",
            {True: "met", False: "MISSED", None: ""}[figure.met],
        )
    console.print(shown)


def in_portions(total: int, size: int) -> Iterator[range]:
    """The numbers below `total` in ranges of `size`."""
    return (range(start, min(start + size, total)) for start in range(0, total, size))
