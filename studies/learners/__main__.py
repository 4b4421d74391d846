"""Measures docs/evidence/learners.md: IPPO, MAPPO, MAPPO as its paper runs it, and HAPPO, each with three samplers.

HAPPO's step size on BoulderPush is chosen on a run seed that is used for nothing else; all others are those of the
files. Finished runs are in learners.csv and are not run again; ``--tasks`` and ``--samplers`` run a part of what is
missing. The page holds what the table holds.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from studies.cells import difference, mean_success, share
from studies.ledger import Ledger
from studies.page import write_page
from studies.runs import Run

LEARNER = "--model.learner.init_args."
FIELDS = ("behavior_kl",)
TUNING, FRESH = (1000, 16), (701, 32)  # run seed, seeds
PAPER, TUNED, APART = "MAPPO, preset mappo_paper", "HAPPO", "MAPPO, a policy per agent"
LEARNERS: dict[str, Sequence[str]] = {
    "IPPO": ["--model.learner", "IPPO"],
    "MAPPO": [],
    APART: [f"{LEARNER}share_parameters", "false"],  # what HAPPO is compared with where the file shares
    PAPER: ["--config", "mappo_paper"],
    TUNED: ["--model.learner", "HAPPO", f"{LEARNER}share_parameters", "false"],
}
SAMPLERS = ("OnPolicy", "LowDiscrepancy", "TabularMAPROPS")


class Task(NamedTuple):
    """What is run, and what is said of it."""

    config: str
    says: str
    flags: Sequence[str]
    rates: Sequence[float]  # step sizes of HAPPO that are tried; none: the file's
    shares: bool  # the file's agents share a policy

    @property
    def learners(self) -> list[str]:
        """That are run."""
        return [name for name in LEARNERS if self.shares or name != APART]


TASKS = {
    "BoulderPush": Task(
        "conf/boulderpush_reliability.yaml",
        "5x5, one environment per seed, m = 1, n = 256, 15,360 env steps per seed.",
        [],
        (5e-4, 1e-3, 2e-3),
        shares=False,
    ),
    "Foraging": Task(
        "conf/foraging.yaml",
        "5x5-2p-1f-coop, 16 environments per seed, m = 64, n = 512, 51,200 env steps per seed, half of the file's.",
        ["--model.total_env_steps", "51200"],
        (),
        shares=True,
    ),
}


def run_of(name: str, part: str, setting: str, sampler: str, flags: Sequence[str]) -> tuple[tuple[str, ...], Run]:
    """A row of the table and the run that it needs."""
    task = TASKS[name]
    run_seed, seeds = TUNING if part == "tuning" else FRESH
    own = ["--model.behavior", sampler, *flags, *task.flags, "--model.num_seeds", str(seeds)]
    own += ["--model.sampling_error", "null"]
    run = Run("learners", f"{name} {part} {setting} {sampler}", task.config, own, run_seed)
    return (f"{name}, {part}", setting, sampler, str(run_seed)), run


def rate_flags(rate: float) -> list[str]:
    """Of HAPPO with a step size."""
    return [*LEARNERS[TUNED], f"{LEARNER}learning_rate", str(rate)]


def best_rate(ledger: Ledger, name: str) -> float | None:
    """HAPPO's step size with the highest mean success, of equal ones the first; None if not all have been tried."""
    tried = {rate: ledger.of(f"{name}, tuning", f"{rate:g}", "OnPolicy") for rate in TASKS[name].rates}
    success = {rate: result.mean_success for rate, result in tried.items() if result is not None}
    return max(success, key=lambda rate: success[rate]) if success and len(success) == len(tried) else None


def measure(ledger: Ledger, name: str, samplers: Sequence[str], workers: int) -> None:
    """Tune HAPPO with on-policy sampling, then run every learner on fresh seeds."""
    tuning = [run_of(name, "tuning", f"{rate:g}", "OnPolicy", rate_flags(rate)) for rate in TASKS[name].rates]
    ledger.fill(dict(tuning), workers)  # type: ignore[arg-type]
    rate = best_rate(ledger, name)
    flags = LEARNERS if rate is None else {**LEARNERS, TUNED: rate_flags(rate)}
    fresh = [run_of(name, "fresh", learner, s, flags[learner]) for s in samplers for learner in TASKS[name].learners]
    ledger.fill(dict(fresh), workers)  # type: ignore[arg-type]


# the page


def fresh_table(ledger: Ledger, name: str) -> list[str]:
    """A line per learner and sampler that has been run."""
    lines = []
    for learner in TASKS[name].learners:
        for sampler in SAMPLERS:
            result, base = (ledger.of(f"{name}, fresh", own, sampler) for own in (learner, "MAPPO"))
            on_policy = ledger.of(f"{name}, fresh", learner, "OnPolicy")
            if result is not None:
                beside = "" if base is None or learner == "MAPPO" else difference(result, base)
                gain = "" if on_policy is None or sampler == "OnPolicy" else difference(result, on_policy)
                cells = [learner, sampler, share(result), beside, gain, mean_success(result), f"{result.seconds:.0f}"]
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def tuning_table(ledger: Ledger, name: str) -> list[str]:
    """A line per step size of HAPPO that has been tried."""
    lines = []
    for rate in TASKS[name].rates:
        result = ledger.of(f"{name}, tuning", f"{rate:g}", "OnPolicy")
        if result is not None:
            mark = " (taken)" if rate == best_rate(ledger, name) else ""
            lines.append(f"| {rate:g}{mark} | {share(result)} | {mean_success(result)} |")
    return lines


def section(ledger: Ledger, name: str) -> str:
    """What there is of one task; empty where there is nothing."""
    fresh, tuning = fresh_table(ledger, name), tuning_table(ledger, name)
    head = (
        "| learner | sampler | solved | difference to MAPPO, same sampler, points | to on-policy, same learner, points "
    )
    head += "| mean success | seconds |"
    parts = [f"## {name}", f"{TASKS[name].says} `{TASKS[name].config}`."]
    if fresh:
        parts.append("\n".join([head, "|---" * 7 + "|", *fresh]))
    if tuning:
        parts.append(f"HAPPO's step size, {TUNING[1]} seeds of run seed {TUNING[0]}, on-policy:")
        parts.append("\n".join(["| step size | solved | mean success |", "|---" * 3 + "|", *tuning]))
    return "\n\n".join(parts) if fresh or tuning else ""


def coverage(ledger: Ledger) -> str:
    """What of the plan has been measured."""
    planned = [
        (name, learner, sampler) for name, task in TASKS.items() for learner in task.learners for sampler in SAMPLERS
    ]
    done = [ledger.of(f"{name}, fresh", learner, sampler) for name, learner, sampler in planned]
    seeds = sorted({result.seeds for result in done if result is not None})
    count = sum(result is not None for result in done)
    whole = "" if count == len(planned) else f", of {len(planned)} planned: the page is not complete"
    return f"{count} pairs of learner and sampler, {' or '.join(map(str, seeds)) or 'no'} seeds each{whole}."


def main() -> None:
    """Run what is missing and write learners.md and learners.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core; 0: in this process")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    given = parser.parse_args()
    ledger = Ledger("learners", FIELDS, squares=True)
    for name in [] if given.page else given.tasks:
        measure(ledger, name, given.samplers, given.workers)
    sections = [section(ledger, name) for name in TASKS]
    write_page("learners", coverage=coverage(ledger), sections="\n\n".join(text for text in sections if text))


if __name__ == "__main__":
    main()
