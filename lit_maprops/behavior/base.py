"""The contract of behavior policies, and the one that changes nothing.

A behavior policy pi_phi collects all training data and is thrown away after training. To add one, subclass
``BehaviorPolicy`` (for anything trained by Algorithm 2, ``EnumeratedPolicy`` or ``StructuredPolicy``) and enter it in
``BEHAVIORS``.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from typing_extensions import override

from lit_maprops.behavior.draws import DrawKind, Draws, StratifiedDraws
from lit_maprops.behavior.low_discrepancy_draws import LowDiscrepancyDraws
from lit_maprops.distributions.families import Family
from lit_maprops.envs import Task
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.arguments import Configurable
from lit_maprops.system.errors import check

if TYPE_CHECKING:  # a sampler in somebody's own loop needs no learner
    from lit_maprops.targets import Learner

UpdateStats = dict[str, Tensor]


class Choice(NamedTuple):
    """The joint actions of one vector step; R seeds, E environments, A agents."""

    action: Tensor  # [R, E, A] int64, or [R, E, A, D] float32
    behavior_log_prob: Tensor  # [R, E], log pi_phi of the joint action (nats)
    kl: Tensor  # [R, E], KL(pi_theta || pi_phi) in each state (nats): exact or without bias; NaN where infinite


class BehaviorPolicy(Configurable, nn.Module, ABC):
    """Contract: ``build`` once; ``choose`` at every step; ``extend``, ``update`` every m steps; ``reset`` at n.

    Args:
        draws: of actions: ``independent``; ``stratified``, parallel environments of a seed that stand in the same state
            share the probabilities evenly (``lit_maprops.behavior.stratified``); or ``low_discrepancy``, so do all
            visits of a state in D (``lit_maprops.behavior.low_discrepancy_draws``). Each draw by itself follows pi_phi,
            unless pi_phi and the numbers both follow from earlier draws: then they correct twice.

    Attributes:
        discrete: serves tasks with discrete actions.
        continuous: serves tasks with continuous actions.
        adapts: what it draws depends on D.
        source: of the uniform numbers that become actions.
        optimizer: what a checkpoint must store of the updates; None if there is nothing to train.
        learning_rate: of the optimizer.
        counts_rows_of_all_seeds: how much a seed is trained depends on the other seeds beside it, which several devices
            would change.
    """

    argument_owner = "behavior"
    discrete: bool = True
    continuous: bool = False
    adapts: bool = True
    optimizer: SeedAdam | None = None
    learning_rate: float = 0.0
    counts_rows_of_all_seeds: bool = False
    source: Draws

    def __init__(self, draws: DrawKind = "independent") -> None:
        super().__init__()
        self.draws = draws

    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        """Create what depends on the task.

        Args:
            task: sizes of states, observations and actions.
            run_seed: of the run.
            seed_ids: one integer per seed, R of them.

        Raises:
            ConfigError: this policy cannot serve this task.
        """
        name, on = type(self).__name__, type(task).__name__
        check(
            self.continuous or not task.continuous_actions,
            f"<model.behavior> {name} enumerates actions and {on} has continuous ones: use <model.behavior> "
            "GaussianAdjustment or OnPolicy",
        )
        check(
            self.discrete or task.continuous_actions,
            f"<model.behavior> {name} is for continuous actions and {on} has discrete ones: use <model.behavior> "
            "MAPROPS",
        )
        check(
            not (task.masks_actions and task.continuous_actions),
            f"<data.env> {on} has continuous actions and says which are legal (legal_actions), which only discrete "
            "ones can be: leave it out",
        )
        self.task, self.family = task, task.family
        self.n_seeds = len(seed_ids)
        self.action_streams = SeedStreams(run_seed, seed_ids, "actions")
        self.source = self.make_source(task, SeedStreams(run_seed, seed_ids, "scrambling"))

    def follow(self, learner: "Learner", times: int = 1) -> None:
        """Once both are built: whose policies are followed.

        Args:
            learner: of R seeds.
            times: how often each of them stands in a row among this policy's seeds.

        Raises:
            ConfigError: this policy cannot follow such ones.
        """
        counting = self.counts_states()
        check(
            counting is None or not learner.policies.remembered,
            f"{counting} counts the visits of a state as if pi_theta were the same in all of them, and with "
            "<learner.memory> it is not: use <model.behavior> MAPROPS with its defaults, or leave memory out",
        )

    def counts_states(self) -> str | None:
        """What of this policy takes pi_theta to be a function of the state alone, by its argument; None: nothing."""
        return None

    def columns(self, task: Task) -> tuple[int, ...]:
        """Shape of the uniform numbers from which one environment's joint action is drawn."""
        return task.family.uniforms

    def make_source(self, task: Task, scrambling_streams: SeedStreams) -> Draws:
        """Where ``draw`` takes numbers from, as ``draws`` says."""
        columns = self.columns(task)
        if self.draws == "low_discrepancy":
            return LowDiscrepancyDraws(columns, task, self.n_seeds, scrambling_streams)
        return (StratifiedDraws if self.draws == "stratified" else Draws)(columns)

    def check_environments(self, num_envs: int) -> None:
        """Refuse what takes effect between environments of a seed where there is one.

        Raises:
            ConfigError: draws are stratified over a single environment.
        """
        check_shared("draws", "stratified" if self.draws == "stratified" else None, num_envs)

    @abstractmethod
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        """Draw joint actions.

        Args:
            data: observations and states of one vector step, ``[R, E]``.
            parameters: ``keys.PARAMETERS`` under the present theta, ``[R, E, A, K]``; -inf is the log-probability of an
                action that an agent does not have, and 0 times it is NaN.
        """

    @abstractmethod
    def extend(self, data: TensorDictBase) -> None:
        """Take in the steps that were added to D, ``[R, b]``, oldest first."""

    @abstractmethod
    def update(self, measure: bool = True) -> UpdateStats:
        """Learn from all of D.

        Args:
            measure: also return the statistics that cost another pass over D.

        Returns:
            Per-seed statistics ``[R]``; see ``update_behavior``. Empty where nothing is trained.
        """

    def reset(self, data: TensorDictBase | None) -> None:
        """Make phi equal theta again; ``data`` is what D retains of older batches ``[R, B]``, None if nothing."""
        self.source.reset(0 if data is None else data.batch_size[1])

    def draw(self, data: TensorDictBase) -> Tensor:
        """Uniform numbers for the actions of one vector step ``[R, E]``, which D then holds: ``[R, E, *columns]``."""
        return self.source.uniform(self.action_streams, data)

    def held_in_place(self) -> list[Tensor]:
        """What ``choose`` reads beside its arguments, between changes of memory: for CUDA graphs of vector steps."""
        return list(self.parameters())

    def why_not_native(self) -> str | None:
        """Why no compiled kernel can run its updates, in words; None: ``use_kernel`` is there for it."""
        return f"there is no kernel for {type(self).__name__}"

    def use_kernel(self) -> None:
        """From now on run updates by the compiled kernel; see ``why_not_native``."""

    def identity(self) -> dict[str, Any]:
        """What a run that goes on must share and the shapes of its weights do not tell, by the names of options."""
        return {"draws": self.draws}

    def optimizer_settings(self) -> dict[str, float]:
        """What of the optimizer is configured, by the optimizer's own names: a resumed run's may be others."""
        return {"lr": self.learning_rate}

    def move_streams(self, device: torch.device) -> None:
        """Let random numbers arrive on ``device``."""
        self.action_streams.device = device
        self.source.move(device)

    def checkpoint_state(self) -> dict[str, Any]:
        """State outside of parameters and optimizer; plain tensors and integers."""
        own = self.source.checkpoint_state()
        return {"action_streams": self.action_streams.state_dict()} | ({"draws": own} if own else {})

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a ``checkpoint_state``."""
        self.action_streams.load_state_dict(saved["action_streams"])
        self.source.restore(saved.get("draws", {}))


class OnPolicy(BehaviorPolicy):
    """pi_phi = pi_theta: ordinary sampling, every agent on its own. The baseline.

    Args:
        draws: see ``BehaviorPolicy``; every agent has its own numbers.
    """

    continuous = True
    adapts = False

    def draws_each_agent(self) -> bool:
        """Whether ``choose`` is each agent's draw from pi_theta_i with its own columns of ``source``."""
        return True

    @override
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        return choose_independently(self.family, parameters, parameters, self.draw(data))

    @override
    def extend(self, data: TensorDictBase) -> None:
        """Nothing to do."""

    @override
    def update(self, measure: bool = True) -> UpdateStats:
        """Nothing to do."""
        return {}


def check_shared(option: str, value: str | None, num_envs: int) -> None:
    """Refuse an option whose numbers a seed's environments share, where a single one would draw independently."""
    check(
        value is None or num_envs > 1,
        f"<behavior.{option}> {value} shares numbers out among environments and <data.num_envs> is 1: raise it, or "
        f"leave {option} out",
    )


def choose_independently(family: Family, parameters: Tensor, behavior_parameters: Tensor, uniform: Tensor) -> Choice:
    """Draw every agent's action by itself.

    Args:
        family: of the policies.
        parameters: of pi_theta_i, ``[R, E, A, K]``.
        behavior_parameters: of pi_phi_i, likewise.
        uniform: ``[R, E, *family.uniforms]``, from ``BehaviorPolicy.draw``.
    """
    action = family.sample(behavior_parameters, uniform)
    log_prob = family.log_prob(behavior_parameters, action).sum(-1)
    return Choice(action, log_prob, family.kl_divergence(parameters, behavior_parameters).sum(-1))
