"""Behavior policies whose joint ratio and KL take no table of joint actions."""

from abc import abstractmethod

from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.behavior.update import fused
from lit_maprops.behavior.update.row_trainer import RowTrainer
from lit_maprops.behavior.update.rows import Ratios, Rows
from lit_maprops.behavior.update.trainer import DeltaTrainer
from lit_maprops.envs import Task


class StructuredPolicy(AdjustedPolicy):
    """An adjusted policy trained on the joint ratio of each step of D (``behavior.update.rows``); subclasses say how.

    Arguments as ``AdjustedPolicy``; ``clip_epsilon`` is of the joint ratio and ``kl_cutoff`` of the joint KL.
    """

    @override
    def make_trainer(self, task: Task) -> DeltaTrainer:
        shape = (self.n_seeds,)
        parts = self.net, self.optimizer, self.minibatch_streams, self.settings
        return RowTrainer(*parts, self.ratios, shape, self.wanted)

    @abstractmethod
    def ratios(self, delta: Tensor, rows: Rows) -> Ratios:
        """Joint ratios under the adjustment ``[R * C, K, U]`` (nats); R may be some of the seeds."""

    def delta(self, inputs: Tensor) -> Tensor:
        """The adjustment as updates see it: ``[R, b, I] -> [R * C, K, b]`` (nats), for ``choose``."""
        passes = self.net.passes
        return fused.delta_of(passes, passes.layers(self.net.flat.detach().flatten(0, -2)), inputs.float())[1]

    def wanted(self, rows: Rows) -> Tensor:
        """``Rows.wanted`` of all of D, for discrete actions."""
        raise NotImplementedError

    @override
    @abstractmethod
    def experience(self, data: TensorDictBase) -> tuple[Tensor, ...]:
        """What Algorithm 2 needs of steps ``[R, b]``: Delta's inputs ``[*stack, b, I]`` and the facts of ``Rows``."""


def targets_and_taken(data: TensorDictBase) -> tuple[Tensor, Tensor]:
    """log pi_theta_i ``[R, A, N, b]`` (nats) and the actions taken ``[R, A, b]`` of steps ``[R, b]``."""
    return data.get(keys.PARAMETERS).permute(0, 2, 3, 1), data.get(keys.ACTION).mT
