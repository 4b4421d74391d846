"""LitMAPROPS: Algorithm 1 of arXiv 2508.01049 (MA-PROPS; v2 calls it CoSER) as a LightningModule.

Two clocks: every m env steps the behavior policy phi is trained on D (Algorithm 2, ``lit_maprops.behavior``), every n
env steps the target policies theta are (``lit_maprops.targets``). R seeds go side by side; nothing mixes them.

For Lightning one training step is one target iteration, an epoch is ``eval_interval`` of them, and its global step
counts env steps per seed.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import TypeAliasType, override

from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.behavior.watched import WatchedBehavior
from lit_maprops.buffer import Buffer
from lit_maprops.collect import (
    AdaptiveCollection,
    BehaviorActor,
    Collection,
    NativeCollection,
    PlainCollection,
    RecordedCollection,
    recordable,
    serves,
    trainer_between_steps,
    update_keys,
)
from lit_maprops.collect.native_evaluation import evaluate as evaluate_natively
from lit_maprops.collect.trial import check_made, try_behavior, watched
from lit_maprops.data import MultiAgentData
from lit_maprops.engine import Engines, choose
from lit_maprops.envs import TASKS, TaskEnv
from lit_maprops.envs.declared import check_declared
from lit_maprops.envs.ends import check_ends
from lit_maprops.envs.faults import STOP, Faults
from lit_maprops.envs.global_draws import check_global_draws
from lit_maprops.envs.remembering import environment
from lit_maprops.metrics import phases, sampling_error
from lit_maprops.metrics.each_seed import EachSeed, SeedLog, figures_of
from lit_maprops.metrics.evaluate import Evaluation, Film, evaluate, record, with_verdicts
from lit_maprops.metrics.iteration import PerSeed, batch_metrics, behavior_metrics, means_over_seeds
from lit_maprops.metrics.reliability import RETURN, SUCCESS, Criterion, criterion
from lit_maprops.metrics.visits import visit_figures
from lit_maprops.stacked.ranks import Ranks
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.state import ResumableRun
from lit_maprops.system.argument_types import Count, NonNegativeInt, Range, RewardFloat, check_value
from lit_maprops.system.arguments import checked
from lit_maprops.system.errors import check
from lit_maprops.system.fast_log import log_row
from lit_maprops.system.optimizer_steps import steps_are_heard
from lit_maprops.system.trainer_clock import TrainerClock, set_limits
from lit_maprops.system.trainer_options import check_trainer
from lit_maprops.targets import Learner

FirstSeed = TypeAliasType("FirstSeed", Annotated[int, Range(0, 10**15)])
TotalEnvSteps = TypeAliasType("TotalEnvSteps", Annotated[int, Range(1, 10**15)])
MEASURED_UPDATES = 8  # of an iteration, evenly spaced, that also measure what they reached; 8 to 15 if it has them


class LitMAPROPS(ResumableRun):
    """One run: R seeds of target policies, their behavior policies and their buffers.

    Args:
        behavior: pi_phi, the sampler.
        learner: pi_theta and how it learns.
        num_seeds: R, independent training runs side by side.
        first_seed: number of the first seed. ``num_seeds=1, first_seed=7`` repeats seed 7 alone, with the same random
            numbers: bit for bit where kernels run every part (``engine``), else up to rounding, since how torch rounds
            a product of matrices depends on where in memory a seed's numbers lie, so on the seeds before it. Then an
            action may change in time, and with it the rest of that seed's run; not where products are tiny.
        total_env_steps: env steps per seed; the last whole target batch within them is the last.
        eval_interval: target iterations between evaluations.
        eval_episodes: fresh episodes per seed and evaluation.
        solved_on: what decides whether a seed is solved, its greedy ``success`` rate or its greedy ``return``; None:
            success where the task tells it, else return.
        solved_threshold: the least greedy success rate of a solved seed (share; None: 0.8), or with ``solved_on``
            ``return`` the least greedy return (reward; None: no seed counts as solved, mean returns are reported).
        sampling_error: ``tabular`` (states are numbered), ``likelihood`` (fitted), ``energy`` (continuous actions) or
            None (off).
        sampling_error_interval: target iterations between estimates of the sampling error.
        checkpoint_interval: target iterations between checkpoints.
        engine: ``torch``; ``native``, compiled kernels for every part of a run that has one, refused where there is
            none (``engine.choose``); or ``auto``, kernels where they can be had. Results are equal up to rounding.
        on_fault: ``stop`` the run where an environment breaks, or ``quarantine`` the seed (``envs.faults``).
        run_seed: with a seed's number it fixes all that the seed draws; ``--seed_everything`` of the command line.
    """

    @checked("model")
    def __init__(
        self,
        behavior: BehaviorPolicy,
        learner: Learner,
        num_seeds: Count = 1,
        first_seed: FirstSeed = 0,
        total_env_steps: TotalEnvSteps = 100_000,
        eval_interval: Count = 10,
        eval_episodes: Count = 20,
        solved_on: Literal["success", "return"] | None = None,
        solved_threshold: RewardFloat | None = None,
        sampling_error: Literal["tabular", "likelihood", "energy"] | None = None,
        sampling_error_interval: Count = 1,
        checkpoint_interval: Count = 10,
        on_fault: Literal["stop", "quarantine"] = STOP,
        engine: Literal["auto", "torch", "native"] = "auto",
        run_seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        check_value("<run_seed>", NonNegativeInt, run_seed)  # no type of its own: the parser fills it in
        check_made(behavior)
        self.behavior, self.learner = behavior, learner
        self.watched: WatchedBehavior | None = None  # around a sampler that is none of the project's own
        self.num_seeds, self.total_env_steps = num_seeds, total_env_steps
        self.eval_interval, self.eval_episodes = eval_interval, eval_episodes
        self.solved_on, self.solved_threshold = solved_on, solved_threshold
        check(
            solved_on == RETURN or solved_threshold is None or 0 <= solved_threshold <= 1,
            f"<model.solved_threshold> is {solved_threshold}: a success rate is a share, give a value from 0 to 1; for "
            "a return give <model.solved_on> return, too",
        )
        self.sampling_error, self.sampling_error_interval = sampling_error, sampling_error_interval
        self.checkpoint_interval, self.on_fault, self.engine = checkpoint_interval, on_fault, engine
        self.run_seed = run_seed
        self.seed_ids = list(range(first_seed, first_seed + num_seeds))
        self.start_ids: list[int] | None = None  # whose fixed start each seed has; None: its own
        self.ranks = Ranks()  # the command line sets others for several devices
        self.iteration = 0  # target iterations done
        self.row: PerSeed = {}  # the newest iteration's metrics, for callbacks
        self.means: dict[str, float] = {}  # of the same and its evaluation, over seeds
        self.phases = phases.Phases()
        self.engines: Engines | None = None  # of a fit's parts
        self.clock: TrainerClock | None = None  # during a fit
        # Likewise, if anybody hears them: Lightning's wrappers of the learner's optimizer and phi's.
        self._steppers: list[Any] = []
        self.evaluations: dict[str, Evaluation] | None = None  # of the newest iteration, if any
        self.evaluation_result: dict[str, Evaluation] | None = None  # of validate or test
        self.quarantined: list[dict[str, Any]] = []  # of all ranks' seeds, see ``Faults.state_dict``
        self.seed_log = SeedLog()
        self.identity: dict[str, Any] = {}  # settings that a resumed run must share; the command line sets them

    # set-up

    def prepare(self, data: MultiAgentData) -> None:
        """Check that the settings go together, and build the networks; writes nothing. Idempotent.

        Raises:
            ConfigError: settings that cannot go together, or other data than before.
        """
        if hasattr(self, "task"):
            told = (
                "this LitMAPROPS has been given another MultiAgentData before, whose task its networks were made for: "
            )
            check(data is self.data, f"{told}give that one (its attribute data), or make a new LitMAPROPS")
            return
        check_declared(data.env)
        if type(data.env) not in TASKS.values():
            check_global_draws(data.env)
        total, n = self.total_env_steps, data.target_batch_size
        check(
            total >= n,
            f"<model.total_env_steps> is {total}: give at least one batch, <data.target_batch_size> {n}",
        )
        sampling_error.check_estimator(self.sampling_error, data.env, self.learner.memory is not None)
        check(
            self.solved_on != SUCCESS or data.env.judges(),
            f"<model.solved_on> is success and {data.env.title} tells no success: use <model.solved_on> return, or "
            "leave it out",
        )
        data.iterations, data.iterations_per_epoch = total // n, self.eval_interval
        check(
            self.ranks.team.size == 1 or self.on_fault == STOP,
            "<model.on_fault> is quarantine and <trainer.devices> makes several ranks for each seed, which would have "
            f"to agree on it: use at most <trainer.devices> {self.num_seeds}",
        )
        self.own_seeds = self.seed_ids[self.ranks.own]
        self.learner.team = self.ranks.team
        seeds_here = len(self.own_seeds) * self.ranks.on_node
        data.check_memory(seeds_here)  # before networks of too many seeds are made
        self.behavior.check_environments(data.num_envs)
        self.behavior.build(data.env, self.run_seed, self.own_seeds)
        self.learner.build(data.env, self.run_seed, self.own_seeds)
        self.behavior.follow(self.learner)
        keeps_older = data.history == "growing" or data.history_batches > 1
        self.learner.check_batches(n // data.num_envs, data.num_envs, keeps_older)
        actor = BehaviorActor(self.learner.policies, self.behavior, self.learner.acting_critic())
        if actor.remembered:  # then D takes more
            data.check_memory(seeds_here, actor.remembered)
        self.faults = Faults(type(data.env).__name__, self.own_seeds, self.on_fault)
        self.watched = watched(self.behavior, self.faults)
        if self.watched is not None:
            seeds = data.env, self.run_seed, self.own_seeds, data.num_envs
            try_behavior(self.behavior, actor.policies, actor.critic, seeds, data.behavior_batch_size // data.num_envs)
        self.data, self.task = data, data.env

    @property
    def _sampler(self) -> BehaviorPolicy | WatchedBehavior:
        """What a fit asks of the behavior policy goes through this."""
        return self.behavior if self.watched is None else self.watched

    def choose_engines(self, trainer: Trainer, callbacks: Sequence[Callback] = ()) -> Engines:
        """Say what runs the parts of a fit, after ``prepare``. Idempotent.

        Args:
            trainer: of the fit.
            callbacks: that it will have beside its own.

        Raises:
            ConfigError: ``engine`` is native and there are no kernels for any part.
        """
        if self.engines is None:
            heard = steps_are_heard(trainer, self, callbacks)
            device, team = trainer.strategy.root_device, self.ranks.team.size
            self.engines = choose(self.engine, device, self.task, self.behavior, self.learner, team, heard)
        return self.engines

    @override
    def setup(self, stage: str) -> None:
        """Refuse a Trainer and data that cannot run this, and ``prepare``.

        Raises:
            ConfigError: says what to change.
        """
        data = check_trainer(self.trainer, MultiAgentData, processes=self.ranks.size)
        self.prepare(data)
        if stage == "fit":
            self.choose_engines(self.trainer)
            set_limits(self.trainer, data.target_batch_size)

    @override
    def on_fit_start(self) -> None:
        """Start the collection, or continue it from a checkpoint or from where an earlier fit of this module ended.

        Raises:
            ConfigError: an earlier fit was broken off in the middle of an iteration.
        """
        self.take_up()
        for part in (self.behavior, self.learner):
            part.move_streams(self.device)
        self._sampler.reset(None)
        team, own = self.ranks.team, self.own_seeds
        sizes = (self.task, self.run_seed, own, self.data.num_envs)
        actor = BehaviorActor(self.learner.policies, self.behavior, self.learner.acting_critic(), self.watched)
        own_env: dict[str, Any] = {"start_ids": self.start_ids, "faults": self.faults, "team": team}
        env = environment(actor.remembered, *sizes, device=self.device, **own_env)
        m, n = self.data.behavior_batch_size, self.data.target_batch_size
        self._measure_every = max(1, (n // m - 1) // MEASURED_UPDATES)
        self.collection = self._new_collection(env, actor, m if self.behavior.adapts else n, n)
        self._sampler.reset(None)  # a collection may draw once to see what comes; D holds nothing of it
        self._update_keys = update_keys(self.task)
        steps = self.data.target_batch_size // self.data.num_envs
        self.buffer = Buffer(steps, self.data.stored_batches, self.data.history == "growing")
        self.metric_streams = SeedStreams(self.run_seed, own, "sampling error", self.device)
        self.running_return = torch.zeros(len(own), self.data.num_envs, self.task.n_agents, device=self.device)
        self.restore_saved()

    def _new_collection(
        self, env: TaskEnv, actor: BehaviorActor, m: int, n: int
    ) -> Collection | PlainCollection | NativeCollection:
        if self.engines is None or self.engines.rollout is not None:
            if serves(env, actor, self.ranks.team.size):
                return PlainCollection(env, actor, m)
            return (RecordedCollection if recordable(env, actor) else Collection)(env, actor, m)
        trainer = trainer_between_steps(self.behavior)
        if trainer is not None and m < n and not steps_are_heard(self.trainer, self):
            return AdaptiveCollection(env, actor, m, n, self._measure_every, trainer)
        return NativeCollection(env, actor, m)

    @override
    def on_train_start(self) -> None:
        """Have Lightning count env steps, and step the optimizers; a complete run has nothing to do."""
        self.keep_optimizer_settings()
        if steps_are_heard(self.trainer, self):
            wrapped = self.optimizers()
            self._steppers = wrapped if isinstance(wrapped, list) else [wrapped]
            self.learner.stepper = self._steppers[0]
        self.clock = TrainerClock(self.trainer, self.data.target_batch_size)
        self.clock.set_epochs(self.iteration // self.eval_interval)
        self.clock.set(self.env_steps)
        self.data.on_next_iteration = self._set_clock
        if self.iteration >= self.data.iterations:
            self.trainer.should_stop = True

    def _set_clock(self) -> None:
        """Lightning, which has counted one batch, hands out the next one; callbacks have not seen it yet."""
        if self.clock is not None:
            self.clock.start_batch(self.env_steps, last=self.iteration + 1 >= self.data.iterations)

    @override
    def on_train_end(self) -> None:
        """Give back what ``on_train_start`` took; another fit of this module goes on from here."""
        self.fit_ended()
        if self.clock is not None:
            self.clock.stop()
        self.clock, self.learner.stepper, self._steppers = None, None, []

    @override
    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The learner's and the behavior policy's, for checkpoints; the updates step them by themselves."""
        optimizers = [self.learner.optimizer, self.behavior.optimizer]
        return [optimizer for optimizer in optimizers if optimizer is not None]

    # Algorithm 1

    @override
    def training_step(self, batch: int, batch_idx: int) -> None:
        """One target iteration: collect n env steps under phi, then update theta and start phi from it again."""
        self._start_iteration()
        while not self.buffer.is_full:
            collected = self._collect()
            if self.behavior.adapts and not self.buffer.is_full:
                self._update_behavior(collected)
        self._measure()
        self._update_targets()
        self._report()

    def _start_iteration(self) -> None:
        self.phases.restart()
        self._updates: dict[str, list[Tensor]] = defaultdict(list)  # statistics of the behavior updates so far
        self._n_updates = 0

    def _collect(self) -> TensorDictBase:
        """The next m env steps under phi, ``[R, m / E, E]``, or all n with the updates in between; D has them, too."""
        with self.phases(phases.COLLECT):
            collected = self.collection.collect()
            with self.phases(phases.BUFFER):
                self.buffer.extend(collected)
        self._updates |= self.collection.updates
        self.phases.move(self.collection.update_seconds, phases.COLLECT, phases.BEHAVIOR)
        return collected

    def _update_behavior(self, collected: TensorDictBase) -> None:
        """Algorithm 2 on D, which has grown by ``collected``; for Lightning it is one step of phi's optimizer."""
        with self.phases(phases.BEHAVIOR):
            self._sampler.extend(collected.select(*self._update_keys).flatten(1, 2))
            self._n_updates += 1
            measure = self._n_updates % self._measure_every == 0

            def update() -> None:
                for name, value in self._sampler.update(measure=measure).items():
                    self._updates[name].append(value)

            if len(self._steppers) > 1:
                self._steppers[1].step(update)
            else:
                update()
            self.ranks.team.copy_first_(self.behavior.parameters())

    def _measure(self) -> None:
        """What D says, before theta changes."""
        newest = self.buffer.current()
        self.faults.check_finite(newest)
        if self.watched is not None:
            self.watched.check_drawn(newest)
        check_ends(newest, self.faults)
        self.row = (
            batch_metrics(newest, self.running_return, self.task.tells_success)
            | behavior_metrics(self._updates)
            | self._sampling_error()
            | self.buffer.staleness(self.task.family)
        )

    def _update_targets(self) -> None:
        """Train theta on D, start a new batch, and set phi to theta."""
        with self.phases(phases.TARGET):
            self.learner.anneal(self.iteration / self.data.iterations)
            self.learner.learning = self.faults.learning
            learned = self.learner.update(self.buffer)
            self.buffer.next_batch()
            self._sampler.reset(self.retained())
        self.row |= {f"target/{name}": value for name, value in learned.items()}

    def _report(self) -> None:
        """Count the iteration, evaluate if due, and log the means over all ranks' seeds."""
        self.iteration = self.data.iterations_done = self.iteration + 1
        seconds = self.phases.seconds
        self.row |= {f"time/{name}": torch.full((len(self.own_seeds),), seconds[name]) for name in phases.TIMED}
        self.row = self.ranks.gathered({name: self.faults.figures(value) for name, value in self.row.items()})
        last = self.iteration >= self.data.iterations
        due = last or self.iteration % self.eval_interval == 0
        self.evaluations = self.evaluate("evaluation", self.eval_episodes) if due else None
        self.quarantined = [entry for own in self.ranks.listed(self.faults.state_dict()) for entry in own]
        if self.clock is not None:  # else no Trainer runs this
            self._tell_lightning(self.clock, last)

    def _tell_lightning(self, clock: TrainerClock, last: bool) -> None:
        self.means = means_over_seeds(self.row, self.evaluations)
        takers = SeedLog.takers(self.loggers) if self.evaluations is not None and self.trainer.is_global_zero else []
        if self.evaluations is not None and takers:
            told = any(evaluation.tells_success for evaluation in self.evaluations.values())
            judged = "greedy_return" if self.criterion(told).by_return else "greedy_success_rate"
            figures_of_seeds = figures_of(self.evaluations)
            self.seed_log.log(takers, EachSeed(self.env_steps, self.seed_ids, figures_of_seeds, judged, last))
        clock.set(self.env_steps)
        figures = {name: value for name, value in self.means.items() if not math.isnan(value)}
        log_row(self, figures | {"env_steps": self.env_steps, "iteration": self.iteration}, step=self.env_steps)
        if last:
            self.trainer.should_stop = True

    # measurements

    def _sampling_error(self) -> PerSeed:
        if self.sampling_error is None or (self.iteration + 1) % self.sampling_error_interval:
            return {}
        with self.phases(phases.SAMPLING_ERROR):
            data = self.buffer.flat(*sampling_error.required_keys(self.task))
            # The policies' layers, whatever the sampler: figures of different samplers must be comparable.
            figures = sampling_error.estimate(
                self.sampling_error,
                data,
                self.task.family,
                self.metric_streams,
                self.learner.hidden,
                native=self.engines is not None and bool(self.engines.native()),
            )
            _, steps, envs = self.buffer.current().shape
            figures |= visit_figures(data, steps * envs, envs, discrete=not self.task.continuous_actions)
        return {f"sampling_error/{name}": value for name, value in figures.items()}

    def evaluate(self, purpose: str, episodes: int) -> dict[str, Evaluation]:
        """Greedy and stochastic decentralized policies on the same fresh episodes of every seed; all ranks together."""
        purpose = f"{purpose} {self.iteration}"
        arguments = (self.learner.policies, self.task, self.run_seed, self.own_seeds, episodes)
        with self.phases(phases.EVALUATION):
            native = self.engines is not None and self.engines.rollout is None
            play = evaluate_natively if native else evaluate
            kinds, starts = ("greedy", "stochastic"), self.start_ids
            own = {k: play(*arguments, k == "greedy", purpose, self.faults, starts) for k in kinds}
            (told,) = self.ranks.largest(int(self.task.tells_success))
            return with_verdicts(self.ranks.gathered(own), bool(told))

    def criterion(self, tells_success: bool) -> Criterion:
        """When a seed counts as solved.

        Args:
            tells_success: whether the task does, as far as the run's evaluations have shown.
        """
        return criterion(self.solved_on, self.solved_threshold, tells_success)

    def record(self, episodes: int) -> dict[str, Film]:
        """Films of a success and a failure, or of any episode, see ``evaluate.record``; all ranks together."""
        arguments = (self.learner.policies, self.task, self.run_seed, self.own_seeds, episodes)
        films = self.ranks.listed(record(*arguments, self.faults))
        first = {name: film for of_rank in reversed(films) for name, film in of_rank.items()}
        return first if len(first) == 1 else {name: film for name, film in first.items() if name != "episode"}

    @override
    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Evaluate on fresh episodes. In a fit evaluations are logged when they are made; callbacks find the newest."""
        if self.trainer.sanity_checking:
            self.evaluate("sanity check", 1)
        elif self.trainer.state.fn != "fit":
            self._evaluate_and_log("validation")

    @override
    def test_step(self, batch: int, batch_idx: int) -> None:
        """Evaluate on other episodes than validation."""
        self._evaluate_and_log("test")

    def _evaluate_and_log(self, purpose: str) -> None:
        # Outside inference mode: what a task or a network keeps for later must stay fit for training.
        with torch.inference_mode(False), torch.no_grad():
            self.evaluation_result = self.evaluate(purpose, self.eval_episodes)
        means = means_over_seeds({}, self.evaluation_result)
        self.log_dict({k: torch.tensor(v, dtype=torch.float64) for k, v in means.items()}, batch_size=1)
