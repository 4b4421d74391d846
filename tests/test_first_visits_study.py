"""Rank correlations of docs/evidence/first_visits.md by hand and by simulation, and its points by the raw tables."""

import csv
import math

import numpy as np
import pytest
import torch
from conftest import ROOT
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.metrics.visits import visit_figures
from studies.first_visits.shown import correlation, interval, least_seen, ranked
from studies.first_visits.tasks import GAME_N, MEASURED, ONE_STATE, Point, points
from studies.low_discrepancy.regimes import REGIMES


def rows_of(folder: str, name: str) -> list[dict[str, str]]:
    with (ROOT / "studies" / folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def point_of(task: str, kind: str) -> Point:
    (found,) = [point for point in points() if (point.task, point.kind) == (task, kind)]
    return found


def test_rho_is_that_of_the_squared_differences_of_ranks() -> None:
    x, y = [0.1, 0.5, 0.2, 0.9, 0.7, 0.3], [5.0, -1.0, 4.0, -2.0, 3.0, 6.0]
    ranks = [[sorted(values).index(value) for value in values] for values in (x, y)]
    square = sum((a - b) ** 2 for a, b in zip(*ranks, strict=True))
    rho, low, high = correlation(x, y)
    assert rho == pytest.approx(1 - 6 * square / (6 * 35))
    # Fisher's z is symmetric about that of rho, 1.96 times the root of 1.06 / 3 away.
    assert math.atanh(high) - math.atanh(rho) == pytest.approx(1.959964 * math.sqrt(1.06 / 3), rel=1e-5)
    assert math.atanh(rho) - math.atanh(low) == pytest.approx(1.959964 * math.sqrt(1.06 / 3), rel=1e-5)


@pytest.mark.parametrize("tasks", [9, 16])
def test_the_least_correlation_that_is_seen_is_seen_four_times_of_five(tasks: int) -> None:
    """Of normal pairs whose rank correlation is rho: their own one is 2 sin(pi rho / 6) (Pearson 1907)."""
    own = 2 * math.sin(math.pi * least_seen(tasks) / 6)
    draw = np.random.default_rng(1)
    seen, times = 0, 1500
    for _ in range(times):
        x = draw.standard_normal(tasks)
        y = own * x + math.sqrt(1 - own**2) * draw.standard_normal(tasks)
        seen += correlation(list(x), list(y))[1] > 0
    assert seen / times == pytest.approx(0.8, abs=0.06)


def test_in_one_state_the_first_of_n_steps_is_the_only_first_visit() -> None:
    data = TensorDict({keys.STATE: torch.ones(3, GAME_N, 1)}, [3, GAME_N]).set(
        keys.ACTION, torch.zeros(3, GAME_N, 2, dtype=torch.int64)
    )
    found = visit_figures(data, GAME_N, 1, discrete=True)["first_visits"]
    assert found.tolist() == [1 / GAME_N] * 3
    assert point_of("figure1", "LowDiscrepancy").first_visits == (1 / GAME_N, 0.0)
    assert {point_of(name, "PROPS").first_visits[0] for name in ONE_STATE} == {1 / REGIMES[n].n for n in ONE_STATE}


@pytest.mark.parametrize(("part", "kind"), [("confirm", "TabularMAPROPS"), ("regime", "PROPS")])
def test_points_are_those_of_the_raw_table(part: str, kind: str) -> None:
    """Fresh seeds where there are some, against on-policy runs of the same part."""
    task = "BoulderPush, IPPO"
    rows = [r for r in rows_of("low_discrepancy", "low_discrepancy") if (r["part"], r["setting"]) == (part, task)]
    own, base = ([r for r in rows if r["sampler"] == name] for name in (kind, "OnPolicy"))
    shares = [sum(int(r["solved"]) for r in some) / sum(int(r["seeds"]) for r in some) for some in (own, base)]
    found = point_of(task, kind)
    assert found.points == pytest.approx(100 * (shares[0] - shares[1]))
    assert interval(found)[0] < found.points < interval(found)[1]
    falls = [1 - float(r["joint_tv"]) / float(r["joint_tv_on_policy"]) for r in own]
    assert found.reduction == pytest.approx(sum(falls) / len(falls))
    (visits,) = [r for r in rows_of("first_visits", "visits") if r["setting"] == task]
    assert found.first_visits[0] == float(visits["first_visits"])


def test_the_ladder_is_that_of_the_sparse_reward_page() -> None:
    rows = [r for r in rows_of("sparse_reward", "sparse_reward") if (r["part"], r["consolation"]) == ("runs", "0.06")]
    shares = {r["sampler"]: float(r["value"]) for r in rows if r["figure"] == "solved"}
    found = point_of("sparse reward at the top of a ladder", "MAPROPS")
    assert found.points == pytest.approx(100 * (shares["MAPROPS, strong"] - shares["OnPolicy"]), abs=0.05)


def test_errors_that_are_not_told_state_by_state_are_left_out_of_their_correlation() -> None:
    all_points = points()
    found = ranked(all_points, "PROPS")
    continuous = {"TwoPeaks", "SparseReacher", "VMAS navigation"}
    assert found["solved"][0] - found["error"][0] == len(continuous)
    assert {p.task for p in all_points if not p.by_state} == continuous
    assert set(MEASURED) | set(ONE_STATE) == set(REGIMES)
