"""Small TorchRL environments of groups of agents, each with what ``--data.env.name`` takes."""

import os

import torch
from tensordict import TensorDict
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    NonTensor,
    OneHot,
    Unbounded,
)
from torchrl.envs import EnvBase, StepCounter, TransformedEnv

KINDS = {
    "categorical": lambda lead: Categorical(3, shape=lead),
    "one component": lambda lead: Categorical(3, shape=(*lead, 1)),
    "components": lambda lead: Categorical(3, shape=(*lead, 2)),
    "one-hot": lambda lead: OneHot(3, shape=(*lead, 3)),
    "multi": lambda lead: MultiCategorical([2, 3], shape=(*lead, 2)),
    "multi one-hot": lambda lead: MultiOneHot([2, 3], shape=(*lead, 5)),
    "binary": lambda lead: Binary(2, shape=(*lead, 2)),
    "bounded": lambda lead: Bounded(
        torch.tensor([-2.0, 0.0]).expand(*lead, 2), torch.tensor([2.0, 5.0]).expand(*lead, 2), (*lead, 2)
    ),
    "whole": lambda lead: Bounded(0, 3, (*lead, 2), dtype=torch.int64),
    "unbounded": lambda lead: Unbounded((*lead, 2)),
}


def number_of(kind, action):
    """``[agents, ...] -> [agents]``: what an action counts as."""
    action = action.double()
    if kind in ("one-hot", "multi one-hot"):
        first = action[..., :2] @ torch.arange(2.0).double() if kind != "one-hot" else 0.0
        return 10 * first + action[..., -3:] @ torch.arange(3.0).double()
    if kind == "categorical":
        return action
    return action[..., 0] if kind == "one component" else 10 * action[..., 0] + action[..., 1]


class Groups(EnvBase):
    """Two walkers and a talker see (their place in the group, the step, a random number) and their last action.

    Rewards are what actions count as; all are truncated after 4 steps.

    Args:
        kind: of actions.
        batch: the environment's batch size.
        ends: ``whole``: of the environment; ``groups``: the talker terminates after 2 steps, the walkers go on;
            ``back``: and it goes on after all; ``done``: nothing but ``done`` is said.
        masked: the walkers may not do the action of the step's number, modulo 3.
        state: there is a global state.
        shared: the reward is the environment's.
        verdict: it tells success: the last actions of all counted 2.
        named: agents have names.
    """

    def __init__(
        self,
        kind="categorical",
        batch=(),
        ends="whole",
        masked=False,
        state=False,
        shared=False,
        verdict=None,
        named=True,
    ):
        super().__init__(batch_size=batch)
        self.generator = torch.Generator()
        self.kind, self.ends, self.masked, self.shared, self.verdict = kind, ends, masked, shared, verdict
        self.sizes = {"walkers": 2, "talker": 1}
        if named:
            self.group_map = {"walkers": ["left", "right"], "talker": ["voice"]}
        lead, groups = tuple(batch), self.sizes.items()
        seen = {
            g: {
                "observation": Unbounded((*lead, n, 4)),
                "info": Composite(noise=Unbounded((*lead, n, 1)), shape=(*lead, n)),
                "episode_reward": Unbounded((*lead, n, 1)),
            }
            for g, n in groups
        }
        if masked:
            seen["walkers"]["action_mask"] = Categorical(2, shape=(*lead, 2, 3), dtype=torch.bool)
        if verdict == "group":
            for g, n in groups:
                seen[g]["info"]["success"] = Categorical(2, shape=(*lead, n, 1), dtype=torch.bool)
        whole = {g: Composite(each, shape=(*lead, self.sizes[g])) for g, each in seen.items()}
        whole |= {"state": Unbounded((*lead, 2), dtype=torch.float64)} if state else {}
        whole |= {"success": Categorical(2, shape=(*lead, 1), dtype=torch.bool)} if verdict == "whole" else {}
        self.observation_spec = Composite(whole, shape=lead)
        actions = {g: Composite(action=KINDS[kind]((*lead, n)), shape=(*lead, n)) for g, n in groups}
        self.action_spec = Composite(actions, shape=lead)
        rewards = {g: Composite(reward=Unbounded((*lead, n, 1)), shape=(*lead, n)) for g, n in groups}
        self.reward_spec = Composite({"reward": Unbounded((*lead, 1))} if shared else rewards, shape=lead)
        flag = Categorical(2, shape=(*lead, 1), dtype=torch.bool)
        done = {name: flag.clone() for name in (("done",) if ends == "done" else ("done", "terminated", "truncated"))}
        if ends in ("groups", "back"):
            own = Categorical(2, shape=(*lead, 1, 1), dtype=torch.bool)
            done["talker"] = Composite(done=own, terminated=own.clone(), shape=(*lead, 1))
        self.done_spec = Composite(done, shape=lead)

    def _set_seed(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def _reset(self, tensordict=None, **kwargs):
        self.count, self.last = 0, {g: torch.full((n,), -1.0) for g, n in self.sizes.items()}
        return self.look(self.flags())

    def _step(self, tensordict):
        self.count += 1
        n = self.batch_dims
        given = {g: tensordict[g, "action"] for g in self.sizes}
        self.last = {g: number_of(self.kind, a.reshape(a.shape[n:])).float() for g, a in given.items()}
        if self.shared:
            rewards = {"reward": sum(last.sum() for last in self.last.values()).reshape(*self.batch_size, 1)}
        else:
            rewards = {g: {"reward": last.reshape(*self.batch_size, -1, 1)} for g, last in self.last.items()}
        return self.look(self.flags(), rewards)

    def flags(self):
        over = torch.full((*self.batch_size, 1), self.count == 4)
        flags = {"done": over, "terminated": torch.zeros_like(over), "truncated": over}
        if self.ends == "done":
            return {"done": over}
        if self.ends in ("groups", "back"):
            own = torch.full((*self.batch_size, 1, 1), self.count in ((2,) if self.ends == "back" else (2, 3, 4)))
            flags["talker"] = {"done": own, "terminated": own.clone()}
        return flags

    def look(self, flags, rewards=None):
        lead, out = tuple(self.batch_size), {}
        well = all(bool((last == 2).all()) for last in self.last.values())
        for g, n in self.sizes.items():
            noise = torch.rand(n, generator=self.generator)
            seen = torch.stack([torch.arange(n).float(), torch.full((n,), float(self.count)), noise, self.last[g]], -1)
            out[g] = {"observation": seen.reshape(*lead, n, 4), "info": {"noise": noise.reshape(*lead, n, 1)},
                      "episode_reward": torch.zeros(*lead, n, 1)}  # fmt: skip
            if self.masked and g == "walkers":
                mask = torch.arange(3).expand(*lead, n, 3) != self.count % 3
                out[g]["action_mask"] = mask
            if self.verdict == "group":
                out[g]["info"]["success"] = (self.last[g] == 2).reshape(*lead, n, 1)
        if "state" in self.observation_spec:
            out["state"] = torch.tensor([self.count, 0.5], dtype=torch.float64).expand(*lead, 2)
        if self.verdict == "whole":
            out["success"] = torch.full((*lead, 1), well)
        for more in (flags, rewards or {}):
            for key, value in more.items():
                out[key] = {**out.get(key, {}), **value} if isinstance(value, dict) else value
        groups = {key: TensorDict(value, (*lead, self.sizes[key])) for key, value in out.items() if key in self.sizes}
        return TensorDict({**out, **groups}, lead)


class Resting(Groups):
    """The talker terminates after 2 steps; then its last action alone is legal, and others raise."""

    def __init__(self):
        super().__init__(ends="groups")
        self.observation_spec["talker", "action_mask"] = Categorical(2, shape=(1, 3), dtype=torch.bool)

    def look(self, flags, rewards=None):
        seen = super().look(flags, rewards)
        seen["talker", "action_mask"] = torch.tensor([[self.count < 2, self.count < 2, True]])
        return seen

    def _step(self, tensordict):
        if self.count >= 2 and tensordict["talker", "action"] != 2:
            raise ValueError("an illegal action")
        return super()._step(tensordict)


def make(**options) -> EnvBase:
    return Groups(**options)


def unnamed(**options):
    return Groups(**options)


def nothing() -> EnvBase:
    return None


def runs_code(command: str) -> int:
    return os.system(command)


class Alone(EnvBase):
    """One agent without a group."""

    def __init__(self):
        super().__init__()
        self.observation_spec, self.action_spec = Composite(observation=Unbounded((3,))), Categorical(2, shape=())
        self.reward_spec = Unbounded((1,))

    def _set_seed(self, seed):
        pass

    def _reset(self, tensordict=None, **kwargs):
        return TensorDict({"observation": torch.zeros(3)})

    def _step(self, tensordict):
        return TensorDict({"observation": torch.zeros(3), "reward": torch.zeros(1), "done": torch.zeros(1, dtype=bool)})


class Words(Groups):
    """Agents see something that is no number."""

    def __init__(self):
        super().__init__()
        self.observation_spec["walkers", "observation"] = NonTensor((2,))


class Unlike(Groups):
    """The walkers have different numbers of actions."""

    def __init__(self):
        super().__init__()
        self.action_spec["walkers", "action"] = torch.stack([Categorical(2), Categorical(3)])


class Twofold(Groups):
    """The walkers have two actions each."""

    def __init__(self):
        super().__init__()
        self.action_spec["walkers", "call"] = Categorical(2, shape=(2,))


class Misnamed(Groups):
    """A name for a walker is missing."""

    def __init__(self):
        super().__init__()
        self.group_map = {"walkers": ["left"], "talker": ["voice"]}


def transformed() -> TransformedEnv:
    return TransformedEnv(Groups(batch=(1,), masked=True), StepCounter(max_steps=3))


class Seeing(Groups):
    """Observations of every spec, under names of their own; ``drawn`` is what was shown last."""

    def __init__(self, batch=()):
        super().__init__(batch=batch)
        lead = tuple(batch)
        for g, n in self.sizes.items():
            nested = Composite(speed=Bounded(-1.0, 1.0, (*lead, n, 2)), pair=MultiCategorical([2, 3], (*lead, n, 2)),
                               shape=(*lead, n))  # fmt: skip
            self.observation_spec[g] = Composite(
                camera=Bounded(0, 255, (*lead, n, 3, 6, 5), dtype=torch.uint8),
                flags=Categorical(2, shape=(*lead, n, 2), dtype=torch.bool),
                team=Categorical(4, shape=(*lead, n)),
                code=OneHot(3, shape=(*lead, n, 3)),
                nested=nested,
                mask=Categorical(2, shape=(*lead, n), dtype=torch.bool),
                shape=(*lead, n),
            )

    def look(self, flags, rewards=None):
        whole = super().look(flags, rewards)
        self.drawn = {}
        for g in self.sizes:
            with torch.random.fork_rng():
                torch.manual_seed(int(torch.randint(2**31, (), generator=self.generator)))
                self.drawn[g] = self.observation_spec[g].rand()
            kept = whole[g].select("reward", strict=False)
            whole[g] = self.drawn[g].clone().update(kept)
        return whole


def seeing(**options) -> EnvBase:
    return Seeing(**options)


class Faulty(Groups):
    """From step ``since`` on (0: the reset) an entry that its specs have is not there, or has another shape.

    Args:
        key: of the entry, names with dots between.
        shape: of what is there instead; None: nothing is.
        since: a step's number.
    """

    def __init__(self, key, shape=None, since=0):
        super().__init__(ends="groups", masked=True, state=True, verdict="group")
        self.key, self.instead, self.since = tuple(key.split(".")), shape, since

    def look(self, flags, rewards=None):
        whole = super().look(flags, rewards)
        if self.count >= self.since and self.key in whole.keys(True):
            whole.batch_size = torch.Size([])
            for depth in range(1, len(self.key)):
                whole[self.key[:depth]].batch_size = torch.Size([])
            del whole[self.key]
            if self.instead is not None:
                whole[self.key] = torch.ones(self.instead)
        return whole
