"""Small PettingZoo environments with known rules, each under a name that ``--data.env.name`` takes."""

from types import SimpleNamespace

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv


class Toy(ParallelEnv):
    """Agents see (their index, the step) and their last action; reward 1 each; all are truncated after 4 steps."""

    metadata = {"name": "toy"}  # noqa: RUF012
    sees, does = (Box(-np.inf, np.inf, (3,)),) * 2, (Discrete(2), Discrete(3, start=5))

    def __init__(self):
        self.possible_agents = ["a", "b"]

    def observation_space(self, agent):
        return self.sees[self.possible_agents.index(agent)]

    def action_space(self, agent):
        return self.does[self.possible_agents.index(agent)]

    def reset(self, seed=None, options=None):
        self.agents, self.count = self.possible_agents[:], 0
        return self.seen({}), {}

    def seen(self, actions):
        return {
            agent: np.array([index, self.count, np.sum(actions.get(agent, -1))])
            for index, agent in enumerate(self.agents)
        }

    def step(self, actions):
        assert list(actions) == self.agents and all(self.action_space(a).contains(x) for a, x in actions.items())
        self.count += 1
        seen, rewards = self.seen(actions), dict.fromkeys(self.agents, 1.0)
        terminated = {agent: self.over(agent) for agent in self.agents}
        truncated = {agent: self.count == 4 for agent in self.agents}
        self.agents = [agent for agent in self.agents if not (terminated[agent] or truncated[agent])]
        return seen, rewards, terminated, truncated, {}

    def over(self, agent):
        return False


class Leaving(Toy):
    """The first agent leaves after 2 steps, the second after 3."""

    def over(self, agent):
        return self.count == {"a": 2, "b": 3}[agent]


class Survivor(Toy):
    """Ends at steps 2 and 4, and the third agent, truncated at 6; 1 a step to each; the second disappears silently."""

    sees, does = (Box(-np.inf, np.inf, (3,)),) * 3, (Discrete(2), Discrete(3, start=5), Discrete(2))

    def __init__(self):
        self.possible_agents = ["a", "b", "c"]

    def step(self, actions):
        assert list(actions) == self.agents
        self.count += 1
        seen, rewards = self.seen(actions), dict.fromkeys(self.agents, 1.0)
        terminated = {agent: agent == "a" and self.count == 2 for agent in self.agents}
        truncated = {agent: self.count == 6 for agent in self.agents}
        last = {"a": 2, "b": 4, "c": 6}
        self.agents = [agent for agent in self.agents if self.count < last[agent]]
        return seen, rewards, terminated, truncated, {}


class SurvivorInBoxes(Survivor):
    does = (Box(-1.0, 1.0, (1,)), Box(-1.0, 1.0, (2,)), Box(-1.0, 1.0, (1,)))


class Boxes(Toy):
    """Boxes of different shapes and ranges."""

    does = Box(-3.0, 1.0, (1,)), Box(np.array([[0, -1], [0, -2]], dtype=np.float32), np.array([[1, 1], [10, 2]], dtype=np.float32))  # fmt: skip  # noqa: E501


class GlobalNumbers(Toy):
    def seen(self, actions):
        return {agent: np.random.rand(3) for agent in self.agents}


class SeededGlobally(GlobalNumbers):
    """Equal episodes as long as nobody plays another one in between."""

    def reset(self, seed=None, options=None):
        np.random.seed(seed)
        return super().reset(seed)


class Remembers(Toy):
    """An object that has played before starts otherwise."""

    games = 0

    def reset(self, seed=None, options=None):
        self.games += 1
        return super().reset(seed)

    def seen(self, actions):
        return {agent: seen + self.games for agent, seen in super().seen(actions).items()}


class Fused(Toy):
    """The ``fuse``-th step of all objects together raises (0: none)."""

    fuse = 0

    def step(self, actions):
        self.burn()
        return super().step(actions)

    def burn(self):
        Fused.fuse -= 1
        if Fused.fuse == 0:
            raise OSError("cable")


class FusedStart(Fused):
    """As ``Fused``, for starts of episodes."""

    def reset(self, seed=None, options=None):
        self.burn()
        return super().reset(seed)

    def step(self, actions):
        return Toy.step(self, actions)


class BothAtOnce(Toy):
    """Terminated after 3 steps, and truncated in the same step, as packages say that write ``done`` into both."""

    def step(self, actions):
        seen, rewards, _, _, infos = super().step(actions)
        done = dict.fromkeys(actions, self.count == 3)
        self.agents = [] if self.count == 3 else self.agents
        return seen, rewards, done, dict(done), infos


class Lingering(Toy):
    """The first agent ends after 2 steps, the second is truncated after 4; both stay everywhere, paid 10 and seeing."""

    def step(self, actions):
        everyone = self.possible_agents[:]
        self.agents = everyone
        _, _, _, _, infos = super().step(actions)
        self.agents = everyone if self.count < 4 else []
        seen = {agent: np.full(3, 9.0) for agent in everyone}
        terminated = {"a": self.count >= 2, "b": False}
        return seen, dict.fromkeys(everyone, 10.0), terminated, dict.fromkeys(everyone, self.count >= 4), infos


class ArrayLike(Toy):
    """Rewards and flags in arrays of one number."""

    def step(self, actions):
        seen, rewards, terminated, truncated, infos = super().step(actions)
        flags = [{agent: np.array([value]) for agent, value in flag.items()} for flag in (terminated, truncated)]
        return seen, {agent: np.array([value], dtype=np.float64) for agent, value in rewards.items()}, *flags, infos


class Unpaid(Toy):
    def step(self, actions):
        seen, rewards, *rest = super().step(actions)
        return seen, dict.fromkeys(rewards), *rest


class BrokenState(Toy):
    def state(self):
        return np.concatenate([])


class BrokenStateLater(Toy):
    def state(self):
        return np.concatenate([np.ones(2)] * (self.count < 2))


class PaidTwice(Toy):
    def step(self, actions):
        seen, rewards, *rest = super().step(actions)
        return seen, dict.fromkeys(rewards, np.ones(2)), *rest


class Judged(Toy):
    """Agents are paid 1 for an odd action; the episode goes well if both did at the end. ``how`` it says so differs."""

    def __init__(self, how="agents"):
        super().__init__()
        self.how = how

    def step(self, actions):
        seen, _, terminated, truncated, _ = super().step(actions)
        well = {agent: bool(action % 2) for agent, action in actions.items()}
        common, ends = all(well.values()), self.count == 4
        infos = {
            "agents": {agent: {"is_success": np.bool_(flag)} for agent, flag in well.items()},
            "numbers": {agent: {"success": np.array([float(flag)])} for agent, flag in well.items()},
            "one agent": {"a": {"success": common}, "b": {}},
            "infos": {"success": common, "a": {"success": True}},
            "common": {"common": {"success": common}},
            "at the end": {agent: {"success": flag} for agent, flag in well.items()} if ends else {},
            "only success": {agent: {"success": True} for agent in actions} if common else {},
            "nothing": {agent: {} for agent in actions},
            "other things": {agent: {"success": [[1], [1, 2]], "is_success": "yes"} for agent in actions},
            "none yet": {agent: {"success": np.nan, "is_success": None} for agent in actions},
        }[self.how]
        return seen, {agent: float(flag) for agent, flag in well.items()}, terminated, truncated, infos


class JudgedLeaving(Judged):
    """As ``Judged``, but the first agent leaves after 2 steps, the second after 3."""

    over = Leaving.over


class Masked(Toy):
    def reset(self, seed=None, options=None):
        seen, _ = super().reset(seed)
        return seen, {agent: {"action_mask": np.array([1, 0])} for agent in seen}


class Doors(Toy):
    """The legal actions are those of ``mask``; others raise. In the end no action is left."""

    def mask(self, agent):
        flags = [(action + self.count + self.odd) % 2 for action in range(self.action_space(agent).n)]
        return np.array([0] * len(flags) if self.count == 4 else flags, dtype=np.int8)

    def reset(self, seed=None, options=None):
        self.odd = (seed or 0) % 2
        seen, _ = super().reset(seed)
        return seen, self.infos()

    def infos(self):
        return {agent: {"action_mask": self.mask(agent)} for agent in self.agents}

    def step(self, actions):
        for agent, action in actions.items():
            if not self.mask(agent)[action - self.action_space(agent).start]:
                raise ValueError("an illegal action")
        masked = self.agents[:]
        *rest, _ = super().step(actions)
        return *rest, {agent: {"action_mask": self.mask(agent)} for agent in masked}


class DictDoors(Doors):
    """As ``Doors``, with the mask beside the observation."""

    sees = tuple(
        Dict({"observation": Box(-np.inf, np.inf, (3,)), "action_mask": Box(0, 1, (n,), np.int8)}) for n in (2, 3)
    )

    def seen(self, actions):
        plain = super().seen(actions)
        return {agent: {"observation": seen, "action_mask": self.mask(agent)} for agent, seen in plain.items()}

    def infos(self):
        return {agent: {} for agent in self.agents}

    def step(self, actions):
        *rest, infos = super().step(actions)
        return *rest, {agent: {} for agent in infos}


class LeavingDoors(Doors):
    """As ``Doors``, but the first agent leaves after 2 steps, the second after 3."""

    over = Leaving.over


class Stuck(Doors):
    """After 3 steps the second agent has no legal action, in every second episode."""

    def mask(self, agent):
        return super().mask(agent) * (not (agent == "b" and self.count == 3 and self.odd))


class StuckFromTheStart(Doors):
    """The second agent has no legal action at the first step."""

    def mask(self, agent):
        return super().mask(agent) * (agent != "b" or self.count > 0)


class Resting(Doors):
    """The first agent's end comes after 2 steps, and it stays in agents; then its last action alone is legal."""

    def mask(self, agent):
        n = self.action_space(agent).n
        return np.array([agent != "a" or self.count < 2] * (n - 1) + [True], dtype=np.int8)

    def step(self, actions):
        *answer, infos = super().step(actions)
        if self.count < 4:
            self.agents = self.possible_agents[:]
        return *answer, {agent: {"action_mask": self.mask(agent)} for agent in infos}

    def over(self, agent):
        return agent == "a" and self.count >= 2


class DictResting(Resting):
    """As ``Resting``, with the mask beside the observation."""

    sees = DictDoors.sees

    def seen(self, actions):
        plain = super().seen(actions)
        return {agent: {"observation": seen, "action_mask": self.mask(agent)} for agent, seen in plain.items()}

    def infos(self):
        return {agent: {} for agent in self.agents}

    def step(self, actions):
        *rest, infos = super().step(actions)
        return *rest, {agent: {} for agent in infos}


class StuckSoon(Doors):
    """The second agent has no legal action after 3 steps."""

    def mask(self, agent):
        return super().mask(agent) * (agent != "b" or self.count < 3)


class NoSpaces(Toy):
    def observation_space(self, agent):
        return Discrete(0)


class DoorsInBoxes(Boxes):
    def reset(self, seed=None, options=None):
        seen, _ = super().reset(seed)
        return seen, {agent: {"action_mask": np.array([1])} for agent in seen}


class MaskedLater(Toy):
    def step(self, actions):
        *rest, _ = super().step(actions)
        return *rest, {agent: {"action_mask": np.array([1, 0])} for agent in self.agents}


class OldReset(Toy):
    def reset(self, seed=None, options=None):
        return super().reset(seed)[0]


class Blind(Toy):
    def seen(self, actions):
        return {agent: np.full(3, np.nan) for agent in self.agents}


class Unseeded(Toy):
    def reset(self):
        return super().reset()


class Long(Toy):
    """All are truncated after 100 steps, which nothing says."""

    length = 100

    def step(self, actions):
        seen, rewards, terminated, _, infos = super().step(actions)
        self.agents = [] if self.count == self.length else self.possible_agents[:]
        return seen, rewards, terminated, dict.fromkeys(actions, self.count == self.length), infos


class Cycles(Long):
    """As ``Long``, for as many steps as an option of the usual name says."""

    def __init__(self, max_cycles=30):
        super().__init__()
        self.length = self.max_cycles = max_cycles


class Endless(Long):
    length = None


class Overlooked(Toy):
    """After 2 steps it forgets to say what the second agent sees."""

    def step(self, actions):
        seen, *rest = super().step(actions)
        return {agent: numbers for agent, numbers in seen.items() if agent == "a" or self.count < 2}, *rest


class Misnamed(DictDoors):
    """What it gives has not the keys of its spaces."""

    def seen(self, actions):
        each = super().seen(actions).items()
        return {agent: {"obs": sight["observation"], "action_mask": sight["action_mask"]} for agent, sight in each}


def toy(**spaces):
    return SimpleNamespace(parallel_env=type("Other", (Toy,), spaces))


fused, fused_start = (SimpleNamespace(parallel_env=each) for each in (Fused, FusedStart))
survivor, survivor_in_boxes = (SimpleNamespace(parallel_env=each) for each in (Survivor, SurvivorInBoxes))
plain, leaving, boxes = (SimpleNamespace(parallel_env=each) for each in (Toy, Leaving, Boxes))
global_numbers, seeded_globally = (SimpleNamespace(parallel_env=each) for each in (GlobalNumbers, SeededGlobally))
both_at_once, lingering, array_like = (
    SimpleNamespace(parallel_env=each) for each in (BothAtOnce, Lingering, ArrayLike)
)
unpaid, paid_twice, blind = (SimpleNamespace(parallel_env=each) for each in (Unpaid, PaidTwice, Blind))
broken_state, broken_state_later = (SimpleNamespace(parallel_env=each) for each in (BrokenState, BrokenStateLater))
judged, judged_leaving = (SimpleNamespace(parallel_env=each) for each in (Judged, JudgedLeaving))
doors, dict_doors, leaving_doors, stuck, doors_in_boxes = (
    SimpleNamespace(parallel_env=each) for each in (Doors, DictDoors, LeavingDoors, Stuck, DoorsInBoxes)
)
resting, dict_resting, stuck_soon = (SimpleNamespace(parallel_env=each) for each in (Resting, DictResting, StuckSoon))
stuck_from_the_start, no_spaces = (SimpleNamespace(parallel_env=each) for each in (StuckFromTheStart, NoSpaces))
masked, masked_later, old_reset = (SimpleNamespace(parallel_env=each) for each in (Masked, MaskedLater, OldReset))
long, cycles, endless = (SimpleNamespace(parallel_env=each) for each in (Long, Cycles, Endless))
remembers, unseeded = (SimpleNamespace(parallel_env=each) for each in (Remembers, Unseeded))
whole_numbers, bytes_ = (toy(does=(Box(low, 3, (2,), kind),) * 2) for low, kind in ((0, np.int64), (-1, np.int8)))
mixed = toy(does=(Discrete(2), Box(-1, 1, (1,))))
unbounded = toy(does=(Box(-np.inf, np.inf, (1,)),) * 2)
dictionaries = toy(sees=(Dict({"action_mask": Box(0, 1, (2,))}),) * 2)
overlooked, misnamed = (SimpleNamespace(parallel_env=each) for each in (Overlooked, Misnamed))
by_turns, nothing = SimpleNamespace(env=Toy), SimpleNamespace()
anonymous = SimpleNamespace(parallel_env=lambda: SimpleNamespace())
