"""studies/runs.py and studies/ledger.py: what pages say of runs, by hand."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from lit_maprops.system.files import write_json
from studies import ledger as ledger_module
from studies import runs as runs_module
from studies.cells import difference, mean_success, share
from studies.ledger import Ledger
from studies.runs import SQUARE, Outcome, Run, outcome_of_folders, pooled

PARTS = ("collect", "behavior", "target")
FIGURES = ("joint_tv", "behavior_kl")


def written(folder: Path, success: list[float], seconds: float, joint_tv: float | None, errors: list[float]) -> Path:
    """A finished run: its summary, and two rows of metrics."""
    folder.mkdir(parents=True)
    summary = {"success_rate": success, "wall_seconds": seconds, "joint_tv": joint_tv, "behavior_kl": seconds / 100}
    write_json(folder / "summary.json", summary)
    names = [*(f"time/{part}" for part in PARTS), "sampling_error/joint_tv", "target/kl"]
    rows = [[1 + row, 2.0, 0.25, error, row] for row, error in enumerate(errors)]
    lines = [",".join(names), *(",".join("" if x != x else str(x) for x in row) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_an_outcome_by_hand(tmp_path: Path) -> None:
    """A seed is solved from 0.8 on; figures that a summary lacks are means over training of what was measured."""
    first = written(tmp_path / "a", [1.0, 0.8, 0.79], 10.0, 0.5, [9.0, 9.0])
    second = written(tmp_path / "b", [0.0], 30.0, None, [0.1, math.nan, 0.3])
    found = outcome_of_folders([first, second], ["target/kl", "unknown"], FIGURES)
    assert (found.seeds, found.solved, found.seconds) == (4, 2, 20.0)
    assert found.mean_success == pytest.approx(2.59 / 4)
    assert found.means[SQUARE] == pytest.approx((1 + 0.64 + 0.79**2) / 4)
    assert found.means["joint_tv"] == pytest.approx((0.5 + 0.2) / 2)
    assert found.means["behavior_kl"] == pytest.approx(0.2)
    assert [found.means[f"time/{part}"] for part in PARTS] == pytest.approx(
        [(3 + 6) / 2, (4 + 6) / 2, (0.5 + 0.75) / 2]
    )
    assert found.means["target/kl"] == pytest.approx((0.5 + 1) / 2) and math.isnan(found.means["unknown"])


def test_a_seed_whose_policies_broke_is_not_solved(tmp_path: Path) -> None:
    """Its success rate is null in summary.json."""
    found = outcome_of_folders([written(tmp_path / "a", [1.0, math.nan], 1.0, 0.5, [0.0])], fields=FIGURES)
    assert (found.seeds, found.solved, found.mean_success, found.means[SQUARE]) == (2, 1, 0.5, 0.5)


def result(seeds: int, solved: int, success: float, **means: float) -> Outcome:
    return Outcome(seeds, solved, success, means, float(seeds))


def test_pooled_runs_are_weighted_by_their_seeds() -> None:
    found = pooled([result(1, 1, 1.0, joint_tv=0.2), result(3, 1, 0.2, joint_tv=0.6)])
    assert found == (4, 2, pytest.approx(0.4), {"joint_tv": pytest.approx(0.5)}, pytest.approx(2.5))


def test_cells_of_a_page_by_hand() -> None:
    """Student's t of the mean; Wilson's and Newcombe's intervals have tests of their own."""
    rates = np.array([1.0, 0.9, 0.4, 0.6, 0.8])
    own = result(5, 3, float(rates.mean()), **{SQUARE: float((rates**2).mean())})
    low, high = t.interval(0.95, 4, rates.mean(), rates.std(ddof=1) / math.sqrt(5))
    assert mean_success(own) == f"0.74 [{low:.2f}, {min(1.0, high):.2f}]"
    # Newcombe 1998, Statistics in Medicine 17, Table II, methods 3 and 10.
    assert share(result(70, 56, 0.0)).startswith("80% [")
    assert difference(result(70, 56, 0.0), result(80, 48, 0.0)) == "+20 [+5, +33]"


def test_a_ledger_runs_what_is_missing_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of several run seeds it gives those that are asked for."""
    monkeypatch.setattr(runs_module, "ROOT", tmp_path)
    monkeypatch.setattr(ledger_module, "table_of", lambda study: tmp_path / f"{study}.csv")
    started: list[int] = []

    def complete(asked: list[Run], workers: int) -> None:
        for run in asked:
            started.append(run.run_seed)
            written(run.folder, [1.0, 0.5 * run.run_seed], 10.0 * run.run_seed, 0.125, [0.0])

    monkeypatch.setattr(ledger_module, "complete", complete)
    fields: Any = FIGURES
    runs = {("p", "s", "MAPROPS", str(seed)): Run("study", "name", "x.yaml", [], seed) for seed in (1, 2)}
    Ledger("x", fields, squares=True).fill(runs, 0)
    again = Ledger("x", fields, squares=True)
    again.fill(runs, 2)
    assert started == [1, 2]
    assert again.of("p", "s", "OnPolicy") is None and again.of("p", "s", "MAPROPS", ["3"]) is None
    both, one = again.of("p", "s", "MAPROPS"), again.of("p", "s", "MAPROPS", ["2"])
    assert both is not None and (both.seeds, both.solved, both.seconds) == (4, 3, 15.0)
    assert one is not None and (one.solved, one.mean_success, one.means["joint_tv"]) == (2, 1.0, 0.125)
    assert both.means[SQUARE] == pytest.approx((1 + 0.25 + 1 + 1) / 4)
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run seed"] for row in rows] == ["1", "2"] and {row["time/target"] for row in rows} == {"0.25"}
