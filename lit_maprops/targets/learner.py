"""The contract of learners: they own the target policies pi_theta and update them on D."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from typing_extensions import TypeAliasType

from lit_maprops.buffer import Buffer
from lit_maprops.distributions.families import LARGEST_STD, SMALLEST_STD
from lit_maprops.envs import Task
from lit_maprops.stacked.cells import CellKind
from lit_maprops.stacked.layers import Activation
from lit_maprops.stacked.ranks import Team
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.argument_types import (
    ClosedUnitInterval,
    Count,
    LearningRate,
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    PositiveFloat,
    Range,
)
from lit_maprops.system.arguments import Configurable
from lit_maprops.system.errors import check
from lit_maprops.targets.critics import Critic
from lit_maprops.targets.memory import RecurrentPolicies, check_length
from lit_maprops.targets.networks import Networks
from lit_maprops.targets.policies import TargetPolicies

SEQUENCE_LENGTH = 16  # unless somebody says otherwise
InitialStd = TypeAliasType("InitialStd", Annotated[float, Range(SMALLEST_STD, LARGEST_STD, strict=True)])


class Learner(Configurable, nn.Module, ABC):
    """Target policies and the way they learn. To add one, subclass and enter it in ``LEARNERS``.

    Args:
        learning_rate: step size at the start.
        gamma: discount per step.
        hidden: units of each hidden layer of the policies; empty for tables.
        anneal_learning_rate: lower the learning rate linearly to 0 at ``total_env_steps``.
        share_parameters: one policy network for all agents of a seed.
        initial_std: standard deviation of continuous actions at the start, before squashing; None: 0.5.
        activation: behind every hidden layer and convolution, also the critic's. Kernels know ``tanh``, others run in
            torch.
        layer_norm: normalize what every hidden layer puts out, before its activation, with learned scale and shift.
        hidden_gain: orthogonal gain of the initial weights of hidden layers and convolutions; None: sqrt(2).
        policy_gain: orthogonal gain of the policies' last layer; None: 0.01, nearly uniform actions.
        cnn: convolutions before the hidden layers, ``[channels, kernel, stride]`` each, of the picture in an
            observation (``Task.observation_shape``), also in critics that see observations; no padding.
        network: import path of your own module in place of the policies' layers (docs/how-to/networks.md).
        network_args: its further arguments.
        critic_hidden: units of each hidden layer of the critic; None: as ``hidden``.
        critic_activation: the critic's; None: as ``activation``.
        critic_layer_norm: the critic's; None: as ``layer_norm``.
        critic_cnn: the critic's, where it sees observations; [] for none, None: as ``cnn``.
        critic_network: as ``network``, of the critic; None: layers.
        critic_network_args: its further arguments.
        memory: ``gru`` or ``lstm``: policies and critic remember what they have seen of an episode, by a recurrent cell
            between the hidden layers and the last one; None: they see the present step only (docs/how-to/memory.md).
        memory_size: units of the cell; None: 64.
        sequence_length: steps of one environment that gradients go back through, a row of a minibatch; divides
            ``target_batch_size`` / ``num_envs``; None: 16.
        burn_in: steps before every sequence that the present networks go through first, so that it begins with what
            they remember, not with what those at collection did (``burn_in``); fewer than ``sequence_length``; None: 0.

    Attributes:
        stepper: steps the optimizer in place of itself: Lightning's wrapper, by which callbacks see the steps of a fit.
        learning: ``[R]`` bool, seeds that ``update`` changes; None: all. The others are quarantined.
        has_critic: ``values`` is there.
        has_memory: ``memory`` can be given.
        native: let compiled kernels make the updates; only where ``why_not_native`` has nothing to say.
    """

    argument_owner = "learner"
    policies: TargetPolicies
    team = Team()  # the ranks that share this learner's gradients
    optimizer: torch.optim.Optimizer
    stepper: Any = None
    learning: Tensor | None = None
    minibatches: int = 1  # parts of a pass over D, where it makes such passes
    has_critic: bool = False
    has_memory: bool = False
    native: bool = False

    def __init__(
        self,
        *,
        learning_rate: LearningRate,
        gamma: ClosedUnitInterval,
        hidden: Sequence[Count],
        anneal_learning_rate: bool = False,
        share_parameters: bool = False,
        initial_std: InitialStd | None = None,
        activation: Activation = "tanh",
        layer_norm: bool = False,
        hidden_gain: PositiveFloat | None = None,
        policy_gain: NonNegativeFloat | None = None,
        cnn: Sequence[Sequence[Count]] = (),
        network: str | None = None,
        network_args: Options | None = None,
        critic_hidden: Sequence[Count] | None = None,
        critic_activation: Activation | None = None,
        critic_layer_norm: bool | None = None,
        critic_cnn: Sequence[Sequence[Count]] | None = None,
        critic_network: str | None = None,
        critic_network_args: Options | None = None,
        memory: CellKind | None = None,
        memory_size: Count | None = None,
        sequence_length: Count | None = None,
        burn_in: NonNegativeInt | None = None,
    ) -> None:
        super().__init__()
        self.initial_std = initial_std
        networks = Networks(
            list(hidden), activation, layer_norm, hidden_gain, policy_gain, [list(layer) for layer in cnn],
            network, network_args, None if critic_hidden is None else list(critic_hidden),
            critic_activation, critic_layer_norm, None if critic_cnn is None else [list(layer) for layer in critic_cnn],
            critic_network, critic_network_args, memory, memory_size,
        )  # fmt: skip
        networks.check(self.has_critic)
        name = type(self).__name__
        told = f"<learner.memory> is {memory} and {name} learns from single steps: leave it out, or use IPPO, MAPPO or "
        check(memory is None or self.has_memory, f"{told}HAPPO")
        told = "<learner.sequence_length> is given without <learner.memory>, whose sequences they are: leave it out"
        check(memory is not None or sequence_length is None, told)
        told = "<learner.burn_in> is given without <learner.memory>, which it brings up to date: leave it out"
        check(memory is not None or burn_in is None, told)
        self.memory, self.burn_in = memory, burn_in or 0
        self.sequence_length = None if memory is None else sequence_length or SEQUENCE_LENGTH
        told = (
            f"<learner.burn_in> is {burn_in} and sequences have {self.sequence_length} steps "
            "(<learner.sequence_length>): give fewer than that"
        )
        check(self.sequence_length is None or self.burn_in < self.sequence_length, told)
        # Here, where somebody else's words are not trusted: these import what they name.
        self.networks, self.architecture, self.critic_architecture = networks, networks.policies(), networks.critic()
        self.learning_rate, self.anneal_learning_rate = learning_rate, anneal_learning_rate
        self.gamma, self.hidden, self.share_parameters = gamma, list(hidden), share_parameters

    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        """Create the networks; arguments as ``BehaviorPolicy.build``.

        Raises:
            ConfigError: an option that this task has no use for.
        """
        check(
            self.initial_std is None or task.continuous_actions,
            f"<learner.initial_std> is {self.initial_std} and {type(task).__name__} has discrete actions: leave it out",
        )
        self.networks.check_task(task)
        generators = SeedStreams(run_seed, seed_ids, "target weights").generators
        made = task, self.architecture, self.share_parameters, generators, self.initial_std
        length = self.sequence_length
        self.policies = TargetPolicies(*made) if length is None else RecurrentPolicies(*made, length, self.burn_in)

    def check_batches(self, steps: int, envs: int, keeps_older: bool) -> None:
        """Refuse data that cannot be learned from.

        Args:
            steps: of one environment in a target batch, T.
            envs: environments of a seed.
            keeps_older: D keeps batches of older policies.

        Raises:
            ConfigError: says what to change.
        """
        rows, kind = steps * envs, "env steps (<data.target_batch_size>)"
        if self.sequence_length is not None:
            self._check_sequences(steps, keeps_older)
            rows //= self.sequence_length
            kind = f"sequences of {self.sequence_length} env steps (<learner.sequence_length>)"
        check(
            self.minibatches <= rows,
            f"<learner.minibatches> is {self.minibatches} and a target batch has {rows} {kind}: give at most {rows}",
        )

    def _check_sequences(self, steps: int, keeps_older: bool) -> None:
        check(
            not keeps_older,
            f"<learner.memory> is {self.memory} and D keeps older batches, in which what was remembered is that of "
            "older policies: leave <data.history_batches> and <data.history> at 1 and fixed, or memory out",
        )
        check_length(self.policies.sequence_length, steps)

    def acting_critic(self) -> Critic | None:
        """The critic that must see every step of the collection, because it remembers; None: there is none."""
        critic: Any = self.get_submodule("critic") if self.has_critic and self.memory else None
        return critic

    @abstractmethod
    def update(self, buffer: Buffer) -> dict[str, Tensor]:
        """Learn from all complete batches of D; returns per-seed statistics ``[R]``."""

    @abstractmethod
    def advantages(self, data: TensorDictBase) -> Tensor:
        """What the gradient weighs log pi_theta_i with, before any normalization: ``[R, k, T, E, A]`` (reward).

        Args:
            data: trajectories ``[R, k, T, E]``, each of the k batches by itself.
        """

    def values(self, data: TensorDictBase) -> Tensor:
        """What the critic expects after steps ``[R, *B]`` for every agent, ``[R, *B, A]`` (return)."""
        raise NotImplementedError(f"{type(self).__name__} has no critic")

    def why_not_native(self) -> str | None:
        """Why no compiled kernel can make this learner's updates as it stands, in words; None: one can."""
        return f"there is no kernel for {type(self).__name__}"

    def use_kernel(self) -> None:
        """From now on make updates by the compiled kernel; see ``why_not_native``."""
        self.native = True

    def step_optimizer(self, **options: Any) -> None:
        """Step the optimizer; ``options`` are those of its ``step``."""
        (self.optimizer if self.stepper is None else self.stepper).step(**options)

    def anneal(self, progress: float) -> None:
        """Set the learning rate for ``progress`` (env_steps / total_env_steps)."""
        if self.anneal_learning_rate:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * (1.0 - progress)

    def sum_over_team(self, stats: dict[str, Tensor]) -> None:
        """Replace gradients and statistics, computed of this rank's share of rows, by their sums over the team."""
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.team.add_([*gradients, *stats.values()])

    def optimizer_settings(self) -> dict[str, float]:
        """What of the optimizer is configured, by the optimizer's own names: a resumed run's may be others."""
        return {"lr": self.learning_rate}

    def move_streams(self, device: torch.device) -> None:
        """Let random numbers arrive on ``device``."""

    def checkpoint_state(self) -> dict[str, Any]:
        """State outside of parameters and optimizer; plain tensors and integers."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a ``checkpoint_state``."""
