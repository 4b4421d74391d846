"""A game whose reward comes only at the end of a rarely reached branch, and what a run says of it."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.envs import State, Task, Transition
from lit_maprops.metrics.gradients import Reference
from lit_maprops.system.argument_types import Count, RewardFloat
from lit_maprops.targets import Reinforce, TargetPolicies

STAY, CLIMB = 0, 1  # the actions of each agent


class Ladder(Task):
    """Two agents, who climb a ladder only if both choose ``CLIMB``, rung after rung; the top pays 1, at the end.

    Whoever does anything else on the ladder leaves it: for the rest of the episode they walk beside it, where no action
    matters. Every episode takes ``rungs`` steps. A state is on the ladder after k = 0, 1, ... steps, or beside it.

    Args:
        rungs: L.
        consolation: reward, at once, if both choose ``STAY`` in the first step.
    """

    n_agents = n_actions = 2

    def __init__(self, rungs: Count = 3, consolation: RewardFloat = 0.0) -> None:
        self.max_steps, self.consolation = rungs, consolation
        self.observation_dim = self.state_dim = 2 * rungs + 1  # L + 1 states on the ladder, L beside it

    @override
    def initial_state(self, noise: Tensor) -> State:
        """At the foot: ``[*B]``."""
        steps = torch.zeros(noise.shape[:-1], dtype=torch.int64, device=noise.device)
        return {"steps": steps, "climbs": torch.ones_like(steps, dtype=torch.bool)}

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """Actions ``[*B, 2]``."""
        climbs = state["climbs"] & (action == CLIMB).all(-1)
        consoled = (state["steps"] == 0) & (action == STAY).all(-1)
        steps = state["steps"] + 1
        over = steps == self.max_steps
        reward = (climbs & over).float() + self.consolation * consoled
        both = reward.unsqueeze(-1).expand(*reward.shape, 2)
        return Transition({"steps": steps, "climbs": climbs}, both, over, climbs & over)

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """Both see the number of the state, one-hot."""
        seen = one_hot(self.state_index(state), self.state_dim).float()
        return seen.unsqueeze(-2).expand(*seen.shape[:-1], 2, self.state_dim), seen

    @override
    def state_index(self, state: State) -> Tensor:
        """0 to L on the ladder, L + 1 to 2 L beside it."""
        return torch.where(state["climbs"], state["steps"], self.max_steps + state["steps"])


class Exact(NamedTuple):
    """What policies of R seeds do in the game, by enumeration."""

    climbing: Tensor  # [R, L], probability that both choose CLIMB on each rung
    consoled: Tensor  # [R], that both choose STAY in the first step

    @property
    def top(self) -> Tensor:
        """Probability of the reward at the end, ``[R]``."""
        return self.climbing.prod(-1)

    @property
    def high(self) -> Tensor:
        """Share of an episode's steps in which the agents climb, ``[R]``: high-value pairs of state and action."""
        return self.climbing.cumprod(-1).mean(-1)

    @property
    def low(self) -> Tensor:
        """Share of the steps in which they leave the ladder, ``[R]``: low-value pairs."""
        return (1 - self.top) / self.climbing.shape[-1]


def exact(policies: TargetPolicies, task: Ladder) -> Exact:
    """Of the joint target policy; has gradients where they are enabled."""
    seeds, rungs = policies.net.stack[0], task.max_steps
    seen = one_hot(torch.arange(rungs), task.state_dim).float()  # [L, S]
    parameters = policies.distribution_parameters(seen.unsqueeze(1).expand(seeds, rungs, 2, -1))  # [R, L, A, N]
    joint = parameters.sum(2).exp()  # of equal actions, [R, L, N]
    return Exact(joint[..., CLIMB], joint[:, 0, STAY])


def exact_reference(policies: TargetPolicies, task: Ladder, n_steps: int) -> Reference:
    """Expected gradient of on-policy batches of whole episodes, as ``Reinforce`` weighs their steps.

    A step's baseline is the mean return of the batch's n - 1 other steps. Those of its own episode, L - 1 of them,
    share its reward at the end, which shortens that part of the gradient by (L - 1) / (n - 1); the consolation falls in
    the first step, whose return no other step shares.
    """
    rungs = task.max_steps
    with torch.enable_grad():
        found = exact(policies, task)
        shared = 1 - (rungs - 1) / (n_steps - 1)
        objective = (shared * found.top + task.consolation * found.consoled).sum() / rungs
    gradient = torch.autograd.grad(objective, policies.net.flat)[0].flatten(1)
    none = torch.zeros(len(gradient))
    value = (found.top + task.consolation * found.consoled).detach()
    return Reference(gradient, none, value, none, 0)


class Watched(Reinforce):
    """Reinforce that says what D holds, and what it should hold under the policies it was collected for."""

    task: Ladder

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        assert isinstance(task, Ladder)
        self.task = task

    @override
    def update(self, buffer: Buffer) -> dict[str, Tensor]:
        """Beside the statistics of ``Reinforce``: shares of D's steps, those expected, and the reward's probability."""
        with torch.no_grad():
            found = exact(self.policies, self.task)
        data = buffer.current()
        on_ladder = data.get(keys.STATE_INDEX).squeeze(-1) < self.task.max_steps  # [R, T, E]
        climbs = (data.get(keys.ACTION) == CLIMB).all(-1)
        rewarded = data.get(("next", keys.SUCCESS)).flatten(1).any(1)
        shares = {"high": on_ladder & climbs, "low": on_ladder & ~climbs}
        stats = {name: where.float().mean((1, 2)) for name, where in shares.items()}
        stats |= {"expected_high": found.high, "expected_low": found.low, "top": found.top}
        return stats | {"rewarded": rewarded.float()} | super().update(buffer)
