"""What ``rollout.cpp`` is called with: a task, networks, and the memory that a batch is written to."""

import ctypes
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, BehaviorPolicy, LowDiscrepancy, OnPolicy
from lit_maprops.behavior.draws import Draws, StratifiedDraws
from lit_maprops.behavior.low_discrepancy_draws import LowDiscrepancyDraws
from lit_maprops.envs import VMAS, BoulderPush, Coordination, Foraging, MatrixGame, StagedGame, State, Task
from lit_maprops.envs.boulder_push import native as boulder_push
from lit_maprops.envs.foraging import native as foraging
from lit_maprops.envs.games import native as games
from lit_maprops.envs.vmas import native as vmas
from lit_maprops.native.arrays import address

JOINTLY, ASKED = 1, 2  # ASKED: actions come from Python
MOST_PROBABLE = 3  # every agent's, as an evaluation plays
BEHAVIORS: dict[type[BehaviorPolicy], int] = {OnPolicy: 0, LowDiscrepancy: 0, MAPROPS: JOINTLY}
DRAWS: dict[type[Draws], int] = {Draws: 0, StratifiedDraws: 1, LowDiscrepancyDraws: 2}
LOOK, CHOOSE, ACT = 1, 2, 4


class NativeTask(NamedTuple):
    """A task that rollout.cpp knows."""

    number: int  # there
    state: tuple[str, ...]  # the parts of its state that change, in the order in which its step.hpp takes them
    rules: Callable[[Any], ctypes.Structure]
    why_not: Callable[[Any], str | None] = lambda task: None  # why the rules are not those of a given task


TASKS: dict[type[Task], NativeTask] = {
    BoulderPush: NativeTask(0, boulder_push.STATE, boulder_push.rules),
    MatrixGame: NativeTask(1, games.STATE, games.rules_of_matrix_game),
    Coordination: NativeTask(2, games.STATE, games.rules_of_coordination),
    Foraging: NativeTask(3, foraging.STATE, foraging.rules),
    VMAS: NativeTask(4, vmas.STATE, vmas.rules, vmas.why_not),
    StagedGame: NativeTask(5, games.STAGED_STATE, games.rules_of_staged_game),
}

_INTS = [
    *("task", "seeds", "envs", "agents", "actions", "observation_dim", "state_dim", "start_noise", "step_noise"),
    *("max_steps", "fixed_start", "numbered", "shared", "behavior", "draws", "room", "phases", "first", "steps"),
    "threads",
]
_RESULTS = [
    *("observation", "everything", "index", "action", "parameters", "log_prob", "target_log_prob"),
    *("behavior_log_prob", "behavior_kl", "next_observation", "next_everything", "next_index", "reward"),
    *("done", "terminated", "truncated", "success"),
]


class Stack(ctypes.Structure):
    """``Stack`` of acting.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("layers", "each", "stale")),
        *((name, ctypes.c_void_p) for name in ("shapes", "flat", "held", "last")),
    ]


class Memory(ctypes.Structure):
    """``Memory`` of acting.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("kind", "units", "parts")),
        ("cells", Stack),
        *((name, ctypes.c_void_p) for name in ("now", "before", "after")),
    ]


class Rollout(ctypes.Structure):
    """``Rollout`` of rollout.cpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in _INTS),
        ("rules", ctypes.c_void_p),
        ("state", ctypes.c_void_p * 4),
        *((name, ctypes.c_void_p) for name in ("step_count", "rests", "fixed", "noise", "uniform")),
        *((name, ctypes.c_int64) for name in ("noise_seed", "uniform_seed")),
        *((name, Stack) for name in ("policies", "delta", "critics")),
        *((name, Memory) for name in ("policies_memory", "critics_memory")),
        ("central", ctypes.c_int32),
        ("sequences", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in _RESULTS),
    ]


def behavior_number(behavior: BehaviorPolicy) -> int:
    """How rollout.cpp chooses actions for a behavior policy that is built."""
    number = BEHAVIORS.get(type(behavior), ASKED)
    if isinstance(behavior, MAPROPS) and not behavior.net.passes.written_out:
        return ASKED
    columns = () if number == JOINTLY else behavior.family.uniforms
    return number if behavior.source.columns == columns and type(behavior.source) in DRAWS else ASKED


class Game:
    """A task for the kernel: what a call says of it, and the state that it steps in place.

    Args:
        call: that plays it.
        task: which ``TASKS`` has.
        seeds: R.
        envs: E, environments of each seed.
        fixed: ``TaskEnv.fixed_start_noise``.
    """

    def __init__(self, call: Rollout, task: Task, seeds: int, envs: int, fixed: Tensor) -> None:
        self._call, native = call, TASKS[type(task)]
        self._rules, self._names, self._fixed = native.rules(task), native.state, fixed.contiguous()
        call.task, call.seeds, call.envs = native.number, seeds, envs
        call.agents, call.actions = task.n_agents, task.n_actions
        call.observation_dim, call.state_dim, call.max_steps = task.observation_dim, task.state_dim, task.max_steps
        call.start_noise, call.step_noise, call.fixed_start = task.start_noise, task.step_noise, task.fixed_start
        call.numbered, call.rules = task.numbers_states(), ctypes.addressof(self._rules)
        call.fixed = address(self._fixed, torch.float32)

    def enter(self, state: State) -> None:
        """Step this state ``[R, E, ...]``, without gaps, from now on."""
        self.state = state
        for place, name in enumerate(self._names):
            self._call.state[place] = state[name].data_ptr()
        self._call.step_count = address(state["step"], torch.int32)


class Batch:
    """The memory of a batch ``[R, T, E]``, as TorchRL's collector lays out its keys, and as the kernel sees it.

    Args:
        task: says what is observed.
        seeds: R.
        steps: T.
        envs: E.
        remembered: as ``BehaviorActor.remembered``.
    """

    def __init__(
        self,
        task: Task,
        seeds: int,
        steps: int,
        envs: int,
        remembered: Mapping[Any, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        shape, agents = (seeds, steps, envs), task.n_agents
        self.steps = steps
        self.arrays: dict[str, Tensor] = {}

        def new(name: str, *inner: int, dtype: torch.dtype = torch.float32) -> Tensor:
            self.arrays[name] = torch.zeros(*shape, *inner, dtype=dtype)
            return self.arrays[name]

        def seen(prefix: str) -> dict[Any, Tensor]:
            index = {keys.STATE_INDEX: new(f"{prefix}index", 1, dtype=torch.int64)} if task.numbers_states() else {}
            observation = new(f"{prefix}observation", agents, task.observation_dim, dtype=task.observation_dtype)
            state = new(f"{prefix}everything", task.state_dim, dtype=task.observation_dtype)
            memories = {key: new(f"{prefix}{name_of(key)}", *size) for key, size in remembered.items()}
            return {keys.OBSERVATION: observation, keys.STATE: state, **index, **memories}

        def flags(prefix: str) -> dict[Any, Tensor]:
            names = keys.DONE, keys.TERMINATED, keys.TRUNCATED, keys.SUCCESS
            return {name: new(f"{prefix}{name}", 1, dtype=torch.bool) for name in names}

        root: dict[Any, Tensor] = {
            **seen(""),
            **flags("before "),  # an episode that is over has started anew: false
            keys.ACTION: new("action", agents, dtype=torch.int64),
            keys.PARAMETERS: new("parameters", agents, task.n_actions),
            keys.LOG_PROB: new("log_prob", agents),
            keys.TARGET_LOG_PROB: new("target_log_prob"),
            keys.BEHAVIOR_LOG_PROB: new("behavior_log_prob"),
            keys.BEHAVIOR_KL: new("behavior_kl"),
        }
        following = {**seen("next_"), **flags(""), keys.REWARD: new("reward", agents, 1)}
        self.data = _nested(root, shape)
        self.data.set("next", _nested(following, shape))

    def enter(self, call: Rollout) -> None:
        """Have a call write here."""
        call.room = self.steps
        for name in _RESULTS:
            if name in self.arrays:
                setattr(call, name, self.arrays[name].data_ptr())


def name_of(key: str | tuple[str, str]) -> str:
    """The last part of a key."""
    return key if isinstance(key, str) else key[-1]


def _nested(values: dict[Any, Tensor], shape: tuple[int, int, int]) -> TensorDict:
    agents = {name[1]: value for name, value in values.items() if isinstance(name, tuple)}
    own = {name: value for name, value in values.items() if not isinstance(name, tuple)}
    return TensorDict({keys.AGENTS: TensorDict(agents, shape), **own}, shape)
