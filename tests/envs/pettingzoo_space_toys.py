"""PettingZoo environments with spaces of every kind, each under a name that ``--data.env.name`` takes."""

from types import SimpleNamespace

import numpy as np
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    OneOf,
    Sequence,
    Text,
    Tuple,
)
from pettingzoo import ParallelEnv

NUMBERS = Box(-np.inf, np.inf, (3,))
NESTED = Dict(
    z=Box(-1, 1, (2, 2), np.float64),
    a=Tuple((Discrete(3, start=-1), MultiBinary(4))),
    m=Dict(inner=MultiDiscrete([[2, 3], [4, 1]], start=[[5, 0], [-2, 1]]), whole=Box(-9, 9, (2,), np.int64)),
)
SMALL = Dict(n=Discrete(4), t=Tuple((MultiDiscrete([3, 2]),)))


class Spaces(ParallelEnv):
    """Agents see samples of their spaces, drawn from the episode's seed; rewards are sums of the actions' numbers.

    All are truncated after 5 steps. Actions are remembered in ``taken``, what was seen in ``shown``.
    """

    metadata = {"name": "spaces"}  # noqa: RUF012
    sees, does = (NUMBERS, NUMBERS), (Discrete(2), Discrete(2))

    def __init__(self):
        self.possible_agents = ["a", "b"]
        self.taken, self.shown = [], []
        self.seen_spaces, self.done_spaces = ({name: each[number] for number, name in enumerate(self.possible_agents)}
                                              for each in (self.sees, self.does))  # fmt: skip

    def observation_space(self, agent):
        return self.seen_spaces[agent]

    def action_space(self, agent):
        return self.done_spaces[agent]

    def reset(self, seed=None, options=None):
        self.seed, self.count, self.agents = seed, 0, self.possible_agents[:]
        return self.look(), self.infos()

    def look(self):
        seen = {}
        for number, agent in enumerate(self.agents):
            space = self.sees[number]
            space.seed((self.seed + 7 * self.count + 1000 * number) % 2**31)
            seen[agent] = space.sample()
        self.shown.append(seen)
        return seen

    def infos(self):
        return {agent: {} for agent in self.agents}

    def reward(self, action):
        return float(np.sum(action))

    def step(self, actions):
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action), (agent, action)
        self.taken.append(actions)
        self.count += 1
        seen, infos = self.look(), self.infos()
        rewards = {agent: self.reward(action) for agent, action in actions.items()}
        whole = self.agents
        self.agents = [] if self.count == 5 else whole
        return seen, rewards, dict.fromkeys(whole, False), dict.fromkeys(whole, self.count == 5), infos


class Shuffled(Spaces):
    """The dicts, and the list of agents, are in another order at every step."""

    def reset(self, seed=None, options=None):
        seen, infos = super().reset(seed)
        self.agents = ["b", "a"]
        return dict(reversed(seen.items())), infos

    def look(self):
        agents, self.agents = self.agents, self.possible_agents[:]
        seen = super().look()
        self.agents = agents[::-1]
        return dict(reversed(seen.items())) if self.count % 2 else seen

    def step(self, actions):
        *each, infos = super().step(dict(reversed(actions.items())))
        return *(dict(reversed(one.items())) if self.count % 3 else one for one in each), infos


class NoInfos(Spaces):
    def infos(self):
        return None


class Unusual(Spaces):
    """float64 and whole numbers where float32 is declared, rewards that are whole numbers of several kinds."""

    def look(self):
        seen = super().look()
        kind = [np.float64, np.int64, np.float16, np.int8][self.count % 4]
        return {agent: (numbers * 10).round().astype(kind) for agent, numbers in seen.items()}

    def reward(self, action):
        return [int(action), np.int8(action), np.uint64(action), bool(action), np.array(action)][self.count - 1]


class Enormous(Spaces):
    """Numbers that no float32 can hold."""

    sees = (Box(-np.inf, np.inf, (3,), np.float64),) * 2

    def look(self):
        seen = super().look()
        return {agent: np.full(3, 1e300) for agent in seen} if self.count == 3 and self.seed % 2 else seen


class Quits(Spaces):
    """Ends the whole program at the third step of every second episode."""

    def look(self):
        if self.count == 3 and self.seed % 2:
            raise SystemExit(3)
        return super().look()


class NoFlags(Spaces):
    """At the third step of every second episode nothing says whose part has ended."""

    def step(self, actions):
        seen, rewards, terminated, *others = super().step(actions)
        return seen, rewards, None if self.count == 3 and self.seed % 2 else terminated, *others


class OtherFlags(Spaces):
    """At the third step of every second episode a flag is neither 0 nor 1."""

    sees = (MultiBinary(3),) * 2

    def look(self):
        return {agent: np.array([7 * (self.count == 3 and self.seed % 2), 1, 0]) for agent in super().look()}


class Longer(Spaces):
    """At the third step of every second episode the second agent sees a number more."""

    def look(self):
        seen = super().look()
        if self.count == 3 and self.seed % 2:
            seen["b"] = np.ones(4)
        return seen


class Changing(Spaces):
    """The second agent's space is another one in every second episode, not in the first ones."""

    def reset(self, seed=None, options=None):
        other = seed % 2
        self.seen_spaces["b"] = Box(-np.inf, np.inf, (4 if other else 3,))
        return super().reset(seed)


class Rearmed(Spaces):
    """The first agent has an action more in every second episode, not in the first ones."""

    def reset(self, seed=None, options=None):
        self.done_spaces["a"] = Discrete(2 + seed % 2)
        return super().reset(seed)


class Rebuilt(Spaces):
    """Spaces are made anew whenever they are asked for, and are the same."""

    def observation_space(self, agent):
        return Box(-np.inf, np.inf, (3,))


class NotOfItsSpace(Spaces):
    sees = (SMALL, SMALL)
    what = "beyond"

    def look(self):
        seen = super().look()
        if self.count == 2:
            other = {"n": 4} if self.what == "beyond" else {"n": 1.5} if self.what == "half" else {}
            seen["b"] = {"t": seen["b"]["t"], **other}
        return seen


class MaskedComponents(Spaces):
    """Masks as Gymnasium's spaces take them: of each component, the parity of which changes with time."""

    does = (MultiDiscrete([3, 2], start=[4, 0]), MultiBinary(2))
    row = False

    def flags(self):
        first = np.array([1, self.count % 2, 0], dtype=np.int8), np.array([1, self.count % 3 > 0], dtype=np.int8)
        return np.concatenate(first) if self.row else first, np.array([2, self.count % 2], dtype=np.int8)

    def infos(self):
        return {agent: {"action_mask": flags} for agent, flags in zip(self.possible_agents, self.flags(), strict=True)}


class MaskInDict(Spaces):
    """A mask beside several things that are seen."""

    sees = (Dict(action_mask=Box(0, 1, (2,), np.int8), place=NUMBERS, color=Discrete(2)),) * 2

    def look(self):
        seen = super().look()
        return {agent: {**each, "action_mask": np.array([1, self.count % 2])} for agent, each in seen.items()}


def spaces(base=Spaces, **attributes):
    return SimpleNamespace(parallel_env=type("Other", (base,), attributes))


bare_numbers = spaces()
nested = spaces(sees=(NESTED, SMALL))
bare = spaces(sees=(Discrete(5, start=2), MultiBinary((2, 2))))
tuples = spaces(sees=(Tuple((NUMBERS, SMALL)), MultiDiscrete([2, 5])))
graph = spaces(sees=(Graph(NUMBERS, None), NUMBERS))
letters = spaces(sees=(Dict(a=NUMBERS, b=Text(5)), Sequence(NUMBERS)))
one_of = spaces(sees=(OneOf((NUMBERS, Discrete(2))), NUMBERS))
components = spaces(does=(MultiDiscrete([3, 2], start=[4, -1]), MultiBinary(3)))
deep_components = spaces(does=(MultiDiscrete([[2, 3], [1, 2]]), Discrete(7, start=-3)))
many_components = spaces(does=(MultiDiscrete([40, 30]), MultiBinary(3)))
dictionary_actions = spaces(does=(Dict(a=Discrete(2)), Discrete(2)))
tuple_actions = spaces(does=(Tuple((Discrete(2), Discrete(2))),) * 2)
binary_and_box = spaces(does=(MultiBinary(2), Box(-1, 1, (2,))))
shuffled, no_infos, unusual, enormous = (spaces(each) for each in (Shuffled, NoInfos, Unusual, Enormous))
longer, changing, rearmed, rebuilt = (spaces(each) for each in (Longer, Changing, Rearmed, Rebuilt))
beyond, half, missing = (spaces(NotOfItsSpace, what=what) for what in ("beyond", "half", "missing"))
quits, no_flags, other_flags = (spaces(each) for each in (Quits, NoFlags, OtherFlags))
masked_components, masked_row = (spaces(MaskedComponents, row=row) for row in (False, True))
mask_in_dict = spaces(MaskInDict)
