"""Sampling error at fixed policies, every n from the first of the same draws."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, PROPS, Autoregressive, CoordinationGraph, OnPolicy, TabularMAPROPS
from lit_maprops.envs import Coordination
from lit_maprops.metrics.reliability import mean_interval
from lit_maprops.metrics.sampling_error import tabular_error
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.argument_types import AUTO
from lit_maprops.system.files import write_json
from studies import ROOT
from studies.cutoffs.tried import STRONG, WEAK, Maker, tried

RUN_SEED, SEEDS, MANY_SEEDS = 20_261_129, 300, 32
SIZES = (8, 16, 32)
Rows = list[dict[str, object]]
Floats = NDArray[np.floating]


def kept(name: str, measure: Callable[[], Any]) -> Any:
    """What ``measure`` gave when it was first called; it is not called again."""
    path = ROOT / "runs" / "cutoffs" / f"{name}.json"
    if not path.exists():
        print("cutoffs", name, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measure())
    return json.loads(path.read_text())


def collected(maker: Maker, policy: Tensor, n: int) -> TensorDictBase:
    """n samples of every seed from a fixed policy ``[R, A, N]`` (nats), m = 1: D, ``[R, n]``."""
    seeds, n_agents, n_actions = policy.shape
    behavior, logits = maker(), policy.unsqueeze(1)
    behavior.build(Coordination(n_agents, n_actions, partial=True), RUN_SEED, list(range(seeds)))
    behavior.reset(None)
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


def errors(maker: Maker, policy: Tensor, sizes: tuple[int, ...], measure: str = "joint_tv") -> Floats:
    """The error of every prefix in ``sizes``, ``[len(sizes), R]``."""
    data = collected(maker, policy, max(sizes))
    streams = SeedStreams(RUN_SEED, list(range(len(policy))), "unused")
    return np.stack([tabular_error(data[:, :n], streams)[measure].numpy() for n in sizes]).astype(float)


def all_errors(
    part: str, makers: dict[str, Maker], policy: Tensor, sizes: tuple[int, ...], measure: str = "joint_tv"
) -> dict[str, Floats]:
    """``errors`` of every sampler; measured once."""
    found = kept(part, lambda: {name: errors(m, policy, sizes, measure).tolist() for name, m in makers.items()})
    return {name: np.array(values) for name, values in found.items()}


def skewed(likely: float, n_agents: int, n_actions: int, seeds: int = SEEDS) -> Tensor:
    """Every agent's action 0 has probability ``likely``, the others share the rest."""
    rest = (1 - likely) / (n_actions - 1)
    return torch.tensor([likely, *[rest] * (n_actions - 1)]).log().expand(seeds, n_agents, n_actions)


def drawn(spread: float, n_agents: int, n_actions: int, seeds: int = SEEDS) -> Tensor:
    """Logits ``spread`` times standard normal, drawn for every seed and agent."""
    draw = torch.Generator().manual_seed(RUN_SEED)
    return (spread * torch.randn(seeds, n_agents, n_actions, generator=draw)).log_softmax(-1)


def cell(own: Floats, on_policy: Floats) -> str:
    """Mean, and a mark where its 95% interval lies above or below on-policy sampling's mean difference of 0."""
    mean = f"{own.mean():.4f}"
    if np.array_equal(own, on_policy):
        return mean
    low, high = difference_interval(own, on_policy)
    return f"{mean}{' >' if low > 0 else ' <' if high < 0 else ''}"


def difference_interval(own: Floats, on_policy: Floats) -> tuple[float, float]:
    """95% bootstrap interval of the mean difference; the seeds have the same policies."""
    low, high = mean_interval((own - on_policy)[None])
    return float(low[0]), float(high[0])


def mechanism(rows: Rows) -> str:
    """What was tried, at 2x2 policies."""
    policies = {prob: skewed(prob, 2, 2) for prob in (0.5, 0.8, 0.95, 0.99)}
    sizes, lines = (8, 32), []
    found = {p: all_errors(f"tried {p}", tried(), policy, sizes) for p, policy in policies.items()}
    for name in tried():
        cells = [cell(found[p][name][i], found[p]["on-policy"][i]) for p in policies for i in range(len(sizes))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        for p in policies:
            for i, n in enumerate(sizes):
                rows.append({"part": "tried", "setting": f"2x2 at {p}", "sampler": name, "n": n, "seeds": SEEDS})
                rows[-1] |= {"error": float(found[p][name][i].mean())}
    return "\n".join(lines)


SAMPLERS: dict[str, Maker] = {
    "on-policy": OnPolicy,
    "PROPS, weak": lambda: PROPS(**WEAK, kl_cutoff=0.05),
    "PROPS, strong": lambda: PROPS(**STRONG, kl_cutoff=1.0),
    "PROPS, **auto**": lambda: PROPS(**STRONG, kl_cutoff=AUTO),
    "MA-PROPS, weak": lambda: MAPROPS(**WEAK, kl_cutoff=0.05),
    "MA-PROPS, strong": lambda: MAPROPS(**STRONG, kl_cutoff=1.0),
    "MA-PROPS, **auto**": lambda: MAPROPS(**STRONG, kl_cutoff=AUTO),
    "closed form, delta 0.3": TabularMAPROPS,
    "closed form, **auto**": lambda: TabularMAPROPS(kl_cutoff=AUTO),
    "Autoregressive, strong": lambda: Autoregressive(**STRONG, kl_cutoff=1.0),
    "Autoregressive, **auto**": lambda: Autoregressive(**STRONG, kl_cutoff=AUTO),
    "CoordinationGraph, strong": lambda: CoordinationGraph(**STRONG, kl_cutoff=1.0),
    "CoordinationGraph, **auto**": lambda: CoordinationGraph(**STRONG, kl_cutoff=AUTO),
}
CUTOFFS: dict[str, float | Literal["auto"]] = {"delta 1": 1.0, "**auto**": AUTO}
MANY: dict[str, Maker] = {
    f"{kind.__name__}, {says}": partial(kind, **(STRONG | {"learning_rate": 0.5}), kl_cutoff=cutoff)
    for kind in (PROPS, Autoregressive, CoordinationGraph)
    for says, cutoff in CUTOFFS.items()
}


def games(rows: Rows) -> str:
    """All samplers in small games."""
    policies = {
        "2x2, uniform": skewed(0.5, 2, 2),
        "2x2, 0.8": skewed(0.8, 2, 2),
        "2x2, 0.95": skewed(0.95, 2, 2),
        "2x2, 0.99": skewed(0.99, 2, 2),
        "2x2, random": drawn(2.0, 2, 2),
        "3 agents, 0.95": skewed(0.95, 3, 2),
        "3 agents, random": drawn(2.0, 3, 2),
        "3x3, 0.95": skewed(0.95, 2, 3),
        "3x3, random": drawn(2.0, 2, 3),
    }
    lines = []
    for setting, policy in policies.items():
        found = all_errors(f"fixed {setting}", SAMPLERS, policy, SIZES)
        for name, own in found.items():
            cells = [cell(own[i], found["on-policy"][i]) for i in range(len(SIZES))]
            lines.append(f"| {setting} | {name} | {' | '.join(cells)} |")
            for i, n in enumerate(SIZES):
                rows.append({"part": "fixed", "setting": setting, "sampler": name, "n": n, "seeds": SEEDS})
                rows[-1] |= {"error": float(own[i].mean())}
        print(lines[-1], flush=True)
    return "\n".join(lines)


def ten_agents(rows: Rows) -> str:
    """Pairwise TV of ten agents with five actions."""
    spreads = {"uniform": 0.0, "random": 1.0, "peaked": 3.0, "nearly deterministic": 8.0}
    lines = []
    for setting, spread in spreads.items():
        policy = drawn(spread, 10, 5, MANY_SEEDS)
        both = all_errors(f"ten agents {setting}", MANY | {"on-policy": OnPolicy}, policy, (32,), "pairwise_tv")
        found = {name: own[0] for name, own in both.items()}
        for name, own in found.items():
            low, high = difference_interval(own, found["on-policy"])
            change = (
                "" if name == "on-policy" else f"{(own - found['on-policy']).mean():+.4f} [{low:+.4f}, {high:+.4f}]"
            )
            lines.append(f"| {setting} | {name} | {own.mean():.4f} | {change} |")
            rows.append({"part": "ten agents", "setting": setting, "sampler": name, "n": 32, "seeds": MANY_SEEDS})
            rows[-1] |= {"error": float(own.mean())}
        print(lines[-1], flush=True)
    return "\n".join(lines)
