"""A small task as a Markov decision process: values, advantages and expected gradients of policies, without sampling.

Values are what the learner's own estimate aims at: rewards discounted per step, nothing after an end by the rules, and
beyond a time limit the value of the state there, as the bootstrap has it. So they do not depend on the step of an
episode, which no critic sees either. States are weighted as batches of whole episodes hold them.
"""

from itertools import permutations
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import one_hot

from lit_maprops import keys
from lit_maprops.distributions.joint import joint_index, joint_log_probs, split_joint
from lit_maprops.envs import State, Task
from lit_maprops.targets import TargetPolicies


class World(NamedTuple):
    """What can come after what, from the task's one start; S states, J joint actions, W outcomes of equal chance."""

    numbers: Tensor  # [S] int64, of the states, ascending
    observation: Tensor  # [S, A, O]
    following: Tensor  # [S, J, W] int64, the place among ``numbers``; any where an episode ends
    outcomes: Tensor  # [S, J, W] float64, their chances; 0 where an episode ends
    reward: Tensor  # [S, J, A] float64
    actions: Tensor  # [J, A, N] float64, one-hot
    blocks: list[Tensor]  # places of states, such that none leads to a later block
    start: int  # the place of the first state
    max_steps: int

    def places(self, data: TensorDictBase) -> Tensor:
        """Of steps ``[*B]`` of D, ``[*B]`` int64; of states after an end, any."""
        number = data.get(keys.STATE_INDEX).squeeze(-1)
        return torch.searchsorted(self.numbers, number).clamp(max=len(self.numbers) - 1)

    def ahead(self, chance: Tensor) -> Tensor:
        """Chances of what follows, ``[S, J, W]``, under pi_theta ``[S, J]``."""
        return chance.unsqueeze(-1) * self.outcomes

    def pairs(self, data: TensorDictBase) -> Tensor:
        """Numbers of the pairs of state and joint action in steps ``[*B]`` of D, ``[*B]`` int64 below S J."""
        action = joint_index(data.get(keys.ACTION), self.actions.shape[-1])
        return self.places(data) * len(self.actions) + action


def world_of(task: Task) -> World:
    """By search from the start.

    Chance may only be the order in which agents move, as in BoulderPush, or nothing.
    """
    assert task.step_noise in (0, task.n_agents)
    orders = torch.tensor(list(permutations(range(task.step_noise)))) / max(task.step_noise, 1)  # [W, noise]
    n_joint = task.n_actions**task.n_agents
    action = split_joint(torch.arange(n_joint), task.n_agents, task.n_actions)
    start = task.initial_state(torch.zeros(1, task.start_noise))
    known, frontier = {int(_number(task, start))}, start
    found: list[tuple[State, Tensor, Tensor, Tensor]] = []
    while len(_number(task, frontier)):
        after, goes_on, reward = _expanded(task, frontier, action, orders)
        following = _number(task, after)
        found.append((frontier, following, goes_on, reward))
        new = {int(n): k for k, n in enumerate(following.flatten().tolist()) if goes_on.flatten()[k] and n not in known}
        known |= new.keys()
        rows = torch.tensor(list(new.values()), dtype=torch.int64)
        frontier = {name: value.flatten(0, 2)[rows] for name, value in after.items()}
    states = {name: torch.cat([state[name] for state, *_ in found]) for name in start}
    numbers, order = _number(task, states).sort()
    following, goes_on, reward = (torch.cat(part)[order] for part in list(zip(*found, strict=True))[1:])
    places = torch.searchsorted(numbers, following).clamp(max=len(numbers) - 1)
    observation = task.observe({name: value[order] for name, value in states.items()})[0]
    first = int(torch.searchsorted(numbers, _number(task, start)))
    outcomes, kinds = goes_on.double() / len(orders), one_hot(action, task.n_actions).double()
    blocks = _blocks(places, goes_on)
    return World(numbers, observation, places, outcomes, reward, kinds, blocks, first, task.max_steps)


def _number(task: Task, state: State) -> Tensor:
    number = task.state_index(state)
    assert number is not None
    return number


def _expanded(task: Task, state: State, action: Tensor, orders: Tensor) -> tuple[State, Tensor, Tensor]:
    """States that follow ``[F, J, W, ...]``, whether episodes go on ``[F, J, W]``, mean rewards ``[F, J, A]``."""
    shape = len(next(iter(state.values()))), len(action), len(orders)
    wide = {k: v[:, None, None].expand(*shape, *v.shape[1:]) for k, v in state.items()}
    actions = action[None, :, None].expand(*shape, -1)
    after = task.transition(wide, actions, orders.expand(*shape, -1))
    return after.state, ~after.terminated, after.reward.double().mean(2)


def _blocks(following: Tensor, goes_on: Tensor) -> list[Tensor]:
    """States by how many states they lead to: one that leads to another and not back leads to more than that one."""
    size = len(following)
    leads = torch.eye(size)
    leads.scatter_(1, torch.where(goes_on, following, torch.arange(size)[:, None, None]).flatten(1), 1.0)
    while True:
        further = (leads @ leads > 0).float()
        if torch.equal(further, leads):
            break
        leads = further
    count = leads.sum(1)
    return [(count == size).nonzero().flatten() for size in count.unique()]


class Exact(NamedTuple):
    """Figures of R seeds' policies in a world, float64."""

    chance: Tensor  # [R, S, J], pi_theta
    value: Tensor  # [R, S, A] (return)
    action_value: Tensor  # [R, S, J, A] (return)

    @property
    def advantage(self) -> Tensor:
        """``[R, S, J, A]`` (return)."""
        return self.action_value - self.value.unsqueeze(2)


@torch.no_grad()
def exact(policies: TargetPolicies, world: World, gamma: float) -> Exact:
    """Of the present policies; ``gamma`` is the discount per step."""
    seeds = policies.net.stack[0]
    wide = world.observation.expand(seeds, *world.observation.shape)
    chance = joint_log_probs(policies.distribution_parameters(wide).double()).exp()
    # Seed by seed, whose numbers stay in the processor's cache.
    of_seeds = [_of_seed(world, own, gamma) for own in chance]
    return Exact(chance, *(torch.stack(part) for part in zip(*of_seeds, strict=True)))


def _of_seed(world: World, chance: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Values ``[S, A]`` and action values ``[S, J, A]`` of one seed's ``chance`` ``[S, J]``."""
    value = _solved(world, world.ahead(chance), torch.einsum("sj,sja->sa", chance, world.reward), gamma)
    later = (value[world.following] * world.outcomes.unsqueeze(-1)).sum(2)
    return value, world.reward + gamma * later


def _solved(world: World, ahead: Tensor, reward: Tensor, gamma: float) -> Tensor:
    """V = r + gamma P V, block after block: ``[S, A]``."""
    size = len(reward)
    value = torch.zeros_like(reward)
    for block in world.blocks:
        to = torch.zeros(len(block), size, dtype=reward.dtype)
        to.scatter_add_(1, world.following[block].flatten(1), ahead[block].flatten(1))
        within = torch.eye(len(block), dtype=reward.dtype) - gamma * to[:, block]
        wanted = reward[block] + gamma * to @ value  # 0 so far where not solved
        # Factors of single precision take half of the time; each correction takes five digits off the error.
        factors = torch.linalg.lu_factor(within.float())
        found = torch.linalg.lu_solve(*factors, wanted.float()).double()
        for _ in range(2):
            found += torch.linalg.lu_solve(*factors, (wanted - within @ found).float()).double()
        value[block] = found
    return value


def visits(world: World, chance: Tensor) -> Tensor:
    """Shares of the steps of whole episodes in each state, ``[R, S]``, of pi_theta ``[R, S, J]``."""
    place = world.following.flatten()
    found = []
    for ahead in map(world.ahead, chance):
        here = torch.zeros(len(ahead), dtype=ahead.dtype)
        here[world.start] = 1.0
        total = torch.zeros_like(here)
        for _ in range(world.max_steps):
            total += here
            here = torch.zeros_like(here).scatter_add_(0, place, (here[:, None, None] * ahead).flatten())
        found.append(total / total.sum())
    return torch.stack(found)


def gradient(policies: TargetPolicies, world: World, found: Exact, weights: Tensor) -> Tensor:
    """Of the steps' mean of sum_i A_i log pi_theta_i with true advantages and actions in pi_theta's proportions.

    Args:
        policies: that ``found`` is of.
        world: they act in.
        found: their figures.
        weights: of the states, ``[R, S]``; ``visits`` gives the expected gradient.

    Returns:
        ``[R, P]``, as ``policy_gradient``.
    """
    each = torch.einsum("rs,rsj,rsja,jan->rsan", weights, found.chance, found.advantage, world.actions).float()
    wide = world.observation.expand(len(each), *world.observation.shape)
    with torch.enable_grad():
        objective = (each * policies.distribution_parameters(wide)).sum()
    gradients = torch.autograd.grad(objective, list(policies.net.parameters()))
    return torch.cat([part.flatten(1) for part in gradients], 1)
