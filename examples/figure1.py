"""Figure 1 of arXiv 2508.01049 as a small TorchRL environment, and what the TorchRL and BenchMARL examples share."""

import math

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

PAYOFF = torch.tensor([[1.0, -1.0], [-1.0, 0.8]])  # both agents want (A, A), mismatches are punished
N_AGENTS, N_ACTIONS = 2, 2


class Figure1(EnvBase):
    """Every step ends an episode; each agent observes the constant 1. Batch size ``[E]``; keys in the group ``agents``.

    Args:
        num_envs: E.
    """

    def __init__(self, num_envs: int) -> None:
        super().__init__(batch_size=torch.Size([num_envs]))

        def of_agents(spec: object) -> Composite:
            return Composite(agents=Composite(spec, shape=(num_envs, N_AGENTS)), shape=(num_envs,))  # type: ignore[arg-type]

        def flag() -> Categorical:
            return Categorical(2, shape=(num_envs, 1), dtype=torch.bool)

        self.observation_spec = of_agents({"observation": Unbounded((num_envs, N_AGENTS, 1))})
        self.action_spec = of_agents({"action": Categorical(N_ACTIONS, shape=(num_envs, N_AGENTS))})
        self.reward_spec = of_agents({"reward": Unbounded((num_envs, N_AGENTS, 1))})
        self.done_spec = Composite(done=flag(), terminated=flag(), shape=(num_envs,))

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        return self.observation_spec.one().update(self.done_spec.zero())

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get(("agents", "action"))
        reward = PAYOFF[action[:, 0], action[:, 1]].reshape(-1, 1, 1).expand(-1, N_AGENTS, 1)
        after = self.observation_spec.one().set(("agents", "reward"), reward.clone())
        over = torch.ones(*self.batch_size, 1, dtype=torch.bool)
        return after.update(TensorDict({"done": over, "terminated": over.clone()}, batch_size=self.batch_size))

    def _set_seed(self, seed: int | None) -> None:
        """Nothing here is random."""


def wilson(successes: int, runs: int, z: float = 1.96) -> tuple[float, float]:
    """Bounds of the 95% confidence interval of a share (Wilson 1927)."""
    share, middle = successes / runs, (successes + z * z / 2) / (runs + z * z)
    half = z * math.sqrt(share * (1 - share) / runs + (z / (2 * runs)) ** 2) / (1 + z * z / runs)
    return middle - half, middle + half


def summary(sampler: str, ends: list[bool]) -> str:
    """How many runs end at (A, A), with the interval of their share, in one line."""
    low, high = wilson(sum(ends), len(ends))
    share = sum(ends) / len(ends)
    return f"{sampler}: {sum(ends)} of {len(ends)} runs end at (A, A), {share:.2f} [{low:.2f}, {high:.2f}]"
