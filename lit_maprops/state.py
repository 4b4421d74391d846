"""All that a run is made of, and how it gets into a checkpoint and back bit for bit.

A checkpoint holds tensors and plain types only. Every tensor starts with the seed dimension, so that ranks can join
theirs and take their own.
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.buffer import Buffer
from lit_maprops.collect import Collection, NativeCollection, PlainCollection, update_keys
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import Task
from lit_maprops.envs.faults import Faults
from lit_maprops.stacked.ranks import Ranks
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.checkpoint import CHECKPOINT_KEY, check_continues, check_fits, check_head, own_state
from lit_maprops.system.errors import check
from lit_maprops.targets import Learner

SEED_PARTS = ("state_dict", "optimizer_states", CHECKPOINT_KEY)  # of a checkpoint, whose tensors start with R


class ResumableRun(LightningModule):
    """The parts of a run, R seeds side by side, that a checkpoint must bring back; ``LitMAPROPS`` sets and uses them.

    Attributes:
        iteration: target iterations done.
        seed_ids: of all seeds, R of them; ``own_seeds`` are this rank's.
        running_return: return so far of the episodes under way, ``[R, E, A]`` (reward).
        quarantined: of all ranks' seeds, see ``Faults.state_dict``.
        identity: settings that a resumed run must share, by the name that a message gives them.
    """

    behavior: BehaviorPolicy
    learner: Learner
    ranks: Ranks
    run_seed: int
    seed_ids: list[int]
    iteration: int
    quarantined: list[dict[str, Any]]
    identity: dict[str, Any]

    # set when the data are known
    data: MultiAgentData
    task: Task
    own_seeds: list[int]
    faults: Faults

    # set when a fit starts
    collection: Collection | PlainCollection | NativeCollection
    buffer: Buffer
    metric_streams: SeedStreams
    running_return: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._saved: dict[str, Any] | None = None  # of a checkpoint, or of an earlier fit's end, until the fit starts
        self._has_ended = False  # a fit of this module, between two target iterations

    @property
    def env_steps(self) -> int:
        """Env steps per seed that the target policies have learned from."""
        return self.iteration * self.data.target_batch_size

    def retained(self) -> TensorDictBase | None:
        """What D keeps of older batches ``[R, B]``, its log pi_theta brought up to the new theta; None if nothing."""
        if not self.buffer.stored_batches:
            return None
        self.buffer.recompute_targets(self.learner.policies.distribution_parameters, self.task.family)
        return self.buffer.flat(*update_keys(self.task))

    def identity_state(self) -> dict[str, Any]:
        """Which run it is: a checkpoint of another one cannot be continued."""
        return {
            "seed_ids": self.seed_ids,
            "run_seed": self.run_seed,
            "shape": [self.data.num_envs, self.data.target_batch_size, self.data.history_batches],
            "identity": self.identity,
        }

    def run_state(self) -> dict[str, Any]:
        """Where the run stands, between two target iterations."""
        return self.identity_state() | {
            "iteration": self.iteration,
            "collection": self.collection.checkpoint_state(),
            "buffer": self.buffer.state_dict(),
            "behavior": self.behavior.checkpoint_state(),
            "learner": self.learner.checkpoint_state(),
            "metric_streams": self.metric_streams.state_dict(),
            "running_return": self.running_return,
            "quarantined": self.quarantined,
        }

    def fit_ended(self) -> None:
        """Let another fit of this module continue from here."""
        self._has_ended = True

    def take_up(self) -> None:
        """Before the parts of a fit are made: where no checkpoint was loaded, remember how an earlier fit left them.

        Raises:
            ConfigError: it was broken off in the middle of a target iteration.
        """
        if self._saved is None and self._has_ended:
            self._saved = self.run_state()
        told = "an earlier fit of this LitMAPROPS was broken off: continue with the <ckpt_path> of a checkpoint, or "
        check(self._saved is not None or self.iteration == 0, f"{told}make a new LitMAPROPS")
        self._has_ended = False

    def restore_saved(self) -> None:
        """Continue from the checkpoint that was loaded, or the last fit's end, once the parts of a fit are there."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        self.collection.restore(saved["collection"])
        self.buffer.load_state_dict(saved["buffer"], self.device)
        self.behavior.restore(saved["behavior"])
        self.learner.restore(saved["learner"])
        retained = self.retained()
        if retained is not None:
            self.behavior.reset(retained)
        self.metric_streams.load_state_dict(saved["metric_streams"])
        self.running_return = saved["running_return"].to(self.device)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add ``run_state``; rank 0, which writes the file, joins the seeds of all ranks."""
        checkpoint[CHECKPOINT_KEY] = self.run_state()
        own = {part: checkpoint[part] for part in SEED_PARTS}
        checkpoint.update(self.ranks.gathered_on_first(own) or {})

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another run than this prepared module's; changes nothing. ``resume`` looks closer.

        Raises:
            ConfigError: the checkpoint is of another program, other seeds, other batches or other networks.
        """
        check_head(checkpoint)
        check_continues(own_state(checkpoint), self.identity_state())
        check_fits(self.ranks.sliced(checkpoint["state_dict"]), self.state_dict())

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters, and remember the rest until the fit starts.

        Raises:
            ConfigError: see ``check_checkpoint``.
        """
        self.check_checkpoint(checkpoint)
        for part in SEED_PARTS:
            checkpoint[part] = self.ranks.sliced(checkpoint[part])
        self._saved = saved = own_state(checkpoint)
        self.iteration = self.data.iterations_done = saved["iteration"]
        self.faults.env_steps = self.env_steps
        self.quarantined = saved["quarantined"]
        self.faults.load_state_dict(self.quarantined)
        # Lightning's loops start afresh on what is left, so that a finished run can be given more env steps.
        checkpoint.pop("loops", None)

    def keep_optimizer_settings(self) -> None:
        """Restored optimizers bring the settings they were saved with; what is configured now holds."""
        for part in (self.learner, self.behavior):
            optimizer: torch.optim.Optimizer | None = part.optimizer
            for group in [] if optimizer is None else optimizer.param_groups:
                group.update(part.optimizer_settings())
