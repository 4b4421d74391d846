"""``lit-maprops plan`` and ``lm.plan``: figures, pilots, refusals; torch is not imported."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic import write_run

import lit_maprops as lm
from lit_maprops.cli.main import main
from lit_maprops.metrics.reliability import NORMAL_QUANTILE, wilson_interval
from lit_maprops.trials.decision import Design, looks_of
from lit_maprops.trials.power import mean_power, misses_zero, share_power
from lit_maprops.trials.simulation import simulate

SOLVED = [1.0] * 12 + [0.0] * 8


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert main(["plan", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1
    return captured.err


@pytest.fixture
def pilot(tmp_path: Path) -> Path:
    """OnPolicy solves 12 of 20 seeds, MAPROPS 18; 40 seconds each."""
    write_run(tmp_path / "pilot" / "on_policy", SOLVED)
    write_run(tmp_path / "pilot" / "ma_props", [1.0] * 18 + [0.0] * 2, "MAPROPS")
    return tmp_path / "pilot"


def test_the_command_prints_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--effect", "10", "--baseline", "0.5", "--power", "0.8"]
    assert main(["plan", *words]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("387 seeds per arm see +10 points (0.5 to 0.6) with 80.0% power: 774 seeds in 2 arms")
    assert "arcsine" in last and last.endswith("alpha 0.05")
    assert main(["plan", *words, "--comparisons", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("516 seeds per arm") and "2,064 seeds in 4 arms" in out and "0.05 / 3" in out
    assert main(["plan", "--seeds", "64", "--baseline", "0.5"]) == 0
    assert capsys.readouterr().out.startswith("64 seeds per arm see +23.8 points (0.5 to 0.738) or -23.8 points")


def test_an_effect_below_a_point_is_told() -> None:
    """Few mean it: 0.1 is a tenth of a point."""
    line = str(lm.plan(effect=0.1, baseline=0.5)).splitlines()[1]
    assert line == (
        "the effect is in points: 0.1 is 0.1 of a point, one seed in 1,000; for a difference of 0.1 between shares "
        "give 10"
    )
    assert "in points" in str(lm.plan(effect=-0.5, baseline=0.5))
    assert "in points" not in str(lm.plan(effect=1, baseline=0.5))
    assert "in points" not in str(lm.plan(effect=0.5, metric="mean_return", spread=1))


def test_no_torch_for_plan() -> None:
    text = (
        "import sys; from lit_maprops.cli.main import main; import lit_maprops as lm\n"
        "lm.plan(effect=10, baseline=0.5)\n"
        "main(['plan', '--effect', '10', '--baseline', '0.5']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "387 seeds" in done.stdout


def test_figures_of_a_plan() -> None:
    plan = lm.plan(effect=10, baseline=0.5, comparisons=3)
    assert plan.seeds == 516
    assert share_power(0.6, 0.5, plan.formula_seeds, 0.05 / 3) == pytest.approx(0.8, abs=1e-9)
    assert plan.effect_power == pytest.approx(share_power(0.6, 0.5, 516, 0.05 / 3), abs=1e-12)
    assert plan.exact_power == pytest.approx(0.795, abs=0.001)
    assert plan.minutes is None and plan.budget is None and plan.pilot is None
    down = lm.plan(effect=-10, baseline=0.5)
    assert (down.seeds, lm.plan(effect=10, baseline=0.5).seeds) == (387, 387)


def test_near_the_edge_it_says_what_the_interval_really_takes() -> None:
    """From 95% to 100% the formula's 78 seeds are far too few for the report's interval."""
    plan = lm.plan(effect=5, baseline=0.95)
    assert plan.seeds == 78 and plan.exact_power < 0.5
    assert plan.exact_seeds > 100
    generator = np.random.default_rng(0)
    solved = generator.binomial(plan.exact_seeds, 0.95, 20_000)
    seen = misses_zero(np.full_like(solved, plan.exact_seeds), solved, plan.exact_seeds, NORMAL_QUANTILE)
    assert seen.mean() == pytest.approx(0.8, abs=0.02)
    block, most, _ = plan.until_decided
    assert simulate(Design(looks_of(most, block), 1), [1.0], 0.95, 4_000).share("better") == pytest.approx(
        0.8, abs=0.06
    )


def test_the_sweep_until_decided_that_it_names_has_the_power() -> None:
    plan = lm.plan(effect=10, baseline=0.5, comparisons=2)
    block, most, expected = plan.until_decided
    found = simulate(Design(looks_of(most, block), 2), [0.6, 0.5], 0.5, 4_000)
    assert found.share("better") == pytest.approx(0.8, abs=0.03)
    assert found.seeds[:, 0].mean() == pytest.approx(expected, rel=0.03)
    assert expected < plan.seeds < most


def test_a_pilot_says_success_and_seconds(pilot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = lm.plan(effect=10, pilot=pilot)
    assert (plan.baseline, plan.comparisons) == (0.6, 1)
    assert plan.pilot.interval == pytest.approx(wilson_interval(12, 20))
    assert plan.pilot.seconds == (2.0, 2.0)  # 40 seconds of 20 seeds
    assert plan.minutes == pytest.approx(plan.seeds * 4 / 60)
    low, high = plan.range
    assert low < plan.seeds <= high
    found = lm.plan(minutes=10, effect=10, pilot=[pilot])
    assert found.budget == 150 and found.budget_minutes == pytest.approx(10)
    assert found.budget_power == pytest.approx(share_power(0.7, 0.6, 150, 0.05))
    up, down = found.visible
    assert share_power(0.6 + up / 100, 0.6, 150, 0.05) == pytest.approx(0.8, abs=1e-6)
    assert share_power(0.6 + down / 100, 0.6, 150, 0.05) == pytest.approx(0.8, abs=1e-6)
    assert main(["plan", "--pilot", str(pilot), "--minutes", "10", "--comparisons", "4"]) == 0
    out = capsys.readouterr().out
    assert "OnPolicy solved 60% of 20 seeds [95% 39% to 78%]" in out and "60 seeds per arm, 10 minutes" in out


def test_returns_of_a_pilot_spread(tmp_path: Path) -> None:
    for number, name in enumerate(("OnPolicy", "MAPROPS")):
        run = write_run(tmp_path / name, [math.nan] * 4, name)
        rows = [f"400,{seed},,,{seed + number},0" for seed in range(4)]
        head = (run / "eval.csv").read_text().splitlines()[0]
        (run / "eval.csv").write_text("\n".join([head, *rows, ""]))
    plan = lm.plan(effect=1.0, pilot=tmp_path, metric="mean_return")
    assert plan.spread == pytest.approx(math.sqrt(5 / 3)) and plan.baseline == 1.5
    assert plan.effect_power == pytest.approx(mean_power(1.0, plan.spread, plan.seeds, 0.05), abs=1e-9)
    assert plan.seeds == lm.plan(effect=1.0, spread=plan.spread, metric="mean_return").seeds
    with pytest.raises(lm.ConfigError, match=r"^metric: no run .* has solved_share, the task tells no success"):
        lm.plan(effect=10, pilot=tmp_path)


def test_what_cannot_be_planned_is_one_line(pilot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--baseline", "0.5"]
    assert "--effect is 0, which no number of seeds can see" in refused(capsys, "--effect", "0", *base)
    assert "give --effect, --seeds or --minutes" in refused(capsys, *base)
    assert "--baseline is missing" in refused(capsys, "--effect", "10")
    assert "--baseline is 50.0: give a share" in refused(capsys, "--effect", "10", "--baseline", "50")
    assert "beyond 0% or 100%" in refused(capsys, "--effect", "60", *base)
    assert "--comparisons is 0, with one arm" in refused(capsys, "--effect", "10", "--comparisons", "0", *base)
    assert "--pilot has one arm" in refused(capsys, "--effect", "10", "--pilot", str(pilot / "on_policy"))
    assert "choose one of solved_share, mean_return" in refused(capsys, "--effect", "10", "--metric", "joint_tv", *base)
    assert "--minutes needs a --pilot" in refused(capsys, "--minutes", "10", *base)
    assert "are two budgets" in refused(capsys, "--minutes", "10", "--seeds", "3", *base)
    assert "fewer than 2 seeds" in refused(capsys, "--minutes", "0.01", "--pilot", str(pilot))
    assert "--power is 0.01" in refused(capsys, "--effect", "10", "--power", "0.01", *base)
    assert "--spread is missing" in refused(capsys, "--effect", "1", "--metric", "mean_return")
    assert "--spread is that of returns" in refused(capsys, "--effect", "1", "--spread", "1", *base)
    assert "more than 10,000,000 seeds" in refused(capsys, "--effect", "0.001", *base)
    assert "does not exist" in refused(capsys, "--effect", "10", "--pilot", str(pilot / "none"))
    write_run(pilot / "other", SOLVED, data__env={"class_path": "MatrixGame", "init_args": {"payoff": "stag"}})
    assert "are of different tasks (data.env" in refused(capsys, "--effect", "10", "--pilot", str(pilot))
    (pilot / "other" / "config.yaml").unlink()
    write_run(pilot / "more", SOLVED, data__target_batch_size=50)
    line = refused(capsys, "--effect", "10", "--pilot", str(pilot))
    assert "differ in more than the sampler (data.target_batch_size)" in line
    write_run(pilot / "begun" / "x", SOLVED, finished=False)
    assert "no finished run" in refused(capsys, "--effect", "10", "--pilot", str(pilot / "begun"))
