"""What PROPS and MA-PROPS share: pi_theta with a learned adjustment Delta_phi, trained by Algorithm 2."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.base import BehaviorPolicy, UpdateStats
from lit_maprops.behavior.draws import DrawKind
from lit_maprops.behavior.update.trainer import DeltaTrainer, UpdateSettings
from lit_maprops.envs import Task
from lit_maprops.stacked.differences import StackedDifference
from lit_maprops.stacked.layers import Activation, Architecture
from lit_maprops.stacked.nets import DeltaNet
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.own_network import OwnNetwork
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.argument_types import AUTO, AdamEpsilon, Count, LearningRate, Options, PositiveFloat
from lit_maprops.system.errors import check

NETWORK = "behavior.network"


class AdjustedPolicy(BehaviorPolicy):
    """A behavior policy with a trained adjustment; subclasses say what is adjusted and what trains it.

    Args:
        clip_epsilon: epsilon, how far one update may lower the ratio pi_phi / pi_theta of a sampled action below 1
            (paper: 0.3 to 10); 1 and more: as far as ``kl_cutoff`` lets it, no ratio is below 0.
        kl_cutoff: delta, KL(pi_theta || pi_phi) at which an update stops (nats). Decided here: exact where the actions
            adjusted are enumerated or Gaussian. The PROPS authors' code estimates it on D's actions, as the mean of
            r - 1 - log r: for equal deltas ours often makes one or two steps more, near deterministic policies also
            fewer (docs/evidence/adam_epsilon.md). ``auto``: an update stops where pi_phi draws what systematic sampling
            would draw next, given D, and goes back to there where a step has gone beyond
            (``behavior.update.systematic``, docs/evidence/cutoffs.md); for discrete actions.
        epochs: passes over all of D per update.
        minibatches: parts of D, one gradient step each, per pass.
        learning_rate: Adam step size.
        hidden: units of each hidden layer of Delta_phi; empty for a table.
        adam_epsilon: added to the root of Adam's second moment. The PROPS authors' code has 1e-5: as many matrix games
            are solved, and PROPS, not MA-PROPS, has less sampling error at a skewed policy
            (docs/evidence/adam_epsilon.md).
        reset_optimizer: forget Adam's moments at every update. Decided here: on; the PROPS authors' code keeps them,
            measured, that costs sampling error (docs/evidence/matrix_games.md).
        draws: see ``BehaviorPolicy``.
        activation: behind every hidden layer of Delta_phi. Kernels know ``tanh``, others run in torch.
        layer_norm: normalize what every hidden layer of Delta_phi puts out, before its activation.
        network: import path of your own module in place of the layers (docs/how-to/networks.md). Decided here:
            Delta_phi is what it puts out, less what it puts out with the weights it was drawn with, so that it is 0
            there whatever its layers are; every update starts from these.
        network_args: its further arguments.

    Attributes:
        architecture: what Delta_phi's networks are made of.
    """

    net: DeltaNet
    optimizer: SeedAdam

    def __init__(
        self,
        clip_epsilon: PositiveFloat = 0.3,
        kl_cutoff: PositiveFloat | Literal["auto"] = 0.05,
        epochs: Count = 8,
        minibatches: Count = 1,
        learning_rate: LearningRate = 3e-3,
        hidden: Sequence[Count] = (64, 64),
        reset_optimizer: bool = True,
        adam_epsilon: AdamEpsilon = 1e-8,
        draws: DrawKind = "independent",
        activation: Activation = "tanh",
        layer_norm: bool = False,
        network: str | None = None,
        network_args: Options | None = None,
    ) -> None:
        super().__init__(draws)
        self.clip_epsilon, self.kl_cutoff = clip_epsilon, kl_cutoff
        self.epochs, self.minibatches, self.reset_optimizer = epochs, minibatches, reset_optimizer
        self.learning_rate, self.adam_epsilon, self.hidden = learning_rate, adam_epsilon, list(hidden)
        told = "<behavior.network_args> is given without <behavior.network>, whose arguments they are: leave it out"
        check(network_args is None or network is not None, told)
        self.network, self.network_args = network, network_args
        # Here, where somebody else's words are not trusted: this imports what it names.
        own = None if network is None else OwnNetwork(NETWORK, network, network_args or {}, as_floats=True)
        self.architecture = Architecture(self.hidden, activation, layer_norm, own=own)

    @property
    def settings(self) -> UpdateSettings:
        """Of Algorithm 2, for the trainer."""
        systematic = self.kl_cutoff == AUTO
        cutoff = math.inf if systematic else float(self.kl_cutoff)
        return UpdateSettings(
            self.clip_epsilon, cutoff, systematic, self.epochs, self.minibatches, self.reset_optimizer
        )

    @override
    def counts_states(self) -> str | None:
        return f"<behavior.kl_cutoff> {AUTO}" if self.kl_cutoff == AUTO else None

    @override
    def identity(self) -> dict[str, Any]:
        made = self.architecture
        return super().identity() | {
            "activation": made.activation,
            "layer_norm": made.layer_norm,
            "network": self.network,
            "network_args": self.network_args,
        }

    @override
    def optimizer_settings(self) -> dict[str, float]:
        return super().optimizer_settings() | {"eps": self.adam_epsilon}

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        check(
            self.kl_cutoff != AUTO or not task.continuous_actions,
            f"<behavior.kl_cutoff> is {AUTO}, which counts actions, and {type(task).__name__} has continuous ones: "
            "give a number of nats",
        )
        self._check_used()
        self.minibatch_streams = SeedStreams(run_seed, seed_ids, "behavior minibatches")
        generators = SeedStreams(run_seed, seed_ids, "behavior weights").generators
        self.net = net = self.make_adjustment(task, generators)
        ignored = self.architecture.own is not None and not isinstance(net, StackedDifference)
        told = f"<{NETWORK}> is given and {type(self).__name__} makes its adjustment of layers: leave it out"
        check(not ignored, told)
        self.optimizer = SeedAdam(
            self.net.parameters(),
            self.learning_rate,
            self.net.stack,
            eps=self.adam_epsilon,
            lockstep=self.reset_optimizer,
        )
        self.delta_trainer = self.make_trainer(task)

    def _check_used(self) -> None:
        """Refuse options of layers, where there are none."""
        made = self.architecture
        layers = bool(made.hidden)
        given = {
            "activation": (made.activation != "tanh", layers or bool(made.cnn)),
            "layer_norm": (made.layer_norm, layers),
            "cnn": (bool(made.cnn), True),
        }
        fix = ", or give <behavior.hidden>" if made.own is None else ""
        for name, (is_given, used) in given.items():
            check(
                not is_given or (used and made.own is None),
                f"<behavior.{name}> is {getattr(made, name)} and has no effect: the adjustment has no such layers, "
                f"leave it out{fix}",
            )

    @abstractmethod
    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> DeltaNet:
        """Delta_phi, which puts out zero, by ``architecture.adjustment``."""

    @abstractmethod
    def make_trainer(self, task: Task) -> DeltaTrainer:
        """What holds D and trains ``net`` on it."""

    @abstractmethod
    def experience(self, data: TensorDictBase) -> tuple[Tensor, ...]:
        """What Algorithm 2 needs of steps ``[R, b]``: inputs and facts, see ``DeltaTrainer.append``."""

    @override
    @torch.no_grad()
    def extend(self, data: TensorDictBase) -> None:
        self.delta_trainer.append(*self.experience(data))

    @override
    def update(self, measure: bool = True) -> UpdateStats:
        """Algorithm 2."""
        return self.delta_trainer.update(measure)

    @override
    def reset(self, data: TensorDictBase | None) -> None:
        super().reset(data)
        self.net.zero_output()
        self.delta_trainer.clear()
        if data is not None:
            self.extend(data)

    @override
    def move_streams(self, device: torch.device) -> None:
        super().move_streams(device)
        self.minibatch_streams.device = device

    @override
    def checkpoint_state(self) -> dict[str, Any]:
        return super().checkpoint_state() | {"minibatch_streams": self.minibatch_streams.state_dict()}

    @override
    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self.minibatch_streams.load_state_dict(saved["minibatch_streams"])
