"""VMAS: scenarios of the Vectorized Multi-Agent Simulator with discrete or continuous actions.

After Bettini, Kortvelesy, Blumenkamp and Prorok, "VMAS: A Vectorized Multi-Agent Simulator for Collective Robot
Learning" (DARS 2022, arXiv 2207.03530); the simulator is the pip package ``vmas``.
"""

import importlib
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.vmas.worlds import BLOCK, Worlds
from lit_maprops.system.argument_types import Count, Options
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.extras import install

# Scenarios that tell, when an episode ends, whether it is solved: from the scenario to [P] bool.
_SUCCESS_CRITERIA: dict[str, Callable[[Any], Tensor]] = {
    "balance": lambda scenario: ~scenario.on_the_ground,
    "buzz_wire": lambda scenario: ~scenario.collided,
}
# Scenarios that end an episode early only when it is solved.
_END_SOLVED = {
    "discovery", "dispersion", "dropout", "give_way", "joint_passage", "joint_passage_size", "navigation", "passage",
    "reverse_transport", "transport",
}  # fmt: skip


class VMAS(Task):
    """A VMAS scenario; needs the extra ``envs``.

    Actions are VMAS's flat discrete ones (9 for a force in the plane: stay or either way along x, times along y), or
    with ``continuous`` the forces themselves and the messages of agents that talk: [-1, 1] is scaled to VMAS's ranges
    (``u_range`` either way; a message is within [0, 1]). Agents with fewer actions, components or observed numbers than
    others are padded, observations with zeros. The global state is, decided here, the padded observations of all agents
    one after the other; VMAS has none of its own. The scenario ends episodes (terminated), ``max_steps`` cuts them
    (truncated). Success is an episode that the scenario ends because it is solved, in balance with the package on the
    goal. Scenarios without such a criterion, such as simple_spread, have no success (``tells_success`` is False): their
    returns are judged.

    The simulator's state is part of ``State``, one tensor per dtype, and each world's start is drawn from its own
    noise, so worlds and seeds do not mix. One thing differs from VMAS for that: it looks for contacts of two bodies
    only while they are near each other in some world, by a bound that is up to a line's width (0.007) too small, so
    there a touch can count or not by what happens in other worlds; here it always counts. Scenarios whose worlds cannot
    be kept apart are refused: those that draw random numbers within a step, or whose worlds share what an episode
    changes. Constructing the task tries this out.

    Only simple_spread with discrete actions has compiled rules (``native.py``); other scenarios step in torch.

    Args:
        scenario: a name VMAS knows: ``balance``, ``simple_spread``, ``transport``, ...
        n_agents: number of agents, for scenarios with an option of that name; None for the scenario's default.
        max_steps: time limit of an episode (steps).
        options: further options of the scenario, by its own names.
        continuous: actions are real numbers.
        squash: how a continuous policy's numbers come into [-1, 1]: tanh or clip.

    Raises:
        ConfigError: vmas is not installed; the scenario is unknown, cannot be built with these options, or is one of
            the refused.
    """

    start_noise = 2  # a key of 48 bits
    starts_on_cpu = True

    def __init__(
        self,
        scenario: str = "balance",
        n_agents: Count | None = None,
        max_steps: Count = 100,
        options: Options | None = None,
        continuous: bool = False,
        squash: Literal["tanh", "clip"] = "tanh",
    ) -> None:
        _check_name(scenario)
        self.scenario, self.max_steps, self.options = scenario, max_steps, dict(options or {})
        self.continuous_actions, self.squash = continuous, squash
        if n_agents is not None:
            self.options["n_agents"] = n_agents
        self._is_solved = _SUCCESS_CRITERIA.get(scenario) or (_always if scenario in _END_SOLVED else None)
        self.tells_success = self._is_solved is not None
        self._worlds: dict[tuple[int, torch.device], Worlds] = {}
        self._names: list[str] = []
        small, large = (self._built(size * BLOCK, torch.device("cpu")) for size in (1, 2))
        # A tensor that has as many rows as there are worlds by chance has not in both.
        alike = {n for n, place in small.places.items() if n in large.places and place.shape == large.places[n].shape}
        self._names = [name for name in small.places if name in alike]
        for worlds in (small, large):
            worlds.keep(self._names)
        found = len(small.env.agents)
        check(
            n_agents in (None, found),
            f"<env.n_agents> is {n_agents} and {scenario} makes {found} agents: set their number by the "
            "scenario's own option in <env.options>",
        )
        sizes = torch.tensor(small.action_sizes)
        self.n_agents, most = found, int(sizes.max())
        self.n_actions, self.action_dim = (0, most) if continuous else (most, 0)
        self._mask = torch.arange(most) < sizes.unsqueeze(-1)
        self.observation_dim = small.observation().shape[-1]
        self.state_dim = self.n_agents * self.observation_dim
        self._first = {name: value.clone() for name, value in small.read(1).items()}
        self._by_row = not small.start(torch.arange(small.size))
        self._check_worlds_apart()

    @property
    def title(self) -> str:
        """With the scenario, which says what is played."""
        return f"VMAS {self.scenario}"

    def _built(self, size: int, device: torch.device) -> Worlds:
        key = (size, device)
        if key not in self._worlds:
            self._worlds[key] = Worlds(
                self.scenario, self.options, size, device, self.continuous_actions, self._is_solved
            )
            if self._names:
                self._worlds[key].keep(self._names)
        return self._worlds[key]

    @property
    def simulator(self) -> Worlds:
        """A few worlds on the CPU, in whatever state they were left."""
        return self._built(BLOCK, torch.device("cpu"))

    def _check_worlds_apart(self) -> None:
        """Start and step the same worlds in other company and in a simulator with another past."""
        generator = torch.Generator().manual_seed(0)
        rows = BLOCK + 9
        noise = torch.rand(rows, self.start_noise, generator=generator)
        if self.continuous_actions:
            action = 2 * torch.rand(2, rows, *self._mask.shape, generator=generator) - 1
        else:
            action = torch.randint(self.n_actions, (2, rows, self.n_agents), generator=generator) % self._mask.sum(1)
        start = self.initial_state(noise)
        middle = self.transition(start, action[0], noise[:, :0]).state
        end = self.transition(middle, action[1], noise[:, :0])
        same = []
        small = self.simulator
        for seed, (first, last) in enumerate([(0, BLOCK), (9, rows), (0, 5), (3, 12), (1, BLOCK), (5, 30)]):
            some = slice(first, last)
            small.stir(seed)
            again = self.transition({k: v[some] for k, v in middle.items()}, action[1, some], noise[some, :0])
            pairs = [(value, start[name][some]) for name, value in self.initial_state(noise[some]).items()]
            pairs += [(value, end.state[name][some]) for name, value in again.state.items()]
            pairs += [(again.reward, end.reward[some]), (again.terminated, end.terminated[some])]
            same += [torch.equal(one, other) for one, other in pairs]
        check(
            all(same),
            f"<env.scenario> {self.scenario} has worlds that share what an episode changes, which would mix the "
            "seeds of a run: choose another",
        )

    @override
    def action_mask(self) -> Tensor:
        return self._mask

    @override
    def interface(self, agent: int) -> Interface:
        """VMAS has names for agents only."""
        worlds, plain = self.simulator, super().interface(agent)
        low, high = worlds.action_range(agent)
        seen = plain.observation[: worlds.observation_size(agent)]
        return plain._replace(name=worlds.env.agents[agent].name, observation=seen, low=low, high=high)

    def numbers_states(self) -> bool:
        """False: states are real numbers."""
        return False

    @override
    @torch.no_grad()
    def initial_state(self, noise: Tensor) -> State:
        """Drawn on the CPU, so that every device starts alike."""
        batch, rows = noise.shape[:-1], noise.shape[:-1].numel()
        bits = (noise.detach().cpu().double() * 2**24).long().reshape(rows, 2)
        key = bits[:, 0] << 24 | bits[:, 1]
        worlds = self._built(_power(rows), torch.device("cpu"))
        worlds.write(self._first)
        if self._by_row:
            worlds.start_each(key)
        else:
            check(
                worlds.start(key.index_select(0, torch.arange(worlds.size).clamp_(max=rows - 1))),
                f"<env.scenario> {self.scenario} draws random numbers that worlds share: choose another",
            )
        state = worlds.read(rows) | {"observation": worlds.observation()[:rows]}
        return {name: value.reshape(batch + value.shape[1:]).to(noise.device) for name, value in state.items()}

    @override
    @torch.no_grad()
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        batch, rows = noise.shape[:-1], noise.shape[:-1].numel()
        worlds = self._built(-(-rows // BLOCK) * BLOCK, action.device)
        worlds.write({n: v.reshape(rows, -1) for n, v in state.items() if n in self._first})
        padded = torch.nn.functional.pad(action.reshape(rows, -1), (0, 0, 0, worlds.size - rows))
        outcome = worlds.step(padded.reshape(worlds.size, *action.shape[len(batch) :]))
        observation, *rest = (value[:rows].reshape(batch + value.shape[1:]) for value in outcome)
        following = {n: v.reshape(batch + v.shape[1:]) for n, v in worlds.read(rows).items()} | {
            "observation": observation
        }
        return Transition(following, *rest)

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        return state["observation"], state["observation"].flatten(-2)


def _check_name(scenario: str) -> None:
    try:
        vmas = importlib.import_module("vmas")
    except ImportError as error:
        raise ConfigError(f"<data.env> VMAS needs the package vmas: {install('envs')}") from error
    names = [*vmas.scenarios, *vmas.mpe_scenarios, *vmas.debug_scenarios]
    check(
        scenario in names,
        f"<env.scenario> is {scenario!r}: choose a scenario of VMAS, such as balance, dispersion, navigation, "
        "transport, wheel or simple_spread",
    )


def _power(rows: int) -> int:
    """The least BLOCK times a power of two that holds the rows: few sizes serve any number of ended episodes."""
    return BLOCK << (-(-rows // BLOCK) - 1).bit_length()


def _always(scenario: Any) -> Tensor:
    return torch.ones(scenario.world.batch_dim, dtype=torch.bool, device=scenario.world.device)
