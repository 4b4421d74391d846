"""Ordinary sampling from numbers that are evenly spread: less joint sampling error without a behavior network."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.base import Choice, OnPolicy, check_shared
from lit_maprops.behavior.draws import Draws
from lit_maprops.behavior.low_discrepancy_draws import FirstVisits, LowDiscrepancyDraws, Scrambling
from lit_maprops.behavior.ordered_draws import Order, OrderedDraws, principal_component
from lit_maprops.distributions import joint
from lit_maprops.envs import Task
from lit_maprops.envs.ends import living, only_living
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.argument_types import PositiveInt
from lit_maprops.system.errors import ConfigError, check

if TYPE_CHECKING:
    from lit_maprops.targets import Learner

Coordinates = Literal["agent", "joint"]
MOST_JOINT_ACTIONS = 100_000


class LowDiscrepancy(OnPolicy):
    """pi_phi = pi_theta, and the agents draw from the coordinates of one low-discrepancy point.

    Nothing is trained: no network, no epsilon, delta or m. Every agent draws from its own policy by inverting its own
    distribution function; what the agents share is a random number. With the defaults every distinct state of D has a
    randomized Sobol sequence, whose next point is drawn from at every visit (``behavior.low_discrepancy_draws``). Given
    the draws before, a draw is not uniform: what a state's later visits draw depends on its first ones
    (docs/low_discrepancy.md says what that biases).

    Args:
        coordinates: ``agent``, a coordinate each (each component of a continuous action has one); or ``joint``, one
            coordinate for the joint action, of which the distribution function is inverted.
        first_visits: what a state's first visit draws from: ``independent`` numbers, or a ``sequence`` over the
            distinct states of D. Not where states never come back: there a sequence ties steps in a row to each other
            (docs/evidence/low_discrepancy.md, VMAS navigation).
        scrambling: of a state's sequence: ``shift`` (a digital shift) or ``owen`` (nested uniform scrambling).
        order: instead of a sequence per state, the environments of a vector step share a point set in the order of
            their ``value`` (the critic's, the mean over agents), ``state`` or ``policy`` (first principal components of
            global states, of all agents' parameters); see ``behavior.ordered_draws``. Needs two of them or more.
            None: a sequence per state.
        max_joint_actions: most joint actions (n_actions ** n_agents) that ``coordinates`` joint may enumerate.
    """

    _ordered: OrderedDraws | None = None
    _values: Callable[[TensorDictBase], Tensor] | None = None

    def __init__(
        self,
        coordinates: Coordinates = "agent",
        first_visits: FirstVisits = "independent",
        scrambling: Scrambling = "shift",
        order: Order | None = None,
        max_joint_actions: PositiveInt = MOST_JOINT_ACTIONS,
    ) -> None:
        super().__init__("low_discrepancy")
        check(
            order is None or first_visits == "independent",
            "<behavior.first_visits> is sequence and <behavior.order> hands out points whatever was visited: leave "
            "first_visits out",
        )
        check(
            coordinates == "joint" or max_joint_actions == MOST_JOINT_ACTIONS,
            "<behavior.max_joint_actions> bounds what <behavior.coordinates> joint enumerates, and coordinates is "
            "agent: leave max_joint_actions out",
        )
        self.coordinates, self.first_visits, self.scrambling = coordinates, first_visits, scrambling
        self.order, self.max_joint_actions = order, max_joint_actions

    @override
    def identity(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("coordinates", "first_visits", "scrambling", "order")}
        return super().identity() | own

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        if self.coordinates == "joint":
            check(
                not task.continuous_actions,
                f"<behavior.coordinates> is joint and {type(task).__name__} has continuous actions: use agent",
            )
            n_joint, count = joint.count(task.n_agents, task.n_actions)
            check(
                n_joint <= self.max_joint_actions,
                f"<behavior.coordinates> joint would enumerate {count} joint actions, more than "
                f"<behavior.max_joint_actions> {self.max_joint_actions:,}: use agent",
            )
        super().build(task, run_seed, seed_ids)

    @override
    def check_environments(self, num_envs: int) -> None:
        super().check_environments(num_envs)
        check_shared("order", self.order, num_envs)

    @override
    def columns(self, task: Task) -> tuple[int, ...]:
        return () if self.coordinates == "joint" else super().columns(task)

    @override
    def make_source(self, task: Task, scrambling_streams: SeedStreams) -> Draws:
        columns = self.columns(task)
        if self.order is not None:
            self._ordered = OrderedDraws(columns, self.scrambling)
            return self._ordered
        options = scrambling_streams, self.first_visits, self.scrambling
        return LowDiscrepancyDraws(columns, task, self.n_seeds, *options)

    @override
    def follow(self, learner: "Learner", times: int = 1) -> None:
        super().follow(learner, times)
        check(
            self.order != "value" or learner.has_critic,
            f"<behavior.order> is value and {type(learner).__name__} has no critic: use state or policy",
        )
        self._values = learner.values if times == 1 else partial(_repeated, learner.values, times)

    @override
    def draws_each_agent(self) -> bool:
        return self.coordinates == "agent" and self.order is None

    @override
    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        if self._ordered is not None:
            self._ordered.feature = self._feature(data, parameters)
        if self.coordinates == "agent":
            return super().choose(data, parameters)
        target = joint.joint_log_probs(parameters)
        index = joint.sample(target, self.draw(data))
        log_prob = target.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        action = joint.split_joint(index, self.task.n_agents, self.task.n_actions)
        return Choice(action, log_prob, torch.zeros_like(log_prob))

    def _feature(self, data: TensorDictBase, parameters: Tensor) -> Tensor:
        """What environments are ordered by, ``[R, E]``."""
        if self.order == "value":
            if self._values is None:
                raise ConfigError("<behavior.order> is value and there is no critic: use state or policy")
            return _mean_of_living(self._values(data), data)
        vectors = data.get(keys.STATE).float() if self.order == "state" else self._probabilities(parameters)
        return principal_component(vectors)

    def _probabilities(self, parameters: Tensor) -> Tensor:
        """Of every agent's actions, or means and log standard deviations: ``[R, E, F]``."""
        return (parameters if self.task.continuous_actions else parameters.exp()).flatten(2)


def _mean_of_living(value: Tensor, data: TensorDictBase) -> Tensor:
    """Over the agents that are there: ``[R, E, A] -> [R, E]``."""
    present, mean = living(data), value.mean(-1)
    if present is None:
        return mean
    own = only_living(value, data).sum(-1) / present.sum(-1).clamp(min=1)
    return torch.where(present.all(-1), mean, own)  # the same bits as without


def _repeated(values: Callable[[TensorDictBase], Tensor], times: int, data: TensorDictBase) -> Tensor:
    """Values of steps ``[R * times, *B]``, of the critics of R seeds."""
    return values(data.unflatten(0, (len(data) // times, times))).flatten(0, 1)
