"""A task whose answers are checked: exceptions are named, shapes are checked, quarantined seeds are kept from it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from lit_maprops.envs.ends import RUNS
from lit_maprops.envs.faults import Faults, RowsFailed
from lit_maprops.system.errors import ConfigError, EnvironmentFault
from lit_maprops.system.memory import is_out_of_memory

if TYPE_CHECKING:
    from lit_maprops.envs.base import State, Task

Answer = TypeVar("Answer")


class Watched:
    """Calls a task for ``TaskEnv``, with rows ``[R, E]``.

    Args:
        task: the rules.
        faults: of the run.
        num_envs: E.
        own: which of them this process plays; rows are of these only.
        place: what the environments serve, for messages; empty for training, whose steps the run's clock counts.
    """

    def __init__(self, task: "Task", faults: Faults, num_envs: int, own: slice, place: str) -> None:
        self.task, self.faults, self._num_envs, self._own = task, faults, num_envs, own
        self._place = f" in {place}" if place else ""

    def initial_state(self, noise: Tensor, over: Tensor | None, like: "State") -> "State":
        """First states, of all rows or of those of ``over``.

        Args:
            noise: ``[R, E, start_noise]``, or of the rows of ``over`` only, ``[rows, start_noise]``.
            over: which episodes start, ``[R, E]`` bool; None: all.
            like: the state these are put into, ``[R, E, ...]``; empty if there is none.
        """
        rows = noise.shape[:-1]

        def read(state: "State") -> "State":
            for name, value in state.items():
                tail, dtype = value.shape[len(rows) :], value.dtype
                if name in like:
                    tail, dtype = like[name].shape[2:], like[name].dtype
                self._expect(f"state {name!r} of initial_state", value, (*rows, *tail), dtype)
            return state

        return self._ask("initial_state", (noise,), read, over)

    def transition(self, state: "State", action: Tensor, noise: Tensor) -> tuple["State", Tensor, Tensor, Tensor, Any]:
        """State, reward, terminated, success and truncated (or None); see ``Task.transition``."""
        substituted, batch = self.faults.substituted, noise.shape[:-1]
        state = self.faults.substituted_state(state)

        def read(outcome: tuple) -> tuple["State", Tensor, Tensor, Tensor, Any]:
            following, reward, terminated, success, *rest = outcome
            cut = rest[0] if rest else None
            for name, old in state.items():
                if name != "step":
                    self._expect(f"state {name!r} of transition", following.get(name), old.shape, old.dtype)
            self._expect("reward", reward, (*batch, self.task.n_agents), torch.float32)
            self._expect("terminated", terminated, batch, torch.bool)
            self._expect("success", success, batch, torch.bool)
            if cut is not None:
                self._expect("truncated", cut, batch, torch.bool)
                cut = substituted(cut)
            return (
                self.faults.substituted_state(following),
                substituted(reward),
                substituted(terminated),
                substituted(success),
                cut,
            )

        answer = self._ask("transition", (state, substituted(action), substituted(noise)), read)
        if not self._place:
            self.faults.env_steps += self._num_envs
        return answer

    def observe(self, state: "State", batch: torch.Size) -> tuple[Tensor, Tensor]:
        """Observations and global state; see ``Task.observe``."""
        task = self.task

        def read(seen: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            observation, everything = seen
            shape = (*batch, task.n_agents, task.observation_dim)
            self._expect("observation", observation, shape, task.observation_dtype)
            self._expect("global state", everything, (*batch, task.state_dim), task.observation_dtype)
            return observation, everything

        return self._ask("observe", (state,), read)

    def state_index(self, state: "State") -> Tensor | None:
        """See ``Task.state_index``."""

        def read(index: Tensor | None) -> Tensor | None:
            if index is not None:
                self._expect("state_index", index, state["step"].shape, torch.int64)
            return index

        return self._ask("state_index", (state,), read)

    def agent_ends(self, state: "State", batch: torch.Size) -> Tensor:
        """See ``Task.agent_ends``."""

        def read(end: Tensor) -> Tensor:
            self._expect("agent_ends", end, (*batch, self.task.n_agents), torch.uint8)
            return end

        return self._ask("agent_ends", (state,), read)

    def legal_actions(self, state: "State", over: Tensor, end: Tensor | None) -> Tensor:
        """See ``Task.legal_actions``; of agents that have left, and where none is in the end, all that they have.

        Args:
            state: ``[R, E, ...]``.
            over: whose episode has ended, ``[R, E]`` bool.
            end: see ``agent_ends``; None: no agent can leave.

        Raises:
            EnvironmentFault: an agent has no legal action, and the run stops at that.
        """
        has = self.task.action_mask().to(over.device)

        def read(legal: Tensor) -> Tensor:
            self._expect("legal_actions", legal, (*over.shape, *has.shape), torch.bool)
            return legal & has

        legal = self.faults.substituted(self._ask("legal_actions", (state,), read))
        if end is not None:
            legal = legal | ((end != RUNS).unsqueeze(-1) & has)
        none = ~legal.any(-1)
        if not none.any():
            return legal
        for seed, env, agent in (none & ~over.unsqueeze(-1)).nonzero().tolist():
            step = self.faults.env_steps + (0 if self._place else self._own.start + env + 1)
            self.faults.found(f"no legal action of agent {agent}{self._place}", seed, self._own.start + env, step)
        return legal | (none.unsqueeze(-1) & has)

    def _ask(self, method: str, arguments: tuple, read: Callable[[Any], Answer], over: Tensor | None = None) -> Answer:
        """Call ``method`` of the task and ``read`` its answer.

        Raises:
            EnvironmentFault: either raised, and the run stops at that.
        """
        try:
            try:
                answer = getattr(self.task, method)(*arguments)
            except RowsFailed as failed:
                for row, error in failed.errors.items():
                    self._row_failed(method, row, error, over)
                answer = failed.outcome
            return read(answer)
        except (EnvironmentFault, ConfigError):
            raise
        except (Exception, SystemExit) as error:  # whatever a package raises
            if is_out_of_memory(error):
                raise
            what = f"{_described(error)} in {method}{self._place}, which serves all seeds at once"
            raise self.faults.unattributed(what) from error

    def _row_failed(self, method: str, row: int, error: BaseException, over: Tensor | None) -> None:
        own_envs = self._own.stop - self._own.start
        seed, env = divmod(row, own_envs) if over is None else over.nonzero()[row].tolist()
        env += self._own.start
        step = self.faults.env_steps + (0 if self._place else env + 1)
        self.faults.found(f"{_described(error)} in {method}{self._place}", seed, env, step, error)

    def _expect(self, what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if not isinstance(value, Tensor) or value.shape != shape or value.dtype != dtype:
            found = f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            expected = f"{list(shape)} {dtype}"
            what = f"{what} is {found}, expected {expected}{self._place}".replace("torch.", "")
            raise self.faults.unattributed(what)


def _described(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
