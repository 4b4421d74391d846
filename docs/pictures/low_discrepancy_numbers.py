"""The numbers of docs/low_discrepancy.md: ``python -m docs.pictures.low_discrepancy_numbers PART...`` measures parts.

Parts are those of ``MEASURED``; each replaces its rows of ``low_discrepancy.csv``. ``boulderpush`` reads the checkpoint
of a run, made by ``fit`` with the options ``TRAINED``. What takes no time to compute is not in the table.
"""

import csv
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, BehaviorPolicy, LowDiscrepancy, OnPolicy
from lit_maprops.behavior.low_discrepancy_draws import LowDiscrepancyDraws, scrambled
from lit_maprops.distributions import joint
from lit_maprops.envs import Coordination
from lit_maprops.stacked.sobol import to_bits, to_uniform
from lit_maprops.stacked.streams import SeedStreams

TABLE = Path(__file__).parent / "low_discrepancy.csv"
TRAINED = (
    "--config conf/boulderpush_reliability.yaml --model.behavior OnPolicy --model.learner.learning_rate 0.004 "
    "--model.num_seeds 16 --model.total_env_steps 7680 --seed_everything 51 --run_name half_trained"
)
CHECKPOINT = Path("runs/half_trained/checkpoints/last.ckpt")
NORMAL_95 = 1.959964

INDEPENDENT, PER_AGENT, JOINTLY = "on-policy", "a coordinate per agent", "one for the joint action"
SHARES = (0.7, 0.6)  # of action A, of the first agent and of the second
TIME, TIME_SEEDS = 64, 512
SIZES = ((2, 2), (2, 5), (5, 2), (4, 5))  # agents and actions
EXPONENTS, RATE_SEEDS = range(3, 14), 64
FIXED, FIXED_SEEDS = (0.5, 0.8, 0.95), 1000  # of action A, of both agents
PAIRED, PAIRED_STEPS, PAIRED_SEEDS = (10, 5), (32, 128), 64  # agents and actions; n
STEPS, BATCHES, REFERENCES = 256, 128, 256
MOST_JOINT = 10_000  # joint actions that are listed


class Row(NamedTuple):
    """A mean over ``seeds`` with the ends of its 95% interval, of a sampler in a setting, for n env steps."""

    part: str
    setting: str
    sampler: str
    n: int
    mean: float
    low: float
    high: float
    seeds: int


def samplers() -> dict[str, BehaviorPolicy]:
    """By their names on the page; MA-PROPS has the strong updates of docs/evidence/matrix_games.md."""
    strong = MAPROPS(clip_epsilon=1.0, kl_cutoff=1.0, epochs=8, learning_rate=1.0, hidden=[])
    return {"on-policy": OnPolicy(), "MA-PROPS": strong, "low-discrepancy": LowDiscrepancy()}


def joint_shares() -> list[float]:
    """Of AA, AB, BA and BB at ``SHARES``."""
    first, second = SHARES
    return [first * second, first * (1 - second), (1 - first) * second, (1 - first) * (1 - second)]


def actions(behavior: BehaviorPolicy, steps: int, seeds: int) -> Tensor:
    """Joint actions in one state at ``SHARES`` with m = 1, ``[seeds, steps]``: 0 to 3 for AA to BB."""
    behavior.build(Coordination(2, 2), 0, list(range(seeds)))
    behavior.reset(None)
    policy = torch.tensor([[share, 1 - share] for share in SHARES]).log().expand(seeds, 1, 2, 2)
    state = {keys.STATE: torch.ones(seeds, 1, 1), keys.STATE_INDEX: torch.zeros(seeds, 1, 1, dtype=torch.int64)}
    step = TensorDict(state | {keys.OBSERVATION: torch.ones(seeds, 1, 2, 1), keys.PARAMETERS: policy}, [seeds, 1])
    taken = []
    for _ in range(steps):
        action = behavior.choose(step, policy).action
        taken.append(joint.joint_index(action, 2))
        if behavior.adapts:
            behavior.extend(step.clone().set(keys.ACTION, action))
            behavior.update(measure=False)
    return torch.cat(taken, 1)


def row_of(part: str, setting: str, sampler: str, n: int, values: Tensor) -> Row:
    """The mean of ``[seeds]``, values of independent seeds."""
    mean, error = float(values.mean()), float(values.std()) / len(values) ** 0.5
    return Row(part, setting, sampler, n, mean, mean - NORMAL_95 * error, mean + NORMAL_95 * error, len(values))


def over_time() -> Iterator[Row]:
    """Joint TV of the first t samples."""
    target = torch.tensor(joint_shares())
    for name, behavior in samplers().items():
        hot = torch.nn.functional.one_hot(actions(behavior, TIME, TIME_SEEDS), 4).float()
        share = hot.cumsum(1) / torch.arange(1, TIME + 1).reshape(-1, 1)
        errors = 0.5 * (share - target).abs().sum(-1)
        for t in range(TIME):
            yield row_of("time", "0.7 and 0.6", name, t + 1, errors[:, t])


def visits(draws: LowDiscrepancyDraws, streams: SeedStreams, count: int) -> Tensor:
    """What ``draws`` gives at the first ``count`` visits of a state, ``[R, count, W]``, all at once."""
    shift = to_bits(streams.uniform(1, draws.points.shape[1]))
    number = torch.arange(count).expand(len(shift), -1)
    return to_uniform(scrambled(draws._points(number), shift.expand(-1, count, -1), draws.nested))


def joint_errors(target: Tensor, index: Tensor, exponents: range = EXPONENTS) -> dict[int, Tensor]:
    """Joint TV ``[R]`` of the first n of joint actions ``[R, N]``, by n; ``target`` ``[R, n_joint]``."""
    found = {}
    for exponent in exponents:
        n = 2**exponent
        counts = torch.zeros_like(target).scatter_add_(1, index[:, :n], torch.ones(len(index), n))
        found[n] = 0.5 * (counts / n - target).abs().sum(1)
    return found


def at_random(n_seeds: int, n_agents: int, n_actions: int) -> Tensor:
    """Policies, log-probabilities ``[R, 1, A, N]``."""
    return torch.randn(n_seeds, 1, n_agents, n_actions, generator=torch.Generator().manual_seed(0)).log_softmax(-1)


def drawn(policy: Tensor, count: int) -> dict[str, Tensor]:
    """Actions ``[R, count, A]`` of policies ``[R, 1, A, N]`` in one state, by where their numbers come from."""
    n_seeds, _, n_agents, n_actions = policy.shape
    task, ids = Coordination(n_agents, n_actions), range(n_seeds)

    def source(columns: tuple[int, ...]) -> tuple[LowDiscrepancyDraws, SeedStreams]:
        draws = LowDiscrepancyDraws(columns, task, n_seeds, SeedStreams(0, ids, "scrambling"))
        return draws, SeedStreams(0, ids, "actions")

    own = task.family.uniforms
    numbers = {INDEPENDENT: source(own)[1].uniform(count, *own), PER_AGENT: visits(*source(own), count)}
    return {
        name: task.family.sample(policy.expand(-1, count, -1, -1), uniform) for name, uniform in numbers.items()
    } | {JOINTLY: _from_a_line(policy, visits(*source(()), count).squeeze(2))}


def _from_a_line(policy: Tensor, numbers: Tensor) -> Tensor:
    """Joint actions of numbers ``[R, N]``."""
    target, (n_agents, n_actions) = joint.joint_log_probs(policy), policy.shape[2:]
    if target.shape[2] > MOST_JOINT:
        return torch.zeros(*numbers.shape, 0, dtype=torch.int64)
    index = [joint.sample(target.expand(-1, part.shape[1], -1), part) for part in numbers.split(512, 1)]
    return joint.split_joint(torch.cat(index, 1), n_agents, n_actions)


def rates() -> Iterator[Row]:
    """Joint TV at policies drawn at random, by the number of agents and actions."""
    for n_agents, n_actions in SIZES:
        policy = at_random(RATE_SEEDS, n_agents, n_actions)
        target = joint.joint_log_probs(policy).squeeze(1).exp()
        for name, action in drawn(policy, 2 ** EXPONENTS[-1]).items():
            for n, errors in joint_errors(target, joint.joint_index(action, n_actions)).items():
                yield row_of("rates", f"{n_agents} agents, {n_actions} actions", name, n, errors)


def fixed() -> Iterator[Row]:
    """Joint TV of two agents with two actions at the policies of docs/evidence/matrix_games.md."""
    policies = {f"{share:g}": torch.tensor([share, 1 - share]).log().expand(FIXED_SEEDS, 1, 2, 2) for share in FIXED}
    for setting, policy in (policies | {"random": at_random(FIXED_SEEDS, 2, 2)}).items():
        target = joint.joint_log_probs(policy).squeeze(1).exp()
        for name, action in drawn(policy, 64).items():
            for n, errors in joint_errors(target, joint.joint_index(action, 2), range(3, 7)).items():
                yield row_of("fixed", setting, name, n, errors)


def pairs() -> Iterator[Row]:
    """TV of the joint actions of two agents of many, the mean over pairs."""
    n_agents, n_actions = PAIRED
    uniform = torch.full((PAIRED_SEEDS, 1, n_agents, n_actions), 1 / n_actions).log()
    for setting, policy in (("uniform", uniform), ("random", at_random(PAIRED_SEEDS, n_agents, n_actions))):
        for name, action in drawn(policy, max(PAIRED_STEPS)).items():
            if not action.shape[2]:
                continue
            for n in PAIRED_STEPS:
                errors = []
                for pair in itertools.combinations(range(n_agents), 2):
                    target = joint.joint_log_probs(policy[:, :, pair]).squeeze(1).exp()
                    index = joint.joint_index(action[:, :n, pair], n_actions)
                    share = torch.nn.functional.one_hot(index, n_actions**2).float().mean(1)
                    errors.append(0.5 * (share - target).abs().sum(1))
                yield row_of("pairs", setting, name, n, torch.stack(errors).mean(0))


def boulderpush() -> Iterator[Row]:
    """Mean return and gradient of independent batches at half-trained policies, less on-policy sampling's."""
    from lit_maprops.analyze.batches import draw, on_policy_reference
    from lit_maprops.analyze.subject import Sampler, load
    from lit_maprops.metrics.gradients import pooled, spread

    subject = load(CHECKPOINT)
    reference = on_policy_reference(subject, REFERENCES, STEPS)
    kinds = {
        "on-policy": OnPolicy(),
        "low-discrepancy": LowDiscrepancy(),
        "low-discrepancy, first visits in sequence": LowDiscrepancy(first_visits="sequence"),
    }
    plain = torch.zeros(())
    for name, behavior in kinds.items():
        gradients, returns = draw(subject, Sampler(behavior), BATCHES, STEPS)
        own = returns["monte_carlo"]  # [R, K]; batches of equal number meet the same chances
        if name == "on-policy":
            plain = own
            yield _over_batches("return", name, own)
        else:
            yield _over_batches("return difference", name, own - plain)
        for figure in ("bias_squared", "variance", "mse"):
            mean, error = pooled(spread(gradients, reference)[figure])
            ends = mean - NORMAL_95 * error, mean + NORMAL_95 * error
            yield Row("boulderpush", figure, name, STEPS, mean, *ends, len(own))


def _over_batches(setting: str, sampler: str, values: Tensor) -> Row:
    """The mean of ``[R, K]`` given the seeds' policies: batches are what is random."""
    mean, error = float(values.mean()), float((values.var(1) / values.shape[1]).sum()) ** 0.5 / len(values)
    ends = mean - NORMAL_95 * error, mean + NORMAL_95 * error
    return Row("boulderpush", setting, sampler, STEPS, mean, *ends, len(values))


MEASURED: dict[str, Callable[[], Iterator[Row]]] = {
    "time": over_time,
    "fixed": fixed,
    "rates": rates,
    "pairs": pairs,
    "boulderpush": boulderpush,
}


def rows(part: str) -> list[Row]:
    """What was measured."""
    with TABLE.open(newline="") as table:
        found = [row for row in csv.DictReader(table) if row["part"] == part]
    return [
        Row(part, row["setting"], row["sampler"], int(row["n"]), *(float(row[k]) for k in ("mean", "low", "high")),
            int(row["seeds"]))
        for row in found
    ]  # fmt: skip


def measure(parts: list[str]) -> None:
    """Replace the rows of some parts."""
    kept = [row for part in MEASURED if part not in parts and TABLE.exists() for row in rows(part)]
    new = [row for part in parts for row in MEASURED[part]()]
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in sorted(kept + new, key=lambda row: list(MEASURED).index(row.part)):
            writer.writerow((*row[:4], *(f"{value:.4g}" for value in row[4:7]), row.seeds))


def slope(setting: str, sampler: str, first: int = 2**6) -> float:
    """Of log TV in log n from n = ``first`` on, by least squares."""
    own = [row for row in rows("rates") if (row.setting, row.sampler) == (setting, sampler) and row.n >= first]
    x = torch.tensor([float(row.n) for row in own], dtype=torch.float64).log()
    y = torch.tensor([row.mean for row in own], dtype=torch.float64).log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


if __name__ == "__main__":
    measure(sys.argv[1:] or list(MEASURED))
