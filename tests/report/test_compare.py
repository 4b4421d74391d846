"""``compare``: two runs side by side, from their files alone."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import three_samplers, write_run

from lit_maprops.cli.main import main
from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.system.tables import read_table


def table(text: str) -> dict[str, list[str]]:
    """Label to the two runs' cells."""
    rows = [[part.strip() for part in line.split("  ") if part.strip()] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) == 3}


def compared(capsys: pytest.CaptureFixture[str], *folders: Path) -> tuple[dict[str, list[str]], str]:
    assert main(["compare", *map(str, folders)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return table(out), out.splitlines()[-1]


def test_figures_are_those_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = three_samplers(tmp_path)
    rows = ["env_steps,seed,greedy_success_rate,stochastic_success_rate,greedy_return,stochastic_return"]
    rows += [f"400,{seed},{greedy},0.5,{3 + seed},2" for seed, greedy in enumerate((1, 1, 0, 0.9))]
    (runs / "ma_props/eval.csv").write_text("\n".join(rows) + "\n")
    cells, last = compared(capsys, runs / "ma_props", runs / "on_policy")
    assert cells["model.behavior"] == ["MAPROPS", "OnPolicy"]
    assert cells["model.behavior.kl_cutoff"] == ["0.05", "-"]
    assert "model.num_seeds" not in cells and "data.env.payoff" not in cells  # equal
    assert cells["solved seeds"] == ["3 of 4: 75% [30%, 95%]", "1 of 4: 25% [5%, 70%]"]
    assert cells["success, greedy"][0].startswith("0.725 [") and cells["success, sampled"][0] == "0.5"
    assert cells["return, greedy"][0].startswith("4.5 [") and cells["return, sampled"] == ["2", "0"]
    assert cells["sampling error"] == ["0.02 (joint_tv)", "0.1 (joint_tv)"]
    assert cells["sampling error, on-policy"] == ["0.2 (joint_tv)", "0.2 (joint_tv)"]
    assert cells["env steps/s, all seeds"] == ["40", "40"]  # 400 of each of 4 seeds in 40 s
    low, high = score_interval([3], [4], [1], [4])
    assert last.startswith(f"Solved, ma_props minus on_policy: +50 points [95% {100 * low:+.0f} to {100 * high:+.0f}]")
    assert last.endswith("no difference shown.")


def test_a_clear_difference_is_told_with_its_direction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, all_ = write_run(tmp_path / "few", [0.0] * 16), write_run(tmp_path / "all", [1.0] * 16, "MAPROPS")
    assert compared(capsys, all_, few)[1].endswith("the first solves more.")
    assert compared(capsys, few, all_)[1].endswith("the first solves fewer.")


def test_estimates_of_nearly_deterministic_policies_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most of a mean error may be theirs, and it changes nothing then."""
    a, b = write_run(tmp_path / "a", [1.0] * 4), write_run(tmp_path / "b", [1.0] * 4, "MAPROPS")
    given = json.loads((b / "summary.json").read_text())
    apart = {"estimates": 41, "joint_tv": 0.136, "joint_tv_on_policy": 0.003}
    (b / "summary.json").write_text(json.dumps(given | {"near_deterministic": apart}))
    assert main(["compare", str(a), str(b)]) == 0
    said = capsys.readouterr().out
    assert "b: in 41 of its estimates policies were nearly deterministic; joint_tv was 0.136 there" in said
    assert said.splitlines()[-1].startswith("Solved, a minus b:")


def test_runs_of_unequal_length_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the verdict, which is of what they are at their ends."""
    long = write_run(tmp_path / "long", [1.0] * 16, "MAPROPS", evaluations=4, rows=8)
    short = write_run(tmp_path / "short", [0.0] * 16)
    ends = [f"{float(read_table(run / 'eval.csv')['env_steps'].max()):,.0f}" for run in (long, short)]
    assert ends[0] != ends[1]
    assert compared(capsys, long, short)[1].endswith(f"solves more. After {ends[0]} and {ends[1]} env steps per seed.")


def test_one_seed_of_two_hundred_that_fails_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_run(tmp_path / "a", [1.0] * 199 + [0.0]), write_run(tmp_path / "b", [1.0] * 200, "MAPROPS")
    cells, _ = compared(capsys, a, b)
    assert cells["solved seeds"] == ["199 of 200: 99.5% [97%, 99.9%]", "200 of 200: 100% [98%, 100%]"]


def test_other_settings_are_listed_and_other_environments_not_subtracted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_run(tmp_path / "one/run", [1.0, 0.0])
    b = write_run(tmp_path / "two/run", [1.0, 1.0, 1.0], data__target_batch_size=50)
    cells, last = compared(capsys, a, b)
    assert cells["data.target_batch_size"] == ["100", "50"] and cells["seeds"] == ["0, 1", "0, 1, 2"]
    assert f"Solved, {a} minus {b}: -50 points" in last  # of one name: told by their paths
    game = {"class_path": "lit_maprops.envs.MatrixGame", "init_args": {"payoff": "climbing"}}
    cells, last = compared(capsys, a, write_run(tmp_path / "c", [1.0], data__env=game))
    assert cells["data.env.payoff"] == ["figure1", "climbing"]
    assert last == "No difference is told: the runs are of different environments (data.env.payoff)."


def test_equal_settings_and_missing_numbers_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task without a verdict of success, or seeds in quarantine, have empty cells."""
    nan = float("nan")
    a, b = write_run(tmp_path / "a", [nan, nan], measure="other"), write_run(tmp_path / "b", [nan, 1.0])
    metrics = (b / "metrics.csv").read_text().replace("wall_seconds", "seconds")
    (b / "metrics.csv").write_text(metrics)
    cells, last = compared(capsys, a, b)
    assert cells["settings"] == ["equal", "equal"]
    assert cells["solved seeds"][0] == "-" and cells["success, sampled"] == ["-", "1"]
    assert cells["sampling error"] == ["-", "0.1 (joint_tv)"] and cells["env steps/s, all seeds"][1] == "-"
    assert "minus b: -50 points" in last


def _unfinished(folder: Path) -> Path:
    return write_run(folder / "unfinished", [1.0], finished=False)


def _more_to_do(folder: Path) -> Path:
    run = write_run(folder / "more", [1.0])
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"env_steps": 100}))
    return run


def _no_run(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _linked(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "run")
    return folder / "link"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "nowhere", "nowhere does not exist: give a run's folder"),
    "too long": (lambda folder: folder / ("x" * 5000), "does not exist"),
    "file": (lambda folder: folder / "run/config.yaml", "config.yaml is a file: give the folder of the run"),
    "no run": (_no_run, "empty cannot be read: config.yaml is missing"),
    "unfinished": (_unfinished, "unfinished is unfinished at 400 env steps: continue it first"),
    "given more env steps": (_more_to_do, "more is unfinished at 400 env steps"),
    "twice": (lambda folder: folder / "other/../run", "are the same run: give two"),
    "twice, by a link": (_linked, "are the same run"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    run = write_run(tmp_path / "run", [1.0])
    (tmp_path / "other").mkdir()
    make, words = BAD[case]
    assert main(["compare", str(run), str(make(tmp_path))]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err


def test_one_run_alone_is_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(write_run(tmp_path / "run", [1.0]))]) == 2
    assert "the following arguments are required: RUN" in capsys.readouterr().err


def test_nothing_of_a_run_is_imported_and_nothing_heavy(tmp_path: Path) -> None:
    """Their class would leave a file behind; neither torch nor a package of the extra is needed."""
    (tmp_path / "evil.py").write_text("open('trace', 'w').close()")
    run = write_run(tmp_path / "a", [1.0], data__env={"class_path": "evil.Evil", "init_args": {}})
    shutil.copytree(run, tmp_path / "b")
    code = (
        "import sys; from lit_maprops.cli.main import main; assert main(['compare', 'a', 'b']) == 0; "
        "assert not {'torch', 'lightning', 'matplotlib', 'scipy', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert not (tmp_path / "trace").exists()
