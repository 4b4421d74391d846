"""Measures docs/evidence/mujoco_gradients.md: samplers and the policy gradient on multi-agent MuJoCo.

What mujoco_gradients.csv holds is not measured again: interrupted, it continues.
"""

import argparse

import numpy as np
from scipy.stats import t

from studies import table_of
from studies.mujoco_gradients.measure import (
    BASE,
    BATCHES,
    BODIES,
    GRID,
    REFERENCE,
    RUN_SEED,
    SEEDS,
    STUDY,
    TRAINED,
    TUNING_BATCHES,
    TUNING_SEED,
    TUNING_SEEDS,
    M,
    N,
    best,
    measure,
    setting_name,
)
from studies.mujoco_gradients.table import Key, Table
from studies.page import write_page


def mean(table: Table, key: Key, figure: str, form: str = ".2g") -> str:
    """Over seeds, with its interval by Student's t."""
    values = table.values(key, figure)
    reach = float(t.ppf(0.975, len(values) - 1)) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():{form}} [{values.mean() - reach:{form}}, {values.mean() + reach:{form}}]"


def ratio(table: Table, key: Key, base: Key, figure: str) -> str:
    """Geometric mean over seeds of a figure as a multiple of on-policy sampling's, with its interval."""
    logs = np.log(table.values(key, figure) / table.values(base, figure))
    reach = float(t.ppf(0.975, len(logs) - 1)) * logs.std(ddof=1) / len(logs) ** 0.5
    value, low, high = np.exp([logs.mean(), logs.mean() - reach, logs.mean() + reach])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def of_norm(table: Table, key: Key, base: Key) -> str:
    """Mean squared bias, with its interval over seeds, as a share of the mean squared norm of the gradient."""
    values, norm = table.values(key, "bias_squared"), table.mean(base, "norm_squared")
    reach = float(t.ppf(0.975, len(values) - 1)) * values.std(ddof=1) / len(values) ** 0.5
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(
        *(x / norm for x in (values.mean(), values.mean() - reach, values.mean() + reach))
    )


def compared(table: Table, task: str) -> str:
    """A line per age and sampler."""
    lines = []
    for age in BODIES[task].updates:
        cells = table.of("compared", task, age)
        if (base := cells.get(BASE)) is None:
            continue
        head = (
            f"**{age}**, greedy return {mean(table, base, 'greedy_return', '.1f')}, squared norm "
            f"{mean(table, base, 'norm_squared')}"
        )
        lines.append(f"| {head} |" + " |" * 7)
        for sampler, key in cells.items():
            ratios = ["", ""] if sampler == BASE else [ratio(table, key, base, f) for f in ("variance", "mse")]
            shares = table.values(key, "bias_squared") / table.values(base, "mse")
            figures = [
                f"{shares.mean():+.3f}",
                of_norm(table, key, base),
                mean(table, key, "cosine"),
                mean(table, key, "return_bias"),
                mean(table, key, "effective_sample_share"),
            ]
            lines.append(f"| {' | '.join([sampler, *ratios, *figures])} |")
    return "\n".join(lines)


def tuning(table: Table) -> str:
    """A line per sampler and setting."""
    lines = []
    for task, body in BODIES.items():
        age = tuple(body.updates)[-1]
        for sampler in TRAINED:
            for setting in GRID:
                key = Key("tuning", task, age, sampler, setting_name(*setting))
                if key in table.cells:
                    taken = " (taken)" if setting == best(table, task, sampler) else ""
                    cells = [task, sampler, f"{key.setting}{taken}", f"{table.mean(key, 'mse'):.4g}"]
                    lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    table = Table(table_of(STUDY))
    if not parser.parse_args().page:
        measure(table)
    write_page(
        STUDY,
        reacher=compared(table, "Reacher 2x1"),
        cheetah=compared(table, "HalfCheetah 2x3"),
        tuning=tuning(table),
        n=N,
        m=M,
        seeds=SEEDS,
        run_seed=RUN_SEED,
        batches=BATCHES,
        reference=REFERENCE,
        tuning_seed=TUNING_SEED,
        tuning_seeds=TUNING_SEEDS,
        tuning_batches=TUNING_BATCHES,
    )
