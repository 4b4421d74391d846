"""Batched environments: a ``Task`` is three pure functions, which ``TaskEnv`` runs as a TorchRL environment.

A task knows nothing of seeds, resets or TorchRL: it maps tensors with any leading dimensions ``*B`` to tensors with
the same leading dimensions, and all its randomness is an argument.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from lit_maprops.distributions import families
from lit_maprops.system.arguments import Configurable

State = dict[str, Tensor]


class Transition(NamedTuple):
    """What one step of a task returns; ``*B`` is the batch shape."""

    state: State
    reward: Tensor  # [*B, n_agents] float32
    terminated: Tensor  # [*B] bool
    success: Tensor  # [*B] bool, false where ``tells_success`` is
    truncated: Tensor | None = None  # [*B] bool, of tasks with a time limit beside max_steps


class Interface(NamedTuple):
    """What one agent sees and does, padding left out, in the numbers and units of the environment's own package."""

    name: str
    observation: list[str]  # what each number of its observation is, in order
    actions: list[str]  # its actions by number, or the components of a continuous one
    low: list[float]  # what -1 stands for in each component of a continuous action; empty for discrete ones
    high: list[float]  # what 1 stands for


class Task(Configurable, ABC):
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
        observation_shape: channels, rows and columns of a picture in an agent's observation, in that order its last
            numbers; None: there is none. Convolutions (``Learner``'s ``cnn``) look at it.
        observation_dtype: of observations and global state; uint8 or int8 where they are 0/1 pictures or small
            integers, which D then holds in a quarter of the memory.
        continuous_actions: actions are vectors of real numbers, which ``TaskEnv`` bounds to [-1, 1].
        action_dim: components of an agent's continuous action, D, the most any agent has.
        starts_on_cpu: ``initial_state`` works on the CPU whatever the device, and takes long.
        squash: how ``TaskEnv`` bounds them: ``tanh`` or ``clip``.
        agents_leave: an agent's episode may be over before the others', or begin after theirs; ``agent_ends`` says
            whose. A is then the most agents there can be.
        tells_success: ``Transition.success`` is a verdict; False: the task has none, and returns are judged. A task may
            find out while it is played, as ``PettingZoo`` does; a single success is a verdict, too.
    """

    argument_owner = "env"
    n_agents: int
    n_actions: int
    observation_dim: int
    state_dim: int
    max_steps: int
    start_noise: int = 0
    step_noise: int = 0
    fixed_start: bool = False
    renders: bool = False
    observation_shape: tuple[int, int, int] | None = None
    observation_dtype: torch.dtype = torch.float32
    continuous_actions: bool = False
    action_dim: int = 0
    starts_on_cpu: bool = False
    squash: str = "tanh"
    agents_leave: bool = False
    tells_success: bool = True

    @property
    def title(self) -> str:
        """What is played, for the headings of figures."""
        return type(self).__name__

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

    def legal_actions(self, state: State) -> Tensor:
        """Which actions each agent may take in a state: ``[*B, A, N]`` bool. Give it where that depends on the state.

        ``action_mask`` says what an agent has at all, before there is any state: sizes of networks and tables, programs
        of exported policies. What is illegal now and then is a question of its own, so tasks without it need nothing.
        Actions that an agent does not have count as illegal, whatever is said of them here. Every agent needs a legal
        action wherever an episode goes on. Global states, too, should tell which actions are legal.
        """
        return self.action_mask()

    @property
    def masks_actions(self) -> bool:
        """Whether ``legal_actions`` is given, so that policies are asked for it in every state."""
        return type(self).legal_actions is not Task.legal_actions

    def interface(self, agent: int) -> Interface:
        """What an agent sees and does, in words, for the users of exported policies. Give names where there are any."""
        actions = [f"action[{number}]" for number in self.action_mask()[agent].nonzero().flatten().tolist()]
        bound = [1.0] * len(actions) if self.continuous_actions else []
        observation = [f"observation[{number}]" for number in range(self.observation_dim)]
        return Interface(f"agent_{agent}", observation, actions, [-one for one in bound], bound)

    def judges(self) -> bool:
        """Whether episodes are known to get a verdict of success before any is trained on."""
        return self.tells_success

    def remarks(self) -> dict[str, str]:
        """What a user should know of the episodes so far: lines by names of your own; a fit warns of each once."""
        return {}

    @property
    def family(self) -> families.Family:
        """Of the target policies."""
        kind = families.Gaussian if self.continuous_actions else families.Categorical
        return kind(self.action_mask(), self.masks_actions)

    def state_index(self, state: State) -> Tensor | None:
        """A number for the state, ``[*B]`` int64, equal if and only if states are; None where there is none."""
        return None

    def numbers_states(self) -> bool:
        """Whether ``state_index`` gives numbers."""
        return self.state_index(self.initial_state(torch.zeros(1, self.start_noise))) is not None

    def agent_ends(self, state: State) -> Tensor:
        """Who is there, or how its own part has ended, ``envs.ends``: ``[*B, n_agents]`` uint8. For ``agents_leave``.

        An agent comes once at most and does not come back. While it is not there, what it does must count for nothing,
        and its reward be 0; learners leave those steps out. Global states, and numbers of states, must tell who is
        there.

        Raises:
            NotImplementedError: agents leave, and the task does not say which.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say which agents have left")

    def render(self, state: State) -> Tensor:
        """Draw the state: ``[*B, height, width, 3]`` uint8 RGB.

        Raises:
            NotImplementedError: the task has no picture (``renders`` is False).
        """
        raise NotImplementedError(f"{type(self).__name__} has no picture")


def squashed(action: Tensor, squash: str) -> Tensor:
    """Components of continuous actions bounded to [-1, 1], by ``tanh`` or ``clip``."""
    return action.tanh() if squash == "tanh" else action.clamp(-1.0, 1.0)
