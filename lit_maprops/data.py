"""What data a run collects: the environment and the batch sizes, as a Lightning data module."""

from lightning.pytorch import LightningDataModule

from lit_maprops.config import check, check_count
from lit_maprops.envs import Task


class MultiAgentData(LightningDataModule):
    """Environment and batch sizes. All counts are env steps per seed, over all its parallel environments.

    Args:
        env: the task.
        num_envs: parallel environments per seed. Those of one seed are sampled from the same behavior policy at each
            vector step, so they spend its adaptivity; let ``--model.num_seeds`` fill the hardware instead.
        behavior_batch_size: m, env steps between behavior updates; a multiple of ``num_envs``.
        target_batch_size: n, env steps between target updates; a multiple of m.
        history_batches: target batches D holds; 1 is the paper's method, more keeps older ones.
    """

    def __init__(
        self,
        env: Task,
        num_envs: int = 1,
        behavior_batch_size: int = 1,
        target_batch_size: int = 256,
        history_batches: int = 1,
    ) -> None:
        super().__init__()
        check_count("--data.num_envs", num_envs)
        check_count("--data.behavior_batch_size", behavior_batch_size, 10**9)
        check_count("--data.target_batch_size", target_batch_size, 10**9)
        check_count("--data.history_batches", history_batches)
        check(
            behavior_batch_size % num_envs == 0,
            f"--data.behavior_batch_size (m) is {behavior_batch_size}: make it a multiple of "
            f"--data.num_envs {num_envs}",
        )
        check(
            target_batch_size % behavior_batch_size == 0,
            f"--data.target_batch_size (n) is {target_batch_size}: make it a multiple of "
            f"--data.behavior_batch_size (m) {behavior_batch_size}",
        )
        self.env, self.num_envs = env, num_envs
        self.behavior_batch_size, self.target_batch_size = behavior_batch_size, target_batch_size
        self.history_batches = history_batches
        self.iterations = 1  # target iterations of the whole run
        self.iterations_done = 0  # by the run this one continues

    def train_dataloader(self) -> range:
        """One item per target iteration to go; sized, so that Lightning does not fetch one ahead of the updates."""
        return range(self.iterations_done, self.iterations)

    def val_dataloader(self) -> range:
        """A single item: the evaluation brings its own episodes."""
        return range(1)

    def test_dataloader(self) -> range:
        """A single item, as ``val_dataloader``."""
        return range(1)
