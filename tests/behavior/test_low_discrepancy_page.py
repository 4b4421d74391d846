"""docs/low_discrepancy.md says what its table and its script say, and the script draws what the sampler draws."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from behavior_helpers import StatesTask, everywhere
from conftest import ROOT

from docs.pictures import low_discrepancy
from docs.pictures import low_discrepancy_numbers as numbers
from docs.pictures.low_discrepancy_tables import MATRIX_GAMES, OTHERS, SOURCES, TABLES
from docs.pictures.numbers import error_curves_at
from lit_maprops.behavior import LowDiscrepancy

PAGE = (ROOT / "docs" / "low_discrepancy.md").read_text()


def measured(part: str, sampler: str) -> dict[tuple[str, int], float]:
    return {(row.setting, row.n): row.mean for row in numbers.rows(part) if row.sampler == sampler}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_the_script(name: str) -> None:
    assert f"\n\n{TABLES[name]()}\n\n" in PAGE


def test_sizes_are_those_of_the_script() -> None:
    words = " ".join(PAGE.split())
    boulder = numbers.rows("boulderpush")
    assert f"({boulder[0].seeds} seeds; {numbers.BATCHES} batches of {numbers.STEPS} env steps" in words
    assert f"against {numbers.REFERENCES} on-policy batches per seed" in words
    assert "slope of its logarithm in log n from n = 64 on" in words  # the default of ``slope``
    assert f"{low_discrepancy.POINTS} independent points" in words
    assert all(f"{share}" in words for share in numbers.SHARES)


@pytest.mark.parametrize("coordinates", ["agent", "joint"])
def test_the_script_draws_what_the_sampler_draws(coordinates: Literal["agent", "joint"]) -> None:
    policy = numbers.at_random(5, 2, 3)
    task = StatesTask(1, 2, 3)
    behavior = LowDiscrepancy(coordinates=coordinates)
    behavior.build(task, 0, list(range(5)))  # and no more: a reset would randomize anew
    data = everywhere(task, policy, 0, 1)
    one_by_one = torch.cat([behavior.choose(data, policy).action for _ in range(40)], 1)
    at_once = numbers.drawn(policy, 40)[numbers.JOINTLY if coordinates == "joint" else numbers.PER_AGENT]
    assert torch.equal(at_once, one_by_one)


def test_what_the_page_says_of_its_errors() -> None:
    plain, own, line = (measured("fixed", source) for source in SOURCES)
    curves = {setting: error_curves_at(experiment) for setting, experiment in MATRIX_GAMES.items()}
    theirs, greedy = ({(game, n): curves[game][name][n] for game, n in plain} for name in OTHERS)
    assert all(own[at] < plain[at] for at in plain)
    assert all(own["0.5", n] == line["0.5", n] == 0 for n in (8, 16, 32, 64))
    assert all(line[at] < min(own[at], theirs[at]) for at in line if at[0] != "0.5")
    assert all(greedy[at] <= line[at] for at in line)
    assert all(theirs[setting, n] < own[setting, n] for setting in ("0.8", "random") for n in (32, 64))
    assert theirs["0.95", 8] > plain["0.95", 8] and theirs["0.95", 16] > plain["0.95", 16]


def test_what_the_page_says_of_boulderpush() -> None:
    found = {(row.setting, row.sampler): row for row in numbers.rows("boulderpush")}
    level, own = found["return", "on-policy"].mean, found["return difference", "low-discrepancy"]
    assert f"mean return is {level:.3f}" in " ".join(PAGE.split())
    assert own.low > 0 and own.mean / level == pytest.approx(0.005, abs=0.0005)
    assert found["bias_squared", "low-discrepancy"].low > 0
    scale = found["variance", "on-policy"].mean
    shares = [found[figure, "low-discrepancy"].mean / scale for figure in ("bias_squared", "variance", "mse")]
    assert shares == pytest.approx([0.02, 1 - 0.32, 1 - 0.29], abs=0.005)
    other = found["return difference", "low-discrepancy, first visits in sequence"]
    assert other.low < 0 < other.high


def test_rates_of_a_single_coordinate_are_one_and_of_many_agents_lower() -> None:
    for n_agents, n_actions in numbers.SIZES:
        setting = f"{n_agents} agents, {n_actions} actions"
        plain, own, line = (numbers.slope(setting, source) for source in SOURCES)
        assert line < own < plain
        assert plain == pytest.approx(-0.5, abs=0.07)


def test_a_part_is_measured_anew_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table.csv"
    table.write_text(numbers.TABLE.read_text())
    monkeypatch.setattr(numbers, "TABLE", table)
    monkeypatch.setattr(numbers, "FIXED_SEEDS", 20)
    before = table.read_text()
    numbers.measure(["fixed"])
    after = table.read_text()
    assert [line for line in after.splitlines() if not line.startswith("fixed")] == [
        line for line in before.splitlines() if not line.startswith("fixed")
    ]
    assert {row.seeds for row in numbers.rows("fixed")} == {20}


def test_the_picture_of_points_counts_them() -> None:
    for points in low_discrepancy.first_points().values():
        assert points.shape == (low_discrepancy.POINTS, 2)
        actions = [(int(x >= 0.7), int(y >= 0.6)) for x, y in points.tolist()]
        assert low_discrepancy.counts(points) == [actions.count(pair) for pair in ((0, 0), (0, 1), (1, 0), (1, 1))]
