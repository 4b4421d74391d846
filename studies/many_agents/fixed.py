"""Sampling error at fixed policies of ten agents: settings tuned on seeds of their own, then compared."""

from functools import partial

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.envs import Coordination
from lit_maprops.metrics.sampling_error import likelihood_error, tabular_error
from lit_maprops.stacked.streams import SeedStreams
from studies.many_agents.samplers import (
    AGENTS,
    COMPARED,
    N_ACTIONS,
    RUN_SEED,
    SCALED,
    SIZES,
    Rows,
    Setting,
    interval,
    kept,
    sampler_of,
    setting_name,
)

GRID: list[Setting] = [(rate, cutoff) for rate in (0.02, 0.1, 0.5) for cutoff in (0.3, 3.0)]
# A gradient over a table of joint actions is spread thin, so MA-PROPS gets larger steps; as many settings.
GRIDS = dict.fromkeys(COMPARED, GRID) | {"MAPROPS": [(25 * rate, cutoff) for rate, cutoff in GRID]}
TUNING_SEED = 3000
OTHER_GRAPHS = ("CoordinationGraph, tree", "CoordinationGraph, star")  # with the chain's settings, n = 32 only
# Spread of the policies' logits: a standard normal times this.
POLICIES = {"uniform": 0.0, "random": 1.0, "peaked": 3.0}
FITTED_SEEDS = 16  # of them, the first, for the joint KL, whose fits take most of the time


def policies(spread: float, n_agents: int, seeds: int, draw_seed: int, n_actions: int = N_ACTIONS) -> Tensor:
    """log pi_theta_i of every seed, ``[R, A, N]`` (nats)."""
    draw = torch.Generator().manual_seed(draw_seed)
    return (spread * torch.randn(seeds, n_agents, n_actions, generator=draw)).log_softmax(-1)


def collected(behavior: BehaviorPolicy, policy: Tensor, n: int, run_seed: int) -> TensorDictBase:
    """n samples from a fixed policy ``[R, A, N]``, m = 1: D, ``[R, n]``."""
    seeds, n_agents, n_actions = policy.shape
    behavior.build(Coordination(n_agents, n_actions, partial=True), run_seed, list(range(seeds)))
    behavior.reset(None)
    logits = policy.unsqueeze(1)
    step = TensorDict(
        {
            keys.OBSERVATION: torch.ones(seeds, 1, n_agents, 1),
            keys.STATE: torch.ones(seeds, 1, 1),
            keys.STATE_INDEX: torch.zeros(seeds, 1, 1, dtype=torch.int64),
            keys.PARAMETERS: logits,
        },
        [seeds, 1],
    )
    rows: list[TensorDictBase] = []
    for _ in range(n):
        if rows:
            behavior.extend(rows[-1])
            behavior.update(measure=False)
        rows.append(step.clone().set(keys.ACTION, behavior.choose(step, logits).action))
    return torch.cat(rows, 1)


def errors(name: str, setting: Setting | None, policy: Tensor, n: int, run_seed: int, fit: bool) -> dict[str, list]:
    """Pairwise total variation, and joint KL if it is to be fitted, of every seed."""
    data = collected(sampler_of(name, setting), policy, n, run_seed)
    streams = SeedStreams(run_seed, list(range(len(policy))), "sampling error")
    found = tabular_error(data, streams)
    result = {"pairwise_tv": found.get("pairwise_tv", found["joint_tv"]).tolist()}  # of two agents the pair is all
    if fit:
        few = SeedStreams(run_seed, list(range(FITTED_SEEDS)), "sampling error")
        result["joint_kl"] = likelihood_error(data[:FITTED_SEEDS], few, [])["joint_kl"].tolist()
    return result


def tune(name: str, n_agents: int) -> dict[str, float]:
    """Mean pairwise TV of every setting on the tuning seeds, uniform and random policies."""
    drawn = [policies(POLICIES[kind], n_agents, 32, TUNING_SEED) for kind in ("uniform", "random")]

    def error(setting: Setting) -> float:
        return float(np.mean([errors(name, setting, p, 32, TUNING_SEED, False)["pairwise_tv"] for p in drawn]))

    return {setting_name(setting): error(setting) for setting in GRIDS[name]}


def tuned(run_missing: bool, rows: Rows) -> tuple[str, dict[str, Setting]]:
    """Table of the tuning, and every sampler's setting: that with the least error."""
    lines, chosen = [], {}
    for name in SCALED:
        n_agents = 4 if name == "MAPROPS" else AGENTS
        found = kept(f"fixed tuning {name}", run_missing, partial(tune, name, n_agents))
        taken = min(found, key=found.__getitem__)
        chosen[name] = next(setting for setting in GRIDS[name] if setting_name(setting) == taken)
        for setting, error in found.items():
            lines.append(f"| {name} | {n_agents} | {setting}{' (taken)' if setting == taken else ''} | {error:.4f} |")
            rows.append({"part": "tuning at fixed policies", "setting": setting, "sampler": name, "seeds": 32})
            rows[-1] |= {"agents": n_agents, "n": 32, "pairwise_tv": error}
    return "\n".join(lines), chosen


def fixed(chosen: dict[str, Setting], run_missing: bool, rows: Rows) -> str:
    """Sampling error of equal data at fixed policies, and its paired differences to on-policy and to PROPS."""
    lines = []
    for n, seeds in SIZES.items():
        for kind, spread in POLICIES.items():
            policy = policies(spread, AGENTS, seeds, RUN_SEED)
            found = {
                name: kept(
                    f"fixed {kind} {n} {name}",
                    run_missing,
                    partial(errors, name, chosen.get(name.split(",")[0]), policy, n, RUN_SEED, True),
                )
                for name in ("OnPolicy", *COMPARED, *(OTHER_GRAPHS if n == 32 else ()))
            }
            for name, figures in found.items():
                cells = []
                for figure in ("pairwise_tv", "joint_kl"):
                    own = np.array(figures[figure])
                    cells.append(interval(own))
                    for base in ("OnPolicy", "PROPS"):
                        trivial = name in (base, "OnPolicy")
                        cells.append("" if trivial else interval(own - np.array(found[base][figure])))
                lines.append(f"| {n} | {kind} | {name} | {' | '.join(cells)} |")
                rows.append({"part": f"fixed {kind}", "sampler": name, "seeds": seeds, "agents": AGENTS, "n": n})
                rows[-1] |= {figure: float(np.mean(values)) for figure, values in figures.items()}
                on_policy = {f"{f}_on_policy": float(np.mean(v)) for f, v in found["OnPolicy"].items()}
                rows[-1] |= on_policy
    return "\n".join(lines)
