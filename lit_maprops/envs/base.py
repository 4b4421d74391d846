"""Batched environments: a ``Task`` is three pure functions, ``TaskEnv`` runs it as a TorchRL environment.

A task knows nothing of seeds, resets or TorchRL: it maps tensors with any leading dimensions ``*B`` to tensors with
the same leading dimensions, and all its randomness is an argument. ``TaskEnv`` gives it ``[R, E]`` rows, per-seed
random streams, time limits and specs.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from lit_maprops import families, keys
from lit_maprops.envs.watched import Watched
from lit_maprops.faults import Faults
from lit_maprops.ranks import Team
from lit_maprops.streams import SeedStreams

State = dict[str, Tensor]


class Transition(NamedTuple):
    """What one step of a task returns; ``*B`` is the batch shape."""

    state: State
    reward: Tensor  # [*B, n_agents] float32
    terminated: Tensor  # [*B] bool
    success: Tensor  # [*B] bool
    truncated: Tensor | None = None  # [*B] bool, of tasks with a time limit beside max_steps


class Interface(NamedTuple):
    """What one agent sees and does, padding left out, in the numbers and units of the environment's own package."""

    name: str
    observation: list[str]  # what each number of its observation is, in order
    actions: list[str]  # its actions by number, or the components of a continuous one
    low: list[float]  # what -1 stands for in each component of a continuous action; empty for discrete ones
    high: list[float]  # what 1 stands for


class Task(ABC):
    """The rules of one cooperative environment.

    Attributes:
        n_agents: number of agents, A.
        n_actions: actions of each agent, N, the most any has; 0 for continuous actions.
        observation_dim: numbers in one agent's observation, O; smaller observations are padded with zeros.
        state_dim: numbers in the global state, S.
        max_steps: steps after which an episode is truncated.
        start_noise: uniform numbers one ``initial_state`` uses.
        step_noise: uniform numbers one ``transition`` uses.
        fixed_start: every episode of a seed starts from the same state.
        renders: ``render`` is available.
        observation_dtype: of observations and global state; uint8 or int8 where they are 0/1 pictures or small
            integers, which D then holds in a quarter of the memory.
        continuous_actions: actions are vectors of real numbers, which ``TaskEnv`` bounds to [-1, 1].
        action_dim: components of an agent's continuous action, D, the most any agent has.
        starts_on_cpu: ``initial_state`` works on the CPU whatever the device, and takes long.
        squash: how ``TaskEnv`` bounds them: ``tanh`` or ``clip``.
    """

    n_agents: int
    n_actions: int
    observation_dim: int
    state_dim: int
    max_steps: int
    start_noise: int = 0
    step_noise: int = 0
    fixed_start: bool = False
    renders: bool = False
    observation_dtype: torch.dtype = torch.float32
    continuous_actions: bool = False
    action_dim: int = 0
    starts_on_cpu: bool = False
    squash: str = "tanh"

    @abstractmethod
    def initial_state(self, noise: Tensor) -> State:
        """First state of an episode from uniform ``noise`` ``[*B, start_noise]``."""

    @abstractmethod
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """One step under ``action`` and uniform ``noise`` ``[*B, step_noise]``.

        Actions are ``[*B, n_agents]`` int64, or ``[*B, n_agents, action_dim]`` float32 in [-1, 1].
        """

    @abstractmethod
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """Observations ``[*B, n_agents, observation_dim]``, global state ``[*B, state_dim]``: ``observation_dtype``."""

    def action_mask(self) -> Tensor:
        """Which actions ``[A, N]``, or components of continuous ones ``[A, D]``, each agent has: bool."""
        return torch.ones(self.n_agents, self.action_dim if self.continuous_actions else self.n_actions).bool()

    def interface(self, agent: int) -> Interface:
        """What an agent sees and does, in words, for the users of exported policies. Give names where there are any."""
        actions = [f"action[{number}]" for number in self.action_mask()[agent].nonzero().flatten().tolist()]
        bound = [1.0] * len(actions) if self.continuous_actions else []
        observation = [f"observation[{number}]" for number in range(self.observation_dim)]
        return Interface(f"agent_{agent}", observation, actions, [-one for one in bound], bound)

    @property
    def family(self) -> families.Family:
        """Of the target policies."""
        kind = families.Gaussian if self.continuous_actions else families.Categorical
        return kind(self.action_mask())

    def state_index(self, state: State) -> Tensor | None:
        """A number for the state, ``[*B]`` int64, equal if and only if states are; None where there is none."""
        return None

    def numbers_states(self) -> bool:
        """Whether ``state_index`` gives numbers."""
        return self.state_index(self.initial_state(torch.zeros(1, self.start_noise))) is not None

    def render(self, state: State) -> Tensor:
        """Draw the state: ``[*B, height, width, 3]`` uint8 RGB.

        Raises:
            NotImplementedError: the task has no picture (``renders`` is False).
        """
        raise NotImplementedError(f"{type(self).__name__} has no picture")


class TaskEnv(EnvBase):
    """A task as a TorchRL environment with batch size ``[num_seeds, num_envs]``.

    Keys, shapes and units are those of ``lit_maprops.keys``. Each step draws its own noise and that of a possible
    reset, whether or not an episode ends, so that one seed's resets never shift another seed's numbers.

    Args:
        task: the rules.
        run_seed: ``--seed_everything``.
        seed_ids: one integer per seed.
        num_envs: parallel environments per seed, E.
        purpose: names the random stream; training and evaluation use different ones.
        device: where tensors live.
        start_ids: whose fixed start an entry has, if the task has one; default: its own.
        faults: of the run; None: its own, which stop at the first one.
        team: ranks that split the environments: each steps its own, and all see all.
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
    ) -> None:
        super().__init__(device=device, batch_size=torch.Size([len(seed_ids), num_envs]))
        self.task = task
        self._team = team or Team()
        self._own = self._team.environments(num_envs)
        self.faults = faults or Faults(type(task).__name__, seed_ids)
        self._watched = Watched(task, self.faults, num_envs, self._own, purpose.removesuffix("environment").strip())
        self._seed_ids, self._purpose = seed_ids, purpose
        self._start_ids = seed_ids if start_ids is None else start_ids
        self._state: State = {}  # of this rank's environments
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
        if task.numbers_states():
            observation[keys.STATE_INDEX] = Unbounded((*batch, 1), dtype=torch.int64, device=device)
        self.observation_spec = Composite(observation, shape=batch)
        action: Unbounded | Categorical
        if task.continuous_actions:  # D stores them as they are before ``_executed``
            action = Unbounded((*batch, task.n_agents, task.action_dim), device=device)
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
        noise = self._next_start_noise
        self._next_start_noise = None
        if noise is None:
            noise = self._draw(self.task.start_noise)
        if self.task.fixed_start:
            noise = self._fixed_start_noise.expand_as(noise)
        noise = self.faults.played(noise)[:, self._own]
        mask = None if tensordict is None else tensordict.get("_reset", None)
        if mask is None or not self._state:
            self._state = self._first_state(noise)
        else:
            self._start_over(mask[:, self._own].squeeze(-1), noise)
        return self._shown(success=torch.zeros(noise.shape[:2], dtype=torch.bool, device=self.device))

    def _start_over(self, over: Tensor, noise: Tensor) -> None:
        """New episodes in this rank's rows ``over``, bool, as ``noise`` ``[R, E, start_noise]`` is."""
        # Only those rows are computed, unless to count them the host would have to wait for the device.
        few = self.device.type == "cpu" or self.task.starts_on_cpu
        if few and not over.any():  # of another rank's environments
            return
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
        step_noise, self._next_start_noise = noise.split([self.task.step_noise, self.task.start_noise], dim=-1)
        action = self._executed(tensordict.get(keys.ACTION)[:, self._own])
        outcome = self._watched.transition(self._state, action, step_noise[:, self._own])
        state, reward, terminated, success, cut = outcome
        state["step"] = self.faults.played(self._state["step"]) + 1
        self._state = state
        truncated = state["step"] >= self.task.max_steps
        truncated = (truncated if cut is None else truncated | cut) & ~terminated
        over = terminated | truncated
        return self._shown(reward=reward, terminated=terminated, truncated=truncated, done=over, success=success)

    def _executed(self, action: Tensor) -> Tensor:
        """Actions as the task sees them: continuous ones bounded, and 0 for NaN: a broken seed must break no other."""
        if not self.task.continuous_actions:
            return action
        return squashed(action, self.task.squash).nan_to_num(0.0)

    def _shown(self, **outcome: Tensor) -> TensorDict:
        """An outcome and what is observed after it, of all environments."""
        observation, state = self._watched.observe(self._state, outcome["success"].shape)
        index = self._watched.state_index(self._state)
        own = {name: value.unsqueeze(-1) for name, value in outcome.items()}
        own |= {"observation": observation, keys.STATE: state}
        own |= {} if index is None else {keys.STATE_INDEX: index.unsqueeze(-1)}
        shown = self._team.gather(own)
        agents = {name: shown.pop(name) for name in ("observation", "reward") if name in shown}
        shown[keys.AGENTS] = TensorDict(agents, batch_size=self.batch_size)
        return TensorDict(shown, batch_size=self.batch_size, device=self.device)

    @property
    def state(self) -> State:
        """The current state of every row, ``[R, E, ...]``: what ``Task.render`` draws."""
        return self._team.gather(self._state)

    def checkpoint_state(self) -> dict[str, Any]:
        """What ``restore`` needs to continue bit for bit; plain tensors and integers."""
        saved: dict[str, Any] = {"state": self.state, "streams": self.streams.state_dict()}
        if self._next_start_noise is not None:
            saved["next_start_noise"] = self._next_start_noise
        return saved

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a ``checkpoint_state`` of an environment with the same task, run seed and seed ids."""
        self._state = {k: v[:, self._own].to(self.device) for k, v in saved["state"].items()}
        self.streams.load_state_dict(saved["streams"])
        noise = saved.get("next_start_noise")
        self._next_start_noise = None if noise is None else noise.to(self.device)


def squashed(action: Tensor, squash: str) -> Tensor:
    """Components of continuous actions bounded to [-1, 1], by ``tanh`` or ``clip``."""
    return action.tanh() if squash == "tanh" else action.clamp(-1.0, 1.0)
