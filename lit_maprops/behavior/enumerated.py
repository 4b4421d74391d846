"""Behavior policies that enumerate the actions which Delta_phi adjusts."""

from abc import abstractmethod
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.behavior.update import fused
from lit_maprops.behavior.update.table_trainer import CostOptions, TableTrainer
from lit_maprops.behavior.update.trainer import DeltaTrainer
from lit_maprops.envs import Task
from lit_maprops.system.argument_types import AUTO, Count
from lit_maprops.system.errors import check


class EnumeratedPolicy(AdjustedPolicy):
    """An adjusted policy trained on tables of actions; subclasses say of which.

    The defaults are the paper's way. All options do less arithmetic; docs/evidence/speed.md measures
    what each costs in sampling error and in solved runs.

    Args:
        trained_layers: ``all``, or ``last``: the hidden layers stay random and their output is computed once per step
            (as ROS, Zhong et al. 2022, and an option of the PROPS authors' code do).
        merge_states: evaluate Delta once per distinct state of D instead of once per step: the same sums, up to
            rounding. Needs ``minibatches`` 1.
        max_states: most rows per update, drawn by how far d_D is from pi_theta in them; None is all. Needs
            ``minibatches`` 1.
        max_sample_passes: lowers ``epochs``, to no less than 1, where epochs times rows of D would exceed it; None is
            off.
        warm_start: continue from the Delta of the update before, unless ``kl_cutoff`` stopped that one.
        compile: run gradient steps through torch.compile (a minute at the start; pays in long runs).
        **adjusted: arguments of ``AdjustedPolicy``.
    """

    def __init__(
        self,
        *,
        trained_layers: Literal["all", "last"] = "all",
        merge_states: bool = False,
        max_states: Count | None = None,
        max_sample_passes: Count | None = None,
        warm_start: bool = False,
        compile: bool = False,
        **adjusted: Any,
    ) -> None:
        super().__init__(**adjusted)
        for name, on in (("merge_states", merge_states), ("max_states", max_states is not None)):
            check(
                self.minibatches == 1 or not on,
                f"<behavior.{name}> works on all of D and <behavior.minibatches> is {self.minibatches}: "
                "set minibatches to 1",
            )
        check(
            not compile or torch.cuda.is_available() or fused.has_compiler(),
            "<behavior.compile> is true and there is no C++ compiler: install g++ or name one in CXX, or set "
            "it to false",
        )
        for name, on in (("max_states", max_states is not None), ("compile", compile)):
            check(
                not on or self.kl_cutoff != AUTO,
                f"<behavior.{name}> is set and <behavior.kl_cutoff> is {AUTO}, which looks at all of D between "
                "gradient steps: leave one of them at its default",
            )
        self.cost_options = CostOptions(
            trained_layers, merge_states, max_states, max_sample_passes, warm_start, compile
        )
        check(
            trained_layers == "all" or self.architecture.own is None,
            "<behavior.trained_layers> is last and <behavior.network> is your own, whose layers are trained together: "
            "leave one of them out",
        )
        self.counts_rows_of_all_seeds = merge_states and (max_states is not None or max_sample_passes is not None)

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        check(
            not self.cost_options.compile or self.net.passes.written_out,
            "<behavior.compile> is true and compiles plain tanh networks only, which the adjustment is not: set it to "
            "false",
        )

    @override
    def counts_states(self) -> str | None:
        return "<behavior.merge_states>" if self.cost_options.merge_states else super().counts_states()

    @override
    def make_trainer(self, task: Task) -> DeltaTrainer:
        parts = self.net, self.optimizer, self.minibatch_streams, self.settings
        return TableTrainer(*parts, self.cost_options, task.masks_actions or task.agents_leave)

    @override
    def why_not_native(self) -> str | None:
        if not self.net.passes.written_out:
            return "the adjustment is no plain tanh network"
        if self.cost_options.compile:
            return "<behavior.compile> has torch compile them"
        if self.kl_cutoff == AUTO and (self.minibatches > 1 or self.cost_options.trained_layers == "last"):
            return f"<behavior.kl_cutoff> {AUTO} counts states, which takes <behavior.minibatches> 1 and all layers"
        return None if self.delta_trainer.has_kernel else super().why_not_native()

    @override
    def use_kernel(self) -> None:
        self.delta_trainer.native = True

    @override
    @abstractmethod
    def experience(self, data: TensorDictBase) -> tuple[Tensor, ...]:
        """What Algorithm 2 needs of steps ``[R, b]``.

        Returns:
            Delta's inputs ``[*stack, b, I]``, log pi_theta of the K actions that Delta adjusts ``[*stack, b, K]``
            (nats) and the numbers of those taken ``[*stack, b]``.
        """
