"""What every part of ``make bench`` shares: timing in turn, and rows of a table."""

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

ROOT = Path(__file__).parent.parent.parent


def seconds(function: Callable[[], object], least: float = 0.3) -> float:
    """Mean wall time of a call (s), repeated for at least ``least`` seconds."""
    function()
    calls, spent = 0, 0.0
    while not calls or spent < least:
        started = perf_counter()
        function()
        spent += perf_counter() - started
        calls += 1
    return spent / calls


def in_turn(cases: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure the cases A B C A B C ..., so that a busy machine slows all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            times[name].append(case())
    return times


def row(figure: str, values: list[float] | np.ndarray, unit: str, bar: str = "") -> dict[str, str | float]:
    """One line of the table: spread over the rounds, and what was asked for."""
    low, mid, high = np.percentile(np.asarray(values, dtype=float), [0, 50, 100])
    return {"figure": figure, "unit": unit, "min": low, "median": mid, "max": high, "asked": bar}


def ratio(figure: str, a: list[float], b: list[float], bar: str = "") -> dict[str, str | float]:
    """a / b, round by round."""
    return row(figure, np.divide(a, b), "ratio", bar)


def hand_over(rows: list[dict[str, str | float]]) -> None:
    """Print rows for ``studies/speed`` to collect."""
    for line in rows:
        print(json.dumps(line), flush=True)
