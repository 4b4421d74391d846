"""Measures docs/evidence/continuous_tasks.md: do samplers for continuous actions solve more runs than on-policy ones?

Every sampler is tuned on each task by itself, on a run seed that is used for nothing else; the best setting by mean
success is compared on fresh seeds. Finished runs are in continuous_tasks.csv and are not run again; ``--tasks`` and
``--samplers`` run a part of what is missing. The page holds what the table holds.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from studies.cells import adjusted_p, difference, holm, mean_success, p_value, share
from studies.ledger import Ledger
from studies.page import write_page
from studies.runs import Outcome, Run, pooled

OPTION, LEARNER = "--model.behavior.init_args.", "--model.learner.init_args."
FIELDS = ("joint_energy", "joint_energy_on_policy", "behavior_kl")
Key = tuple[str, str, str, str]  # part, setting, sampler, run seed
Setting = tuple[float, float]  # Adam's step size, delta (nats)

SAMPLERS = {
    "OnPolicy": ["--model.behavior", "OnPolicy"],
    "PROPS": ["--model.behavior", "PROPS"],
    "GaussianAdjustment": ["--model.behavior", "GaussianAdjustment", f"{OPTION}correlated", "false"],
    "GaussianAdjustment, correlated": ["--model.behavior", "GaussianAdjustment", f"{OPTION}correlated", "true"],
}
ADAPTIVE = [sampler for sampler in SAMPLERS if sampler != "OnPolicy"]
MORE = ("OnPolicy", "PROPS", "GaussianAdjustment")  # samplers of ``Task.more``: the method and its baselines


class Task(NamedTuple):
    """What is run; ``rates`` are the learner's step sizes, ``grid`` the settings of every adaptive sampler."""

    config: str
    says: str  # about the task, for the page
    flags: Sequence[str]
    behavior: Sequence[str]  # options that every adaptive sampler has
    rates: Sequence[float]
    grid: Sequence[Setting]
    tuning: tuple[int, int]  # run seed, seeds
    fresh: tuple[int, int]
    more: Sequence[int] = ()  # run seeds, set down before any was run, of what the fresh seeds leave open


def options(epochs: int, epsilon: float, hidden: str) -> list[str]:
    """What the samplers share and nobody tunes."""
    values = {"epochs": epochs, "clip_epsilon": epsilon, "hidden": hidden, "minibatches": 1}
    return [part for name, value in values.items() for part in (OPTION + name, str(value))]


MEASURED = ["--model.sampling_error", "energy", "--model.sampling_error_interval", "10"]
LARGE = {
    "behavior": options(4, 0.3, "[64,64]"),
    "rates": (3e-4, 1e-3, 3e-3, 1e-2),
    "grid": ((3e-4, 0.03), (1e-3, 0.03), (3e-3, 0.03), (3e-3, 0.1)),  # from weak to strong
}
TASKS = {
    "TwoPeaks": Task(
        "conf/continuous_game.yaml",
        "One step, two agents with one component each: the better of two peaks is narrow, the other one wide. "
        "REINFORCE, n = 8, m = 1, 1,200 env steps (half of the file's). Epsilon is 1, 8 epochs, Delta a table.",
        ["--model.total_env_steps", "1200", *MEASURED],
        options(8, 1.0, "[]"),
        (0.025, 0.05, 0.1, 0.2, 0.4, 0.8),
        ((0.01, 0.1), (0.03, 0.01), (0.03, 0.1), (0.1, 0.1)),  # delta does not stop steps of 0.01
        (4000, 256),
        (81, 1024),
    ),
    "SparseReacher": Task(
        "conf/reacher_sparse.yaml",
        "MuJoCo's arm driven by two agents, rewarded only for touching the target, whose place is fixed per seed. "
        "MAPPO, n = 2048, m = 256, 20,480 env steps (half of the file's). Epsilon is 0.3, 4 epochs, hidden layers 64 "
        "and 64.",
        ["--model.total_env_steps", "20480", *MEASURED],
        tuning=(4001, 16),
        fresh=(82, 64),
        more=tuple(range(721, 727)),
        **LARGE,  # type: ignore[arg-type]
    ),
    "VMAS navigation": Task(
        "conf/vmas_navigation.yaml",
        "Two agents drive to their goals and share the reward; solved when both are there at once. MAPPO, n = 2048, "
        "m = 256, 40,960 env steps (half of the file's). Epsilon is 0.3, 4 epochs, hidden layers 64 and 64.",
        ["--model.total_env_steps", "40960", *MEASURED],
        tuning=(4002, 16),
        fresh=(83, 64),
        **LARGE,  # type: ignore[arg-type]
    ),
}


def rate_name(rate: float) -> str:
    """How the table names a step size of the learner."""
    return f"learner's step size {rate:g}"


def grid_name(setting: Setting) -> str:
    """How the table names a sampler's setting."""
    return "step size {:g}, delta {:g}".format(*setting)


def tuning_flags(task: Task, sampler: str) -> dict[str, list[str]]:
    """Every setting that is tried, by its name."""
    if sampler == "OnPolicy":
        return {rate_name(rate): [f"{LEARNER}learning_rate", str(rate)] for rate in task.rates}
    return {
        grid_name((rate, delta)): [f"{OPTION}learning_rate", str(rate), f"{OPTION}kl_cutoff", str(delta)]
        for rate, delta in task.grid
    }


def run_of(
    name: str, part: str, setting: str, sampler: str, flags: Sequence[str], more: int | None = None
) -> tuple[Key, Run]:
    """A row of the table and the run that it needs; ``more``: its run seed, if it is one of these."""
    task = TASKS[name]
    run_seed, seeds = task.tuning if part == "tuning" else task.fresh
    run_seed = more or run_seed
    own = [*SAMPLERS[sampler], *(task.behavior if sampler in ADAPTIVE else []), *flags]
    run = Run(
        "continuous_tasks",
        f"{name} {part} {sampler} {setting}".strip(),
        task.config,
        [*own, *task.flags, "--model.num_seeds", str(seeds)],
        run_seed,
    )
    return (f"{name}, {part}", setting, sampler, str(run_seed)), run


def best(ledger: Ledger, name: str, sampler: str) -> str | None:
    """The setting with the highest mean success, of equal ones the first; None until all have been tried."""
    tried = {s: ledger.of(f"{name}, tuning", s, sampler) for s in tuning_flags(TASKS[name], sampler)}
    success = {setting: result.mean_success for setting, result in tried.items() if result is not None}
    return max(success, key=lambda setting: success[setting]) if len(success) == len(tried) else None


def tuned(ledger: Ledger, name: str, sampler: str, learner: Sequence[str], workers: int) -> list[str]:
    """Flags of a sampler's best setting; runs what is missing."""
    tried = tuning_flags(TASKS[name], sampler)
    ledger.fill(dict(run_of(name, "tuning", s, sampler, [*own, *learner]) for s, own in tried.items()), workers)
    chosen = best(ledger, name, sampler)
    assert chosen is not None
    return [*tried[chosen], *learner]


def measure(ledger: Ledger, name: str, samplers: Sequence[str], workers: int) -> None:
    """Tune, then compare on fresh seeds. The learner's step size is chosen for on-policy sampling only."""
    learner = tuned(ledger, name, "OnPolicy", [], workers)
    chosen = {s: tuned(ledger, name, s, learner, workers) if s in ADAPTIVE else learner for s in samplers}
    ledger.fill(dict(run_of(name, "fresh", "", s, own) for s, own in chosen.items()), workers)
    wanted = [s for s in chosen if s in MORE]
    rows = [run_of(name, "more", "", s, chosen[s], seed) for seed in TASKS[name].more for s in wanted]
    ledger.fill(dict(rows), workers)


# the page


def energy(result: Outcome) -> str:
    """Joint energy distance, own / on-policy."""
    return f"{result.means['joint_energy']:.4f} / {result.means['joint_energy_on_policy']:.4f}"


def tuning_table(ledger: Ledger, name: str) -> list[str]:
    """A line per setting that has been run."""
    lines = []
    for sampler in SAMPLERS:
        winner = best(ledger, name, sampler)
        for setting in tuning_flags(TASKS[name], sampler):
            result = ledger.of(f"{name}, tuning", setting, sampler)
            if result is not None:
                mark = " (taken)" if setting == winner else ""
                cells = [setting + mark, share(result), mean_success(result), energy(result)]
                lines.append(f"| {sampler} | {' | '.join(cells)} | {result.means['behavior_kl']:.3f} |")
    return lines


def fresh_table(ledger: Ledger, name: str) -> list[str]:
    """A line per sampler that has been run."""
    base = ledger.of(f"{name}, fresh", "", "OnPolicy")
    lines = []
    for sampler in SAMPLERS:
        result = ledger.of(f"{name}, fresh", "", sampler)
        if result is not None:
            change = "" if base is None or sampler == "OnPolicy" else difference(result, base)
            cells = [share(result), change, mean_success(result), energy(result), f"{result.means['behavior_kl']:.3f}"]
            seconds = f"{result.means['time/behavior']:.0f} | {result.seconds:.0f}"
            lines.append(f"| {sampler} | {' | '.join(cells)} | {seconds} |")
    return lines


def complete_blocks(ledger: Ledger, name: str) -> list[str]:
    """Run seeds of ``Task.more`` that every sampler of ``MORE`` has been run on."""
    part = f"{name}, more"
    return [str(s) for s in TASKS[name].more if all((part, "", own, str(s)) in ledger.outcomes for own in MORE)]


def all_seeds(ledger: Ledger, name: str) -> dict[str, Outcome]:
    """The samplers of ``MORE`` on all fresh seeds together; empty where there are no more than the first ones."""
    blocks, found = complete_blocks(ledger, name), {}
    for sampler in MORE if blocks else ():
        parts = ledger.of(f"{name}, fresh", "", sampler), ledger.of(f"{name}, more", "", sampler, blocks)
        found[sampler] = pooled([part for part in parts if part is not None])
    return found


def all_seeds_table(ledger: Ledger, name: str) -> list[str]:
    """A line per sampler of ``MORE``."""
    found = all_seeds(ledger, name)
    others = [sampler for sampler in found if sampler != "OnPolicy"]
    p = dict(zip(others, holm([p_value(found[s], found["OnPolicy"]) for s in others]), strict=True))
    lines = []
    for sampler, result in found.items():
        change = "" if sampler == "OnPolicy" else difference(result, found["OnPolicy"])
        cells = [f"{share(result)} of {result.seeds}", change, adjusted_p(p.get(sampler)), mean_success(result)]
        lines.append(f"| {' | '.join([sampler, *cells, energy(result)])} |")
    return lines


def section(ledger: Ledger, name: str) -> str:
    """What there is of one task; empty where there is nothing."""
    task = TASKS[name]
    tuning, fresh = tuning_table(ledger, name), fresh_table(ledger, name)
    parts = [f"## {name}", f"{task.says} `{task.config}`."]
    if fresh:
        head = "| sampler | solved | difference to on-policy, points | mean success | joint energy distance "
        head += "| KL(pi_theta, pi_phi), nats | seconds of behavior updates | seconds |"
        parts.append(f"Fresh seeds: {task.fresh[1]} of run seed {task.fresh[0]}, each sampler at its best setting.")
        parts.append("\n".join([head, "|---" * 8 + "|", *fresh]))
    if more := all_seeds_table(ledger, name):
        seeds = ", ".join(complete_blocks(ledger, name))
        head = (
            "| sampler | solved | difference to on-policy, points | p (Holm) | mean success | joint energy distance |"
        )
        parts.append(
            f"With {task.fresh[1]} more seeds of each of run seeds {seeds}, set down before any of them was run, and "
            "settings as they were, all together:"
        )
        parts.append("\n".join([head, "|---" * 6 + "|", *more]))
    if tuning:
        head = "| sampler | setting | solved | mean success | joint energy distance | KL(pi_theta, pi_phi), nats |"
        parts.append(f"Tuning: {task.tuning[1]} seeds of run seed {task.tuning[0]}.")
        parts.append("\n".join([head, "|---" * 6 + "|", *tuning]))
    return "\n\n".join(parts) if fresh or tuning else ""


def coverage(ledger: Ledger) -> str:
    """Which samplers each task has figures of."""
    lines = []
    for name in TASKS:
        samplers = [sampler for sampler in SAMPLERS if ledger.of(f"{name}, fresh", "", sampler)]
        lines.append(f"- {name}: {'; '.join(samplers) if samplers else 'not measured yet'}.")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write continuous_tasks.md and continuous_tasks.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core; 0: in this process")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    given = parser.parse_args()
    ledger = Ledger("continuous_tasks", FIELDS, squares=True)
    for name in [] if given.page else given.tasks:
        measure(ledger, name, given.samplers, given.workers)
    sections = [section(ledger, name) for name in TASKS]
    write_page("continuous_tasks", coverage=coverage(ledger), sections="\n\n".join(text for text in sections if text))


if __name__ == "__main__":
    main()
