"""Time and memory of an iteration as one size grows and all others stay: the measured laws."""

import sys

import numpy as np
from figures import hand_over, row
from fits import OPTION, RELIABILITY, iteration

# 16 seeds x 1 environment, m = 1, n = 128, 2 agents with 4 actions each; three iterations, the last two of which count.
BASE = [*RELIABILITY, "--model.num_seeds", "16", "--data.target_batch_size", "128", "--model.total_env_steps", "384"]
BASE += ["--model.sampling_error", "null"]
GAME = ["conf/coordination.yaml", *BASE[1:], f"{OPTION}hidden", "[64, 64]", f"{OPTION}learning_rate", "0.003"]
ENV = "--data.env.init_args."
# Of each axis its sizes and the flags that make one.
AXES = {
    "seeds": ((1, 4, 16, 64, 256, 512), lambda k: [*BASE, "--model.num_seeds", str(k)]),
    "environments": (
        (1, 2, 4, 8, 16, 32),
        lambda k: [*BASE, "--data.num_envs", str(k), "--data.behavior_batch_size", str(k)],
    ),
    "m": ((1, 2, 4, 8, 16, 32), lambda k: [*BASE, "--data.behavior_batch_size", str(k)]),
    "n": (
        (32, 64, 128, 256, 512, 1024),
        lambda k: [*BASE, "--data.target_batch_size", str(k), "--model.total_env_steps", str(3 * k)],
    ),
    "agents": (
        (2, 3, 4, 5),
        lambda k: [*BASE, f"{ENV}size", "small", f"{ENV}start", "null", f"{ENV}n_agents", str(k)],
    ),
    "actions": (
        (2, 4, 8, 16, 32),
        lambda k: [*GAME, f"{ENV}n_agents", "2", f"{ENV}n_actions", str(k), f"{ENV}rewards", str([1.0] * k)],
    ),
}


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """Of the power law through the three largest sizes."""
    return float(np.polyfit(np.log(sizes[-3:]), np.log(seconds[-3:]), 1)[0])


def main() -> None:
    """Measure, print rows; each size once, since an iteration is the mean of two."""
    for axis, (sizes, flags) in AXES.items():
        measured = [iteration(*flags(size)) for size in sizes]
        seconds = [spent for spent, _ in measured]
        rows = [
            row(f"scaling, {axis}: {size}, one iteration", [spent], "s")
            for size, spent in zip(sizes, seconds, strict=True)
        ]
        rows += [
            row(f"scaling, {axis}: {size}, peak memory of the process", [memory], "MB")
            for size, (_, memory) in zip(sizes, measured, strict=True)
        ]
        hand_over([*rows, row(f"scaling, {axis}: exponent of the time", [exponent(sizes, seconds)], "power")])


if __name__ == "__main__":
    sys.exit(main())
