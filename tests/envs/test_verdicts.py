"""Tasks with and without a verdict of success: what packages say in their infos, and what a run makes of it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.stats.proportion import proportion_confint

import lit_maprops as lm
from lit_maprops.cli.main import main
from lit_maprops.envs import TASKS, PettingZoo
from lit_maprops.metrics.evaluate import Evaluation, with_verdicts
from lit_maprops.report import make_report

pytestmark = pytest.mark.usefixtures("curves")
TELLING = ["agents", "numbers", "one agent", "infos", "common", "at the end", "only success"]
SILENT = ["nothing", "other things", "none yet"]
GOOD, BAD = [1, 0], [0, 0]  # the second agent's actions start at 5


def play(name: str, how: str, *actions: list[int], max_steps: int = 9) -> tuple[PettingZoo, list[bool]]:
    """The task, and after each step whether the episode is a success."""
    task = PettingZoo(f"pettingzoo_toys.{name}", {"how": how}, max_steps)
    state, seen = task.initial_state(torch.full((1, 2), 0.5)), []
    for action in actions:
        outcome = task.transition(state, torch.tensor([action]), torch.zeros(1, 0))
        state = outcome.state
        seen.append(bool(outcome.success))
    return task, seen


@pytest.mark.parametrize("how", TELLING)
def test_the_last_word_of_an_episode_is_its_verdict(how: str) -> None:
    assert play("judged", how, BAD, GOOD, BAD, GOOD)[1] == [False, False, False, True]
    task, seen = play("judged", how, GOOD, GOOD, GOOD, BAD)
    assert task.tells_success == (how != "only success")  # which has not said no
    assert seen == [False] * 4 if how != "only success" else seen[:3] == [False] * 3
    assert play("judged", how if how != "at the end" else "agents", BAD, GOOD, max_steps=2)[1] == [False, True]


@pytest.mark.parametrize("how", SILENT)
def test_silence_is_no_verdict(how: str) -> None:
    task, seen = play("judged", how, GOOD, GOOD, GOOD, GOOD)
    assert not task.tells_success and not any(seen)


def test_agents_that_left_have_said_their_word() -> None:
    assert play("judged_leaving", "agents", BAD, GOOD, GOOD)[1] == [False, False, True]
    assert play("judged_leaving", "agents", GOOD, BAD, GOOD)[1] == [False, False, False]


def test_tasks_say_whether_they_tell_success() -> None:
    assert {name: task.tells_success for name, task in TASKS.items()} == {
        name: name not in ("Gymnasium", "PettingZoo", "RWARE", "TorchRL") for name in TASKS
    }  # VMAS by its scenario, see test_vmas.py


def test_evaluations_without_a_verdict_have_no_success_rates() -> None:
    def pair(*greedy: float) -> dict[str, Evaluation]:
        return {
            name: Evaluation(torch.tensor(rates, dtype=torch.float32), torch.ones(2))
            for name, rates in (("greedy", greedy), ("stochastic", (0.0, 0.0)))
        }

    for evaluations, told, known in ((pair(0, 0), False, False), (pair(0, 0), True, True), (pair(0, 0.5), False, True)):
        for evaluation in with_verdicts(evaluations, told).values():
            assert evaluation.tells_success == known
            assert np.isnan(evaluation.mean_success_rate) != known
    assert Evaluation(torch.full((2,), torch.nan), torch.full((2,), torch.nan)).mean_success_rate == 0  # all broken


def trained(folder: Path, name: str, how: str, behavior: str = "OnPolicy", *options: str) -> Path:
    assert main(small_run(folder, name, how, behavior, *options)) == 0
    return folder / name


def small_run(folder: Path, name: str, how: str, behavior: str = "OnPolicy", *options: str) -> list[str]:
    small = {
        "num_seeds": 3, "total_env_steps": 64, "eval_interval": 1, "eval_episodes": 3, "behavior": behavior,
        "learner": "IPPO", "learner.epochs": 1, "learner.learning_rate": 0.02,
    }  # fmt: skip
    data = {"env": "PettingZoo", "env.name": "pettingzoo_toys.judged", "env.options": {"how": how}, "num_envs": 2}
    data |= {"behavior_batch_size": 8, "target_batch_size": 32, "env.max_steps": 4}
    flags = [f"--model.{k}={v}" for k, v in small.items()] + [f"--data.{k}={v}" for k, v in data.items()]
    return ["fit", *flags, "--trust", "pettingzoo_toys", "--runs_dir", str(folder), "--run_name", name, *options]


def test_a_run_without_success_is_judged_by_its_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "runs", "a", "nothing", "MAPROPS")
    *_, of_seeds, last, _ = capsys.readouterr().err.strip().splitlines()
    rows = pd.read_csv(run / "eval.csv")
    assert rows["greedy_success_rate"].isna().all() and rows["stochastic_success_rate"].isna().all()
    final = rows[rows["env_steps"] == 64]["greedy_return"].to_numpy()
    summary = json.loads((run / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["tells_success"] is False and summary["mean_return"] == pytest.approx(final.mean())
    low, high = summary["mean_return_ci95"]
    assert final.min() <= low <= final.mean() <= high <= final.max()
    for field in ("success_rate", "success_rate_stochastic", "mean_success_rate", "solved_share", "solved_share_ci95"):
        assert summary[field] is None
    assert last.startswith(f"this task has no success, so returns count: mean return {final.mean():.2f} [95% {low:.2f}")
    assert of_seeds.startswith(f"return of each seed, greedy/sampled: 0: {final[0]:.2f}/")
    assert "solved 0" not in of_seeds + last and "--model.solved_on return" in last
    assert (run / "return.png").exists() and not (run / "success.png").exists()
    result = lm.load_run(run)
    assert not result.tells_success and result.episode_return.tolist() == final.tolist()
    assert f"mean return {final.mean():.2f}" in repr(result) and np.isnan(result.solved_share)

    checkpoint = str(run / "checkpoints/last.ckpt")
    assert main(["test", "--ckpt_path", checkpoint, "--trust", "pettingzoo_toys"]) == 0
    said = capsys.readouterr().err
    assert "succeed" not in said and "this task has no success" in said and "no figure" not in said
    assert set(json.loads((run / "test.json").read_text())["greedy_success_rate"]) == {None}

    trained(tmp_path / "runs", "b", "nothing")
    difference = result.compare(lm.load_run(tmp_path / "runs/b"))
    other = lm.load_run(tmp_path / "runs/b").episode_return
    assert difference.value == pytest.approx(final.mean() - other.mean()) and "of return" in str(difference)
    page = make_report([tmp_path / "runs"]).html
    assert "<h1>MA-PROPS reliability report: PettingZoo pettingzoo_toys.judged</h1>" in page
    assert "This task has no success: returns are compared." in page and "Mean return minus on-policy" in page
    assert " solved 0 of" not in page and "IQM of final success" not in page


def test_a_run_whose_package_tells_success_counts_it(tmp_path: Path) -> None:
    run = trained(tmp_path, "a", "agents")
    summary = json.loads((run / "summary.json").read_text())
    rows = pd.read_csv(run / "eval.csv")
    assert summary["tells_success"] is True and rows["greedy_success_rate"].between(0, 1).all()
    assert summary["success_rate"] == rows[rows["env_steps"] == 64]["greedy_success_rate"].tolist()
    assert (run / "success.png").exists()


def test_success_cannot_be_asked_of_a_task_that_tells_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(small_run(tmp_path, "a", "nothing", "OnPolicy", "--model.solved_on", "success")) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--model.solved_on is success and PettingZoo pettingzoo_toys.judged tells no success" in line
    assert "use --model.solved_on return" in line and not (tmp_path / "a").exists()


@pytest.mark.parametrize("how", ["agents", "infos", "at the end"])
def test_success_can_be_asked_of_a_package_whose_first_verdict_comes_late(tmp_path: Path, how: str) -> None:
    """``max_steps`` beyond the steps that the constructor tries: the verdict at an episode's end is found, too."""
    task = PettingZoo("pettingzoo_toys.judged", {"how": how}, 40)
    assert task.judges() and task.tells_success
    assert not PettingZoo("pettingzoo_toys.judged", {"how": "nothing"}, 40).judges()


def test_a_threshold_for_returns_counts_solved_seeds_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    first = trained(runs, "plain", "nothing")
    returns = lm.load_run(first).episode_return
    threshold = float(returns.max())
    reached = int((returns == threshold).sum())
    options = ("--model.solved_on", "return", "--model.solved_threshold", repr(threshold))
    capsys.readouterr()
    run = trained(runs, "counted", "nothing", "OnPolicy", *options)
    last = capsys.readouterr().err.strip().splitlines()[-2]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["solved_on"], summary["solved_threshold"]) == ("return", threshold)
    assert summary["solved_share"] == pytest.approx(reached / 3) and summary["success_rate"] is None
    low, high = summary["solved_share_ci95"]
    assert (low, high) == pytest.approx(proportion_confint(reached, 3, method="wilson"))
    assert last.startswith(
        f"solved {reached / 3:.0%} of 3 seeds [95% {low:.0%} to {high:.0%}] (greedy return of at least"
    )
    assert (run / "return.png").exists() and not (run / "success.png").exists()
    result = lm.load_run(run)
    assert result.solved == reached and result.solved_interval == pytest.approx((low, high))
    assert f"solved {reached} of 3 seeds" in repr(result)
    other = trained(runs, "seed 1", "nothing", "OnPolicy", *options, "--seed_everything", "1")
    assert "points" in str(result.compare(lm.load_run(other)))
    assert main(["compare", str(run), str(other)]) == 0
    assert "Solved, counted minus seed 1:" in capsys.readouterr().out
    assert main(["compare", str(first), str(run)]) == 0
    expected = "No difference is told: plain counts mean return, counted seeds solved by their return."
    assert expected in capsys.readouterr().out
    with pytest.raises(lm.ConfigError, match="judged by different figures"):
        result.compare(lm.load_run(first))
    checkpoint = str(run / "checkpoints/last.ckpt")
    assert main(["validate", "--ckpt_path", checkpoint, "--trust", "pettingzoo_toys"]) == 0
    assert "of 3 seeds return at least" in capsys.readouterr().err


def test_return_can_decide_where_the_task_tells_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path, "a", "agents", "OnPolicy", "--model.solved_on", "return")
    *_, of_seeds, last, _ = capsys.readouterr().err.strip().splitlines()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["tells_success"] and summary["success_rate"] is not None and summary["solved_share"] is None
    assert of_seeds.startswith("return of each seed") and last.startswith("returns count: mean return")
    assert "needs --model.solved_threshold" in last and (run / "return.png").exists()
    assert "The runs are judged by their returns: returns are compared." in make_report([run]).html


def test_a_threshold_of_success_is_none_for_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As configurations of versions before ``solved_on`` have it."""
    run = trained(tmp_path, "a", "nothing", "OnPolicy", "--model.solved_threshold", "0.0")
    said = capsys.readouterr().err
    assert "--model.solved_threshold 0 is of success: a share of solved seeds needs --model.solved_on return" in said
    assert json.loads((run / "summary.json").read_text())["solved_share"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.solved_threshold", "20"], "--model.solved_threshold is 20.0: a success rate is a share"),
        (["--model.solved_threshold", "-0.1", "--model.solved_on", "success"], "give a value from 0 to 1"),
        (["--model.solved_threshold", "nan", "--model.solved_on", "return"], "--model.solved_threshold is nan"),
        (["--model.solved_threshold", ".inf", "--model.solved_on", "return"], "--model.solved_threshold is inf"),
        (["--model.solved_on", "retrun"], "--model.solved_on is 'retrun': choose one of success, return"),
    ],
)
def test_a_criterion_that_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(small_run(tmp_path, "a", "nothing", "OnPolicy", *options)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line and not (tmp_path / "a").exists()
