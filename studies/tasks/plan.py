"""What docs/evidence/tasks.md measures: tasks, learners, samplers, and the run of each cell."""

from collections.abc import Sequence
from typing import NamedTuple

from studies.runs import Run

RUN_SEED, SEEDS = 801, 32
BEHAVIOR, LEARNER = "--model.behavior", "--model.learner"
LEARNERS: dict[str, Sequence[str]] = {
    "IPPO": [LEARNER, "IPPO"],
    "MAPPO": [LEARNER, "MAPPO"],
    "HAPPO": [LEARNER, "HAPPO", f"{LEARNER}.init_args.share_parameters", "false"],
}
BASE, ORDERED = "OnPolicy", "LowDiscrepancy, ordered by value"
SAMPLERS: dict[str, Sequence[str]] = {
    BASE: [BEHAVIOR, BASE],
    "LowDiscrepancy": [BEHAVIOR, "LowDiscrepancy"],
    ORDERED: [BEHAVIOR, "LowDiscrepancy", f"{BEHAVIOR}.init_args.order", "value"],
    "TabularMAPROPS": [BEHAVIOR, "TabularMAPROPS"],
    "MAPROPS": [BEHAVIOR, "MAPROPS"],
}
COUNTED = (BASE, "LowDiscrepancy", "TabularMAPROPS")  # states come back, and are numbered
SOME_RETURN = (BASE, "LowDiscrepancy", "MAPROPS")  # first states do, or there is memory
NEVER_RETURN = (BASE, ORDERED, "MAPROPS")  # states are continuous: LowDiscrepancy alone would be on-policy sampling


class Cell(NamedTuple):
    """One run."""

    task: str
    learner: str
    sampler: str


class Task(NamedTuple):
    """What is run, and what is said of it. Another task is another entry of ``TASKS``: the page and the tests find it.

    Attributes:
        config: file of ``conf/``.
        env_steps: per seed.
        eval_interval: target iterations between points of the curve.
        says: what of the file differs; the page adds the file and the env steps.
        flags: beside those of learner and sampler.
        samplers: names of ``SAMPLERS``, on-policy sampling first.
        learners: names of ``LEARNERS``.
    """

    config: str
    env_steps: int
    eval_interval: int
    says: str
    flags: Sequence[str] = ()
    samplers: Sequence[str] = SOME_RETURN
    learners: Sequence[str] = tuple(LEARNERS)


def jaxmarl(scenario: str) -> Sequence[str]:
    """Flags that play JaxMARL's port of a game of mpe2: the same rewards and observations, sooner (speed.md)."""
    return ["--data.env", "JaxMARL", "--data.env.scenario", scenario]


# The cheapest come first. Budgets below the file's: a run shall not take a core longer than about 20 minutes.
TASKS = {
    "StagedGame": Task(
        "staged_game", 25_600, 5, "Figure 1's game in four stages, env steps as in the file.", samplers=COUNTED
    ),
    "TMaze": Task(
        "tmaze", 40_960, 4, "A cue to be remembered, GRU policies, env steps as in the file.",
    ),
    "Foraging": Task(
        "foraging_8x8", 614_400, 30, "Foraging-8x8-2p-2f-coop, half of the file's env steps.",
    ),
    "Foraging, sight 2": Task(
        "foraging_8x8", 614_400, 30, "Foraging-2s-8x8-2p-2f-coop, half of the file's env steps.",
        ["--data.env.name", "Foraging-2s-8x8-2p-2f-coop"],
    ),
    "Foraging, sight 1": Task(
        "foraging_1s", 102_400, 10, "Foraging-1s-5x5-2p-1f-coop, GRU policies, a quarter of the file's env steps.",
    ),
    "Foraging, 10x10": Task("foraging_10x10", 2_048_000, 50, "Foraging-10x10-3p-3f, env steps as in the file."),
    "Overcooked": Task(
        "overcooked", 640_000, 10, "cramped_room with shaped rewards, env steps as in the file.",
    ),
    "RWARE": Task("rware", 768_000, 5, "rware-1x3-2h-2ag-4req, a quarter of the file's env steps."),
    "SMAX": Task("smax", 122_880, 6, "The map 3m, half of the file's env steps.", samplers=NEVER_RETURN),
    "MPE speaker_listener": Task(
        "mpe_speaker_listener", 65_536, 4, "A third of the file's env steps.",
        jaxmarl("MPE_simple_speaker_listener_v4"), NEVER_RETURN,
    ),
    "MPE reference": Task(
        "mpe_reference", 65_536, 4, "Two thirds of the file's env steps.",
        jaxmarl("MPE_simple_reference_v3"), NEVER_RETURN,
    ),
    "MPE spread": Task(
        "mpe_spread", 65_536, 4, "A third of the file's env steps.", jaxmarl("MPE_simple_spread_v3"), NEVER_RETURN,
    ),
}  # fmt: skip


def cells(
    tasks: Sequence[str] = tuple(TASKS),
    learners: Sequence[str] = tuple(LEARNERS),
    samplers: Sequence[str] = tuple(SAMPLERS),
) -> list[Cell]:
    """In the order in which they are run: each task is finished before the next begins."""
    chosen = [(name, task) for name, task in TASKS.items() if name in tasks]
    return [
        Cell(name, learner, sampler)
        for name, task in chosen
        for learner in task.learners
        for sampler in task.samplers
        if learner in learners and sampler in samplers
    ]


def run_of(cell: Cell) -> Run:
    """The run that a cell needs."""
    task = TASKS[cell.task]
    flags = [*LEARNERS[cell.learner], *SAMPLERS[cell.sampler], *task.flags, "--model.num_seeds", str(SEEDS)]
    flags += ["--model.total_env_steps", str(task.env_steps), "--model.eval_interval", str(task.eval_interval)]
    flags += ["--model.sampling_error", "null"]
    return Run("tasks", " ".join(cell), f"conf/{task.config}.yaml", flags, RUN_SEED)
