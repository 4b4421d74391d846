"""Behavior policies that count instead of learning, for tasks that number their states."""

from abc import abstractmethod
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.base import BehaviorPolicy, Choice, UpdateStats
from lit_maprops.behavior.draws import DrawKind
from lit_maprops.behavior.same_state import FEW, looked_up
from lit_maprops.behavior.update.systematic import next_draw
from lit_maprops.distributions import joint
from lit_maprops.envs import Task
from lit_maprops.system.argument_types import AUTO, PositiveFloat, PositiveInt
from lit_maprops.system.errors import check

BISECTIONS = 24  # halvings of the interval that holds the mixing weight
NO_STATE, LEAST_ROOM = -1, 64
LEAST_RATIO = 0.01  # of pi_phi / pi_theta where ``kl_cutoff`` is auto


class TabularPolicy(BehaviorPolicy):
    """Counts the joint actions taken in every state of D.

    Args:
        max_joint_actions: most joint actions (n_actions ** n_agents) allowed.
        draws: see ``BehaviorPolicy``.
    """

    _states: Tensor  # [R, steps counted since the last reset and more], numbers of the states, NO_STATE in the rest
    _actions: Tensor  # likewise, numbers of the joint actions
    _counted: int  # steps

    def __init__(self, max_joint_actions: PositiveInt = 100_000, draws: DrawKind = "independent") -> None:
        super().__init__(draws)
        self.max_joint_actions = max_joint_actions

    @override
    def columns(self, task: Task) -> tuple[int, ...]:
        """One number for the joint action."""
        return ()

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        name = type(self).__name__
        n_joint, count = joint.count(task.n_agents, task.n_actions)
        check(
            n_joint <= self.max_joint_actions,
            f"<model.behavior> {name} would count {count} joint actions, more than "
            f"<behavior.max_joint_actions> {self.max_joint_actions:,}: use <model.behavior> Autoregressive",
        )
        check(
            task.numbers_states(),
            f"<model.behavior> {name} is tabular and {type(task).__name__} cannot number its states here: "
            "use <model.behavior> MAPROPS",
        )
        self._states = self._actions = torch.zeros(self.n_seeds, 0, dtype=torch.int64)
        self.reset(None)

    @override
    @abstractmethod
    def extend(self, data: TensorDictBase) -> None:
        pass

    @override
    def counts_states(self) -> str | None:
        return f"<model.behavior> {type(self).__name__}"

    @override
    def update(self, measure: bool = True) -> UpdateStats:
        """Nothing to do, counts are read when choosing."""
        return {}

    @override
    def reset(self, data: TensorDictBase | None) -> None:
        """Counts what D retains."""
        super().reset(data)
        device, self._counted = self.action_streams.device, 0
        if device.type == "cpu" or self.held_in_place()[0].device != device:
            self._states = self._actions = torch.zeros(self.n_seeds, 0, dtype=torch.int64, device=device)
        else:
            self._states.fill_(NO_STATE)
        if data is not None:
            actions = joint.joint_index(data.get(keys.ACTION), self.task.n_actions)
            self._count(data.get(keys.STATE_INDEX).squeeze(-1), actions)

    def _count(self, states: Tensor, actions: Tensor) -> None:
        """Add steps, numbers ``[R, b]`` of states and joint actions; on an accelerator in memory that seldom moves."""
        before, self._counted = self._counted, self._counted + states.shape[1]
        if states.device.type == "cpu":
            self._states = torch.cat([self._states, states], 1)
            self._actions = torch.cat([self._actions, actions], 1)
            return
        room = self._states.shape[1]
        if self._counted > room:
            more = (0, max(LEAST_ROOM, 2 * self._counted) - room)
            self._states, self._actions = pad(self._states, more, value=NO_STATE), pad(self._actions, more)
        self._states[:, before : self._counted] = states
        self._actions[:, before : self._counted] = actions

    @override
    def held_in_place(self) -> list[Tensor]:
        return [self._states, self._actions]

    def _counts(self, states: Tensor, target: Tensor) -> Tensor:
        """How often D holds each joint action in these states, N(s, a): ``[R, E]`` -> shaped as ``target``."""
        if states.shape[1] <= FEW:
            same = (self._states.unsqueeze(1) == states.unsqueeze(2)).to(target.dtype)  # [R, E, steps]
            actions = self._actions.unsqueeze(1).expand(same.shape)
            return torch.zeros_like(target).scatter_add_(2, actions, same)
        leader, env, held = looked_up(states, self._states)
        counts = torch.zeros_like(target, memory_format=torch.contiguous_format)
        counts.flatten(1).scatter_add_(1, env * target.shape[2] + self._actions, held.to(target.dtype))
        return counts.gather(1, leader.unsqueeze(2).expand_as(counts))

    @override
    def checkpoint_state(self) -> dict[str, Any]:
        states, actions = (tensor[:, : self._counted] for tensor in (self._states, self._actions))
        return super().checkpoint_state() | {"states": states, "actions": actions}

    @override
    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        device = self.action_streams.device
        self._states = saved["states"].to(device)
        self._actions = saved["actions"].to(device)
        self._counted = self._states.shape[1]


def _deficit(target: Tensor, counts: Tensor) -> Tensor:
    """How many more of each joint action D should hold after one more step: pi_theta (N(s) + 1) - N(s, a).

    ``[..., K]`` each; sums to 1 over joint actions.
    """
    return target * (counts.sum(-1, keepdim=True) + 1) - counts


class Greedy(TabularPolicy):
    """The sampler of Theorem 2 of arXiv 2508.01049: takes the joint action with the largest deficit.

    Ties go to the lowest number. Deterministic given D, so it has no log-probability ratio to clip and its KL is
    infinite (logged as NaN). Parallel environments of a seed choose one after the other, each seeing the earlier ones'
    choices.

    Args:
        max_joint_actions: most joint actions (n_actions ** n_agents) allowed.
    """

    def __init__(self, max_joint_actions: PositiveInt = 100_000) -> None:
        super().__init__(max_joint_actions)  # nothing is drawn

    @override
    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        target = joint.joint_log_probs(parameters).exp()  # [R, E, n_joint]
        states = data.get(keys.STATE_INDEX).squeeze(-1)  # [R, E]
        counts = self._counts(states, target)
        chosen = torch.zeros_like(states)
        for env in range(states.shape[1]):
            chosen[:, env] = _deficit(target[:, env], counts[:, env]).argmax(-1)
            same = (states == states[:, env, None]).to(counts.dtype).unsqueeze(2)  # [R, E, 1]
            counts.scatter_add_(2, chosen[:, env, None, None].expand(same.shape), same)
        self._count(states, chosen)
        action = joint.split_joint(chosen, self.task.n_agents, self.task.n_actions)
        log_prob = torch.zeros_like(target[..., 0])
        return Choice(action, log_prob, torch.full_like(log_prob, torch.nan))

    @override
    def extend(self, data: TensorDictBase) -> None:
        """Counted already, while choosing."""


class TabularMAPROPS(TabularPolicy):
    """Algorithm 2 solved in closed form where states are tabular: no network, no gradient steps.

    The deficits q(a) = pi_theta(a | s) (N(s) + 1) - N(s, a) are the behavior policy under which D is expected to hold
    every joint action of s in its right proportion after the next step. With PROPS' limits: no ratio below
    1 - epsilon, then mixed with pi_theta until KL(pi_theta || pi_phi) in this state is at most delta. Decided here;
    it shares nothing between states, so it only helps in those that D visits again.

    Args:
        clip_epsilon: epsilon, how far the ratio pi_phi / pi_theta may fall below 1.
        kl_cutoff: delta, largest KL(pi_theta || pi_phi) in a state (nats). ``auto``: instead of the deficits and a
            cutoff the chances of systematic sampling (``behavior.update.systematic``), with no ratio below
            ``LEAST_RATIO``, so that importance weights stay finite.
        **tabular: arguments of ``TabularPolicy``.
    """

    def __init__(
        self, clip_epsilon: PositiveFloat = 1.0, kl_cutoff: PositiveFloat | Literal["auto"] = 0.3, **tabular: Any
    ) -> None:
        super().__init__(**tabular)
        self.clip_epsilon, self.kl_cutoff = clip_epsilon, kl_cutoff

    @override
    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        log_target = joint.joint_log_probs(parameters)
        target = log_target.exp()  # [R, E, n_joint]
        wanted = self._wanted(data.get(keys.STATE_INDEX).squeeze(-1), target)
        auto = self.kl_cutoff == AUTO
        behavior = wanted.log() if auto else self._mixed(log_target, target, wanted, float(self.kl_cutoff))
        index = joint.sample(behavior, self.draw(data))
        return Choice(
            joint.split_joint(index, self.task.n_agents, self.task.n_actions),
            behavior.gather(-1, index.unsqueeze(-1)).squeeze(-1),
            joint.kl_divergence(log_target, behavior),
        )

    def _wanted(self, states: Tensor, target: Tensor) -> Tensor:
        """Before the cutoff: ``[R, E]`` and ``[R, E, K] -> [R, E, K]``, which sums to 1."""
        least = max(0.0, 1 - self.clip_epsilon)
        if self.kl_cutoff == AUTO:
            least = max(least, LEAST_RATIO)
            chance = next_draw(target.mT, self._counts(states, target).mT).mT
        else:
            chance = _deficit(target, self._counts(states, target))
        wanted = torch.maximum(chance, target * least)
        return wanted / wanted.sum(-1, keepdim=True)

    def _mixed(self, log_target: Tensor, target: Tensor, wanted: Tensor, cutoff: float) -> Tensor:
        """log of the mixture of pi_theta and ``wanted`` with the most of ``wanted`` that the cutoff allows (nats)."""

        def mixture(weight: Tensor) -> Tensor:
            return torch.lerp(target, wanted, weight).log_()

        possible = target > 0
        low, high = torch.zeros_like(target[..., :1]), torch.ones_like(target[..., :1])
        for _ in range(BISECTIONS):  # the KL grows with the weight
            middle = (low + high) / 2
            # As ``joint.kl_divergence``, which would take the exponentials anew.
            terms = (log_target - mixture(middle)).mul_(target)
            fits = torch.where(possible, terms, 0.0).sum(-1, keepdim=True) <= cutoff
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        return mixture(low)

    @override
    def extend(self, data: TensorDictBase) -> None:
        actions = joint.joint_index(data.get(keys.ACTION), self.task.n_actions)
        self._count(data.get(keys.STATE_INDEX).squeeze(-1), actions)
