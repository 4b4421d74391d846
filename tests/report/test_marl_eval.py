"""Files of marl-eval: its package reads ours, and we read what packages write, beside our runs; bad ones are a line."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import ttest_ind
from synthetic import write_run
from test_report_page import Page

from lit_maprops.cli.main import main
from lit_maprops.report import make_report
from lit_maprops.report.load import load_runs
from lit_maprops.report.marl_eval import read_marl_eval
from lit_maprops.report.marl_eval_out import as_marl_eval
from lit_maprops.report.statistics import student, welch

PEER = ROOT / "build/peers/marl_eval"
PACKAGE = pytest.mark.skipif(not (PEER / "installed").exists(), reason="no marl-eval: `make peers` installs it")
FIGURE1, STAG = "MatrixGame/figure1", "MatrixGame/stag"
# What the package makes of a file: its checks, and rows of the matrix it gives to rliable.
READ = """
import json, sys
from marl_eval.utils.data_processing_utils import create_matrices_for_rliable, data_process_pipeline
from marl_eval.utils.diagnose_data_errors import DiagnoseData
content = json.load(open(sys.argv[1]))
checks = DiagnoseData(content).check_data()
matrices, curves = create_matrices_for_rliable(data_process_pipeline(content, []), "MatrixGame", [])
shown = {name: {k: v.tolist() for k, v in rows.items()} for name, rows in matrices.items()}
print(json.dumps([checks, shown, {k: v.shape for k, v in curves["mean_return"].items()}]))
"""
# Its logger, by its file: the package around it imports neptune.
LOG = """
import runpy, sys
logger = runpy.run_path(sys.argv[1])["JsonLogger"](sys.argv[2], "ppo", "figure1", "matrixgame", 3)
for step in range(3):
    logger.write(100 * step, "mean_episode_return", 0.5 * step, evaluation_step=step)
    logger.write(100 * step, "win_rate", 40.0 * step, evaluation_step=step)
logger.write(200, "win_rate", 80.0, is_absolute_metric=True)
"""


def ours(folder: Path, payoff: str = "figure1") -> None:
    """OnPolicy solves 1 of 4 and MAPROPS 3 of 4, in a game."""
    env = {"class_path": "lit_maprops.envs.MatrixGame", "init_args": {"payoff": payoff}}
    write_run(folder / f"on_policy_{payoff}", [1, 0, 0, 0.5], data__env=env)
    write_run(folder / f"ma_props_{payoff}", [1, 1, 0, 0.9], "MAPROPS", data__env=env)


def theirs(finals: list[float], metric: str = "win_rate", points: int = 3) -> dict[str, Any]:
    """The seeds of an algorithm, as BenchMARL and Mava write them."""
    seeds: dict[str, Any] = {}
    for seed, final in enumerate(finals):
        steps = {
            f"step_{k}": {"step_count": 50 * k, "elapsed_time": 1.5 * k, metric: [final * k / (points - 1)] * 2}
            for k in range(points)
        }
        seeds[f"seed_{seed}"] = {"absolute_metrics": {metric: [9.0]}, **steps}
    return seeds


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@PACKAGE
def test_the_package_reads_what_we_write(tmp_path: Path) -> None:
    for payoff in ("figure1", "stag"):
        ours(tmp_path / "runs", payoff)
    runs = str(tmp_path / "runs")
    out = tmp_path / "ours.json"
    assert main(["report", runs, "-o", str(tmp_path / "page.html"), "--json", str(out)]) == 0
    run = subprocess.run([PEER / "bin/python", "-c", READ, out], text=True, capture_output=True, check=True)
    checks, matrices, shapes = json.loads(run.stdout.splitlines()[-1])
    assert all(checks["matrixgame"].values())
    solved = {"mappo onpolicy": [1, 0, 0, 0.5], "mappo maprops": [1, 1, 0, 0.9]}
    found = {name: np.array(rows) for name, rows in matrices["mean_success_rate"].items()}
    assert found.keys() == solved.keys()
    for name, finals in solved.items():  # [seeds, tasks]
        assert np.allclose(found[name], np.array([finals, finals]).T)
    assert shapes == {name: [4, 2, 2] for name in solved}  # seeds, tasks, evaluations


@PACKAGE
def test_we_read_what_the_packages_logger_writes(tmp_path: Path) -> None:
    logger = next(PEER.glob("lib/python*/site-packages/marl_eval/json_tools/json_logger.py"))
    subprocess.run([PEER / "bin/python", "-c", LOG, logger, tmp_path], check=True)
    [one] = read_marl_eval(tmp_path / "metrics.json")
    assert (one.task, one.algorithm, one.seeds) == (("matrixgame", "figure1"), "ppo", 1)
    assert one.env_steps.tolist() == [0, 100, 200]
    assert one.returns is not None and one.returns[:, 0].tolist() == [0, 0.5, 1]
    assert one.success is not None and np.allclose(one.success[:, 0], [0, 0.4, 0.8])  # Mava's percent


def test_what_we_write_we_read(tmp_path: Path) -> None:
    ours(tmp_path / "runs")
    runs, _ = load_runs([tmp_path / "runs"])
    content, notes = as_marl_eval(runs)
    assert notes == []
    found = {one.algorithm: one for one in read_marl_eval(write(tmp_path / "a.json", content))}
    for run in runs:
        one = found["MAPPO OnPolicy" if "on_policy" in run.name else "MAPPO MAPROPS"]
        assert one.success is not None and np.allclose(one.success, run.success)
        assert (one.env_steps == run.env_steps).all()


def test_runs_of_one_sampler_keep_all_their_seeds(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1, 0], seed_everything=0)
    write_run(tmp_path / "b", [0, 1, 1], seed_everything=1)
    content, _ = as_marl_eval(load_runs([tmp_path])[0])
    assert len(content["MatrixGame"]["figure1"]["MAPPO OnPolicy"]) == 5


def test_seeds_in_nan_count_as_not_solved_and_have_no_return(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1, float("nan")])
    table = (tmp_path / "a/eval.csv").read_text().replace("1,,,0,0", "1,,,,")
    (tmp_path / "a/eval.csv").write_text(table)
    content, notes = as_marl_eval(load_runs([tmp_path])[0])
    seeds = content["MatrixGame"]["figure1"]["MAPPO OnPolicy"]
    assert seeds["seed_1"]["absolute_metrics"] == {"success_rate": [0.0]}
    assert len(notes) == 1 and "no return" in notes[0]


def test_others_stand_beside_ours(tmp_path: Path) -> None:
    ours(tmp_path / "runs")
    file = write(tmp_path / "mava.json", {"MatrixGame": {"figure1-v2": {"rec_mappo": theirs([100, 100, 100, 0])}}})
    report = make_report([tmp_path / "runs", file])
    text = Page(report.html).text
    section = text.partition("Other packages: MatrixGame/figure1-v2")[2].partition("Runs ")[0]
    assert "mava.json, beside our runs of the same task" in section and "sampling error" in section
    assert "difference to MAPPO, OnPolicy" in section
    # 3 of 4 against 1 of 4, at the level of two intervals: wider than the 95% interval of MAPROPS alone.
    assert "rec_mappo" in section and "+50 [" in section and "2 intervals of differences hold together" in section
    assert "4 seeds of other packages" in report.summary and len(report.runs) == 2
    assert "9" not in report.summary  # absolute_metrics are not what is compared


def test_files_alone_are_compared_by_return(tmp_path: Path) -> None:
    algorithms = {"ippo": theirs([3, 4, 5], "return"), "mappo": theirs([6, 7, 9], "return")}
    first = write(tmp_path / "a.json", {"vmas": {"balance": {"ippo": algorithms["ippo"]}}})
    second = write(tmp_path / "b.json", {"vmas": {"Balance": {"mappo": algorithms["mappo"]}}})
    text = Page(make_report([first, second]).html).text
    # Student's t of (22/3 - 4) with Welch's degrees of freedom, from scipy.
    known = ttest_ind([6, 7, 9], [3, 4, 5], equal_var=False).confidence_interval(0.95)
    assert f"+3.33 [{known.low:+.3g}, {known.high:+.3g}]" in text.replace("\N{MINUS SIGN}", "-")
    assert "difference to ippo, a.json" in text


def test_t_intervals_are_scipys() -> None:
    from scipy.stats import t

    x, y = np.array([1.0, 2.5, 3.0, 7.0]), np.array([0.5, 0.25, 4.0])
    known = ttest_ind(x, y, equal_var=False).confidence_interval(0.99)
    assert np.allclose([welch(x, y, 0.99).low, welch(x, y, 0.99).high], [known.low, known.high], atol=1e-6)
    assert np.allclose(
        [student(x, 0.9).low, student(x, 0.9).high], t.interval(0.9, 3, x.mean(), x.std(ddof=1) / 2), atol=1e-6
    )
    for alone in ([1.0], [1.0, 1.0]):
        assert np.isnan(student(np.array(alone), 0.95).low) and np.isnan(welch(x, np.array(alone), 0.95).low)


def test_an_alias_says_that_two_tasks_are_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours(tmp_path / "runs")
    file = write(tmp_path / "x.json", {"Games": {"fig_1": {"ppo": theirs([1, 0])}}})
    args = ["report", str(tmp_path / "runs"), str(file), "-o", str(tmp_path / "page.html")]
    assert main(args) == 2
    line = capsys.readouterr().err
    assert "Games/fig_1" in line and "--alias Games/fig_1=MatrixGame/figure1" in line
    assert not (tmp_path / "page.html").exists()
    assert main([*args, "--alias", "Games/fig_1=MatrixGame/figure1"]) == 0
    assert "beside our runs" in Page((tmp_path / "page.html").read_text()).text


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = {"MatrixGame": {"figure1": {"ppo": theirs([1, 0])}}}
    change(content["MatrixGame"]["figure1"]["ppo"])
    return copy.deepcopy(content)


BAD = {
    "text": ("hello", "Expecting value"),
    "cut": (json.dumps(changed(lambda seeds: None))[:200], "no file of marl-eval"),
    "a list": ([1, 2], "environment, task, algorithm, seed, step"),
    "nothing": ({}, "holds no names"),
    "too flat": ({"a": {"b": {"c": 1}}}, "a, b, c holds no names"),
    "NaN": (json.dumps(changed(lambda s: s["seed_0"]["step_1"].update(win_rate=[float("nan")]))), "NaN"),
    "infinity": ('{"a": {"b": {"c": {"s": {"step_1": {"step_count": 1, "return": [1e999]}}}}}}', "neither a number"),
    "no steps": (changed(lambda s: s["seed_0"].pop("step_1") and s.update(seed_0={"absolute_metrics": {}})), "step_1"),
    "no step_count": (changed(lambda s: s["seed_1"]["step_1"].pop("step_count")), "seed_1, step_1 has no step_count"),
    "negative": (changed(lambda s: s["seed_1"]["step_1"].update(step_count=-1)), "no step_count"),
    "other counts": (
        changed(lambda s: s.update(seed_1={"step_1": {"step_count": 7, "win_rate": 1.0}})),
        "no step_count in common",
    ),
    "a text": (changed(lambda s: s["seed_0"]["step_1"].update(win_rate=["1"])), "neither a number"),
    "empty": (changed(lambda s: s["seed_0"]["step_1"].update(win_rate=[])), "neither a number"),
    "unknown metric": ({"MatrixGame": {"figure1": {"p": theirs([1.0], "loss")}}}, "share none of return"),
    "rate of 300": (changed(lambda s: s["seed_0"]["step_1"].update(win_rate=[300.0])), "outside 0 to 1"),
    "control characters": ({"a\x1b[31m\n": {"b": {"c": 1}}}, "holds no names"),
}


@pytest.mark.parametrize(("content", "part"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_line(content: object, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours(tmp_path / "runs")
    file = write(tmp_path / "bad.json", content)
    before = sorted(tmp_path.rglob("*"))
    args = ["report", str(tmp_path / "runs"), str(file), "-o", str(tmp_path / "page.html")]
    assert main([*args, "--json", str(tmp_path / "o.json")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert part in line and "bad.json" in line and "\x1b" not in line
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_flags_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours(tmp_path / "runs")
    file = write(tmp_path / "x.json", {"MatrixGame": {"figure1": {"ppo": theirs([1, 0])}}})
    page = str(tmp_path / "page.html")
    (tmp_path / "runs/ma_props_figure1/checkpoints").mkdir()
    for options, part in {
        (str(tmp_path / "runs"), "--json", page): "same file",
        (str(file), "--json", str(file)): "is read here",
        (str(file), "--json", str(tmp_path / "o.json")): "no runs of ours",
        (str(file), "--alias", "a"): "THEIRS=OURS",
        (str(file), "--alias", "a/b=c/d"): "a/b is in no file: they have MatrixGame/figure1",
        (str(file), "--alias", "MatrixGame/figure1=stag"): "give environment and task",
        (str(tmp_path / "runs"), "--json", str(tmp_path / "runs/ma_props_figure1/eval.csv")): "a file of the run",
    }.items():
        assert main(["report", *options, "-o", page]) == 2, options
        [line] = capsys.readouterr().err.splitlines()
        assert part in line, line
    assert not (tmp_path / "page.html").exists() and not (tmp_path / "o.json").exists()


def test_names_are_shown_as_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    page = Page(make_report([write(tmp_path / "x.json", {evil: {evil: {evil: theirs([1, 0])}}})]).html)
    assert page.tags["script"] == 2 and evil in page.text
