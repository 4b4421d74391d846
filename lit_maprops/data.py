"""What data a run collects: the environment and the batch sizes, as a Lightning data module."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from typing_extensions import override

from lit_maprops.collect import step_bytes
from lit_maprops.envs import Task
from lit_maprops.system.argument_types import BatchSize, Count
from lit_maprops.system.arguments import checked
from lit_maprops.system.errors import check
from lit_maprops.system.memory import available_bytes


class MultiAgentData(LightningDataModule):
    """Environment and batch sizes. All counts are env steps per seed, over all its parallel environments.

    Args:
        env: the task.
        num_envs: parallel environments per seed. Those of one seed are sampled from the same behavior policy at each
            vector step, so they spend its adaptivity; let ``num_seeds`` fill the hardware instead.
        behavior_batch_size: m, env steps between behavior updates; a multiple of ``num_envs``.
        target_batch_size: n, env steps between target updates; a multiple of m.
        history_batches: b, target batches D holds with ``history`` fixed: the current one and the newest b - 1 complete
            ones; 1 is the paper's method.
        history: ``fixed``, or ``growing``: D keeps every batch since the start (arXiv 2508.01049, open question 3).
    """

    @checked("data")
    def __init__(
        self,
        env: Task,
        num_envs: Count = 1,
        behavior_batch_size: BatchSize = 1,
        target_batch_size: BatchSize = 256,
        history_batches: Count = 1,
        history: Literal["fixed", "growing"] = "fixed",
    ) -> None:
        super().__init__()
        check(
            history == "fixed" or history_batches == 1,
            f"<data.history> is growing and <data.history_batches> is {history_batches}: leave one of them out, "
            "growing keeps every batch",
        )
        check(
            behavior_batch_size % num_envs == 0,
            f"<data.behavior_batch_size> (m) is {behavior_batch_size}: make it a multiple of "
            f"<data.num_envs> {num_envs}",
        )
        check(
            target_batch_size % behavior_batch_size == 0,
            f"<data.target_batch_size> (n) is {target_batch_size}: make it a multiple of "
            f"<data.behavior_batch_size> (m) {behavior_batch_size}",
        )
        self.env, self.num_envs = env, num_envs
        self.behavior_batch_size, self.target_batch_size = behavior_batch_size, target_batch_size
        self.history_batches, self.history = history_batches, history
        self.iterations = 1  # target iterations of the whole run
        self.iterations_done = 0  # so far, those of a run that this one continues included
        self.iterations_per_epoch = 1
        self.on_next_iteration: Callable[[], None] = lambda: None  # called before callbacks see the iteration

    @property
    def stored_batches(self) -> int:
        """Target batches that D has room for: b, or with ``history`` growing all of the run's."""
        return self.iterations if self.history == "growing" else self.history_batches

    def check_memory(self, num_seeds: int, remembered: Mapping[Any, tuple[int, int]] = MappingProxyType({})) -> None:
        """Refuse a D that does not fit in memory twice: updates and checkpoints copy it. Needs ``iterations``.

        Args:
            num_seeds: whose D is in this machine's memory.
            remembered: as ``BehaviorActor.remembered``.

        Raises:
            ConfigError: says how many bytes it would take.
        """
        available = available_bytes()
        needed = num_seeds * self.stored_batches * self.target_batch_size * step_bytes(self.env, remembered)
        if available is None or 2 * needed <= available:
            return
        fix = "<data.target_batch_size>"
        if self.history == "growing":
            fix = "<model.total_env_steps>, or set <data.history> to fixed"
        elif self.history_batches > 1:
            fix = "<data.history_batches>"
        check(
            False,
            f"<data.history> {self.history}: D would take {needed:,} bytes and updates as many again, "
            f"{available:,} are available: lower <model.num_seeds> or {fix}",
        )

    @override
    def on_before_batch_transfer(self, batch: int, dataloader_idx: int) -> int:
        if self.trainer is not None and self.trainer.training:
            self.on_next_iteration()
        return batch

    @override
    def train_dataloader(self) -> "TargetIterations":
        return TargetIterations(self)

    @override
    def val_dataloader(self) -> range:
        """A single item: the evaluation brings its own episodes."""
        return range(1)

    @override
    def test_dataloader(self) -> range:
        """A single item, as ``val_dataloader``."""
        return range(1)


class TargetIterations:
    """Numbers of the target iterations left in the present epoch, and none once the run is complete.

    Of no length, which Lightning would take for that of every epoch: the first of a resumed run, and the last of any,
    may be shorter. Lightning fetches one number ahead; nothing is collected by that.

    Args:
        data: which counts them.
    """

    def __init__(self, data: MultiAgentData) -> None:
        self._data = data

    def __iter__(self) -> Iterator[int]:
        done, length = self._data.iterations_done, self._data.iterations_per_epoch
        return iter(range(done, min(self._data.iterations, (done // length + 1) * length)))
