"""LitMAPROPS: Algorithm 1 of arXiv 2508.01049 (MA-PROPS; v2 calls it CoSER) as a LightningModule.

Two clocks: every m env steps the behavior policy phi is trained on D (Algorithm 2, ``lit_maprops.behavior``), every n
env steps the target policies theta are (``lit_maprops.targets``). R seeds go side by side; nothing mixes them.
"""

from collections import defaultdict
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.buffer import Buffer
from lit_maprops.collect import BehaviorActor, Collection
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import Task, TaskEnv
from lit_maprops.envs.faults import QUARANTINE, STOP, Faults
from lit_maprops.metrics import sampling_error
from lit_maprops.metrics.evaluate import Evaluation, evaluate, record
from lit_maprops.metrics.iteration import PerSeed, batch_metrics, behavior_metrics
from lit_maprops.metrics.sampling_error import ESTIMATORS
from lit_maprops.stacked.ranks import Ranks
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.state import identity_of, restore, state_of
from lit_maprops.system.checkpoint import CHECKPOINT_KEY, check_continues, check_fits, check_head, own_state
from lit_maprops.system.errors import check, check_at_least, check_choice, check_count, check_fraction
from lit_maprops.targets import Learner

UPDATE_KEYS = (keys.OBSERVATION, keys.STATE, keys.ACTION, keys.PARAMETERS)  # of D, for behavior updates
SEED_PARTS = ("state_dict", "optimizer_states", CHECKPOINT_KEY)  # of a checkpoint, whose tensors start with R
MEASURED_UPDATES = 8  # behavior updates per iteration, evenly spaced, that also measure what they reached


class LitMAPROPS(LightningModule):
    """One run: R seeds of target policies, their behavior policies and their buffers.

    Args:
        behavior: pi_phi, the sampler.
        learner: pi_theta and how it learns.
        num_seeds: R, independent training runs side by side.
        first_seed: number of the first seed; ``num_seeds=1, first_seed=7`` repeats seed 7 alone.
        total_env_steps: env steps per seed; the last whole target batch within them is the last.
        eval_interval: target iterations between evaluations.
        eval_episodes: fresh episodes per seed and evaluation.
        solved_threshold: a seed is solved if its greedy success rate reaches this share.
        sampling_error: ``tabular`` (states are numbered), ``likelihood`` (fitted), ``energy`` (continuous actions) or
            None (off).
        sampling_error_interval: target iterations between estimates of the sampling error.
        checkpoint_interval: target iterations between checkpoints.
        on_fault: ``stop`` the run where an environment breaks, or ``quarantine`` the seed (``envs.faults``).
        run_seed: with a seed's number it fixes all that the seed draws; ``--seed_everything`` of the command line.
    """

    data: MultiAgentData  # set by prepare
    task: Task
    own_seeds: list[int]  # this rank's

    def __init__(
        self,
        behavior: BehaviorPolicy,
        learner: Learner,
        num_seeds: int = 1,
        first_seed: int = 0,
        total_env_steps: int = 100_000,
        eval_interval: int = 10,
        eval_episodes: int = 20,
        solved_threshold: float = 0.8,
        sampling_error: str | None = None,
        sampling_error_interval: int = 1,
        checkpoint_interval: int = 10,
        on_fault: str = STOP,
        run_seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        check_at_least("run_seed", run_seed, 0)
        check_count("model.num_seeds", num_seeds)
        check(0 <= first_seed <= 10**15, f"<model.first_seed> is {first_seed}: give at least 0 and at most 10**15")
        check_count("model.eval_interval", eval_interval)
        check_count("model.eval_episodes", eval_episodes)
        check(total_env_steps <= 10**15, f"<model.total_env_steps> is {total_env_steps}: give at most 10**15")
        check_fraction("model.solved_threshold", solved_threshold)
        if sampling_error is not None:
            check_choice("model.sampling_error", sampling_error, ESTIMATORS)
        check_count("model.sampling_error_interval", sampling_error_interval)
        check_count("model.checkpoint_interval", checkpoint_interval)
        check_choice("model.on_fault", on_fault, [STOP, QUARANTINE])
        self.behavior, self.learner = behavior, learner
        self.num_seeds, self.total_env_steps = num_seeds, total_env_steps
        self.eval_interval, self.eval_episodes = eval_interval, eval_episodes
        self.solved_threshold = solved_threshold
        self.sampling_error, self.sampling_error_interval = sampling_error, sampling_error_interval
        self.checkpoint_interval, self.on_fault = checkpoint_interval, on_fault
        self.run_seed = run_seed
        self.seed_ids = list(range(first_seed, first_seed + num_seeds))
        self.ranks = Ranks()  # the command line sets others for several devices
        self.iteration = 0  # target iterations done
        self.row: PerSeed = {}  # the newest iteration's metrics, for callbacks
        self.evaluations: dict[str, Evaluation] | None = None  # of the newest iteration, if any
        self.evaluation_result: dict[str, Evaluation] | None = None  # of validate or test
        self.quarantined: list[dict[str, Any]] = []  # of all ranks' seeds, see ``Faults.state_dict``
        self.identity: dict[str, Any] = {}  # settings that a resumed run must share; the command line sets them
        self._saved: dict[str, Any] | None = None

    # set-up

    def prepare(self, data: MultiAgentData) -> None:
        """Check that the settings go together, and build the networks; writes nothing. Idempotent.

        Raises:
            ConfigError: settings that cannot go together.
        """
        if hasattr(self, "task"):
            return
        total, n = self.total_env_steps, data.target_batch_size
        check(
            total >= n,
            f"<model.total_env_steps> is {total}: give at least one batch, <data.target_batch_size> {n}",
        )
        sampling_error.check_estimator(self.sampling_error, data.env)
        data.iterations = total // n
        check(
            self.ranks.team.size == 1 or self.on_fault == STOP,
            "<model.on_fault> is quarantine and <trainer.devices> makes several ranks for each seed, which would have "
            f"to agree on it: use at most <trainer.devices> {self.num_seeds}",
        )
        self.own_seeds = self.seed_ids[self.ranks.own]
        self.learner.team = self.ranks.team
        data.check_memory(len(self.own_seeds) * self.ranks.on_node)
        self.behavior.build(data.env, self.run_seed, self.own_seeds)
        self.learner.build(data.env, self.run_seed, self.own_seeds)
        self.data, self.task = data, data.env
        self.faults = Faults(type(data.env).__name__, self.own_seeds, self.on_fault)

    @override
    def setup(self, stage: str) -> None:
        self.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_fit_start(self) -> None:
        """Start, or continue from a checkpoint, the collection."""
        for part in (self.behavior, self.learner):
            part.move_streams(self.device)
        self.behavior.reset(None)
        team, own = self.ranks.team, self.own_seeds
        sizes = (self.task, self.run_seed, own, self.data.num_envs)
        env = TaskEnv(*sizes, device=self.device, faults=self.faults, team=team)
        actor = BehaviorActor(self.learner.policies, self.behavior)
        self.collection = Collection(env, actor, self.data.behavior_batch_size)
        steps = self.data.target_batch_size // self.data.num_envs
        self.buffer = Buffer(steps, self.data.stored_batches, self.data.history == "growing")
        self.metric_streams = SeedStreams(self.run_seed, own, "sampling error", self.device)
        self.running_return = torch.zeros(len(own), self.data.num_envs, self.task.n_agents, device=self.device)
        if self._saved is not None:
            restore(self, self._saved)
            self._saved = None

    def on_train_start(self) -> None:
        """Restored optimizers bring the learning rates they were saved with; what is configured now holds."""
        for part in (self.learner, self.behavior):
            for group in [] if part.optimizer is None else part.optimizer.param_groups:
                group["lr"] = part.learning_rate

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The learner's and the behavior policy's, for checkpoints; the updates step them by themselves."""
        optimizers = [self.learner.optimizer, self.behavior.optimizer]
        return [optimizer for optimizer in optimizers if optimizer is not None]

    # Algorithm 1

    @property
    def env_steps(self) -> int:
        """Env steps per seed that the target policies have learned from."""
        return self.iteration * self.data.target_batch_size

    def training_step(self, batch: int, batch_idx: int) -> None:
        """One target iteration: collect n env steps under phi, then update theta and start phi from it again."""
        updates: dict[str, list[Tensor]] = defaultdict(list)
        seconds = dict.fromkeys(("collect", "behavior", "target"), 0.0)
        n_updates = self.data.target_batch_size // self.data.behavior_batch_size - 1
        update, interval = 0, max(1, n_updates // MEASURED_UPDATES)
        while not self.buffer.is_full:
            started = perf_counter()
            collected = self.collection.collect()
            self.buffer.extend(collected)
            behavior_started = perf_counter()
            if not self.buffer.is_full:
                self.behavior.extend(collected.select(*UPDATE_KEYS, *self._index_key()).flatten(1, 2))
                update += 1
                for name, value in self.behavior.update(measure=update % interval == 0).items():
                    updates[name].append(value)
                self.ranks.team.copy_first_(self.behavior.parameters())
            seconds["collect"] += behavior_started - started
            seconds["behavior"] += perf_counter() - behavior_started
        self.faults.check_finite(self.buffer.current())
        self.row = (
            batch_metrics(self.buffer.current(), self.running_return)
            | behavior_metrics(updates)
            | self._sampling_error()
            | self.buffer.staleness(self.task.family)
        )

        started = perf_counter()
        self.learner.anneal(self.iteration / self.data.iterations)
        self.learner.learning = self.faults.learning
        learned = self.learner.update(self.buffer)
        self.buffer.next_batch()
        self.behavior.reset(self.retained())
        seconds["target"] = perf_counter() - started
        self.iteration += 1
        self.row |= {f"target/{name}": value for name, value in learned.items()}
        self.row |= {f"time/{k}": torch.full((len(self.own_seeds),), v) for k, v in seconds.items()}
        self.row = self.ranks.gathered({name: self.faults.figures(value) for name, value in self.row.items()})
        due = self.iteration % self.eval_interval == 0 or self.iteration == self.data.iterations
        self.evaluations = self.evaluate("evaluation", self.eval_episodes) if due else None
        self.quarantined = [entry for own in self.ranks.listed(self.faults.state_dict()) for entry in own]

    def retained(self) -> Any:
        """What D keeps of older batches, its log pi_theta brought up to the new theta; None if nothing."""
        if not self.buffer.stored_batches:
            return None
        self.buffer.recompute_targets(self.learner.policies.distribution_parameters, self.task.family)
        return self.buffer.flat(*UPDATE_KEYS, *self._index_key())

    def _index_key(self) -> tuple[str, ...]:
        return (keys.STATE_INDEX,) if self.task.numbers_states() else ()

    # measurements

    def _sampling_error(self) -> PerSeed:
        if self.sampling_error is None or (self.iteration + 1) % self.sampling_error_interval:
            return {}
        data = self.buffer.flat(*sampling_error.REQUIRED_KEYS, *self._index_key())
        # The policies' layers, whatever the sampler: figures of different samplers must be comparable.
        figures = sampling_error.estimate(
            self.sampling_error, data, self.task.family, self.metric_streams, self.learner.hidden
        )
        return {f"sampling_error/{name}": value for name, value in figures.items()}

    def evaluate(self, purpose: str, episodes: int) -> dict[str, Evaluation]:
        """Greedy and stochastic decentralized policies on the same fresh episodes of every seed; all ranks together."""
        purpose = f"{purpose} {self.iteration}"
        arguments = (self.learner.policies, self.task, self.run_seed, self.own_seeds, episodes)
        own = {k: evaluate(*arguments, k == "greedy", purpose, self.faults) for k in ("greedy", "stochastic")}
        return self.ranks.gathered(own)

    def record(self, episodes: int) -> dict[str, Tensor]:
        """Films of a success and a failure, see ``evaluate.record``; all ranks together."""
        arguments = (self.learner.policies, self.task, self.run_seed, self.own_seeds, episodes)
        films = self.ranks.listed(record(*arguments, self.faults))
        return {name: film for of_rank in reversed(films) for name, film in of_rank.items()}

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Evaluate; the command line prints the result."""
        self.evaluation_result = self.evaluate("validation", self.eval_episodes)

    def test_step(self, batch: int, batch_idx: int) -> None:
        """Evaluate on other episodes than validation."""
        self.evaluation_result = self.evaluate("test", self.eval_episodes)

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a bit-exact resume needs beyond parameters and optimizers; tensors and primitives only.

        Every tensor starts with the seed dimension: rank 0, which writes the file, joins those of all ranks along it.
        """
        checkpoint[CHECKPOINT_KEY] = state_of(self)
        own = {part: checkpoint[part] for part in SEED_PARTS}
        checkpoint.update(self.ranks.gathered_on_first(own) or {})

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another run than this prepared module's; changes nothing. ``resume`` looks closer.

        Raises:
            ConfigError: the checkpoint is of another program, other seeds, other batches or other networks.
        """
        check_head(checkpoint)
        check_continues(own_state(checkpoint), identity_of(self))
        check_fits(self.ranks.sliced(checkpoint["state_dict"]), self.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the saved state until the fit starts; see ``check_checkpoint``."""
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
