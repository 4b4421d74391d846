"""What a run leaves behind: files, figures, films, the W&B run, warnings."""

import csv
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import wandb
import yaml
from conftest import ROOT, SMALL
from PIL import Image
from scipy.stats import sem

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.cli.main import main
from lit_maprops.module import LitMAPROPS
from lit_maprops.run import figures, wandb_run
from lit_maprops.run.diagnosis import RunningMeans, diagnose
from lit_maprops.run.folder import RunFolder
from lit_maprops.run.wandb_run import Tracker, wandb_logger
from lit_maprops.system.files import write_json
from lit_maprops.system.tables import read_table

pytestmark = pytest.mark.usefixtures("curves")
SUMMARY_FIELDS = {
    "env_steps", "wall_seconds", "env_steps_per_second", "success_rate", "solved_share", "solved_share_ci95",
    "mean_success_rate",
    "solved_threshold", "episode_return", "joint_tv", "joint_tv_on_policy", "behavior_kl", "config",
}  # fmt: skip
BEHAVIOR_COLUMNS = {
    "behavior/kl", "behavior/kl_reached", "behavior/gradient_steps", "behavior/gradient_steps_allowed",
    "behavior/cutoff_share", "behavior/ratio_clipped", "time/collect", "time/behavior", "time/target",
}  # fmt: skip


def test_run_folder_is_complete(fit: Callable[..., Path]) -> None:
    folder = fit("x")
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    expected = {"metrics.csv", "eval.csv", "summary.json", "config.yaml", "success.png", "checkpoints/last.ckpt"}
    assert expected <= names
    assert not [name for name in names if name.endswith(".tmp")]
    table = read_table(folder / "metrics.csv")
    assert table["env_steps"].tolist() == list(range(8, 65, 8))
    assert set(table) >= BEHAVIOR_COLUMNS


def test_summary_agrees_with_the_files_it_summarizes(fit: Callable[..., Path]) -> None:
    folder = fit("x", "--model.num_seeds", "5", "--model.learner.learning_rate", "0.1")
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    assert set(summary) >= SUMMARY_FIELDS
    assert summary["env_steps"] == 64
    with (folder / "eval.csv").open() as file:
        last = [row for row in csv.DictReader(file) if row["env_steps"] == "64"]
    assert [float(row["greedy_success_rate"]) for row in last] == summary["success_rate"]
    # Sampled actions differ from one set of episodes to the next, so these tell the episodes apart.
    assert [float(row["stochastic_success_rate"]) for row in last] == summary["success_rate_stochastic"]
    assert [float(row["greedy_return"]) for row in last] == summary["episode_return"]
    assert summary["solved_share"] == sum(rate >= 0.8 for rate in summary["success_rate"]) / 5
    assert summary["config"] == yaml.safe_load((folder / "config.yaml").read_text())
    assert summary["config"]["run_name"] == "x"
    table = read_table(folder / "metrics.csv")
    assert summary["joint_tv"] == pytest.approx(table["sampling_error/joint_tv"].mean())
    assert summary["env_steps_per_second"] == pytest.approx(5 * 64 / summary["wall_seconds"])


def test_standard_errors_are_those_of_scipy(fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = LitMAPROPS.training_step

    def step(self: LitMAPROPS, batch: int, batch_idx: int) -> None:
        original(self, batch, batch_idx)
        seen.append(self.row["sampling_error/joint_tv"].numpy())

    monkeypatch.setattr(LitMAPROPS, "training_step", step)
    table = read_table(fit("x", "--model.sampling_error", "tabular") / "metrics.csv")
    np.testing.assert_allclose(table["sampling_error/joint_tv_se"], [sem(values) for values in seen], rtol=1e-5)


def test_energy_distances_of_continuous_actions_are_summarized(fit: Callable[..., Path]) -> None:
    folder = fit("x", env="TwoPeaks")
    summary, table = json.loads((folder / "summary.json").read_text()), read_table(folder / "metrics.csv")
    for name in ("joint_energy", "joint_energy_on_policy"):
        assert summary[name] == pytest.approx(table[f"sampling_error/{name}"].mean())
        assert f"sampling_error/{name}_se" in table
    assert "joint_tv" not in summary


def test_the_continuous_game_samples_with_weak_updates_as_it_ships(fit: Callable[..., Path]) -> None:
    """Strong updates solve fewer runs there (docs/evidence/continuous_tasks.md): no update ends at its first step."""
    folder = fit("x", "--model.num_seeds", "32", env="TwoPeaks")
    table = read_table(folder / "metrics.csv")
    assert json.loads((folder / "summary.json").read_text())["warnings"] == []
    assert (table["behavior/gradient_steps"] > 1).all()
    assert (table["behavior/kl"] < 0.03).all()
    assert table["sampling_error/joint_energy"].mean() < table["sampling_error/joint_energy_on_policy"].mean()


def test_sampling_error_switched_off_is_null(fit: Callable[..., Path]) -> None:
    folder = fit("x", "--model.sampling_error", "null", "--model.behavior", "OnPolicy")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["joint_tv"] is None
    assert summary["joint_tv_on_policy"] is None


def test_resolved_config_reproduces_the_run(fit: Callable[..., Path]) -> None:
    first = fit("first", "--model.behavior.kl_cutoff", "0.5")
    args = ["fit", "--config", str(first / "config.yaml"), "--run_name", "second"]
    assert main(args) == 0
    second = first.parent / "second"
    assert (first / "eval.csv").read_text() == (second / "eval.csv").read_text()


def test_films_show_one_success_and_one_failure(fit: Callable[..., Path]) -> None:
    """Without the walk to the boulder both endings occur at once: agents start behind it, one row from the goal."""
    start = "[[1,1],[1,2],[2,2]]"
    folder = fit("x", "--data.env.start", start, "--model.total_env_steps", "32", env="BoulderPush")
    found = [name for name in ("success", "failure") if (folder / f"{name}.gif").exists()]
    assert found
    for name in found:
        with Image.open(folder / f"{name}.gif") as film:
            assert film.size == (160, 160 + figures.CAPTION_PIXELS)
            frames = getattr(film, "n_frames", 1)
            assert frames == 2 if name == "success" else frames >= 1
            assert len(film.convert("RGB").getcolors()) >= 4


def test_success_curve_draws_the_numbers(tmp_path: Path) -> None:
    """All seeds at 0 leave the upper half empty; all at 1 the lower."""
    dark = {}
    for value in (0.0, 1.0):
        path = tmp_path / "curve.png"
        figures.success_curve(path, np.array([1, 2]), np.full((2, 4), value), "")
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        blue = (pixels[..., 2] > 150) & (pixels[..., 0] < 50)
        dark[value] = np.argwhere(blue)[:, 0].mean() / len(pixels)
    assert dark[1.0] < 0.25
    assert dark[0.0] > 0.75


def test_csv_keeps_every_bit(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "x")
    folder.open({"a": 1}, None)
    rows = [{"env_steps": float(i), "value": math.pi / 3**i, "empty": math.nan} for i in range(20)]
    for row in rows:
        folder.add_row(row)
    folder.close()
    again = RunFolder(tmp_path / "x")
    again.open({"a": 1}, 10)
    table = read_table(tmp_path / "x" / "metrics.csv")
    assert table["value"].tolist() == [row["value"] for row in rows[:11]]
    assert np.isnan(table["empty"]).all()
    assert again.newest["value"] == rows[10]["value"]
    assert again.mean("empty") is None
    assert again.mean("value") == pytest.approx(np.mean([row["value"] for row in rows[:11]]))


def test_a_column_that_comes_later_is_put_in(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "x")
    folder.open({"a": 1}, None)
    for i in range(1, 7):
        folder.add_row({"env_steps": float(i)} | ({"now_and_then": 0.5 * i} if i % 2 == 0 else {}))
    folder.close()
    again = RunFolder(tmp_path / "x")
    again.open({"a": 1}, 5)
    for name, expected in (("now_and_then", [math.nan, 1.0, math.nan, 2.0, math.nan]), ("env_steps", [1, 2, 3, 4, 5])):
        np.testing.assert_array_equal(read_table(tmp_path / "x" / "metrics.csv")[name], expected)
    assert again.mean("now_and_then") == 1.5


def test_sampling_error_now_and_then_is_in_the_table(fit: Callable[..., Path]) -> None:
    run = fit("run", "--model.sampling_error", "tabular", "--model.sampling_error_interval", "2")
    table = read_table(run / "metrics.csv")
    error = table["sampling_error/joint_tv"]
    assert len(error) >= 4
    assert np.array_equal(np.isfinite(error), table["iteration"] % 2 == 0)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["joint_tv"] == pytest.approx(np.nanmean(error))


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [math.inf, 1.0], "c": {"d": (2,)}})
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert content == {"a": None, "b": [None, 1.0], "c": {"d": [2]}}


def offline_runs(folder: Path) -> list[Path]:
    return list((folder / "wandb").glob("offline-run-*/run-*.wandb"))


def test_wandb_is_offline_by_default(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    folder = fit("x")
    (written,) = offline_runs(folder)
    end = time.monotonic() + 60  # W&B's own process writes the last of it after the run has been told to finish
    while written.stat().st_size <= 1000 and time.monotonic() < end:
        time.sleep(0.05)
    assert written.stat().st_size > 1000
    assert list((folder / "wandb").rglob("media/**/*.png"))  # the success curve went along
    assert capsys.readouterr().out == ""


def test_a_run_that_is_not_tracked_does_not_import_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import raises
    assert wandb_logger("disabled", RunFolder(tmp_path / "x"), {}, pytest.fail) is None
    with pytest.raises(ImportError):
        wandb_logger("offline", RunFolder(tmp_path / "x"), {}, pytest.fail)


def test_wandb_online_without_a_key_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    folder = RunFolder(tmp_path / "x")
    folder.open({"a": 1}, None)
    said: list[str] = []
    logger = wandb_logger("online", folder, {}, said.append)
    assert logger is not None
    logger.experiment.finish()
    assert len(said) == 1
    assert "not logged in" in said[0]
    assert offline_runs(folder.path)


@pytest.fixture
def fresh_wandb() -> Iterator[None]:
    """W&B keeps what it first saw of a process's environment, whichever test that was in."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("fresh_wandb")
def test_wandb_with_a_dead_server_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")  # else W&B would not log in
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr(wandb_run, "WANDB_INIT_SECONDS", 5)
    folder = RunFolder(tmp_path / "x")
    folder.open({"a": 1}, None)
    said: list[str] = []
    logger = wandb_logger("online", folder, {}, said.append)
    assert logger is not None
    logger.log_metrics({"env_steps": 1.0})
    logger.experiment.finish()
    assert "online failed" in said[0] and "tracking offline" in said[0]
    # Where the machine is busy W&B's service can take longer to end than it is given, which one more line says.
    assert all(line.startswith("W&B: tracking ended") for line in said[1:]) and len(said) <= 2
    assert offline_runs(folder.path)


def means(**columns: float) -> RunningMeans:
    running = RunningMeans()
    for _ in range(10):
        running.add({name.replace("__", "/"): value for name, value in columns.items()})
    return running


def test_running_means_are_those_of_numpy_and_skip_what_is_not_finite() -> None:
    column = np.random.default_rng(0).normal(size=1000)
    column[[0, 3, 500]] = math.nan, math.inf, -math.inf
    running = RunningMeans()
    for value in column:
        running.add({"a": value, "empty": math.nan})
    assert running.rows == 1000
    assert running["a"] == pytest.approx(column[np.isfinite(column)].mean(), rel=1e-12)
    assert math.isnan(running["empty"]) and math.isnan(running["absent"])


@pytest.mark.parametrize(
    ("columns", "expected", "flag"),
    [
        (
            {"behavior__first_step_cutoff_share": 0.95, "behavior__cutoff_share": 1.0},
            "cutoff_at_first_step",
            "kl_cutoff",
        ),
        ({"behavior__first_step_cutoff_share": 0.85, "behavior__cutoff_share": 1.0}, None, ""),
        ({"behavior__cutoff_share": 0.0, "behavior__kl_reached": 0.001}, "cutoff_idle", "clip_epsilon"),
        ({"behavior__cutoff_share": 0.0, "behavior__kl_reached": 0.04}, None, ""),
        ({"behavior__cutoff_share": 0.1, "behavior__kl_reached": 0.001}, None, ""),
        (
            {"sampling_error__joint_tv": 0.3, "sampling_error__joint_tv_on_policy": 0.2},
            "no_less_sampling_error",
            "target_batch_size",
        ),
        ({"sampling_error__joint_kl": 0.1, "sampling_error__joint_kl_on_policy": 0.2}, None, ""),
        (
            {"sampling_error__joint_energy": 0.3, "sampling_error__joint_energy_on_policy": 0.2},
            "no_less_sampling_error",
            "learning_rate",
        ),
        ({"sampling_error__joint_energy": 0.1, "sampling_error__joint_energy_on_policy": 0.2}, None, ""),
        ({}, None, ""),
    ],
)
def test_failure_signatures(columns: dict[str, float], expected: str | None, flag: str) -> None:
    found = diagnose(means(**columns), kl_cutoff=0.05)
    assert set(found) == ({expected} if expected else set())
    assert all(flag in message for message in found.values())
    assert diagnose(means(**columns), kl_cutoff=None) == {}


def test_a_signature_of_a_real_run_is_reported(fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit("x", "--model.behavior.kl_cutoff", "1.0e-6")
    assert "warning: " in capsys.readouterr().err
    summary = json.loads((folder / "summary.json").read_text())
    assert any("raise --model.behavior.kl_cutoff" in line for line in summary["warnings"])


def test_nan_in_one_seed_is_reported_with_its_number_and_stays_there(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learner that diverges; what environments do wrong is in test_faults.py."""
    from lit_maprops.targets import Reinforce

    healthy = fit("healthy")
    original = Reinforce.update

    def diverged(self: Reinforce, buffer: Buffer) -> dict:
        buffer.current().get(("next", *keys.REWARD))[1] = math.nan
        return original(self, buffer)

    monkeypatch.setattr(Reinforce, "update", diverged)
    sick = fit("sick")
    assert "seed 1: NaN" in capsys.readouterr().err
    assert json.loads((sick / "summary.json").read_text())["non_finite_seeds"] == [1]
    a, b = read_table(healthy / "eval.csv"), read_table(sick / "eval.csv")
    assert np.isnan(b["greedy_success_rate"][b["seed"] == 1]).all()  # argmax of NaN is the best action of figure1
    assert json.loads((sick / "summary.json").read_text())["success_rate"][1] is None
    assert json.loads((sick / "summary.json").read_text())["solved_share"] <= 2 / 3
    others = a["seed"] != 1
    for column in a:
        np.testing.assert_array_equal(a[column][others], b[column][others])


def test_a_wandb_service_that_died_costs_nothing(tmp_path: Path) -> None:
    class Dead:
        def finish(self, exit_code: int = 0) -> None:
            raise ConnectionResetError("the service is gone")

        def log(self, row: dict[str, float]) -> None:
            self.finish()

    said: list[str] = []
    tracker = Tracker(Dead(), RunFolder(tmp_path / "x"), 5.0, said.append)
    for _ in range(2):
        tracker.log_metrics({"env_steps": 1.0})
    tracker.end(0)
    assert len(said) == 1 and "ConnectionResetError" in said[0] and "wandb sync" in said[0]


def test_without_media_a_run_still_ends(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figures, "available", lambda: False)
    folder = fit("x")
    assert (folder / "summary.json").exists()
    assert not (folder / "success.png").exists()
    assert "media" in capsys.readouterr().err


def test_progress_bar_counts_env_steps(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fit("x")
    err = capsys.readouterr().err
    assert "64.0/64.0" in err
    assert "/s, success " in err


def test_small_runs_are_of_every_environment() -> None:
    from lit_maprops.envs import TASKS

    assert set(SMALL) == set(TASKS)


@pytest.mark.every(3)
@pytest.mark.parametrize("env", list(SMALL))
def test_every_column_and_field_is_documented(fit: Callable[..., Path], env: str) -> None:
    folder = fit("x", env=env)
    page = (ROOT / "docs" / "metrics.md").read_text()
    columns = set(read_table(folder / "metrics.csv"))
    fields = set(json.loads((folder / "summary.json").read_text()))
    for name in {name.removesuffix("_se").removesuffix("_on_policy") for name in columns | fields} - {"machine"}:
        assert f"`{name}`" in page, name
