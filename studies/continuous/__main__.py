"""Measures docs/evidence/continuous.md: samplers for continuous actions at fixed Gaussian policies.

The state never changes and m = 1, so the first n steps of a run are a run of n steps. Every sampler is tuned over the
same grid on its own seeds, for every size and n, and measured on fresh ones. Interrupted, it continues with what is
missing; ``--sizes`` and ``--samplers`` measure a part.
"""

import argparse
import json
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import PROPS, BehaviorPolicy, GaussianAdjustment, OnPolicy
from lit_maprops.distributions import gaussian
from lit_maprops.envs import TwoPeaks
from lit_maprops.metrics.energy import energy_distance
from lit_maprops.metrics.reliability import mean_interval
from studies import ROOT
from studies.page import write

TUNING_SEED, TUNING_SEEDS = 2001, 48
RUN_SEED, SEEDS = 61, 300
SIZES = {"2 agents x 1": [1, 1], "2 agents x 2": [2, 2], "3 agents x 2": [2, 2, 2]}  # components of each agent
STEPS = (16, 64, 256)
RATES, CUTOFFS = (0.01, 0.03, 0.1, 0.3), (0.03, 0.3)
Setting = tuple[float, float]  # Adam's step size, delta
Row = dict[str, object]

TRAINED: dict[str, Callable[..., BehaviorPolicy]] = {
    "PROPS": PROPS,
    "GaussianAdjustment": GaussianAdjustment,
    "GaussianAdjustment, correlated": lambda **options: GaussianAdjustment(correlated=True, **options),
}
MOMENTS = ("means", "variances", "within agents", "between agents")


def made(sampler: str, setting: Setting | None) -> BehaviorPolicy:
    """Delta is a table: there is one state."""
    if setting is None:
        return OnPolicy()
    rate, cutoff = setting
    return TRAINED[sampler](clip_epsilon=1.0, kl_cutoff=cutoff, epochs=8, learning_rate=rate, hidden=[])


def collect(behavior: BehaviorPolicy, components: list[int], n: int, run_seed: int, seeds: int) -> Tensor:
    """Whitened actions of n steps at policies of mean 0 and standard deviation 1, ``[seeds, n, J]``."""
    task = TwoPeaks(len(components), components)
    behavior.build(task, run_seed, list(range(seeds)))
    behavior.reset(None)
    observation, state = task.observe(task.initial_state(torch.zeros(seeds, 1, 0)))
    parameters = torch.zeros(seeds, 1, task.n_agents, 2 * task.action_dim)
    index = torch.zeros(seeds, 1, 1, dtype=torch.int64)
    found = {keys.OBSERVATION: observation, keys.STATE: state, keys.STATE_INDEX: index, keys.PARAMETERS: parameters}
    step = TensorDict(found, batch_size=[seeds, 1])
    taken: list[Tensor] = []
    for _ in range(n):
        if taken:
            behavior.extend(step.clone().set(keys.ACTION, taken[-1]))
            behavior.update(measure=False)
        taken.append(behavior.choose(step, parameters).action)
    return gaussian.whiten(parameters, torch.cat(taken, 1), task.action_mask())


def energy(z: Tensor) -> NDArray[np.floating]:
    """Energy distance to N(0, I) per seed, in multiples of what on-policy sampling has in expectation."""
    n, j = z.shape[1:]
    between_normals = 2 * np.exp(torch.lgamma(torch.tensor((j + 1) / 2)) - torch.lgamma(torch.tensor(j / 2))).item()
    return energy_distance(z).double().numpy() * n / between_normals


def agent_energy(z: Tensor, components: list[int]) -> NDArray[np.floating]:
    """The same, of each agent's own components; mean over agents."""
    return np.mean([energy(part) for part in z.split(components, -1)], 0)


def moments(z: Tensor, components: list[int]) -> dict[str, NDArray[np.floating]]:
    """Squared errors of D's moments per seed, in multiples of what on-policy sampling has in expectation."""
    n, j = z.shape[1:]
    z = z.double()
    second = z.mT @ z / n
    agent = torch.arange(len(components)).repeat_interleave(torch.tensor(components))
    same, upper = agent.unsqueeze(0) == agent.unsqueeze(1), torch.ones(j, j).triu(1).bool()
    errors = {
        "means": n * z.mean(1).square(),
        "variances": n / 2 * (second.diagonal(dim1=1, dim2=2) - 1).square(),
        "within agents": n * second[:, upper & same].square(),
        "between agents": n * second[:, upper & ~same].square(),
    }
    return {name: error.mean(1).numpy() for name, error in errors.items()}


def gradients(z: Tensor) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """REINFORCE's estimate from D, per seed ``[seeds, 2 J]``, and the exact gradient ``[2 J]``.

    With respect to means and log standard deviations, baseline: the mean reward of the other steps. The reward is
    exp(-|z - c|^2 / 2), c at distance 1 in the direction (1, ..., 1), whose products with a normal density integrate in
    closed form.
    """
    n, j = z.shape[1:]
    z, center = z.double(), j**-0.5
    reward = torch.exp(-0.5 * (z - center).square().sum(-1, keepdim=True))
    advantage = (reward - reward.mean(1, keepdim=True)) * n / (n - 1)
    estimate = (advantage * torch.cat([z, z.square() - 1], -1)).mean(1)
    expected = 2 ** (-j / 2) * np.exp(-1 / 4)  # E reward; under reward x density a component is N(c / 2, 1 / 2)
    exact = np.repeat([center / 2, center**2 / 4 - 1 / 2], j) * expected
    return estimate.numpy(), exact


def gradient_error(z: Tensor) -> NDArray[np.floating]:
    """Squared error of every seed's estimate, in multiples of the exact gradient's squared norm."""
    estimate, exact = gradients(z)
    return ((estimate - exact) ** 2).sum(1) / (exact**2).sum()


CRITERIA = {"energy": energy, "gradient": gradient_error}  # what settings are tuned by


def bias_and_variance(z: Tensor) -> tuple[float, float]:
    """Squared bias and variance of the estimate, in multiples of the exact gradient's squared norm."""
    estimate, exact = gradients(z)
    norm = (exact**2).sum()
    variance = estimate.var(0, ddof=1).sum() / norm
    bias = ((estimate.mean(0) - exact) ** 2).sum() / norm - variance / len(estimate)  # unbiased: can be below 0
    return float(bias), float(variance)


def tuned(sampler: str, components: list[int]) -> dict[tuple[int, str], Setting]:
    """For every n and criterion the setting that is best by it, on average."""
    settings = [(rate, cutoff) for rate in RATES for cutoff in CUTOFFS]
    scores: dict[tuple[int, str], list[float]] = {(n, criterion): [] for n in STEPS for criterion in CRITERIA}
    for setting in settings:
        z = collect(made(sampler, setting), components, max(STEPS), TUNING_SEED, TUNING_SEEDS)
        for (n, criterion), found in scores.items():
            found.append(float(CRITERIA[criterion](z[:, :n]).mean()))
    return {key: settings[int(np.argmin(found))] for key, found in scores.items()}


def measured(z: Tensor, components: list[int]) -> Row:
    """All figures of one sampler at one n; those with an interval as ``name``, ``name low``, ``name high``."""
    of_seeds = {"joint energy": energy(z), "agents' energy": agent_energy(z, components)} | moments(z, components)
    of_seeds["gradient error"] = gradient_error(z)
    row: Row = dict(zip(("squared bias", "variance"), bias_and_variance(z), strict=True))
    for name, values in of_seeds.items():
        low, high = mean_interval(values[None])
        row |= {name: float(values.mean()), f"{name} low": float(low[0]), f"{name} high": float(high[0])}
    return row


def fixed_policy(size: str, sampler: str) -> list[Row]:
    """A row for every n, kept in runs/continuous."""
    slug = "".join(c if c.isalnum() else "_" for c in f"{size} {sampler}")
    path = ROOT / "runs" / "continuous" / f"{slug}.json"
    if path.exists():
        found: list[Row] = json.loads(path.read_text())
        return found
    print(size, sampler, flush=True)
    components = SIZES[size]
    settings: dict[tuple[int, str], Setting | None] = {(n, ""): None for n in STEPS}
    if sampler in TRAINED:
        settings = dict(tuned(sampler, components))
    runs: dict[Setting | None, Tensor] = {}
    for (n, _), setting in sorted(settings.items(), reverse=True):  # the longest first: shorter ones are its beginning
        if setting not in runs:
            runs[setting] = collect(made(sampler, setting), components, n, RUN_SEED, SEEDS)
    rows = []
    for (n, criterion), setting in settings.items():
        rate, cutoff = setting or ("", "")
        row: Row = {"part": "fixed policy", "size": size, "n": n, "sampler": sampler, "tuned by": criterion}
        row |= {"learning rate": rate, "delta": cutoff, "seeds": SEEDS}
        rows.append(row | measured(runs[setting][:, :n], components))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return rows


def cell(row: Row, name: str, digits: int = 2) -> str:
    """A figure with its interval; empty where the size has no such moment."""
    value, low, high = (float(str(row[key])) for key in (name, f"{name} low", f"{name} high"))
    return "" if np.isnan(value) else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def sample_table(rows: list[Row]) -> str:
    """Sampling error, a line per size, n and sampler."""
    names = ("joint energy", "agents' energy", *MOMENTS)
    return "\n".join(
        f"| {row['size']} | {row['n']} | {row['sampler']} | {row['learning rate']} | {row['delta']} | "
        + " | ".join(cell(row, name) for name in names)
        + " |"
        for row in rows
        if row["tuned by"] != "gradient"
    )


def gradient_table(rows: list[Row]) -> str:
    """Bias, variance and error of the gradient, a line per size, n and sampler."""
    lines, base = [], 1.0
    for row in rows:
        error = float(str(row["gradient error"]))
        base = error if row["sampler"] == "OnPolicy" else base
        lines.append(
            f"| {row['size']} | {row['n']} | {row['sampler']} | {row['tuned by']} | {row['learning rate']} "
            f"| {row['delta']} | {row['squared bias']:z.4f} | {row['variance']:.3f} "
            f"| {cell(row, 'gradient error', 3)} | {error / base:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and, when all is there, write continuous.md and continuous.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--samplers", nargs="+", default=["OnPolicy", *TRAINED], choices=["OnPolicy", *TRAINED])
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = {(size, sampler): fixed_policy(size, sampler) for size in options.sizes for sampler in options.samplers}
    if len(parts) < len(SIZES) * (1 + len(TRAINED)):
        return
    found = [row for part in parts.values() for row in part]
    rows = [row for size in SIZES for n in STEPS for row in found if (row["size"], row["n"]) == (size, n)]
    write(
        "continuous",
        rows,
        samples=sample_table(rows),
        gradients=gradient_table(rows),
        run_seed=str(RUN_SEED),
        seeds=str(SEEDS),
        tuning_seed=str(TUNING_SEED),
        tuning_seeds=str(TUNING_SEEDS),
        rates=", ".join(f"{rate:g}" for rate in RATES),
        cutoffs=", ".join(f"{cutoff:g}" for cutoff in CUTOFFS),
    )


if __name__ == "__main__":
    main()
