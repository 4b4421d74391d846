"""The tabular greedy sampler that Theorem 2 of arXiv 2508.01049 speaks about: no learning, only counts."""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import joint, keys
from lit_maprops.behavior.base import BehaviorPolicy, Choice, UpdateStats
from lit_maprops.config import check, check_at_least
from lit_maprops.envs import Task


class Greedy(BehaviorPolicy):
    """Takes argmax_a pi_theta(a | s) * (N(s) + 1) - N(s, a): the joint action D lacks most; ties to the lowest number.

    Deterministic given D, so it has no log-probability ratio to clip and its KL is infinite (logged as NaN). Parallel
    environments of a seed choose one after the other, each seeing the earlier ones' choices.

    Args:
        max_joint_actions: most joint actions (n_actions ** n_agents) allowed.
    """

    _states: Tensor  # [R, steps chosen since the last reset], numbers of the states
    _actions: Tensor  # likewise, numbers of the joint actions

    def __init__(self, max_joint_actions: int = 100_000) -> None:
        super().__init__()
        check_at_least("--model.behavior.max_joint_actions", max_joint_actions, 1)
        self.max_joint_actions = max_joint_actions

    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        """See ``BehaviorPolicy``."""
        super().build(task, run_seed, seed_ids)
        n_joint, count = joint.count(task.n_agents, task.n_actions)
        check(
            n_joint <= self.max_joint_actions,
            f"--model.behavior Greedy would count {count} joint actions, more than "
            f"--model.behavior.max_joint_actions {self.max_joint_actions:,}: use --model.behavior PROPS",
        )
        check(
            task.numbers_states(),
            f"--model.behavior Greedy is tabular and {type(task).__name__} cannot number its states here: "
            "use --model.behavior MAPROPS",
        )
        self.reset(None)

    @torch.no_grad()
    def choose(self, data: TensorDictBase, logits: Tensor) -> Choice:
        """See ``BehaviorPolicy``."""
        target = joint.joint_log_probs(logits).exp()  # [R, E, n_joint]
        states = data.get(keys.STATE_INDEX).squeeze(-1)  # [R, E]
        chosen = []
        for env in range(states.shape[1]):
            state = states[:, env, None]
            same = (self._states == state).to(target.dtype)  # [R, rows seen]
            counts = torch.zeros_like(target[:, env]).scatter_add_(1, self._actions, same)
            visits = same.sum(1, keepdim=True)
            action = (target[:, env] * (visits + 1) - counts).argmax(-1, keepdim=True)  # [R, 1]
            self._states = torch.cat([self._states, state], 1)
            self._actions = torch.cat([self._actions, action], 1)
            chosen.append(action)
        index = torch.cat(chosen, 1)
        action = joint.split_joint(index, self.task.n_agents, self.task.n_actions)
        log_prob = torch.zeros_like(target[..., 0])
        return Choice(action, log_prob, torch.full_like(log_prob, torch.nan))

    def extend(self, data: TensorDictBase) -> None:
        """See ``BehaviorPolicy``; counts are kept while choosing, so nothing is left to do."""

    def update(self, measure: bool = True) -> UpdateStats:
        """See ``BehaviorPolicy``; nothing to do."""
        return {}

    def reset(self, data: TensorDictBase | None) -> None:
        """See ``BehaviorPolicy``; counts what D retains."""
        if data is None:
            device = self.action_streams.device
            self._states = torch.zeros(self.n_seeds, 0, dtype=torch.int64, device=device)
            self._actions = self._states
        else:
            self._states = data.get(keys.STATE_INDEX).squeeze(-1)
            self._actions = joint.joint_index(data.get(keys.ACTION), self.task.n_actions)

    def checkpoint_state(self) -> dict[str, Any]:
        """See ``BehaviorPolicy``."""
        return super().checkpoint_state() | {"states": self._states, "actions": self._actions}

    def restore(self, saved: dict[str, Any]) -> None:
        """See ``BehaviorPolicy``."""
        super().restore(saved)
        device = self.action_streams.device
        self._states = saved["states"].to(device)
        self._actions = saved["actions"].to(device)
