"""PettingZoo: any parallel environment of that interface, by import path.

After Terry et al., "PettingZoo: Gym for Multi-Agent Reinforcement Learning" (NeurIPS 2021, arXiv 2009.14471).

A ``Task`` is a pure function of a state made of tensors, which a checkpoint stores and a resume continues bit for bit.
PettingZoo's environments are objects whose state cannot be read or written. So the state of an episode is here **its
seed and the actions taken since its reset**. The objects in mid-episode are a cache: one is found by its seed and
actions; if it is not there (after a resume, say), another is reset with the seed and plays the actions again. That
needs environments that the seed and the actions determine, whatever object plays them. Constructing the task tries it
out and refuses the others.

TorchRL's ``PettingZooWrapper`` gives the same numbers (tests/envs/test_pettingzoo.py) but cannot serve inside: it is
again an object with one running episode, which its ``state_dict`` leaves out; it has no batch, so no reset of some
rows; and (0.14.1) it fails to stack agents of one group that see or do different numbers of things.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.ends import RUNS, TERMINATED, TRUNCATED
from lit_maprops.envs.faults import RowsFailed
from lit_maprops.envs.global_generators import generators_kept
from lit_maprops.envs.pettingzoo.agents import Agents, Outcome
from lit_maprops.envs.pettingzoo.determined import check_determined
from lit_maprops.envs.pettingzoo.live import LiveEpisodes
from lit_maprops.envs.pettingzoo.packages import found, one_line, time_limit
from lit_maprops.envs.pettingzoo.spaces import Pictures
from lit_maprops.envs.pettingzoo.verdicts import play_on_trial
from lit_maprops.system.argument_types import Count, Options
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.memory import is_out_of_memory

_MOST = 1000  # steps of an episode that the user has not limited; a state has room for the actions of all of them


class PettingZoo(Task):
    """A PettingZoo parallel environment; needs the extra ``envs`` or another package that has one.

    Actions are the package's discrete ones, every combination of ``MultiDiscrete`` or ``MultiBinary`` ones (at most
    1,024 of an agent), or numbers in [-1, 1] that are scaled to its boxes. Agents with fewer actions, components or
    observed numbers than others are padded, observations with zeros. Observations are flattened to float32 as
    ``gymnasium.spaces.utils.flatten`` does; see ``pictures`` for what convolutions may look at. The global state is the
    package's own, or the observations of all agents one after the other where it has none.

    Where the package gives an ``action_mask`` in its infos, or in Dict observations, policies never take what it
    forbids; it must give one from the reset on, and an agent that gets none at a step may do everything.

    Agents may come later than others, or not in every episode: of the ``possible_agents``, ``agents`` are there. Every
    agent's end is its own: what the team earns afterwards is not its reward. Before and after, it sees zeros, gets no
    reward and is left out of all that is learned and measured. It may not come back. The episode is over when the last
    agents have left: truncated if one of these was, otherwise terminated. A time limit of the package (``max_cycles``
    and the like, see its options) holds besides ``max_steps``. PettingZoo has no word for success; what a package says
    under ``success`` or ``is_success`` in its infos counts, of all agents who say so, at the end of an episode
    (``Verdicts``). Where no such word was seen the task has no success, and returns are judged.

    Args:
        name: import path of the module with ``parallel_env`` (``mpe2.simple_spread_v3``,
            ``gymnasium_robotics.mamujoco_v1``, ...), or of a class that extends ``ParallelEnv``.
        options: keyword arguments of either.
        max_steps: time limit of an episode (steps); a state, so a checkpoint, has room for the actions of all of them.
            None: the package's own, as far as it has one and says so (an option or attribute ``max_cycles``,
            ``max_episode_steps``, ``max_steps``, ...), and at most 1000; a fit warns where that cut an episode which
            the package had not ended.
        fixed_start: one seed of the package, drawn for each seed of a run, serves all its episodes, in training and
            evaluation: its starts, and what it draws within episodes, are then always the same.
        squash: how a continuous policy's numbers come into [-1, 1]: tanh or clip.
        pictures: which boxes are pictures. auto: those of bytes from 0 to 255 with two dimensions, or with three, of
            which the smaller of first and last holds the channels; hwc or chw: all with three dimensions, whose
            channels are the last or the first; none: no box. Bytes of pictures are divided by 255, also in a global
            state with several dimensions. If every agent sees one picture of one shape, it stands last in
            observations, channels first, for convolutions (``cnn`` of the learner).
        presence: the global state ends with a number of each agent: 1 while it is there, and once more after the step
            that truncates it; else 0. None: where the episode of the package's seed 0 starts without some agents.

    Raises:
        ConfigError: a package is not installed; there is no such module, or it has no ``parallel_env``; it does not
            take the options; agents differ in kind, or act or see in spaces that are not served; seed and actions do
            not determine an episode.
    """

    start_noise = 2  # 31 bits of a seed
    starts_on_cpu = True
    agents_leave = True
    tells_success = False  # until the package has
    _fix = "choose another"  # where seed and actions do not determine an episode

    def __init__(
        self,
        name: str = "mpe2.simple_spread_v3",
        options: Options | None = None,
        max_steps: Count | None = None,
        fixed_start: bool = False,
        squash: Literal["tanh", "clip"] = "tanh",
        pictures: Pictures = "auto",
        presence: bool | None = None,
    ) -> None:
        self.name, self.options = name, dict(options or {})
        self.fixed_start, self.squash = fixed_start, squash
        self._named = f"<env.name> {name}"
        self._parallel_env = self._found(name)
        with generators_kept():
            env = self._made()
            self._agents = Agents(env, self._named, pictures, presence)
            limit = time_limit(env, self.options) if max_steps is None else None
        self.max_steps = min(limit or _MOST, _MOST) if max_steps is None else max_steps
        self._chosen_here, self._cut = max_steps is None, False
        self._live = LiveEpisodes(self._made, self._agents)
        sizes = torch.tensor(self._agents.action_sizes)
        self.n_agents, most = len(sizes), int(sizes.max())
        self.continuous_actions = self._agents.continuous
        self.n_actions, self.action_dim = (0, most) if self.continuous_actions else (most, 0)
        self._mask = torch.arange(most) < sizes.unsqueeze(-1)
        self.observation_dim, self.state_dim = self._agents.observation_dim, self._agents.state_size
        self.observation_shape = self._agents.picture
        try:
            check_determined(self, self._named, self._live.forget, self._fix)
        except RowsFailed as failed:
            error = next(iter(failed.errors.values()))
            raise ConfigError(f"{self._named} cannot be played: {one_line(error)}") from error
        self._cut = False

    def _found(self, name: str) -> Callable[..., Any]:
        """What makes a parallel environment, by its import path."""
        return found(name)

    def _made(self) -> Any:
        try:
            return self._parallel_env(**self.options)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            given = ", ".join(f"{name} {value}" for name, value in self.options.items()) or "no options"
            raise ConfigError(
                f"{self._named} cannot be built with {given} (<env.options>): {one_line(error)}"
            ) from error

    @property
    def title(self) -> str:
        """With the package's module, which says what is played."""
        return f"PettingZoo {self.name}"

    @override
    def action_mask(self) -> Tensor:
        return self._mask

    @property
    def masks_actions(self) -> bool:
        """Whether the package gives an action_mask."""
        return self._agents.masks.given

    @override
    def legal_actions(self, state: State) -> Tensor:
        """As the package says (``envs.pettingzoo.masks``)."""
        return state["legal"] if self.masks_actions else self._mask

    @override
    def interface(self, agent: int) -> Interface:
        """The package has names for agents only."""
        return self._agents.interface(agent)

    @override
    def judges(self) -> bool:
        """Plays an episode on trial where the constructor's steps had no verdict: some come at its end alone."""
        if not self.tells_success:
            play_on_trial(self)
        return self.tells_success

    @override
    def remarks(self) -> dict[str, str]:
        """That episodes were cut where nobody has said so."""
        line = (
            f"{self._named}: episodes were cut after {self.max_steps} steps, before the package ended them: give "
            "<env.max_steps>, the steps that an episode may take"
        )
        return {"cut": line} if self._cut else {}

    def numbers_states(self) -> bool:
        """False: what identifies a state is the whole past of its episode."""
        return False

    @override
    def initial_state(self, noise: Tensor) -> State:
        """The package draws the start from a seed below 2**31."""
        batch, rows = noise.shape[:-1], noise.shape[:-1].numel()
        bits = (noise.detach().cpu().double() * 2**24).long().reshape(rows, 2)
        seed = bits[:, 0] << 7 | bits[:, 1] >> 17
        components = (self.action_dim,) if self.continuous_actions else ()
        actions = torch.zeros(
            (rows, self.max_steps, self.n_agents, *components),
            dtype=torch.float32 if self.continuous_actions else torch.int64,
        )
        observation, vector = torch.zeros(rows, self.n_agents, self.observation_dim), torch.zeros(rows, self.state_dim)
        self._live.expect(rows)
        legal = self._mask.expand(rows, -1, -1).clone()
        agents_end = torch.full((rows, self.n_agents), RUNS, dtype=torch.uint8)
        errors: dict[int, BaseException] = {}
        with generators_kept():
            for row, number in enumerate(seed.tolist()):
                try:
                    env, seen, everything, allowed = self._live.start(number)
                except (Exception, SystemExit) as error:
                    self._lost(row, error, errors)
                    continue
                observation[row], vector[row] = torch.from_numpy(seen), torch.from_numpy(everything)
                legal[row] = torch.from_numpy(allowed) if self.masks_actions else legal[row]
                agents_end[row] = torch.from_numpy(self._agents.presence.ends(env))
                self._live.keep(env, number, actions[row, :0].numpy())
        state = {
            "seed": seed,
            "taken": torch.zeros(rows, dtype=torch.int32),
            "actions": actions,
            "end": torch.full((rows,), RUNS, dtype=torch.uint8),
            "agents_end": agents_end,
            "observation": observation,
            "vector": vector,
        } | ({"legal": legal} if self.masks_actions else {})
        state = {name: value.reshape(batch + value.shape[1:]).to(noise.device) for name, value in state.items()}
        if errors:
            raise RowsFailed(errors, state)
        return state

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """Nothing is random beside the seed. An episode that is over stays as it is."""
        batch, rows = noise.shape[:-1], noise.shape[:-1].numel()
        if self.continuous_actions:
            action = action.masked_fill(~self._mask.to(action.device), 0.0)
        chosen = action.detach().cpu().reshape(rows, *action.shape[len(batch) :]).numpy()
        names = ["seed", "taken", "actions", "end", "agents_end", "observation", "vector"]
        names += ["legal"] if self.masks_actions else []
        following = {n: state[n].detach().cpu().reshape(rows, *state[n].shape[len(batch) :]).clone() for n in names}
        reward, success = torch.zeros(rows, self.n_agents), torch.zeros(rows, dtype=torch.bool)
        past = {name: value.numpy() for name, value in following.items()}
        self._live.expect(rows)
        errors: dict[int, BaseException] = {}
        with generators_kept():
            for row in range(rows):
                if past["end"][row] == RUNS and past["taken"][row] < self.max_steps:
                    try:
                        outcome = self._step(past, row, chosen[row])
                    except (Exception, SystemExit) as error:
                        self._lost(row, error, errors)
                        continue
                    reward[row], success[row] = torch.from_numpy(outcome.reward), outcome.success
        end, whole = following["end"], following["taken"] == self.max_steps
        self._cut |= self._chosen_here and bool((whole & (end == RUNS)).any())
        results = (reward, end == TERMINATED, success, end == TRUNCATED)

        def shaped(value: Tensor) -> Tensor:
            return value.reshape(batch + value.shape[1:]).to(action.device)

        answer = Transition({name: shaped(value) for name, value in following.items()}, *map(shaped, results))
        if errors:
            raise RowsFailed(errors, answer)
        return answer

    def _lost(self, row: int, error: BaseException, errors: dict[int, BaseException]) -> None:
        """Note what the environment of a row has raised; the others are played on."""
        if is_out_of_memory(error):
            raise error
        errors[row] = error
        self._live.lose()

    def _step(self, past: dict[str, np.ndarray], row: int, chosen: np.ndarray) -> Outcome:
        """Step one row and write what follows into ``past``."""
        seed, taken, actions = int(past["seed"][row]), int(past["taken"][row]), past["actions"][row]
        env = self._live.take(seed, actions[:taken])
        outcome = self._judged(env, self._agents.step(env, chosen))
        actions[taken] = chosen
        past["taken"][row] = taken + 1
        past["observation"][row], past["vector"][row] = outcome.observation, outcome.state
        past["agents_end"][row] = outcome.end
        if self.masks_actions:
            past["legal"][row] = outcome.legal
        self.tells_success = self.tells_success or self._agents.verdicts.told
        if outcome.terminated or outcome.truncated:
            past["end"][row] = TERMINATED if outcome.terminated else TRUNCATED
        if past["end"][row] != RUNS or taken + 1 == self.max_steps:
            self._live.release(env)
        else:
            self._live.keep(env, seed, actions[: taken + 1])
            outcome = outcome._replace(success=False)  # not yet
        return outcome

    def _judged(self, env: Any, outcome: Outcome) -> Outcome:
        return outcome  # subclasses have rules beside the package's

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        return state["observation"], state["vector"]

    @override
    def agent_ends(self, state: State) -> Tensor:
        return state["agents_end"]
