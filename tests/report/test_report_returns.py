"""Runs of tasks without success: their returns are what is compared. And what runs say of themselves."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import mannwhitneyu
from statsmodels.stats.proportion import proportion_confint
from synthetic import write_run

from lit_maprops.report import load_runs, make_report, returns
from lit_maprops.report.analysis import across, by_setting
from lit_maprops.report.remarks import MOST_CHARACTERS, MOST_PER_RUN, near_deterministic, remarks
from lit_maprops.report.seeds import seeds_of
from lit_maprops.report.settings import environment


def write(folder: Path, final: list[float], sampler: str = "OnPolicy") -> Path:
    """A run whose success columns are empty and whose greedy returns grow to ``final``; NaN: a seed that broke."""
    write_run(folder, [0.0] * len(final), sampler)
    path = folder / "eval.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        value = final[int(row["seed"])] * int(row["env_steps"]) / 400
        row |= {"greedy_success_rate": "", "stochastic_success_rate": ""}
        row |= {"greedy_return": "" if np.isnan(value) else str(value), "stochastic_return": "1"}
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return folder


def test_improvement_is_the_mann_whitney_statistic() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(0.5, 1, 60), np.append(generator.normal(0, 1, 44), [1.0])
    x[3] = y[7]  # a tie counts half
    result = returns.improvement(x, y)
    assert result.value == pytest.approx(mannwhitneyu(x, y).statistic / 60 / 45, abs=1e-12)
    ends = [(mannwhitneyu(generator.choice(x, 60), generator.choice(y, 45)).statistic) / 2700 for _ in range(600)]
    assert (result.low, result.high) == pytest.approx(np.percentile(ends, [2.5, 97.5]), abs=0.02)
    alone = returns.improvement(x[:1], y)
    assert alone.value == pytest.approx((y < x[0]).mean()) and np.isnan(alone.low)


def test_means_and_their_difference_have_bootstrap_intervals() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(3, 1, 100), generator.normal(2, 2, 80)
    mean, difference = returns.mean(x), returns.difference(x, y)
    half = 1.96 * x.std() / 10
    assert (mean.value, mean.low, mean.high) == pytest.approx((x.mean(), x.mean() - half, x.mean() + half), abs=0.03)
    half = 1.96 * np.hypot(x.std() / 10, y.std() / 80**0.5)
    expected = x.mean() - y.mean()
    assert difference.value == pytest.approx(expected)
    assert (difference.low, difference.high) == pytest.approx((expected - half, expected + half), abs=0.07)
    assert [returns.difference(*pair).beats(0) for pair in ((x, y), (y, x), (x, x))] == [1, -1, 0]


def test_a_setting_without_success_compares_returns(tmp_path: Path) -> None:
    write(tmp_path / "on", [0.0, 0.25, float("nan"), 0.5])
    write(tmp_path / "ma", [1.0, 1.5, 1.25, 1.0], "MAPROPS")
    runs, left_out = load_runs([tmp_path])
    assert not left_out and not any(run.tells_success for run in runs)
    [setting] = by_setting(runs)
    on, ma = setting.results
    assert setting.by_return and on.seeds == 3 and ma.seeds == 4
    assert on.share.value == pytest.approx(0.25) and ma.share.value == pytest.approx(1.1875)
    assert ma.difference is not None and ma.difference.value == pytest.approx(0.9375) and ma.difference.beats(0) == 1
    assert ma.improvement is not None and ma.improvement.value == 1
    assert runs[1].nan_seeds == (2,)
    table = seeds_of(setting)
    assert table.heads == ("sampler", "run", "seed", "return, greedy", "return, sampled")
    assert table.rows[2] == ["OnPolicy", "on", "2", "\N{EN DASH}", "1"] and len(table.rows) == 8
    text = make_report([tmp_path]).html
    assert "MAPROPS: mean return 1.19 [" in text and "more than on-policy" in text and "Mean final return" in text
    assert "on: seed 2 ended with NaN policies or in quarantine and have no return." in text
    assert "Share of solved seeds" not in text and " solved 0 of " not in text


def judged(folder: Path, final: list[float], sampler: str = "OnPolicy", **changes: object) -> Path:
    """A run whose seeds are solved from a return of 1 on."""
    write(folder, final, sampler)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["model"] |= {"solved_on": "return", "solved_threshold": 1.0} | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_a_threshold_in_units_of_return_gives_a_share_of_solved_seeds(tmp_path: Path) -> None:
    judged(tmp_path / "on", [0.0, 0.25, float("nan"), 1.0])
    judged(tmp_path / "ma", [1.0, 1.5, 1.25, 0.5], "MAPROPS")
    runs, _ = load_runs([tmp_path])
    [setting] = by_setting(runs)
    on, ma = setting.results
    assert setting.by_return and setting.tells_solved and not setting.tells_success
    assert (on.share.value, ma.share.value) == (0.25, 0.75)  # of four seeds each: one in NaN is not solved
    assert (on.share.low, on.share.high) == pytest.approx(proportion_confint(1, 4, method="wilson"))
    assert ma.difference is not None and ma.difference.value == pytest.approx(0.5)
    assert ma.iqm.value == pytest.approx(1.125) and ma.improvement is not None
    wins = np.mean([[x > y or (x == y) / 2 for y in (0, 0.25, 1)] for x in (1, 1.5, 1.25, 0.5)])
    assert ma.improvement.value == pytest.approx(wins)
    table = seeds_of(setting)
    assert table.heads[-1] == "solved" and not [head for head in table.heads if head.startswith("success")]
    assert [row[-1] for row in table.rows] == ["no", "no", "no", "yes", "yes", "yes", "yes", "no"]
    text = make_report([tmp_path]).html
    assert "a seed is solved whose greedy policies return at least 1." in text
    assert "MAPROPS solved 3 of 4 seeds (75%" in text and "OnPolicy solved 1 of 4 seeds (25%" in text
    assert "Share of solved seeds" in text and "Mean final return" in text and "IQM of final return" in text
    assert "Success while training" not in text and "Return while training" in text


def test_runs_of_before_solved_on_share_a_setting_with_those_of_today(tmp_path: Path) -> None:
    write_run(tmp_path / "old", [1.0, 0.0])
    for name, changes in (("new", {"solved_threshold": None, "solved_on": None}), ("named", {"solved_threshold": 0.8})):
        folder = write_run(tmp_path / name, [1.0, 0.8], seed_everything=len(name))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["model"] |= changes
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    runs, left_out = load_runs([tmp_path])
    [setting] = by_setting(runs)
    assert not left_out and len(setting.groups[0].runs) == 3
    assert {run.name: run.solved for run in runs} == {"old": 1, "new": 2, "named": 2}


@pytest.mark.parametrize(
    ("changes", "why"), [({"solved_on": "luck"}, "solved_on is luck"), ({"solved_threshold": "x"}, "'x'")]
)
def test_a_damaged_criterion_leaves_a_run_out(tmp_path: Path, changes: dict[str, str], why: str) -> None:
    judged(tmp_path / "a", [1.0], **changes)
    judged(tmp_path / "b", [1.0])
    runs, [left_out] = load_runs([tmp_path])
    assert [run.name for run in runs] == ["b"] and why in left_out.reason


def test_one_verdict_makes_it_a_task_with_success(tmp_path: Path) -> None:
    """A package that says so only when an episode succeeds: elsewhere no seed did."""
    write(tmp_path / "on", [0.0, 0.25])
    write_run(tmp_path / "ma", [1.0, 0.0], "MAPROPS")
    runs, _ = load_runs([tmp_path])
    [setting] = by_setting(runs)
    assert not setting.by_return and [result.share.value for result in setting.results] == [0, 0.5]
    assert all(not run.nan_seeds for run in runs)


def test_returns_of_different_tasks_are_not_pooled(tmp_path: Path) -> None:
    write(tmp_path / "a", [1.0, 2.0])
    write_run(tmp_path / "b", [1.0, 0.0], data__target_batch_size=32)
    settings = by_setting(load_runs([tmp_path])[0])
    assert across([setting for setting in settings if not setting.by_return]) == []
    make_report([tmp_path])


def test_seeds_that_only_sampled_actions_solve_are_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [0.35, 1.0])
    path = folder / "eval.csv"
    path.write_text(path.read_text().replace("400,0,0.35,0.35", "400,0,0.35,1"))
    text = make_report([tmp_path]).html
    assert "OnPolicy: 1 seed that is not solved reaches the threshold with sampled actions" in text
    assert "<td>35%</td><td>100%</td>" in text


def test_warnings_are_shown_as_text_and_bounded(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [1.0, 0.0])
    path = folder / "summary.json"
    evil = "<script>window.__pwned=1</script>\n{{ 7 * 7 }}"
    given = json.loads(path.read_text())
    apart = {"estimates": 40, "joint_tv": 0.125, "joint_tv_on_policy": 0.001}
    path.write_text(json.dumps(given | {"warnings": [evil, 7, "x" * 9_999] + ["y"] * 99, "near_deterministic": apart}))
    [run], _ = load_runs([tmp_path])
    shown, more = remarks([run])
    assert len(shown) == MOST_PER_RUN + 1 and shown[-1] == ("a", "81 more") and more == 0
    assert all(len(text) <= MOST_CHARACTERS for _, text in shown)
    assert near_deterministic(run) is not None and "0.125" in str(near_deterministic(run))
    text = make_report([tmp_path]).html
    assert "window.__pwned=1" in text and "<script>window" not in text and "{{ 7 * 7 }}" in text
    for bad in ({"warnings": "no list"}, {"warnings": [{}]}, {"near_deterministic": [1]}, {"near_deterministic": {}}):
        path.write_text(json.dumps(given | bad))
        [run], _ = load_runs([tmp_path])
        assert remarks([run]) == ([], 0) and near_deterministic(run) is None


def test_an_environment_is_called_by_its_own_name() -> None:
    assert environment({"data.env": "PettingZoo", "data.env.name": "mpe2.simple_spread_v3"}).endswith("spread_v3")
    assert environment({"data.env": "VMAS", "data.env.scenario": "balance"}) == "VMAS balance"
    assert environment({"data.env": "MatrixGame", "data.env.payoff": "figure1"}) == "MatrixGame"
