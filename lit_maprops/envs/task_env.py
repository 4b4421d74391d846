"""A task as a TorchRL environment: ``[R, E]`` rows, per-seed random streams, time limits, specs, and faults named."""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from lit_maprops import keys
from lit_maprops.envs.base import State, Task, squashed
from lit_maprops.envs.faults import Faults
from lit_maprops.envs.watched import Watched
from lit_maprops.stacked.ranks import Team
from lit_maprops.stacked.streams import SeedStreams


class TaskEnv(EnvBase):
    """A task as a TorchRL environment with batch size ``[num_seeds, num_envs]``.

    Keys, shapes and units are those of ``lit_maprops.keys``. Each step draws its own noise and that of a possible
    reset, whether or not an episode ends, so that one seed's resets never shift another seed's numbers.

    Args:
        task: the rules.
        run_seed: of the run.
        seed_ids: one integer per seed.
        num_envs: parallel environments per seed, E.
        purpose: names the random stream; training and evaluation use different ones.
        device: where tensors live.
        start_ids: whose fixed start an entry has, if the task has one; default: its own.
        faults: of the run; None: its own, which stop at the first one.
        team: ranks that split the environments: each steps its own, and all see all.
        bounded: continuous actions come in [-1, 1] and are taken as they are, for policies that bound them by
            themselves; False: they are real numbers, as a run's own policies draw them, and the task's ``squash``
            bounds them.
    """

    def __init__(
        self,
        task: Task,
        run_seed: int,
        seed_ids: list[int],
        num_envs: int,
        purpose: str = "environment",
        device: torch.device | str = "cpu",
        start_ids: list[int] | None = None,
        faults: Faults | None = None,
        team: Team | None = None,
        bounded: bool = False,
    ) -> None:
        super().__init__(device=device, batch_size=torch.Size([len(seed_ids), num_envs]))
        self.task = task
        self._team = team or Team()
        self._own = self._team.environments(num_envs)
        self.faults = faults or Faults(type(task).__name__, seed_ids)
        self._watched = Watched(task, self.faults, num_envs, self._own, purpose.removesuffix("environment").strip())
        self._seed_ids, self._purpose = seed_ids, purpose
        self._start_ids = seed_ids if start_ids is None else start_ids
        self._asks_legal, self._bounded = task.masks_actions, bounded
        self._state: State = {}  # of this rank's environments
        self._ended = torch.zeros(len(seed_ids), len(range(num_envs)[self._own]), dtype=torch.bool, device=self.device)
        self._set_seed(run_seed)
        self._make_specs()

    def _make_specs(self) -> None:
        task, batch, device = self.task, self.batch_size, self.device

        def flag() -> Categorical:
            return Categorical(2, shape=(*batch, 1), dtype=torch.bool, device=device)

        observation: dict[str, Any] = {
            keys.AGENTS: Composite(
                observation=Unbounded(
                    (*batch, task.n_agents, task.observation_dim), dtype=task.observation_dtype, device=device
                ),
                shape=batch,
            ),
            keys.STATE: Unbounded((*batch, task.state_dim), dtype=task.observation_dtype, device=device),
            keys.SUCCESS: flag(),
        }
        if task.agents_leave:
            observation[keys.AGENTS]["end"] = Unbounded((*batch, task.n_agents), dtype=torch.uint8, device=device)
        if task.masks_actions:
            shape = (*batch, task.n_agents, task.n_actions)
            observation[keys.AGENTS]["action_mask"] = Categorical(2, shape=shape, dtype=torch.bool, device=device)
        if task.numbers_states():
            observation[keys.STATE_INDEX] = Unbounded((*batch, 1), dtype=torch.int64, device=device)
        self.observation_spec = Composite(observation, shape=batch)
        action: Unbounded | Bounded | Categorical
        if task.continuous_actions:  # D stores them as they are before ``_executed``
            shape = (*batch, task.n_agents, task.action_dim)
            action = Bounded(-1.0, 1.0, shape, device=device) if self._bounded else Unbounded(shape, device=device)
        else:
            has = task.action_mask().to(device)
            mask = None if has.all() else has.expand(*batch, task.n_agents, task.n_actions)
            action = Categorical(task.n_actions, shape=(*batch, task.n_agents), mask=mask, device=device)
        self.action_spec = Composite(agents=Composite(action=action, shape=batch), shape=batch)
        self.reward_spec = Composite(
            agents=Composite(reward=Unbounded((*batch, task.n_agents, 1), device=device), shape=batch),
            shape=batch,
        )
        self.done_spec = Composite(done=flag(), terminated=flag(), truncated=flag(), shape=batch)

    def _set_seed(self, seed: int | None) -> None:
        run_seed = 0 if seed is None else seed
        self.streams = SeedStreams(run_seed, self._seed_ids, self._purpose, self.device)
        # Training and evaluation share the start: its stream does not depend on the purpose.
        start = SeedStreams(run_seed, self._start_ids, "start", self.device)
        self._fixed_start_noise = start.uniform(1, self.task.start_noise)
        self._next_start_noise: Tensor | None = None

    def _draw(self, count: int) -> Tensor:
        return self.streams.uniform(self.batch_size[1], count)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDict:
        noise = self._start_noise()
        mask = None if tensordict is None else tensordict.get("_reset", None)
        if mask is None or not self._state:
            self._state, self._ended = self._first_state(noise), torch.zeros_like(self._ended)
        else:
            self._start_over(mask[:, self._own].squeeze(-1), noise)
        return self._shown(success=torch.zeros(noise.shape[:2], dtype=torch.bool, device=self.device))

    def _start_noise(self) -> Tensor:
        """What the next episodes of this rank's environments start from: ``[R, E, start_noise]``."""
        noise, self._next_start_noise = self._next_start_noise, None
        if noise is None:
            noise = self._draw(self.task.start_noise)
        if self.task.fixed_start:
            noise = self._fixed_start_noise.expand_as(noise)
        return self.faults.substituted(noise)[:, self._own]

    def _start_over(self, over: Tensor, noise: Tensor) -> None:
        """New episodes in this rank's rows ``over``, bool, as ``noise`` ``[R, E, start_noise]`` is."""
        # Only those rows are computed, unless to count them the host would have to wait for the device.
        few = self.device.type == "cpu" or self.task.starts_on_cpu
        if few and not over.any():  # of another rank's environments
            return
        self._ended = self._ended & ~over
        for name, value in (self._first_state(noise[over], over) if few else self._first_state(noise)).items():
            old = self._state[name]
            where = over.reshape(over.shape + (1,) * (old.dim() - over.dim()))
            self._state[name] = old.masked_scatter(where, value) if few else torch.where(where, value, old)

    def maybe_reset(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Start new episodes where they are over, as TorchRL does, but without asking the device anything.

        TorchRL's own asks five to six questions per vector step, and every answer is waited for.
        """
        over = tensordict.get(keys.DONE)
        if self.device.type == "cpu" and not over.any():
            return tensordict
        fresh = self._reset(TensorDict({"_reset": over}, self.batch_size))
        for flag in (keys.SUCCESS, keys.DONE, keys.TERMINATED, keys.TRUNCATED):
            fresh.set(flag, tensordict.get(flag) & ~over)
        for name, value in fresh.items():  # not update: what is nested may be shared with the step that ends here
            tensordict.set(name, value)
        return tensordict

    def _first_state(self, noise: Tensor, over: Tensor | None = None) -> State:
        state = self._watched.initial_state(noise, over, self._state)
        return state | {"step": torch.zeros(noise.shape[:-1], dtype=torch.int32, device=self.device)}

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        noise = self._draw(self.task.step_noise + self.task.start_noise)
        return self._shown(**self.play(tensordict.get(keys.ACTION)[:, self._own], noise))

    def play(self, action: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """One step of this rank's environments in plain tensors: what comes of it, not what is seen after it.

        Args:
            action: ``[R, E, A]``, or ``[R, E, A, D]``.
            noise: of the step and then of an episode's start, ``[R, E, step_noise + start_noise]``, of all ranks.

        Returns:
            ``reward`` ``[R, E, A]``; ``terminated``, ``truncated``, ``done`` and ``success`` ``[R, E]`` bool.
        """
        step_noise, self._next_start_noise = noise.split([self.task.step_noise, self.task.start_noise], dim=-1)
        outcome = self._watched.transition(self._state, self._executed(action), step_noise[:, self._own])
        state, reward, terminated, success, cut = outcome
        state["step"] = self.faults.substituted(self._state["step"]) + 1
        self._state = state
        truncated = state["step"] >= self.task.max_steps
        truncated = (truncated if cut is None else truncated | cut) & ~terminated
        over = terminated | truncated
        if self._asks_legal:
            self._ended = self._ended | over
        return {"reward": reward, "terminated": terminated, "truncated": truncated, "done": over, "success": success}

    def begin(self, over: Tensor) -> None:
        """Start new episodes after a ``play`` in this rank's environments ``over``, ``[R, E]`` bool."""
        self._start_over(over, self._start_noise())

    def look(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is seen of this rank's environments: observations, global state and its number, if it has one."""
        batch = self._state["step"].shape
        observation, state = self._watched.observe(self._state, batch)
        return observation, state, self._watched.state_index(self._state)

    def _executed(self, action: Tensor) -> Tensor:
        """Actions as the task sees them: continuous ones bounded, and 0 for NaN: a broken seed must break no other."""
        if not self.task.continuous_actions:
            return action
        return squashed(action, "clip" if self._bounded else self.task.squash).nan_to_num(0.0)

    def _shown(self, **outcome: Tensor) -> TensorDict:
        """An outcome and what is observed after it, of all environments."""
        observation, state, index = self.look()
        own = {name: value.unsqueeze(-1) for name, value in outcome.items()}
        own |= {"observation": observation, keys.STATE: state}
        own |= {} if index is None else {keys.STATE_INDEX: index.unsqueeze(-1)}
        if self.task.agents_leave:
            own["end"] = self._watched.agent_ends(self._state, outcome["success"].shape)
        if self._asks_legal:
            own["action_mask"] = self._watched.legal_actions(self._state, self._ended, own.get("end"))
        shown = self._team.gather(own)
        if "action_mask" in shown:  # of which TorchRL's random actions are
            self.full_action_spec[keys.ACTION].update_mask(shown["action_mask"])
        names = ("observation", "reward", "end", "action_mask")
        agents = {name: shown.pop(name) for name in names if name in shown}
        shown[keys.AGENTS] = TensorDict(agents, batch_size=self.batch_size)
        return TensorDict(shown, batch_size=self.batch_size, device=self.device)

    @property
    def group_map(self) -> dict[str, list[str]]:
        """Names of the agents of the one group there is, as TorchRL's multi-agent environments have it."""
        return {keys.AGENTS: [self.task.interface(agent).name for agent in range(self.task.n_agents)]}

    @property
    def state(self) -> State:
        """The current state of every row, ``[R, E, ...]``: what ``Task.render`` draws."""
        return self._team.gather(self._state)

    @property
    def fixed_start_noise(self) -> Tensor:
        """What every episode of a seed starts from where the task has a fixed start: ``[R, 1, start_noise]``."""
        return self._fixed_start_noise

    def checkpoint_state(self) -> dict[str, Any]:
        """What ``restore`` needs to continue bit for bit; plain tensors and integers."""
        saved: dict[str, Any] = {"state": self.state, "streams": self.streams.state_dict()}
        if self._next_start_noise is not None:
            saved["next_start_noise"] = self._next_start_noise
        return saved

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a ``checkpoint_state`` of an environment with the same task, run seed and seed ids."""
        self._state = {k: v[:, self._own].to(self.device) for k, v in saved["state"].items()}
        self._ended = torch.zeros_like(self._ended)  # between steps new episodes have begun
        self.streams.load_state_dict(saved["streams"])
        noise = saved.get("next_start_noise")
        self._next_start_noise = None if noise is None else noise.to(self.device)
