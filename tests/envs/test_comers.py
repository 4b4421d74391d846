"""PettingZoo agents that come and go: step by step against the package itself, and what is refused or named."""

import numpy as np
import pytest
import torch
from comers import Deaths, Steady, Visitors, VisitorsInBoxes

from lit_maprops import keys
from lit_maprops.cli.main import main
from lit_maprops.envs import PettingZoo, TaskEnv
from lit_maprops.envs.ends import ABSENT, RUNS, TERMINATED, TRUNCATED
from lit_maprops.envs.faults import RowsFailed
from lit_maprops.system.errors import ConfigError

STATES = {
    "visitors": True,
    "visitors_in_boxes": True,
    "deaths": False,
    "steady": True,
}  # and whether they tell who is there
KINDS = {"visitors": Visitors, "visitors_in_boxes": VisitorsInBoxes, "deaths": Deaths, "steady": Steady}


def given(env, agent, action):
    """An action in the package's own numbers."""
    space = env.action_space(agent)
    if hasattr(space, "n"):
        return int(action) + int(space.start)
    own = action[: space.shape[0]].astype(np.float64)
    return ((space.high + space.low) / 2.0 + (space.high - space.low) / 2.0 * own).astype(np.float32)


class Slow:
    """One episode of a package, agent by agent, as its own words tell."""

    def __init__(self, name, seed):
        self.env = KINDS[name]()
        self.sight = dict(self.env.reset(seed=seed)[0])
        self.end = {a: RUNS if a in self.env.agents else ABSENT for a in self.env.possible_agents}
        self.reward, self.over, self.cut = dict.fromkeys(self.end, 0.0), False, False
        self.just = set()  # truncated by the last step

    def step(self, action):
        before = list(self.env.agents)
        numbers = {a: given(self.env, a, action[k]) for k, a in enumerate(self.end) if a in before}
        seen, reward, terminated, truncated, _ = self.env.step(numbers)
        self.sight = {a: seen[a] for a in {*before, *self.env.agents}}
        self.reward = {a: reward[a] if a in before else 0.0 for a in self.end}
        for a in before:
            if terminated[a] or truncated[a]:
                self.end[a] = TERMINATED if terminated[a] else TRUNCATED
        for a in self.env.agents:
            self.end[a] = RUNS
        self.just = {a for a in before if self.end[a] == TRUNCATED}
        self.over = not self.env.agents
        self.cut = self.over and any(truncated[a] and not terminated[a] for a in before)

    def observation(self):
        return [[float(x) for x in self.sight[a]] if a in self.sight else [0.0] * 4 for a in self.end]


@pytest.mark.parametrize(("name", "tells"), STATES.items())
def test_steps_are_those_of_the_package(name, tells):
    task, rng, met = PettingZoo(f"comers.{name}", max_steps=9), np.random.default_rng(0), set()
    rows, agents = 12, task.n_agents
    state = task.initial_state(torch.rand(rows, task.start_noise, generator=torch.Generator().manual_seed(1)))
    slow = [Slow(name, seed) for seed in state["seed"].tolist()]
    starts = {tuple(one.end.values()) for one in slow}
    assert len(starts) > 3 or "visitors" not in name  # different agents in different episodes
    for step in range(8):
        observation, vector = task.observe(state)
        for row, one in enumerate(slow):
            assert observation[row].tolist() == pytest.approx(np.array(one.observation()))
            flags = [float(end == RUNS or name in one.just) for name, end in one.end.items()] if tells else []
            assert vector[row].tolist() == pytest.approx(np.concatenate([*one.observation(), flags]))
            assert task.agent_ends(state)[row].tolist() == list(one.end.values())
            met |= set(one.end.values())
        shape = (rows, agents, task.action_dim) if task.continuous_actions else (rows, agents)
        sizes = task.action_mask().sum(-1).numpy()
        action = rng.uniform(-1, 1, shape) if task.continuous_actions else rng.integers(0, sizes, shape)
        action = action.astype(np.float32) if task.continuous_actions else action
        running = [not one.over for one in slow]
        for row, one in enumerate(slow):
            if running[row]:
                one.step(action[row])
        if step == 2:
            task._live.forget()  # all play their episodes again
        outcome = task.transition(state, torch.from_numpy(action), torch.zeros(rows, 0))
        state = outcome.state
        for row, one in enumerate(slow):
            if running[row]:
                assert outcome.reward[row].tolist() == pytest.approx(list(one.reward.values()))
                assert (bool(outcome.terminated[row]), bool(outcome.truncated[row])) == (
                    one.over and not one.cut,
                    one.cut,
                )
            else:
                assert not outcome.reward[row].any()
    assert all(one.over for one in slow)
    assert met >= ({RUNS, TERMINATED, TRUNCATED} if name == "deaths" else {RUNS, TERMINATED, TRUNCATED, ABSENT})


def test_the_global_state_tells_who_is_there_where_asked():
    sizes = {presence: PettingZoo("comers.deaths", presence=presence).state_dim for presence in (None, False, True)}
    assert sizes == {None: 12, False: 12, True: 15}
    assert PettingZoo("comers.visitors", presence=False).state_dim == 16


def test_d_has_the_ends_and_torchrl_takes_them():
    env = TaskEnv(PettingZoo("comers.masked_visitors", max_steps=8), 0, [0, 1], 3)
    steps = env.rollout(25, break_when_any_done=False)  # of random actions; the toy raises at illegal ones
    end, after = steps.get(keys.END), steps.get(("next", *keys.END))
    assert set(end.unique().tolist()) == {RUNS, TERMINATED, TRUNCATED, ABSENT}
    assert ((end == ABSENT) & (after == RUNS)).any() and not ((end != RUNS) & (end != ABSENT) & (after == RUNS)).any()
    assert not steps.get(("next", *keys.REWARD)).squeeze(-1)[end != RUNS].any()
    assert steps.get(keys.ACTION_MASK)[end != RUNS].any(-1).all()


REFUSED = {
    "nobody": ["starts without any agent"],
    "revived": ["cannot be played", "agent a acts after its end"],
    "relisted": ["cannot be played", "agent a acts after its end: it is neither terminated nor truncated any more"],
    "unannounced": ["cannot be played", "agent b comes without an observation"],
    "shrinking": ["cannot be played", "its state() has 1 more numbers than at first"],
    "stranger": ["cannot be played", "its agents hold e, who is not one of its possible_agents"],
}


@pytest.mark.parametrize(("name", "words"), REFUSED.items())
def test_who_cannot_be_followed_is_one_line(name, words):
    with pytest.raises(ConfigError) as error:
        PettingZoo(f"comers.{name}")
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in [f"comers.{name}", *words]), text


def test_an_episode_without_anybody_is_a_fault_of_its_row(monkeypatch):
    monkeypatch.setattr("lit_maprops.envs.pettingzoo.task.check_determined", lambda *arguments: None)
    task = PettingZoo("comers.nobody_at_times")
    with pytest.raises(RowsFailed) as error:
        task.initial_state(torch.rand(8, 2, generator=torch.Generator().manual_seed(0)))
    assert 0 < len(error.value.errors) < 8
    assert {str(one) for one in error.value.errors.values()} == {"it starts without any agent"}


SMALL = {
    "num_seeds": 2, "total_env_steps": 96, "eval_interval": 2, "eval_episodes": 2, "learner": "MAPPO",
    "learner.epochs": 1, "learner.hidden": [4], "checkpoint_interval": 1,
}  # fmt: skip
TRUST = ["--trust", "comers"]
DATA = {"env": "PettingZoo", "num_envs": 2, "behavior_batch_size": 8, "target_batch_size": 32, "history_batches": 2}


def fit(runs, name, toy, **model):
    data = DATA | {"env.name": f"comers.{toy}", "env.max_steps": 8}
    flags = [f"--model.{k}={v}" for k, v in (SMALL | model).items()] + [f"--data.{k}={v}" for k, v in data.items()]
    return main(["fit", *flags, "--runs_dir", str(runs), "--run_name", name])


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("toy", "behavior"),
    [("visitors", "MAPROPS"), ("masked_visitors", "LowDiscrepancy"), ("visitors_in_boxes", "GaussianAdjustment")],
)
def test_runs_resume_bit_for_bit_and_are_analyzed(tmp_path, capsys, toy, behavior):
    assert fit(tmp_path, "whole", toy, behavior=behavior) == 0
    assert fit(tmp_path, "part", toy, behavior=behavior, total_env_steps=64) == 0
    last = "checkpoints/last.ckpt"
    assert main(["fit", "--ckpt_path", str(tmp_path / "part" / last), "--model.total_env_steps", "96", *TRUST]) == 0
    whole, part = (torch.load(tmp_path / name / last, weights_only=True) for name in ("whole", "part"))
    assert whole["state_dict"].keys() == part["state_dict"].keys()
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, part["state_dict"][name]), name
    capsys.readouterr()
    path = str(tmp_path / "whole" / last)
    assert main(["analyze", "--ckpt_path", path, "--batches", "3", "--reference_batches", "3", *TRUST]) == 0
    assert "nan" not in capsys.readouterr().out.lower()
