"""VMAS's simulator as two functions of its state: a start from numbers given for each world, and a step.

The simulator keeps its state in attributes of many objects and draws from global generators. Here the state is read
from those attributes into a few tensors and written back before each call, and each world's start is drawn from a key
of its own: what becomes of a world depends on nothing but its state, its key and its actions. VMAS is imported when a
simulator is built, since that takes a second.
"""

import random
import warnings
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lit_maprops.envs.global_generators import all_generator_states, generator_state, generators_kept, seed_all
from lit_maprops.envs.vmas.draws import RowDraws
from lit_maprops.system.errors import ConfigError, check

# Numbers of worlds are multiples of this: vectorized loops may round the rest of a division by it differently.
BLOCK = 32
_SCRATCH = {"forces_dict", "torques_dict", "entity_index_map", "_render"}  # made anew by every step, or for pictures


class Outcome(NamedTuple):
    """What a step of P worlds gives, beside their new state."""

    observation: Tensor  # [P, A, O] float32
    reward: Tensor  # [P, A] float32
    terminated: Tensor  # [P] bool
    success: Tensor  # [P] bool


class _Place(NamedTuple):
    """Where the simulator keeps a tensor of its state: ``holder[key]``."""

    holder: Any
    key: Any
    shape: tuple[int, ...]  # of one world
    dtype: torch.dtype


class Worlds:
    """P worlds of one scenario.

    Args:
        scenario: a name VMAS knows.
        options: what the scenario's ``make_world`` takes.
        size: number of worlds, P.
        device: where they live.
        continuous: actions are forces, and messages of agents that talk, instead of numbers of a few of them.
        is_solved: from the scenario after a step to the worlds ``[P]`` that are solved if they ended.

    Raises:
        ConfigError: the scenario cannot be built with these options.
    """

    def __init__(
        self,
        scenario: str,
        options: dict[str, Any],
        size: int,
        device: torch.device,
        continuous: bool = False,
        is_solved: Callable[[Any], Tensor] | None = None,
    ) -> None:
        self.name, self.size, self.device = scenario, size, device
        self._continuous, self._is_solved = continuous, is_solved
        with generators_kept(), torch.no_grad():
            seed_all(0)
            self.env = _built(scenario, options, size, device, continuous)
            self.env.world.collides = partial(_may_touch, self.env.world)
            spaces = self.env.action_space
            # Components or numbers of actions of each agent.
            self.action_sizes = [space.shape[0] if continuous else int(space.n) for space in spaces]
            self._noisy = any(a.action.u_noise_tensor.any() or a.c_noise > 0 for a in self.env.agents)
            agents, shape = self.env.agents, (size, len(self.env.agents))
            if continuous:
                self._ranges = [torch.as_tensor(np.stack([space.low, space.high]), device=device) for space in spaces]
                none = torch.zeros(*shape, max(self.action_sizes), device=device)
            else:
                self._tables = [self._table(agent, n) for agent, n in zip(agents, self.action_sizes, strict=True)]
                none = torch.zeros(shape, dtype=torch.int64, device=device)
            # What the scenario computes but does not keep from the start on must be there to be read.
            self._advance(none)
        self.places = _places(self.env.scenario, size)

    @property
    def _named(self) -> str:
        return f"<env.scenario> {self.name}"

    def keep(self, names: list[str]) -> None:
        """Let the state be what is kept in these places, in this order."""
        groups: dict[torch.dtype, list[_Place]] = {}
        for name in names:
            groups.setdefault(self.places[name].dtype, []).append(self.places[name])
        self._groups = {str(dtype).removeprefix("torch."): places for dtype, places in groups.items()}

    def begins(self, name: str) -> int:
        """Where what is kept in a place begins in the rows of ``read`` of its dtype."""
        place = self.places[name]
        before = takewhile(lambda one: one is not place, self._groups[str(place.dtype).removeprefix("torch.")])
        return sum(int(np.prod(one.shape)) for one in before)

    def control(self, number: int) -> Tensor:
        """The control ``[N, ...]`` that each of an agent's discrete actions is."""
        return self._tables[number][0]

    def _table(self, agent: Any, n_actions: int) -> tuple[Tensor, Tensor | None]:
        """VMAS's own reading of each action: control ``[N, ...]``, and message ``[N, ...]`` of agents that talk."""
        control, message = [], []
        for first in range(0, n_actions, self.size):
            action = torch.arange(first, first + self.size, device=self.device).clamp(max=n_actions - 1)
            self.env._set_action(action.unsqueeze(-1), agent)
            control.append(agent.action.u)
            message.append(agent.action.c)
        talks = message[0] is not None
        return torch.cat(control)[:n_actions], torch.cat(message)[:n_actions] if talks else None

    def read(self, rows: int) -> dict[str, Tensor]:
        """The state of the first ``rows`` worlds: for each dtype its name and one ``[rows, numbers]``.

        Raises:
            ConfigError: something that had a row per world has none any more.
        """
        try:
            return {
                name: torch.cat([place.holder[place.key].reshape(self.size, -1) for place in places], 1)[:rows]
                for name, places in self._groups.items()
            }
        except (AttributeError, RuntimeError) as error:
            raise ConfigError(f"{self._named} keeps state that does not tell worlds apart: choose another") from error

    def write(self, state: dict[str, Tensor]) -> None:
        """Set the state of the first worlds to that of ``read``, and of the others to that of the last one given."""
        for name, places in self._groups.items():
            rows = len(state[name])
            index = torch.arange(self.size, device=self.device).clamp_(max=rows - 1)
            parts = state[name].index_select(0, index).split([int(np.prod(place.shape)) for place in places], 1)
            for place, part in zip(places, parts, strict=True):
                place.holder[place.key] = part if len(place.shape) == 1 else part.view(self.size, *place.shape)

    def observation(self) -> Tensor:
        """What each agent sees, ``[P, A, O]`` float32, with zeros behind what is shorter than the longest.

        Raises:
            ConfigError: agents see something else than vectors.
        """
        seen = [self.env.scenario.observation(agent) for agent in self.env.agents]
        vectors = all(isinstance(one, Tensor) and one.dim() == 2 for one in seen)
        check(vectors, f"{self._named} has observations that are not vectors: choose another")
        longest = max(one.shape[1] for one in seen)
        return torch.stack([pad(one, (0, longest - one.shape[1])) for one in seen], 1)

    def observation_size(self, number: int) -> int:
        """How many numbers an agent sees."""
        return self.env.scenario.observation(self.env.agents[number]).shape[1]

    def action_range(self, number: int) -> tuple[list[float], list[float]]:
        """What -1 and 1 stand for in the components of an agent's continuous action; empty for discrete ones."""
        low, high = self._ranges[number].tolist() if self._continuous else ([], [])
        return low, high

    def step(self, action: Tensor) -> Outcome:
        """Step all worlds under ``action`` ``[P, A]`` int64, or ``[P, A, D]`` float32 in [-1, 1].

        Raises:
            ConfigError: the scenario draws random numbers within a step.
        """
        before = generator_state(self.device)
        outcome = self._advance(action)
        check(
            not self._noisy and torch.equal(before, generator_state(self.device)),
            f"{self._named} draws random numbers within a step, which would mix the seeds of a run: choose another, or "
            "turn that off in <env.options>",
        )
        return outcome

    def _advance(self, action: Tensor) -> Outcome:
        """As ``vmas.Environment.step``, without its copies, its informations and its generators."""
        scenario, agents = self.env.scenario, self.env.agents
        for number, chosen in enumerate(action.unbind(1)):
            self._command(number, chosen)
        for agent in self.env.world.agents:
            scenario.env_process_action(agent)
        scenario.pre_step()
        self.env.world.step()
        scenario.post_step()
        reward = torch.stack([scenario.reward(agent) for agent in agents], 1)
        observation = self.observation()
        over = scenario.done().clone()
        success = torch.zeros_like(over) if self._is_solved is None else over & self._is_solved(scenario)
        return Outcome(observation, reward, over, success)

    def _command(self, number: int, chosen: Tensor) -> None:
        """Tell an agent its action, ``[P]`` or ``[P, D]``."""
        agent = self.env.agents[number]
        if self._continuous:
            low, high = self._ranges[number]
            middle, half = (low + high) / 2, (high - low) / 2
            self.env._set_action(middle + half * chosen[:, : len(low)], agent)
            return
        control, message = self._tables[number]
        agent.action.u = control.index_select(0, chosen)
        if message is not None:
            agent.action.c = message.index_select(0, chosen)

    def start(self, key: Tensor) -> bool:
        """Reset all worlds at once, each with the random numbers of its ``key`` ``[P]`` int64.

        Returns:
            Whether the scenario drew nothing else; if it did, only ``start_each`` keeps the worlds apart.
        """
        with generators_kept():
            before = all_generator_states()
            with RowDraws(key):
                self.env.scenario.env_reset_world_at(None)
            return all_generator_states() == before

    def start_each(self, key: Tensor) -> None:
        """Reset the first worlds one after the other, each with generators seeded by its ``key`` ``[rows]``."""
        with generators_kept():
            for world, seed in enumerate(key.tolist()):
                seed_all(seed)
                self.env.scenario.env_reset_world_at(world)

    def stir(self, seed: int) -> None:
        """Reset all worlds as VMAS does; what it remembers beside their state then differs from other worlds'."""
        with generators_kept():
            seed_all(seed)
            self.env.scenario.env_reset_world_at(None)


def _built(scenario: str, options: dict[str, Any], size: int, device: torch.device, continuous: bool) -> Any:
    import vmas
    from vmas.simulator.environment import Environment

    # VMAS takes up its own generators' states when it builds worlds, whatever the global ones are.
    Environment.vmas_random_state[:] = [torch.get_rng_state(), np.random.get_state(), random.getstate()]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Scenario kwargs")
            return vmas.make_env(scenario, size, device=device, continuous_actions=continuous, **options)
    except Exception as error:
        given = ", ".join(f"{name} {value}" for name, value in options.items()) or "no options"
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"<env.scenario> {scenario} cannot be built with {given}: {text}") from error


def _may_touch(world: Any, a: Any, b: Any) -> bool:
    """Whether a step must look for a contact of two bodies: they are so near in some world that one is possible.

    As VMAS's ``World.collides``, which leaves out that lines and boxes act ``LINE_MIN_DIST`` beyond their borders:
    with its bound a world's contact at that distance counts or not by how near the bodies are in other worlds.
    """
    from vmas.simulator.utils import LINE_MIN_DIST

    if not (a.collides(b) and b.collides(a)) or not any(e.movable or e.rotatable for e in (a, b)):
        return False
    if {type(a.shape), type(b.shape)} not in world._collidable_pairs:
        return False
    reach = a.shape.circumscribed_radius() + b.shape.circumscribed_radius() + 2 * LINE_MIN_DIST
    return bool((torch.linalg.vector_norm(a.state.pos - b.state.pos, dim=-1) <= reach).any())


def _places(root: Any, size: int) -> dict[str, _Place]:
    """Every tensor with a row per world that can be reached from ``root``, by the path to it."""
    found: dict[str, _Place] = {}
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", root)]
    while todo:
        path, thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        holder = thing if isinstance(thing, list | dict) else vars(thing)
        for number, key in enumerate(range(len(holder)) if isinstance(holder, list) else list(holder)):
            value, name = holder[key], f"{path}.{key if isinstance(key, str) else number}"
            if key in _SCRATCH or isinstance(value, ModuleType) or callable(value):
                continue
            if isinstance(value, Tensor):
                if value.dim() and len(value) == size:
                    found[name] = _Place(holder, key, tuple(value.shape[1:]), value.dtype)
            elif isinstance(value, list | dict) or hasattr(value, "__dict__"):
                todo.append((name, value))
    return found
