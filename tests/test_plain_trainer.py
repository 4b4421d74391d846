"""A Trainer of the user's own, with its callbacks and loggers, trains what the command line trains."""

import csv
import inspect
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    Timer,
)
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_maprops.cli.main import main
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import MatrixGame
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.options import parsed
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.tables import read_table
from lit_maprops.system.trainer_options import OPTIONS

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
NOTHING = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
# As many iterations, of smaller batches.
FEW = {"MatrixGame": [], "BoulderPush": ["--model.total_env_steps", "96", "--data.target_batch_size", "16"]}
N = 8  # env steps of one target iteration of SMALL["MatrixGame"], which has 8 of them


def made(env: str = "MatrixGame", *options: str) -> tuple[LitMAPROPS, MultiAgentData]:
    """Module and data, as a user makes them, with the settings of a small run of the command line."""
    cli = parsed([*SMALL[env], *options])
    return cli.model, cli.datamodule


def trained(*options: str, env: str = "MatrixGame", ckpt_path: str | None = None, **trainer: Any) -> LitMAPROPS:
    model, data = made(env, *options)
    Trainer(**(QUIET | NOTHING | trainer)).fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return model


def differing(model: LitMAPROPS, folder: Path) -> list[str]:
    """Names of the parameters that are not, bit for bit, those of a run folder's last checkpoint."""
    saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    own = model.state_dict()
    assert own.keys() == saved.keys() and any(value.abs().sum() > 0 for value in own.values())
    return [name for name, value in own.items() if not torch.equal(value, saved[name])]


@pytest.mark.every(2)
@pytest.mark.parametrize("env", ["MatrixGame", "BoulderPush"])
def test_any_number_of_epochs_gives_the_parameters_of_the_command_line(fit: Callable[..., Path], env: str) -> None:
    folder = fit("x", *FEW[env], env=env)
    every = [{}, {"max_epochs": 3}, {"max_epochs": 1}, {"max_epochs": 0}, {"limit_train_batches": 2}]
    for limits in every if env == "MatrixGame" else every[1:2]:
        model = trained(*FEW[env], env=env, **limits)
        assert model.iteration == model.data.iterations, limits
        assert differing(model, folder) == [], limits


@pytest.mark.every(2)
@pytest.mark.parametrize("env", ["MatrixGame", "BoulderPush"])
def test_resume_through_ckpt_path(fit: Callable[..., Path], tmp_path: Path, env: str) -> None:
    folder = fit("x", env=env)
    n = made(env)[1].target_batch_size
    half = ModelCheckpoint(tmp_path / "mine", save_last=True)
    model = trained(env=env, max_steps=3 * n, callbacks=[half], enable_checkpointing=True)
    assert model.iteration == 3 and differing(model, folder)
    # Saved at the end of the second iteration, where evaluations, and so epochs, end.
    resumed = trained(env=env, ckpt_path=half.last_model_path, max_epochs=3)
    assert resumed.iteration == resumed.data.iterations and differing(resumed, folder) == []
    # A checkpoint of the command line continues on a plain Trainer, too, and a complete one has nothing left to do.
    assert differing(trained(env=env, ckpt_path=str(folder / "checkpoints/last.ckpt")), folder) == []


@pytest.mark.parametrize("env", ["MatrixGame", "BoulderPush"])
@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_another_fit_goes_on_where_the_last_one_ended(fit: Callable[..., Path], env: str, engine: str) -> None:
    """Bit for bit, without a checkpoint, also after an evaluation."""
    options = ["--model.engine", engine]
    folder = fit("x", *options, env=env)
    model, data = made(env, *options)
    n = data.target_batch_size
    for steps in (2, 3):
        Trainer(**QUIET, **NOTHING, max_steps=steps * n).fit(model, datamodule=data)
        Trainer(**QUIET, **NOTHING).validate(model, datamodule=data, verbose=False)
        assert model.iteration == steps and differing(model, folder)
    Trainer(**QUIET, **NOTHING).fit(model, datamodule=data)
    assert model.iteration == data.iterations and differing(model, folder) == []
    Trainer(**QUIET, **NOTHING).fit(model, datamodule=data)  # nothing is left to do
    assert differing(model, folder) == []


def test_a_fit_that_was_broken_off_is_not_taken_up_in_the_middle(tmp_path: Path) -> None:
    class Breaks(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            if pl_module.iteration == 3:
                raise RuntimeError("of a callback")

    model, data = made()
    saved = ModelCheckpoint(tmp_path, save_last=True)
    with pytest.raises(RuntimeError, match="of a callback"):
        Trainer(**QUIET, **NOTHING | {"enable_checkpointing": True}, callbacks=[saved, Breaks()]).fit(
            model, datamodule=data
        )
    with pytest.raises(ConfigError, match="was broken off: continue with the ckpt_path of a checkpoint, or make a new"):
        Trainer(**QUIET, **NOTHING).fit(model, datamodule=data)
    Trainer(**QUIET, **NOTHING).fit(model, datamodule=data, ckpt_path=saved.last_model_path, weights_only=True)
    assert model.iteration == data.iterations


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_module_stays_with_its_data(stage: str) -> None:
    """It was made for another task, and would play and tell of that one."""
    model, data = made()
    Trainer(**QUIET, **NOTHING).fit(model, datamodule=data)
    other = MultiAgentData(MatrixGame([[0.0, 0.0], [0.0, 5.0]]), target_batch_size=8)
    with pytest.raises(ConfigError, match=r"another MultiAgentData before.*: give that one \(its attribute data\), or"):
        getattr(Trainer(**QUIET, **NOTHING), stage)(model, datamodule=other)


def test_the_learning_rate_ends_above_zero() -> None:
    model, data = made("BoulderPush", "--model.learner.anneal_learning_rate", "true")
    seen: list[float] = []

    class Rates(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            seen.append(pl_module.learner.optimizer.param_groups[0]["lr"])

    Trainer(**QUIET, **NOTHING, max_epochs=5, callbacks=[Rates()]).fit(model, datamodule=data)
    rate = model.learner.learning_rate
    assert seen == pytest.approx([rate * (1 - k / data.iterations) for k in range(data.iterations)])


# every argument of Trainer

REFUSED: dict[str, Any] = {
    "precision": "16-mixed",
    "min_epochs": 2,
    "min_steps": 5,
    "overfit_batches": 1,
    "limit_train_batches": 0.5,
    "limit_val_batches": 0.5,
    "limit_test_batches": 0.5,
    "val_check_interval": 0.5,
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 1.0,
    "gradient_clip_algorithm": "norm",
    "reload_dataloaders_every_n_epochs": 1,
}


def test_the_table_has_every_argument_of_trainer() -> None:
    arguments = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    assert arguments - OPTIONS.keys() == set()
    assert OPTIONS.keys() - arguments <= {"enable_autolog_hparams", "model_registry"}  # of newer releases
    limited = {name for name, option in OPTIONS.items() if not option.accepts(object())}
    assert limited == REFUSED.keys()


@pytest.mark.every(2)
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_a_run_cannot_do_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = made()
    # Lightning itself refuses what manual optimization cannot do.
    with pytest.raises((ConfigError, MisconfigurationException), match=rf"^[^\n]*{name}[^\n]*$"):
        Trainer(**QUIET, **NOTHING, **{name: REFUSED[name]}).fit(model, datamodule=data)
    assert model.iteration == 0
    capsys.readouterr()
    args = ["fit", *SMALL["MatrixGame"], "--runs_dir", str(tmp_path / "runs"), f"--trainer.{name}={REFUSED[name]}"]
    assert main(args) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and f"--trainer.{name}" in error[0]
    assert not (tmp_path / "runs").exists()


def test_other_data_and_more_processes_are_refused() -> None:
    model, _ = made()
    with pytest.raises(ConfigError, match=r"datamodule is NoneType: give the Trainer datamodule=MultiAgentData"):
        Trainer(**QUIET, **NOTHING).fit(model, train_dataloaders=range(3))


def test_limits_stop_early_and_the_rest_is_continued(fit: Callable[..., Path], tmp_path: Path) -> None:
    whole = fit("whole")
    folder = fit("x", "--trainer.max_steps", "20")
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["lit_maprops"]["iteration"] == 3
    assert not (folder / "summary.json").exists()
    assert main(["fit", "--ckpt_path", str(folder / "checkpoints/last.ckpt"), "--trainer.max_steps", "-1"]) == 0
    assert differing(trained(), folder) == [] and differing(trained(), whole) == []
    assert trained(fast_dev_run=True).iteration == 1
    assert trained(fast_dev_run=3).iteration == 3
    assert trained(limit_train_batches=0).iteration == 0
    assert trained(max_time=timedelta(seconds=0)).iteration == 0


# callbacks


class Spy(Callback):
    """What a user's own callback sees."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.ended: list[dict[str, float]] = []
        self.validated: list[int] = []
        self.steps = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.started.append((trainer.global_step, trainer.current_epoch))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.ended.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        assert trainer.global_step == pl_module.env_steps

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.validated.append(trainer.global_step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.steps += 1


def test_callbacks_see_env_steps_metrics_evaluations_and_gradient_steps() -> None:
    spy = Spy()
    model = trained("--model.eval_interval", "3", callbacks=[spy])
    assert [step for step, _ in spy.started] == [N * k for k in range(8)]
    assert [epoch for _, epoch in spy.started] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert spy.validated == [3 * N, 6 * N, 8 * N]
    # One gradient step of Reinforce and n / m - 1 = 7 behavior updates per iteration.
    assert spy.steps == 8 * (1 + 7)
    for metrics in spy.ended[1:]:
        assert {"behavior/kl", "target/policy_loss", "env_steps", "time/collect"} <= metrics.keys()
    newest = spy.ended[-1]
    assert newest["env_steps"] == 8 * N
    assert newest["target/policy_loss"] == float(model.row["target/policy_loss"].mean())
    assert newest["eval/greedy_success_rate"] == model.evaluations["greedy"].success_rate.mean()


def test_early_stopping_and_checkpoints_follow_a_metric(tmp_path: Path) -> None:
    stop = EarlyStopping("eval/greedy_success_rate", mode="max", patience=100, stopping_threshold=-1.0)
    best = ModelCheckpoint(tmp_path, "{step}", monitor="eval/greedy_success_rate", mode="max", save_top_k=2)
    model = trained("--model.eval_interval", "2", callbacks=[stop, best], enable_checkpointing=True)
    assert model.iteration == 2  # at the first evaluation, whose rate is above the threshold
    often = ModelCheckpoint(tmp_path / "often", "{step}", every_n_train_steps=2 * N, save_top_k=-1)
    trained(callbacks=[often], enable_checkpointing=True)
    assert sorted(path.name for path in (tmp_path / "often").iterdir()) == [f"step={k * N}.ckpt" for k in (2, 4, 6, 8)]
    assert [path.name for path in tmp_path.glob("*.ckpt")] == [f"step={2 * N}.ckpt"]


def test_lightnings_own_callbacks_work(tmp_path: Path) -> None:
    logger, timer = CSVLogger(tmp_path), Timer(timedelta(hours=1))
    callbacks = [LearningRateMonitor("step"), DeviceStatsMonitor(), timer, RichProgressBar()]
    trained(callbacks=callbacks, logger=logger, log_every_n_steps=1, enable_progress_bar=True)
    rows = list(csv.DictReader((Path(logger.log_dir) / "metrics.csv").open()))
    rates = {int(row["step"]): float(row["lr-SGD"]) for row in rows if row["lr-SGD"]}
    assert rates == dict.fromkeys([N * k for k in range(8)], 1.0)
    stats = {int(row["step"]) for row in rows if row["DeviceStatsMonitor.on_train_batch_end/cpu_percent"]}
    assert stats == {N * k for k in range(1, 9)}
    assert timer.time_elapsed("train") > 0


# loggers

LOGGED = ("behavior/kl", "target/policy_loss", "train/success_rate", "eval/greedy_success_rate")


def recorded(folder: Path) -> dict[str, dict[int, float]]:
    """What metrics.csv of a run folder says: metric -> env steps -> figure."""
    table = read_table(folder / "metrics.csv")
    steps = table["env_steps"].astype(int).tolist()
    return {
        name: {step: value for step, value in zip(steps, table[name].tolist(), strict=True) if not math.isnan(value)}
        for name in LOGGED
    }


def test_loggers_of_a_plain_trainer_get_what_the_run_folder_has(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # else it wants a database
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wanted = recorded(fit("x"))
    uri = (tmp_path / "mlflow").as_uri()
    table, board, flow = CSVLogger(tmp_path), TensorBoardLogger(tmp_path / "tb"), MLFlowLogger("x", tracking_uri=uri)
    trained(logger=[table, board, flow], log_every_n_steps=1)
    events = EventAccumulator(board.log_dir)
    events.Reload()
    client = MlflowClient(uri)
    rows = list(csv.DictReader((Path(table.log_dir) / "metrics.csv").open()))
    for name in LOGGED:
        found = [
            {event.step: event.value for event in events.Scalars(name)},
            {metric.step: metric.value for metric in client.get_metric_history(flow.run_id, name)},
            {int(row["step"]): float(row[name]) for row in rows if row[name]},
        ]
        for figures in found:
            assert figures.keys() == wanted[name].keys()
            np.testing.assert_allclose(list(figures.values()), list(wanted[name].values()), rtol=1e-6)


def test_log_every_n_steps_counts_env_steps(tmp_path: Path) -> None:
    for interval, steps in ((1, range(1, 9)), (2 * N, (2, 4, 6, 8)), (3 * N, (3, 6, 8)), (1000, (8,)), (0, ())):
        logger = CSVLogger(tmp_path, name=str(interval))
        trained(logger=logger, log_every_n_steps=interval)
        path = Path(logger.log_dir) / "metrics.csv"
        rows = list(csv.DictReader(path.open())) if path.exists() else []
        assert [int(row["step"]) for row in rows if row["behavior/kl"]] == [k * N for k in steps], interval


def test_loggers_and_callbacks_of_the_command_line_are_added(fit: Callable[..., Path], tmp_path: Path) -> None:
    plain = fit("plain")
    folder = fit(
        "x",
        "--trainer.logger=CSVLogger",
        f"--trainer.logger.save_dir={tmp_path / 'csv'}",
        "--trainer.callbacks+=ModelCheckpoint",
        "--trainer.callbacks.monitor=eval/greedy_success_rate",
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=eval/greedy_success_rate",
        "--trainer.callbacks.patience=100",
    )
    assert recorded(folder) == recorded(plain)
    (version,) = (tmp_path / "csv/lightning_logs").iterdir()
    rows = list(csv.DictReader((version / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows if row["behavior/kl"]] == [k * N for k in range(1, 9)]
    assert "total_env_steps: 64" in (version / "hparams.yaml").read_text()
    assert list((folder / "checkpoints").glob("epoch=*.ckpt"))


def test_validate_returns_figures() -> None:
    model, data = made()
    trainer = Trainer(**QUIET, **NOTHING)
    trainer.fit(model, datamodule=data)
    (figures,) = trainer.validate(model, datamodule=data, verbose=False)
    assert figures["eval/greedy_success_rate"] == model.evaluation_result["greedy"].success_rate.mean()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
