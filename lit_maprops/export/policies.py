"""From a checkpoint to the files of one seed's agents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lit_maprops.analyze.subject import read_run
from lit_maprops.envs import Task
from lit_maprops.export.document import agent_document, policy_document
from lit_maprops.export.programs import AgentPolicy, write_onnx, write_torch
from lit_maprops.metrics.reliability import rate_text
from lit_maprops.system.checkpoint import own_state
from lit_maprops.system.errors import check
from lit_maprops.system.files import write_json
from lit_maprops.system.tables import read_table
from lit_maprops.targets import TargetPolicies

SUFFIXES = {"onnx": "onnx", "torch": "pt2"}


class Trained(NamedTuple):
    """The policies of a checkpoint and where they are from."""

    folder: Path  # of the run
    policies: TargetPolicies
    task: Task
    task_options: dict[str, Any]
    run_seed: int
    seed_ids: list[int]
    env_steps: int  # per seed


def load(checkpoint: Path, classes: Sequence[str] = ()) -> Trained:
    """Read the policies of a checkpoint; changes nothing on disk.

    Args:
        checkpoint: of a run folder.
        classes: as ``read_run`` takes them.

    Raises:
        ConfigError: as ``read_run``.
    """
    content, folder, cli = read_run(checkpoint, classes)
    model, data = cli.model, cli.datamodule
    model.prepare(data)
    model.check_checkpoint(content)
    model.load_state_dict(content["state_dict"])
    env = cli.resolved_config(folder.name)["data"]["env"] or {}
    return Trained(
        folder,
        model.learner.policies,
        data.env,
        dict(env.get("init_args") or {}),
        model.run_seed,
        model.seed_ids,
        own_state(content)["iteration"] * data.target_batch_size,
    )


def chosen_seeds(trained: Trained, option: str | None) -> tuple[list[int], str]:
    """The seeds to export, and why in one line.

    Args:
        trained: a checkpoint.
        option: a seed's number, ``all``, or None for the best.

    Raises:
        ConfigError: the run has no such seed, or its policies are broken.
    """
    known = trained.seed_ids
    numbers = f"{known[0]} to {known[-1]}" if len(known) > 1 else f"{known[0]} only"
    weights = torch.cat([weight.flatten(1) for weight in trained.policies.net.parameters()], 1)
    finite = weights.isfinite().all(1).tolist()
    sound = [seed for seed, fine in zip(known, finite, strict=True) if fine]
    check(bool(sound), "<ckpt_path> holds policies that are not finite, of every seed: export an earlier checkpoint")
    if option == "all":
        missing = [str(seed) for seed in known if seed not in sound]
        left_out = f", without {', '.join(missing)}, whose policies are not finite" if missing else ""
        return sound, f"all seeds, {numbers}{left_out}"
    if option is None:
        return _best(trained, sound)
    check(option in map(str, known), f"<seed> is {option!r}: give all or a number of the run's seeds, {numbers}")
    check(int(option) in sound, f"<seed> is {option}, whose policies are not finite: choose another seed")
    return [int(option)], f"seed {option} as asked for"


def _best(trained: Trained, sound: list[int]) -> tuple[list[int], str]:
    """The seed whose greedy policies succeeded most in the newest evaluation; of equals by return, then the first.

    By return alone where the evaluation has no success rates: the task tells none.
    """
    table = _newest_evaluation(trained)
    told = bool(np.isfinite(table[1]).any())
    rated = {
        int(seed): (success if told else 0.0, reward)
        for seed, success, reward in zip(*table, strict=True)
        if int(seed) in sound and np.isfinite([success if told else 0.0, reward]).all()
    }
    if not rated:
        return sound[:1], f"seed {sound[0]}, the first: eval.csv has no evaluation up to this checkpoint"
    best = max(rated, key=lambda seed: (*rated[seed], -seed))
    success, reward = rated[best]
    figures = (
        f"greedy success {rate_text(success)}, return {reward:.3g}" if told else f"return {reward:.3g}, no success told"
    )
    return [best], f"seed {best}, the best of {len(trained.seed_ids)} in the newest evaluation ({figures})"


def _newest_evaluation(trained: Trained) -> list[np.ndarray]:
    """Seeds, greedy success rates and greedy returns, as eval.csv has them up to this checkpoint."""
    try:
        table = read_table(trained.folder / "eval.csv")
        steps = table["env_steps"]
        last = steps == steps[steps <= trained.env_steps].max()
        return [table[name][last] for name in ("seed", "greedy_success_rate", "greedy_return")]
    except (OSError, ValueError, KeyError):  # no file, no row, or somebody else's file
        return [np.empty(0)] * 3


def write_policies(trained: Trained, seed: int, folder: Path, formats: list[str]) -> None:
    """Write the programs and policy.json of one seed.

    Args:
        trained: a checkpoint.
        seed: a seed's number.
        folder: created if it is not there.
        formats: of ``onnx`` and ``torch``.
    """
    folder.mkdir(exist_ok=True)
    agents = []
    for agent in range(trained.task.n_agents):
        policy = AgentPolicy(trained.policies, trained.task, trained.seed_ids.index(seed), agent)
        files = {name: f"agent_{agent}.{SUFFIXES[name]}" for name in formats}
        program = policy.program()
        if "torch" in files:
            write_torch(program, folder / files["torch"])
        if "onnx" in files:
            write_onnx(program, folder / files["onnx"], policy.outputs, policy.inputs)
        agents.append(agent_document(trained.task, agent, policy, files))
    run = {
        "name": trained.folder.name,
        "seed": seed,
        "run_seed": trained.run_seed,
        "env_steps": trained.env_steps,
    }
    write_json(folder / "policy.json", policy_document(trained.task, trained.task_options, run, agents))
