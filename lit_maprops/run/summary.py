"""What a complete run writes at its end: summary.json, the success curve, the films and the end of the W&B run."""

import math
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from lit_maprops.envs import Task
from lit_maprops.metrics.evaluate import Evaluation, Film
from lit_maprops.metrics.reliability import SUCCESS, Criterion, mean_interval, share_text, wilson_interval
from lit_maprops.module import LitMAPROPS
from lit_maprops.run import figures
from lit_maprops.run.callbacks import Recorder, Say, own_module
from lit_maprops.run.diagnosis import near_deterministic
from lit_maprops.run.end_media import log_to_tensorboard
from lit_maprops.run.flags import with_flags
from lit_maprops.run.folder import RunFolder
from lit_maprops.run.last_words import last_words, return_text
from lit_maprops.run.wandb_run import Tracker
from lit_maprops.system.extras import install
from lit_maprops.system.files import write_json, writing

# At a run's end; return.png where returns are judged, episode.gif of a task without success.
WRITTEN = ("summary.json", "success.png", "success.gif", "failure.gif", "return.png", "episode.gif")


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
            elif isinstance(logger, TensorBoardLogger):
                log_to_tensorboard(logger.experiment, self.folder, module.env_steps)
        *lines, last = last_words(summary, module.eval_episodes)
        for line in lines:
            self.say(line)
        self.say(
            f"{last}, {summary['wall_seconds']:.0f} s, {summary['env_steps_per_second']:,.0f} env steps/s over all "
            f"seeds -> {self.folder.path}"
        )

    def _summary(self, module: LitMAPROPS) -> dict[str, Any]:
        assert module.evaluations is not None
        greedy, stochastic = module.evaluations["greedy"], module.evaluations["stochastic"]
        wall = self.folder.newest.get("wall_seconds", float("nan"))
        kind = "joint_kl" if module.sampling_error == "likelihood" else "joint_tv"
        kind = "joint_energy" if module.task.continuous_actions else kind
        return {
            "env_steps": module.env_steps,
            "wall_seconds": wall,
            "env_steps_per_second": module.env_steps * module.num_seeds / wall,
            "seeds": module.seed_ids,
            **self._successes(module, greedy, stochastic),
            "episode_return": greedy.episode_return.tolist(),
            "episode_return_stochastic": stochastic.episode_return.tolist(),
            **_mean_return(greedy.episode_return.double().cpu().numpy()),
            kind: self.folder.mean(f"sampling_error/{kind}"),
            f"{kind}_on_policy": self.folder.mean(f"sampling_error/{kind}_on_policy"),
            "first_visits": self.folder.mean("sampling_error/first_visits"),
            "joint_actions": _joint_actions(module.task),
            "joint_actions_seen": self.folder.mean("sampling_error/joint_actions_seen"),
            "near_deterministic": near_deterministic(self.folder.means),
            "behavior_kl": self.folder.mean("behavior/kl"),
            "non_finite_seeds": self.recorder.non_finite,
            "quarantined_seeds": module.quarantined,
            "changes": [change._asdict() for change in self.folder.changes],
            "warnings": [with_flags(warning) for warning in self.recorder.warnings.values()],
            "engine": {} if module.engines is None else module.engines.names(),
            "machine": f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads",
            "config": self.config,
        }

    def _successes(self, module: LitMAPROPS, greedy: Evaluation, stochastic: Evaluation) -> dict[str, Any]:
        """Success rates, null where no evaluation of the run had a verdict, and the share of solved seeds."""
        rates = {"success_rate": greedy, "success_rate_stochastic": stochastic}
        told = module.task.tells_success or bool(np.isfinite(self.folder.curve("greedy_success_rate")[1]).any())
        fields: dict[str, Any] = {"tells_success": told}
        judged = module.criterion(told)
        for name, evaluation in rates.items():
            if not told:
                fields |= {name: None, f"mean_{name}": None}
                continue
            # Without a verdict in the last evaluation alone there was no success in it.
            rate = evaluation.success_rate if evaluation.tells_success else evaluation.episode_return * 0.0
            fields |= {name: rate.tolist(), f"mean_{name}": evaluation._replace(success_rate=rate).mean_success_rate}
        return fields | _solved(judged, greedy.episode_return.tolist() if judged.by_return else fields["success_rate"])

    def _draw(self, module: LitMAPROPS, summary: dict[str, Any], films: dict[str, Film]) -> None:
        if not figures.available():
            self.say(f"no figures: their packages (the extra `media`) are missing: {install('media')}")
            return
        names = (type(part).__name__ for part in (module.behavior, module.learner))
        title = "{}: {} + {}".format(module.task.title, *names)
        path = self.folder.path
        if summary["solved_share"] is not None:
            title += f", solved {share_text(summary['solved_share'])} of {module.num_seeds} seeds"
        if summary["solved_on"] == SUCCESS:
            figures.success_curve(path / "success.png", *self.folder.curve("greedy_success_rate"), title)
        else:
            title += f", mean return {return_text(summary)}"
            figures.return_curve(path / "return.png", *self.folder.curve("greedy_return"), title)
        for kind, film in films.items():
            figures.film(path / f"{kind}.gif", film)


def _solved(judged: Criterion, scores: Sequence[float]) -> dict[str, Any]:
    """The share of solved seeds; null where nothing says which are.

    Args:
        judged: when a seed is solved.
        scores: success rates or returns of the seeds.
    """
    solved = int(judged.solved(scores).sum())
    return {
        "solved_on": judged.on,
        "solved_share": solved / len(scores) if judged.tells_solved else None,
        "solved_share_ci95": wilson_interval(solved, len(scores)) if judged.tells_solved else None,
        "solved_threshold": judged.threshold,
    }


def _joint_actions(task: Task) -> int | None:
    """How many there are; None for continuous actions."""
    return None if task.continuous_actions else math.prod(task.action_mask().sum(-1).tolist())


def _mean_return(returns: NDArray[np.floating]) -> dict[str, Any]:
    """Over the seeds that have one, with its bootstrap interval; a single seed has none."""
    known = returns[np.isfinite(returns)]
    ends = [float(end[0]) for end in mean_interval(known[None])] if len(known) > 1 else [float("nan")] * 2
    return {"mean_return": float(known.mean()) if len(known) else float("nan"), "mean_return_ci95": ends}
