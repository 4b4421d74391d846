"""What a complete run writes at its end: summary.json, the success curve, the films and the end of the W&B run."""

import platform
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_maprops.metrics.reliability import solved_share, wilson_interval
from lit_maprops.module import LitMAPROPS
from lit_maprops.run import figures
from lit_maprops.run.callbacks import Recorder, Say, own_module
from lit_maprops.run.flags import with_flags
from lit_maprops.run.folder import RunFolder
from lit_maprops.run.wandb_run import Tracker
from lit_maprops.system.extras import install
from lit_maprops.system.files import write_json, writing

WRITTEN = ("summary.json", "success.png", "success.gif", "failure.gif")  # at a run's end


class Summary(Callback):
    """At the end of a complete run: summary.json, the success curve and the films.

    Args:
        folder: of the run.
        recorder: whose warnings and seeds of non-finite losses go into the summary.
        config: the resolved configuration.
        say: prints one line.
    """

    def __init__(self, folder: RunFolder, recorder: Recorder, config: dict, say: Say) -> None:
        self.folder, self.recorder, self.config, self.say = folder, recorder, config, say

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take away what an earlier end left: a run that is given more env steps is unfinished again."""
        module = own_module(pl_module)
        if module.iteration >= module.data.iterations or not trainer.is_global_zero:
            return
        for name in WRITTEN:
            with writing(self.folder.path / name):
                (self.folder.path / name).unlink(missing_ok=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write everything, unless the run was stopped before its end."""
        module = own_module(pl_module)
        if module.iteration < module.data.iterations:
            return
        if module.evaluations is None:  # a finished run that was resumed: nothing was trained
            module.evaluations = module.evaluate("evaluation", module.eval_episodes)
        films = module.record(4) if module.task.renders and figures.available() else {}
        if not trainer.is_global_zero:
            return
        summary = self._summary(module)
        self.folder.check_held()
        write_json(self.folder.path / "summary.json", summary)
        with writing(self.folder.path):
            self._draw(module, summary, films)
        for logger in trainer.loggers:
            if isinstance(logger, Tracker):
                logger.log_end(self.folder, summary)
        low, high = summary["solved_share_ci95"]
        self.say(
            f"solved {summary['solved_share']:.0%} of {module.num_seeds} seeds [95% {low:.0%} to {high:.0%}], mean "
            f"success {summary['mean_success_rate']:.2f}, {summary['wall_seconds']:.0f} s, "
            f"{summary['env_steps_per_second']:,.0f} env steps/s over all seeds -> {self.folder.path}"
        )

    def _summary(self, module: LitMAPROPS) -> dict[str, Any]:
        assert module.evaluations is not None
        greedy, stochastic = module.evaluations["greedy"], module.evaluations["stochastic"]
        success = greedy.success_rate.tolist()
        share = solved_share(success, module.solved_threshold)
        wall = self.folder.newest.get("wall_seconds", float("nan"))
        kind = "joint_kl" if module.sampling_error == "likelihood" else "joint_tv"
        kind = "joint_energy" if module.task.continuous_actions else kind
        return {
            "env_steps": module.env_steps,
            "wall_seconds": wall,
            "env_steps_per_second": module.env_steps * module.num_seeds / wall,
            "seeds": module.seed_ids,
            "success_rate": success,
            "success_rate_stochastic": stochastic.success_rate.tolist(),
            "mean_success_rate": greedy.mean_success_rate,
            "solved_share": share,
            "solved_share_ci95": wilson_interval(round(share * module.num_seeds), module.num_seeds),
            "solved_threshold": module.solved_threshold,
            "episode_return": greedy.episode_return.tolist(),
            kind: self.folder.mean(f"sampling_error/{kind}"),
            f"{kind}_on_policy": self.folder.mean(f"sampling_error/{kind}_on_policy"),
            "behavior_kl": self.folder.mean("behavior/kl"),
            "non_finite_seeds": self.recorder.non_finite,
            "quarantined_seeds": module.quarantined,
            "changes": [change._asdict() for change in self.folder.changes],
            "warnings": [with_flags(warning) for warning in self.recorder.warnings.values()],
            "machine": f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads",
            "config": self.config,
        }

    def _draw(self, module: LitMAPROPS, summary: dict[str, Any], films: dict[str, torch.Tensor]) -> None:
        if not figures.available():
            self.say(f"no figures: their packages (the extra `media`) are missing: {install('media')}")
            return
        names = (type(module.task), type(module.behavior), type(module.learner))
        title = "{}: {} + {}".format(*(kind.__name__ for kind in names))
        share = f"solved {summary['solved_share']:.0%} of {module.num_seeds} seeds"
        curve = self.folder.success_curve()
        figures.success_curve(self.folder.path / "success.png", *curve, f"{title}, {share}")
        for kind, frames in films.items():
            figures.film(self.folder.path / f"{kind}.gif", frames)
