"""JaxMARL: environments in JAX by their registered names, StarCraft-like battles (SMAX) among them.

After Rutherford et al., "JaxMARL: Multi-Agent RL Environments and Algorithms in JAX" (NeurIPS 2024 Datasets and
Benchmarks, arXiv 2311.10090); the environments are the pip package ``jaxmarl``.
"""

import json
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.ends import RUNS, TERMINATED
from lit_maprops.envs.jaxmarl.scenarios import made, takes_limit, won
from lit_maprops.envs.jaxmarl.simulator import KINDS, Simulator
from lit_maprops.system.argument_types import Count, Options
from lit_maprops.system.errors import check


class JaxMARL(Task):
    """An environment of JaxMARL with discrete actions; needs the extra ``jaxmarl``.

    For battles as in the StarCraft Multi-Agent Challenge choose ``HeuristicEnemySMAX``, SMAX with a scripted enemy, and
    a map. Agents with fewer actions or observed numbers than others are padded, observations with zeros; pictures
    (rows, columns, channels) are turned for convolutions. The global state is the environment's ``world_state``, or the
    observations of all agents one after the other where it has none. Policies never take what ``get_avail_actions``
    forbids. Success is a battle that is won; other environments have no word for it, and returns are judged.

    Units that die in SMAX are paid on by JaxMARL, as it says for "noble sacrifice", and its own learners let returns
    run to the episode's end. So it is here: they stay, see zeros and have one legal action, to stop, from which no
    policy learns and which no sampler can adjust. With ``agents_leave`` their part ends with their death instead, as
    that of PettingZoo's agents does: what the team earns afterwards is not theirs, and their steps are left out.

    JaxMARL says ``done`` for both kinds of ends. Here what ends an episode after ``max_steps`` is a truncation: the
    environment's own limit, if it is an option ``max_steps``, is put one step later (as it is in MPE anyway), so that
    all other ends are those of its rules. Observations that count down, as Overcooked's, count to that. Steps are
    ``step_env``'s, without JaxMARL's own resets.

    The environment's arrays are part of ``State``, and every key of its random numbers is drawn from the run's streams:
    worlds and seeds do not mix, and a checkpoint continues bit for bit. JAX runs on the CPU, in programs that are
    compiled for 32 rows when the first of them starts and steps (seconds each).

    Args:
        scenario: a name that JaxMARL registers: ``HeuristicEnemySMAX``, ``MPE_simple_spread_v3``, ``overcooked``, ...
        map_name: a map of SMAX (``3m``, ``2s3z``, ``smacv2_5_units``, ...) or a kitchen of Overcooked; None: the
            environment's default, or what the options say.
        max_steps: time limit of an episode (steps); None: the environment's own.
        options: further options of the environment, by its own names.
        agents_leave: an agent's part is over when the environment says so of it alone; the global state then ends with
            a number of each agent, 1 while it is there.

    Raises:
        ConfigError: jaxmarl is not installed; there is no such environment or map, it does not take the options, or it
            has other than discrete actions.
    """

    start_noise = 2  # a key of 48 bits
    step_noise = 2
    starts_on_cpu = True

    def __init__(
        self,
        scenario: str = "MPE_simple_spread_v3",
        map_name: str | None = None,
        max_steps: Count | None = None,
        options: Options | None = None,
        agents_leave: bool = False,
    ) -> None:
        self.scenario, self.map_name, self.options = scenario, map_name, dict(options or {})
        self.agents_leave = agents_leave
        check("max_steps" not in self.options, "<env.options> has max_steps: give <env.max_steps> instead")
        check(_is_plain(self.options), "<env.options> holds what no file of settings can: give numbers, texts or lists")
        limit: Any = max_steps or getattr(made(scenario, map_name, self.options), "max_steps", None)
        check(limit is not None, f"<env.scenario> {scenario} has no time limit of its own: give <env.max_steps>")
        self.max_steps = int(limit)
        self._simulator = _simulator(scenario, map_name, json.dumps(self.options), self.max_steps + 1)
        self.n_agents, self.n_actions = len(self._simulator.names), max(self._simulator.action_sizes)
        self._mask = torch.arange(self.n_actions) < torch.tensor(self._simulator.action_sizes).unsqueeze(-1)
        self.observation_dim, self.observation_shape = max(self._simulator.observation_sizes), self._simulator.picture
        self.state_dim = self._simulator.state_size + (self.n_agents if agents_leave else 0)
        self.tells_success = self._simulator.tells_success

    @property
    def title(self) -> str:
        """With the environment and its map, which say what is played."""
        return " ".join(["JaxMARL", self.scenario, *([self.map_name] if self.map_name else [])])

    @override
    def action_mask(self) -> Tensor:
        return self._mask

    @property
    def masks_actions(self) -> bool:
        """Whether the environment says which actions are legal."""
        return self._simulator.masks

    @override
    def legal_actions(self, state: State) -> Tensor:
        """As the environment says."""
        return state["legal"] if self.masks_actions else self._mask

    @override
    def interface(self, agent: int) -> Interface:
        """JaxMARL has names for agents only."""
        plain, simulator = super().interface(agent), self._simulator
        seen = plain.observation[: simulator.observation_sizes[agent]]
        return plain._replace(name=simulator.names[agent], observation=seen)

    def numbers_states(self) -> bool:
        """False: states hold real numbers, or random keys."""
        return False

    @override
    @torch.no_grad()
    def initial_state(self, noise: Tensor) -> State:
        """Drawn on the CPU, so that every device starts alike."""
        batch, rows = noise.shape[:-1], noise.shape[:-1].numel()
        state = self._simulator.start(_key(noise))
        if self.agents_leave:
            state = _with_ends(state, torch.full((rows, self.n_agents), RUNS, dtype=torch.uint8))
        return _shaped(state, batch, noise.device)

    @override
    @torch.no_grad()
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        batch, rows = noise.shape[:-1], noise.shape[:-1].numel()
        names = [name for name in (*KINDS, "agents_end") if name in state]
        before = {name: state[name].detach().cpu().reshape(rows, *state[name].shape[len(batch) :]) for name in names}
        following = self._simulator.step(before, action.cpu().reshape(rows, -1), _key(noise))
        reward, over, gone, success = (following.pop(name) for name in ("reward", "over", "gone", "won"))
        if self.agents_leave:
            end = before["agents_end"]
            reward = reward.where(end == RUNS, 0.0)
            following = _with_ends(following, end.where((end != RUNS) | ~gone, TERMINATED))
        results = _shaped({"reward": reward, "terminated": over, "success": success & over}, batch, action.device)
        return Transition(_shaped(following, batch, action.device), **results)

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        return state["observation"], state["vector"]

    @override
    def agent_ends(self, state: State) -> Tensor:
        return state["agents_end"]


@lru_cache(maxsize=16)  # compiled programs: of all tasks alike in a process
def _simulator(scenario: str, map_name: str | None, options: str, limit: int) -> Simulator:
    given = json.loads(options)
    env = made(scenario, map_name, given, limit if takes_limit(scenario, map_name, given, limit) else None)
    return Simulator(env, won(env), f"<env.scenario> {scenario}")


def _is_plain(options: Options) -> bool:
    try:
        return json.loads(json.dumps(options)) == options
    except TypeError:
        return False


def _with_ends(state: State, end: Tensor) -> State:
    """A state ``[P, ...]`` of agents that have come to these ends, ``[P, A]``: they see zeros, and the state tells."""
    there = end == RUNS
    seen = state["observation"].where(there.unsqueeze(-1), 0.0)
    return state | {"agents_end": end, "observation": seen, "vector": torch.cat([state["vector"], there.float()], -1)}


def _shaped(values: State, batch: torch.Size, device: torch.device) -> State:
    return {name: value.reshape(batch + value.shape[1:]).to(device) for name, value in values.items()}


def _key(noise: Tensor) -> Tensor:
    """A key ``[P, 2]`` int32 of uniform numbers ``[*B, 2]``: the 24 bits that each of them has."""
    return (noise.detach().cpu().double() * 2**24).int().reshape(-1, 2)
