"""What docs/evidence/mujoco_gradients.md measures: gradients of batches of two agents that drive one MuJoCo body."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from lit_maprops.analyze.analysis import Analysis, analyze
from lit_maprops.analyze.batches import on_policy_reference
from lit_maprops.analyze.subject import Sampler, Subject, load
from lit_maprops.behavior import PROPS, BehaviorPolicy, GaussianAdjustment, LowDiscrepancy, OnPolicy
from lit_maprops.metrics.gradients import Reference
from lit_maprops.system.tables import read_table
from studies.mujoco_gradients.table import Key, Row, Table
from studies.runs import Run, complete

STUDY = "mujoco_gradients"
N, M = 800, 80  # env steps between target updates, between behavior updates
TUNING_SEED, TUNING_SEEDS, TUNING_BATCHES, TUNING_REFERENCE = 4003, 4, 16, 32
RUN_SEED, SEEDS, BATCHES, REFERENCE = 84, 8, 24, 64
BASE, ORDERED = "OnPolicy", "LowDiscrepancy, ordered by value"
# From weak to strong: Adam's step size and delta (nats), as in continuous_tasks.
GRID = ((3e-4, 0.03), (1e-3, 0.03), (3e-3, 0.03), (3e-3, 0.1))
FIGURES = ("bias_squared", "variance", "mse", "cosine", "return_bias", "effective_sample_share")


class Body(NamedTuple):
    """A task of multi-agent MuJoCo.

    Attributes:
        scenario, agents: as the package names them.
        max_steps: of an episode.
        num_envs: vector width, so that every environment ends as many whole episodes in a batch of n steps.
        updates: target updates of an on-policy run before the gradient is looked at, by what the page calls the age.
    """

    scenario: str
    agents: str
    max_steps: int
    num_envs: int
    updates: Mapping[str, int]


BODIES = {
    "Reacher 2x1": Body("Reacher", "2x1", 50, 16, {"after 1 update": 1, "after 50 updates": 50}),
    "HalfCheetah 2x3": Body("HalfCheetah", "2x3", 100, 8, {"after 1 update": 1, "after 100 updates": 100}),
}


def training(name: str, updates: int, run_seed: int, seeds: int) -> Run:
    """An on-policy run of MAPPO that ends where the gradient is looked at."""
    body = BODIES[name]
    options = f"{{scenario: {body.scenario}, agent_conf: {body.agents}, max_episode_steps: {body.max_steps + 1}}}"
    flags = ["--data.env", "PettingZoo", "--data.env.name", "gymnasium_robotics.mamujoco_v1"]
    flags += ["--data.env.options", options, "--data.env.max_steps", str(body.max_steps)]
    flags += ["--model.behavior", BASE, "--data.num_envs", str(body.num_envs)]
    flags += ["--data.behavior_batch_size", str(N), "--data.target_batch_size", str(N)]
    flags += ["--model.num_seeds", str(seeds), "--model.total_env_steps", str(N * updates)]
    flags += ["--model.eval_interval", str(updates), "--model.eval_episodes", "8"]
    return Run(STUDY, f"{name} {updates}", "conf/reacher_sparse.yaml", flags, run_seed)


def samplers_of(rate: float, delta: float) -> dict[str, BehaviorPolicy]:
    """The trained samplers with a setting of the grid; the rest is that of continuous_tasks."""
    options = {"clip_epsilon": 0.3, "epochs": 4, "hidden": [64, 64], "learning_rate": rate, "kl_cutoff": delta}
    return {
        "PROPS": PROPS(**options),  # type: ignore[arg-type]
        "GaussianAdjustment": GaussianAdjustment(**options),  # type: ignore[arg-type]
        "GaussianAdjustment, correlated": GaussianAdjustment(**options, correlated=True),
    }


TRAINED = tuple(samplers_of(*GRID[0]))
UNTRAINED: dict[str, BehaviorPolicy] = {BASE: OnPolicy(), ORDERED: LowDiscrepancy(order="value")}
SAMPLERS = (*UNTRAINED, *TRAINED)


def setting_name(rate: float, delta: float) -> str:
    """How the table names a setting."""
    return f"step size {rate:g}, delta {delta:g}"


class Policies:
    """The policies of one run, read when they are first needed.

    Args:
        name: of ``BODIES``.
        age: of its ``updates``.
        run_seed: of the run.
        seeds: of the run.
        reference_batches: on-policy batches per seed that the gradient is compared with.
    """

    def __init__(self, name: str, age: str, run_seed: int, seeds: int, reference_batches: int) -> None:
        self.run = training(name, BODIES[name].updates[age], run_seed, seeds)
        self.batches = reference_batches
        self._read: tuple[Subject, Reference] | None = None

    def measure(self, sampler: str, template: BehaviorPolicy, batches: int) -> Analysis:
        """Independent batches of a sampler beside the reference."""
        if self._read is None:
            complete([self.run], workers=0)
            subject = load(self.run.folder / "checkpoints" / "last.ckpt")._replace(behavior_batch_size=M)
            self._read = subject, on_policy_reference(subject, self.batches, N)
        subject, reference = self._read
        return analyze(subject, {sampler: Sampler(template)}, batches, N, reference)

    def returns(self) -> dict[int, float]:
        """Greedy return of each seed in the run's last evaluation."""
        table = read_table(self.run.folder / "eval.csv")
        last = table["env_steps"] == table["env_steps"].max()
        return dict(zip(table["seed"][last].astype(int), table["greedy_return"][last].astype(float), strict=True))


def rows_of(analysis: Analysis, returns: dict[int, float]) -> list[Row]:
    """A row per seed."""
    norm = analysis.reference.gradient.square().sum(-1) - analysis.reference.variance
    own = dict(zip(analysis.subject.seed_ids, norm.tolist(), strict=True))
    return [
        {"seed": row["seed"]}
        | {figure: row[figure] for figure in FIGURES}
        | {"norm_squared": own[row["seed"]], "greedy_return": returns[row["seed"]]}
        for row in analysis.rows()
    ]


def tune(table: Table, name: str) -> None:
    """Every trained sampler with every setting, at partly trained policies of seeds that are used for nothing else."""
    age = tuple(BODIES[name].updates)[-1]
    policies = Policies(name, age, TUNING_SEED, TUNING_SEEDS, TUNING_REFERENCE)
    for setting in GRID:
        for sampler, template in samplers_of(*setting).items():
            fill(table, Key("tuning", name, age, sampler, setting_name(*setting)), policies, template, TUNING_BATCHES)


def best(table: Table, name: str, sampler: str) -> tuple[float, float] | None:
    """The setting of least mean squared error, of equal ones the first; None until all have been tried."""
    age = tuple(BODIES[name].updates)[-1]
    tried = {s: table.mean(Key("tuning", name, age, sampler, setting_name(*s)), "mse") for s in GRID}
    errors = {setting: error for setting, error in tried.items() if error is not None}
    return min(errors, key=lambda s: errors[s]) if len(errors) == len(GRID) else None


def compare(table: Table, name: str) -> None:
    """Every sampler at its best setting, on fresh seeds, age by age."""
    for age in BODIES[name].updates:
        policies = Policies(name, age, RUN_SEED, SEEDS, REFERENCE)
        for sampler in SAMPLERS:
            if sampler in UNTRAINED:
                key, template = Key("compared", name, age, sampler, ""), UNTRAINED[sampler]
            else:
                setting = best(table, name, sampler)
                assert setting is not None
                key = Key("compared", name, age, sampler, setting_name(*setting))
                template = samplers_of(*setting)[sampler]
            fill(table, key, policies, template, BATCHES)


def fill(table: Table, key: Key, policies: Policies, template: BehaviorPolicy, batches: int) -> None:
    """Measure a cell, unless it is known."""
    if key in table.cells:
        return
    print(*key, flush=True)
    analysis = policies.measure(key.sampler, template, batches)
    table.enter(key, rows_of(analysis, policies.returns()))


def measure(table: Table) -> None:
    """What is missing."""
    torch.set_num_threads(1)
    for name in BODIES:
        tune(table, name)
        compare(table, name)
