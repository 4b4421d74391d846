"""Every seed in the loggers: W&B's offline store and TensorBoard's files say what the run's own files say."""

import csv
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from conftest import ROOT, SMALL
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

import lit_maprops as lm
from docs.pictures import wandb_store
from lit_maprops.cli.main import main
from lit_maprops.metrics.each_seed import BINS, LINES, MOST_ROWS, EachSeed, Lines, histogram
from lit_maprops.run.wandb_options import WandbOptions

FIGURES = ("greedy_success_rate", "stochastic_success_rate", "greedy_return", "stochastic_return")
LABELS = ("--wandb_group", "study", "--wandb_job_type", "ma_props", "--wandb_tags", "[figure1, m=1]")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an offline W&B run that has everything on request."""
    runs = tmp_path_factory.mktemp("tracked")
    options = [*LABELS, "--wandb", "offline", "--wandb_artifacts", "[report, checkpoints]", "--keep", "1"]
    wandb.teardown()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(["fit", *SMALL["BoulderPush"], "--runs_dir", str(runs), "--run_name", "x", *options]) == 0
    _wait_for(runs / "x", "exit")
    return runs / "x"


def _wait_for(folder: Path, kind: str) -> None:
    """W&B's own process writes the last of it after the run has been told to finish."""
    end = time.monotonic() + 60
    while kind not in {one.WhichOneof("record_type") for one in wandb_store.records(folder)} and time.monotonic() < end:
        time.sleep(0.05)


def evaluations(folder: Path) -> list[dict[str, float]]:
    with (folder / "eval.csv").open() as file:
        return [{k: float(v) if v else np.nan for k, v in row.items()} for row in csv.DictReader(file)]


def test_the_panel_has_every_seed_of_every_evaluation(tracked: Path) -> None:
    rows = wandb_store.table(tracked, f"{LINES}_table")
    expected = evaluations(tracked)
    assert [{k: float(v) for k, v in row.items()} for row in rows] == expected
    assert len({row["seed"] for row in rows}) == 2 and len(expected) == 6
    setup = wandb_store.panel(tracked, LINES)
    assert setup["panelDefId"] == "wandb/lineseries/v0"
    assert setup["fieldSettings"] == {"step": "env_steps", "lineKey": "seed", "lineVal": "greedy_success_rate"}
    assert "seeds/lines_table" in json.dumps(setup["userQuery"])
    summary = json.loads((tracked / "summary.json").read_text())
    last = [row["greedy_success_rate"] for row in rows if row["env_steps"] == summary["env_steps"]]
    assert last == summary["success_rate"]


def test_histograms_over_seeds_are_those_of_the_evaluations(tracked: Path) -> None:
    logged = [row for row in wandb_store.history(tracked) if "seeds/greedy_return/values" in row]
    expected = evaluations(tracked)
    assert [row["env_steps"] for row in logged] == sorted({row["env_steps"] for row in expected})
    for row in logged:
        for name in FIGURES:
            values = [one[name] for one in expected if one["env_steps"] == row["env_steps"]]
            counts, edges = np.histogram(values, BINS, (0, 1) if name.endswith("rate") else None)
            assert row[f"seeds/{name}/values"] == counts.tolist()
            assert row[f"seeds/{name}/bins"] == pytest.approx(edges.tolist())


def test_metrics_stay_means_over_seeds(tracked: Path) -> None:
    """R times the metrics would drown them."""
    names = {name for row in wandb_store.history(tracked) for name in row}
    assert not [name for name in names if re.search(r"seed_?\d", name)]
    with (tracked / "metrics.csv").open() as file:
        steps = [int(row["env_steps"]) for row in csv.DictReader(file)]
    assert [row["env_steps"] for row in wandb_store.history(tracked) if "train/episode_return" in row] == steps


def test_labels_films_and_artifacts_are_in_the_store(tracked: Path) -> None:
    records = list(wandb_store.records(tracked))
    (run,) = [one.run for one in records if one.WhichOneof("record_type") == "run"][:1]
    assert (run.run_group, run.job_type, list(run.tags)) == ("study", "ma_props", ["figure1", "m=1"])
    artifacts = {one.artifact.type: one.artifact for one in records if one.WhichOneof("record_type") == "artifact"}
    files = {kind: list(artifacts[kind].manifest.contents) for kind in ("report", "model")}
    assert [file.path for file in files["report"]] == ["report.html"]
    assert sorted(file.path for file in files["model"]) == ["env_steps_160.ckpt", "env_steps_192.ckpt"]
    assert "env_steps_192" in artifacts["model"].aliases
    for file in (*files["report"], *files["model"]):
        path = Path(file.local_path)
        assert path.is_absolute() and path.parent == tracked / "wandb/artifacts" and path.stat().st_size == file.size
    newest = tracked / "wandb/artifacts/env_steps_192.ckpt"
    assert newest.read_bytes() == (tracked / "checkpoints/last.ckpt").read_bytes()
    assert "MA-PROPS reliability report" in (tracked / "wandb/artifacts/report.html").read_text()
    media = {name for row in wandb_store.history(tracked) for name in row if name.startswith(("figures/", "films/"))}
    gifs = {f"films/{path.stem}/path" for path in tracked.glob("*.gif")}
    assert gifs and gifs | {"figures/success/path"} <= media


def test_a_continued_run_logs_all_seeds_from_the_start(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE")
    run = fit("x", "--wandb", "offline")
    more = ["--model.total_env_steps", "96", "--wandb", "offline"]
    assert main(["fit", "--ckpt_path", str(run / "checkpoints/last.ckpt"), *more]) == 0
    _wait_for(run, "exit")
    rows = wandb_store.table(run, f"{LINES}_table")
    assert [{k: float(v) for k, v in row.items()} for row in rows] == evaluations(run)
    assert {row["env_steps"] for row in rows} == set(range(16, 97, 16))


def test_nothing_of_it_runs_where_nobody_listens(fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_maprops.module.figures_of", pytest.fail)
    monkeypatch.setattr("lit_maprops.metrics.each_seed.Lines", pytest.fail)
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert not (fit("x") / "wandb").exists()


def test_the_docs_picture_is_of_the_store(tracked: Path) -> None:
    vl_convert = pytest.importorskip("vl_convert")
    from docs.pictures import wandb_panel

    chart = wandb_panel.chart(tracked)
    drawn = vl_convert.vegalite_to_svg(chart)
    lines = re.findall(r'<path aria-label="[^"]*"[^>]*aria-roledescription="line mark"', drawn)
    assert len(lines) == len({row["seed"] for row in chart["data"]["values"]}) == 2
    assert chart["title"] in drawn and (ROOT / "docs/pictures/wandb_panel.svg").exists()


def of(env_steps: int, *values: float) -> EachSeed:
    return EachSeed(env_steps, range(len(values)), {"greedy_return": np.array(values)}, "greedy_return")


def test_lines_are_thinned_and_keep_the_first_and_the_newest() -> None:
    seeds, lines, sizes = 700, Lines(), []
    for number in range(1, 1001):
        lines.add(of(number, *[float(number)] * seeds))
        if lines.due:
            sizes.append(len(lines.table()[1]))
    columns, rows, judged = lines.table()
    assert columns == ["env_steps", "seed", "greedy_return"] and judged == "greedy_return"
    steps = list(dict.fromkeys(row[0] for row in rows))
    assert steps[0] == 1 and steps[-1] == 1000 and len(rows) <= MOST_ROWS + seeds
    assert len(set(np.diff(steps[:-1]))) == 1  # evenly
    assert len(sizes) < 25 and not lines.pending
    assert all(row[0] == row[2] for row in rows)


def test_a_seed_without_a_figure_is_an_empty_cell_and_in_no_histogram() -> None:
    lines = Lines()
    lines.add(of(8, 1.0, np.nan))
    assert lines.table()[1] == [[8, "0", 1.0], [8, "1", None]]
    counts, _ = histogram("greedy_return", np.array([1.0, np.nan, 2.0])) or ([], [])
    assert sum(counts) == 2
    assert histogram("greedy_success_rate", np.array([np.nan])) is None


@pytest.mark.parametrize("own", ["plain", "run"])
def test_tensorboard_shows_every_seed(tmp_path: Path, own: str) -> None:
    """A user's own TensorBoardLogger, on a plain Trainer and beside a run's own loggers."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(str(tmp_path), name="tb", version="")
    learner, game = lm.Reinforce(learning_rate=1.0, hidden=[]), lm.MatrixGame(payoff="figure1")
    sizes: dict[str, Any] = {"num_seeds": 5, "total_env_steps": 64, "eval_interval": 4, "eval_episodes": 4}
    if own == "plain":
        module = lm.LitMAPROPS(lm.OnPolicy(), learner, **sizes)
        data = lm.MultiAgentData(game, target_batch_size=8)
        options: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False}
        Trainer(accelerator="cpu", logger=logger, enable_model_summary=False, **options).fit(module, datamodule=data)
        returns = module.evaluations["greedy"].episode_return.tolist() if module.evaluations else []
    else:
        place = {"runs_dir": str(tmp_path), "run_name": "x", "target_batch_size": 8}
        run = lm.fit(env=game, behavior=lm.OnPolicy(), learner=learner, loggers=[logger], **sizes, **place)
        returns = run.episode_return.tolist()
    events = EventAccumulator(str(tmp_path / "tb"), {"histograms": 0, "tensors": 0}).Reload()
    found = events.Histograms("seeds/greedy_return")
    assert [one.step for one in found] == [32, 64]
    assert found[-1].histogram_value.num == 5
    assert found[-1].histogram_value.sum == pytest.approx(sum(returns))
    (text,) = events.Tensors("seeds/every_seed/text_summary")[-1].tensor_proto.string_val
    rows = [line.strip("| ").split(" | ") for line in text.decode().splitlines()]
    assert rows[0] == ["seed", *FIGURES] and [row[0] for row in rows[2:]] == list("01234")
    assert [float(row[3]) for row in rows[2:]] == pytest.approx(returns, rel=1e-3)
    if own == "run":
        assert "figures/success" in events.Tags()["images"]


def _fit(tmp_path: Path, *options: str) -> int:
    return main(["fit", *SMALL["MatrixGame"], "--runs_dir", str(tmp_path), "--run_name", "x", *options])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--wandb_group="], "--wandb_group is ''"),
        (["--wandb_group", "x" * 129], "give 1 to 128 printable characters"),
        (["--wandb_job_type", "a\tb"], "--wandb_job_type is 'a"),
        (["--wandb_tags", "[a, '']"], "--wandb_tags has ''"),
        (["--wandb_tags", f"[{'x' * 65}]"], "give tags of 1 to 64 printable characters"),
        (["--wandb_tags", "a"], "--wandb_tags is a: give list"),
        (["--wandb_artifacts", "[reprot]"], "--wandb_artifacts has 'reprot': give a list of report and checkpoints"),
        (["--wandb_artifact", "[report]"], "did you mean wandb_artifacts?"),
        (["--wandb", "disabled", "--wandb_group", "a"], "--wandb_group is given and --wandb is disabled"),
    ],
)
def test_what_wandb_would_refuse_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert _fit(tmp_path, *options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line and not (tmp_path / "x").exists()


def test_labels_that_reach_no_wandb_run_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _fit(tmp_path, *LABELS) == 0  # WANDB_MODE is disabled here
    err = capsys.readouterr().err
    assert "no W&B run of this run's own: --wandb_group, --wandb_job_type, --wandb_tags without effect" in err


def test_labels_from_python_are_those_of_the_command_line(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"num_seeds": 2, "total_env_steps": 8, "target_batch_size": 8, "runs_dir": str(tmp_path)}
    parts: dict[str, Any] = {"env": lm.MatrixGame(), "behavior": lm.OnPolicy(), "learner": lm.Reinforce()}
    run = lm.fit(**parts, **sizes, run_name="x", wandb_group="study", wandb_tags=("a", "b"), wandb_artifacts=["report"])
    assert WandbOptions.of(run.config) == WandbOptions("study", None, ["a", "b"], ["report"])
    with pytest.raises(lm.ConfigError, match="wandb_tags"):
        lm.fit(**parts, **sizes, run_name="y", wandb_tags="a")
    assert not (tmp_path / "y").exists()


def test_a_wandb_logger_of_the_users_own_has_every_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a plain Trainer, where nothing of this program's runs is at work."""
    wandb.teardown()
    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "x").mkdir()
    logger = WandbLogger(save_dir=str(tmp_path / "x"), offline=True, log_model=False)
    learner = lm.Reinforce(learning_rate=1.0, hidden=[])
    module = lm.LitMAPROPS(lm.OnPolicy(), learner, num_seeds=4, total_env_steps=64, eval_interval=2, eval_episodes=4)
    data = lm.MultiAgentData(lm.MatrixGame(payoff="figure1"), target_batch_size=8)
    options: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(accelerator="cpu", logger=logger, enable_model_summary=False, **options).fit(module, datamodule=data)
    wandb.finish()
    _wait_for(tmp_path / "x", "exit")
    rows = wandb_store.table(tmp_path / "x", f"{LINES}_table")
    assert [(row["env_steps"], row["seed"]) for row in rows] == [(n, s) for n in (16, 32, 48, 64) for s in "0123"]
    assert module.evaluations is not None
    assert [row["greedy_return"] for row in rows[-4:]] == module.evaluations["greedy"].episode_return.tolist()


def test_earlier_configurations_have_no_labels() -> None:
    assert WandbOptions.of({"wandb": None}) == WandbOptions() and not WandbOptions().given
