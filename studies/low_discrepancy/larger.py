"""Sampling error at fixed policies of more agents, more actions, and Gaussian policies."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lit_maprops.behavior import (
    MAPROPS,
    PROPS,
    Autoregressive,
    GaussianAdjustment,
    LowDiscrepancy,
    OnPolicy,
    TabularMAPROPS,
)
from lit_maprops.metrics.reliability import mean_interval
from lit_maprops.metrics.sampling_error import tabular_error
from lit_maprops.stacked.streams import SeedStreams
from studies.continuous.__main__ import collect, energy
from studies.low_discrepancy.fixed import RUN_SEED, SIZES, Kept, Row
from studies.many_agents.fixed import POLICIES, collected, policies
from studies.matrix_games.measures import Maker, strong

SEEDS = 256
TEAMS = {"3 agents x 2 actions": (3, 2), "2 agents x 3 actions": (2, 3), "10 agents x 5 actions": (10, 5)}
LARGE = "10 agents x 5 actions"  # no table of joint actions; its figure is the pairwise TV
BOTH: dict[str, Maker] = {"on-policy": OnPolicy, "low-discrepancy": LowDiscrepancy}
LISTED: dict[str, Maker] = {
    **BOTH,
    "low-discrepancy, joint coordinate": partial(LowDiscrepancy, coordinates="joint"),
    "PROPS, strong": strong(PROPS),
    "MA-PROPS, strong": strong(MAPROPS),
    "TabularMAPROPS": TabularMAPROPS,
    "Autoregressive, strong": strong(Autoregressive),
}
UNLISTED: dict[str, Maker] = {
    **BOTH,
    "PROPS, strong": strong(PROPS),
    "Autoregressive, strong": strong(Autoregressive),
}
# Of docs/evidence/continuous.md, tuned there at n = 64.
TRAINED: dict[str, Any] = {"clip_epsilon": 1.0, "kl_cutoff": 0.3, "epochs": 8, "learning_rate": 0.1, "hidden": []}
GAUSSIAN: dict[str, Maker] = {
    **BOTH,
    "PROPS": partial(PROPS, **TRAINED),
    "GaussianAdjustment": partial(GaussianAdjustment, **TRAINED),
    "GaussianAdjustment, correlated": partial(GaussianAdjustment, correlated=True, **TRAINED),
}
# As weak as TwoPeaks has them in regimes.py: what low-discrepancy numbers do to draws from pi_phi.
WEAK: dict[str, Any] = TRAINED | {"kl_cutoff": 0.01, "learning_rate": 0.03}
WEAKLY: dict[str, Maker] = {
    **BOTH,
    "GaussianAdjustment": partial(GaussianAdjustment, **WEAK),
    "GaussianAdjustment, low-discrepancy draws": partial(GaussianAdjustment, draws="low_discrepancy", **WEAK),
    "PROPS": partial(PROPS, **WEAK),
    "PROPS, low-discrepancy draws": partial(PROPS, draws="low_discrepancy", **WEAK),
}
SQUARES_N, SQUARES_SEEDS = 8, 4096
COMPONENTS = {"2 agents x 1 component": [1, 1], "3 agents x 2 components": [2, 2, 2]}


def errors() -> str:
    """Joint TV (pairwise where joint actions cannot be listed), then energy distances; a table per size and policy."""
    table, lines = Kept("larger"), []
    for team, (n_agents, n_actions) in TEAMS.items():
        for kind, spread in POLICIES.items():
            lines += [f"\n### {team}, {kind} policies\n", *_head()]
            policy = policies(spread, n_agents, SEEDS, RUN_SEED, n_actions)
            figure, samplers = ("pairwise_tv", UNLISTED) if team == LARGE else ("joint_tv", LISTED)
            for name, maker in samplers.items():
                key = {"policy": f"{team}, {kind}", "sampler": name}
                lines.append(_line(table, key, partial(_variation, maker, policy, figure)))
    for size, components in COMPONENTS.items():
        lines += [f"\n### {size}, Gaussian policies: energy distance\n", *_head()]
        for name, maker in GAUSSIAN.items():
            key = {"policy": size, "sampler": name}
            lines.append(_line(table, key, partial(_distance, maker, components)))
    return "\n".join(lines)


def squares() -> str:
    """Mean square of D's whitened actions, which is 1 for whoever draws as pi_theta does."""
    table, lines = Kept("squares"), ["| sampler | mean square | energy distance |", "|---|---|---|"]
    for name, maker in WEAKLY.items():
        row = table.of({"sampler": name, "n": str(SQUARES_N)}, partial(_square, maker))
        lines.append(f"| {name} | {row['square']} +- {row['square_half_width']} | {row['energy']} |")
    return "\n".join(lines)


def _square(maker: Maker) -> Row:
    z = collect(maker(), [1, 1], SQUARES_N, RUN_SEED, SQUARES_SEEDS)
    values = z.double().square().mean((1, 2)).numpy()
    low, high = mean_interval(np.stack([values]))
    half = f"{(high[0] - low[0]) / 2:.3f}"
    return {
        "square": f"{values.mean():.3f}",
        "square_half_width": half,
        "energy": f"{energy(z).mean():.3f}",
        "seeds": str(SQUARES_SEEDS),
    }


def _variation(maker: Maker, policy: Tensor, figure: str, n: int) -> NDArray[np.floating]:
    data = collected(maker(), policy, n, RUN_SEED)
    return tabular_error(data, SeedStreams(RUN_SEED, list(range(SEEDS)), "unused"))[figure].numpy()


def _distance(maker: Maker, components: list[int], n: int) -> NDArray[np.floating]:
    return energy(collect(maker(), components, n, RUN_SEED, SEEDS))


def _head() -> list[str]:
    return ["| sampler | " + " | ".join(f"n = {n}" for n in SIZES) + " |", "|---" * (1 + len(SIZES)) + "|"]


def _line(table: Kept, key: Row, found: Callable[[int], NDArray[np.floating]]) -> str:
    """A sampler's figures by n, measured where they are missing."""
    cells = []
    for n in SIZES:
        row = table.of(key | {"n": str(n)}, partial(_row, found, n))
        cells.append(f"{float(row['error']):.4f} +- {float(row['half_width']):.4f}")
    return f"| {key['sampler']} | {' | '.join(cells)} |"


def _row(found: Callable[[int], NDArray[np.floating]], n: int) -> Row:
    values = found(n)
    low, high = mean_interval(np.stack([values]))
    return {"error": f"{values.mean():.6f}", "half_width": f"{(high[0] - low[0]) / 2:.6f}", "seeds": str(SEEDS)}
