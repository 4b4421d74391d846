"""Samplers that a user could have written, for tests: a sound one, and the ways in which it can be wrong."""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops.behavior import BehaviorPolicy, Choice
from lit_maprops.behavior.base import choose_independently
from lit_maprops.behavior.draws import DrawKind
from lit_maprops.distributions import joint


class Tempered(BehaviorPolicy):
    """The sampler of docs/how-to/sampler.md, which breaks.

    Args:
        kind: what is wrong; empty: nothing.
        after: calls of ``choose`` in this process from which it is.
        draws: see ``BehaviorPolicy``.
    """

    calls = 0  # of the class: a copy on trial counts, too

    def __init__(self, kind: str = "", after: int = 0, draws: DrawKind = "independent") -> None:
        super().__init__(draws)
        self.kind, self.after = kind, after

    def choose(self, data: TensorDictBase, parameters: Tensor) -> Any:
        Tempered.calls += 1
        tempered = (parameters / 1.5).log_softmax(-1)
        if Tempered.calls <= self.after:
            return choose_independently(self.family, parameters, tempered, self.draw(data))
        if self.kind.startswith("joint"):
            return self._jointly(parameters, self.draw(data)[..., 0], float(self.kind.removeprefix("joint ")))
        if self.kind == "raises":
            raise RuntimeError("the dice are gone")
        tempered = {"power": parameters * 3, "nan": tempered * torch.nan, "flat": tempered[..., 0]}.get(
            self.kind, tempered
        )
        choice = choose_independently(self.family, parameters, tempered, self.draw(data))
        return {
            "none": None,
            "tuple": tuple(choice),
            "range": choice._replace(action=choice.action + 7),
            "dtype": choice._replace(action=choice.action.int()),
            "log_prob": choice._replace(behavior_log_prob=choice.behavior_log_prob.unsqueeze(-1)),
            "kl": choice._replace(kl=choice.kl.double()),
        }.get(self.kind, choice)

    def _jointly(self, parameters: Tensor, uniform: Tensor, power: float) -> Choice:
        """From joint log-probabilities times ``power``, which nobody normalizes."""
        target = joint.joint_log_probs(parameters)
        powered = target * power
        index = joint.sample(powered, uniform)
        action = joint.split_joint(index, self.task.n_agents, self.task.n_actions)
        log_prob = powered.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        return Choice(action, log_prob, joint.kl_divergence(target, powered))

    def extend(self, data: TensorDictBase) -> None: ...

    def update(self, measure: bool = True) -> Any:
        if self.kind == "update raises":
            raise ZeroDivisionError("division by zero")
        zeros = torch.zeros(self.n_seeds)
        given = {"update none": None, "my stat": {"my/stat": 3.0}, "few": {"gradient_steps": zeros}}
        return given.get(self.kind, {})


class NumberInStatistics(Tempered):
    """All statistics, one of which is no tensor."""

    def update(self, measure: bool = True) -> Any:
        names = ("gradient_steps", "gradient_steps_allowed", "cutoff_hit", "first_step_cutoff", "kl", "ratio_clipped")
        return dict.fromkeys(names, torch.zeros(self.n_seeds)) | {"kl": 3.0}


class AllStatistics(Tempered):
    """Sound."""

    def update(self, measure: bool = True) -> Any:
        names = ("gradient_steps", "gradient_steps_allowed", "cutoff_hit", "first_step_cutoff", "kl", "ratio_clipped")
        return dict.fromkeys(names, torch.zeros(self.n_seeds))


class WithoutSuper(Tempered):
    def __init__(self) -> None:
        self.kind, self.after = "", 0


class WithoutBuild(Tempered):
    def build(self, task: Any, run_seed: int, seed_ids: list[int]) -> None: ...

    def check_environments(self, num_envs: int) -> None: ...

    def follow(self, learner: Any, times: int = 1) -> None: ...
