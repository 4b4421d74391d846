"""The commands fit, validate and test."""

import sys
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from tqdm import tqdm

from lit_maprops.metrics.evaluate import Evaluation
from lit_maprops.metrics.reliability import Criterion, share_text
from lit_maprops.module import LitMAPROPS
from lit_maprops.report.page import page_maker
from lit_maprops.run.failures import one_line_failures
from lit_maprops.run.flags import with_flags
from lit_maprops.run.last_words import short
from lit_maprops.run.option_files import run_of
from lit_maprops.run.options import RunCLI, parsed
from lit_maprops.run.resume import check_resumes
from lit_maprops.run.strategy import ranks_of
from lit_maprops.run.training import train
from lit_maprops.system.checkpoint import own_state, read_checkpoint
from lit_maprops.system.errors import check, printable
from lit_maprops.system.files import write_json
from lit_maprops.system.threads import chosen_by_us

WAY_ON = "python -m lit_maprops fit --ckpt_path {checkpoint}{flags}"
ONE_THREAD = (
    "threads: torch takes one, which is near the best on any machine, idle or busy; OMP_NUM_THREADS sets another"
)
NEXT_STEP = "python -m lit_maprops report {runs} -o report.html"


def say(message: str) -> None:
    """Print one line for the user; stderr, so that stdout stays parsable."""
    tqdm.write(printable(with_flags(message)), file=sys.stderr)  # leaves a progress bar below it intact


def run(args: list[str]) -> int:
    """Run ``fit``, ``validate`` or ``test`` with its options; returns the exit code.

    Raises:
        ConfigError: bad settings, found before anything is written.
    """
    tqdm.set_lock(RLock())  # its own are semaphores of the system, of which a second signal would leave a line
    cli = parsed(args[1:], args[0])
    if chosen_by_us():
        cli.notes.append(ONE_THREAD)
    if args[0] != "fit":
        return evaluate(cli, args[0])
    return train(cli, say, WAY_ON, next_step=NEXT_STEP, page=page_maker(cli.config.wandb_artifacts))[0]


def evaluate(cli: RunCLI, command: str) -> int:
    """Evaluate a checkpoint's decentralized policies on fresh episodes; writes ``<command>.json`` beside its run."""
    checkpoint, model = cli.config.ckpt_path, cli.model
    check(checkpoint is not None, f"--ckpt_path is missing: {command} needs the checkpoint of a run")
    run_folder = run_of(checkpoint)
    content = read_checkpoint(Path(checkpoint))
    model.ranks = ranks_of(cli.trainer, model, cli.datamodule.num_envs)
    model.prepare(cli.datamodule)
    check_resumes(model, content)
    with one_line_failures(model, run_folder):
        getattr(cli.trainer, command)(
            model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False
        )
    if not cli.trainer.is_global_zero:
        return 0
    result: dict[str, Any] = {
        "env_steps": own_state(content)["iteration"] * cli.datamodule.target_batch_size,
        "episodes": model.eval_episodes,
        "seeds": model.seed_ids,
    }
    for name, evaluation in model.evaluation_result.items():
        result[f"{name}_success_rate"] = evaluation.success_rate.tolist()
        result[f"{name}_return"] = evaluation.episode_return.tolist()
    told = all(evaluation.tells_success for evaluation in model.evaluation_result.values())
    judged = model.criterion(told)
    for name, evaluation in model.evaluation_result.items():
        say(f"{command}: {name} policies {_how_they_did(evaluation, judged, model.eval_episodes)}")
    if not told:
        say(f"{command}: this task has no success, so returns count")
    missing = _without_figure(model)
    if missing:
        numbers = ", ".join(map(str, missing))
        say(f"{command}: seed {numbers}: no figure, counted as 0: the policies gave NaN, or it is quarantined")
    path = run_folder / f"{command}.json"
    write_json(path, result)
    say(f"{command}: written to {path}")
    return 0


def _how_they_did(evaluation: Evaluation, judged: Criterion, episodes: int) -> str:
    """Their mean success or return; with a threshold for returns, the seeds that reach it."""
    if not judged.by_return:
        return f"succeed in {share_text(evaluation.mean_success_rate, 1)} of {episodes} episodes per seed"
    text = f"return {short(Evaluation.mean(evaluation.episode_return))}, mean of {episodes} episodes per seed"
    if not judged.tells_solved:
        return text
    solved = judged.solved(evaluation.episode_return.tolist())
    return f"{text}; {solved.sum()} of {len(solved)} seeds return at least {judged.threshold:g}"


def _without_figure(model: LitMAPROPS) -> list[int]:
    """Numbers of the seeds that validate or test could not evaluate."""
    rates = torch.stack([evaluation.episode_return for evaluation in (model.evaluation_result or {}).values()])
    return [seed for seed, lost in zip(model.seed_ids, rates.isnan().any(0).tolist(), strict=True) if lost]
