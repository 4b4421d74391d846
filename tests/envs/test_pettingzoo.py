"""PettingZoo: steps are the package's own and TorchRL's, states rebuild their episodes, what cannot be is refused."""

import io
import random
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from env_cases import assert_same, make, play, random_actions, trajectory

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.cli.main import main
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import PettingZoo, TaskEnv
from lit_maprops.envs.pettingzoo.agents import Agents
from lit_maprops.envs.pettingzoo.packages import found
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.flags import with_flags
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import LEARNERS

pytest.importorskip("pettingzoo")
mpe2, mujoco = pytest.importorskip("mpe2"), pytest.importorskip("gymnasium_robotics")

SPREAD, LISTENER = "mpe2.simple_spread_v3", "mpe2.simple_speaker_listener_v4"
CONTINUOUS, REACHER = {"continuous_actions": True}, {"scenario": "Reacher", "agent_conf": "2x1"}
MUJOCO = "gymnasium_robotics.mamujoco_v1"
PLAYED = {
    "discrete": (SPREAD, {}, [5, 5, 5]),
    "discrete, different": (LISTENER, {}, [3, 5]),
    "boxes from 0 to 1, different": (LISTENER, CONTINUOUS, [3, 5]),
    "arm": (MUJOCO, REACHER, [1, 1]),
    "cheetah, motors up to 1": (MUJOCO, {"scenario": "HalfCheetah", "agent_conf": "2x3"}, [3, 3]),
    "ant": (MUJOCO, {"scenario": "Ant", "agent_conf": "4x2"}, [2, 2, 2, 2]),
    "humanoid, motors up to 0.4": (MUJOCO, {"scenario": "Humanoid", "agent_conf": "9|8"}, [9, 8]),
}


def starts(task, rows, salt=0):
    return task.initial_state(torch.rand(rows, 2, generator=torch.Generator().manual_seed(salt)))


def some_actions(task, steps, rows, salt=1):
    """``[steps, rows, A]`` or ``[steps, rows, A, D]`` with anything in padded components."""
    generator = torch.Generator().manual_seed(salt)
    if task.continuous_actions:
        return 2 * torch.rand(steps, rows, *task.action_mask().shape, generator=generator) - 1
    return torch.randint(1000, (steps, rows, task.n_agents), generator=generator) % task.action_mask().sum(1)


def step(task, state, action):
    return task.transition(state, action, torch.zeros(len(action), 0))


def as_the_package_takes(env, row, continuous):
    """An action ``[A]`` or ``[A, D]`` as the dictionary for ``env``."""
    given = {}
    for name, chosen in zip(env.possible_agents, row, strict=True):
        space = env.action_space(name)
        if continuous:
            numbers = chosen[: space.shape[0]].numpy().astype(float)
            low, high = space.low.astype(float), space.high.astype(float)
            given[name] = (low + high + numbers * (high - low)).astype(np.float32) / 2
        else:
            given[name] = int(chosen)
    return given


@pytest.mark.parametrize(("name", "options", "sizes"), PLAYED.values(), ids=PLAYED)
def test_steps_are_the_packages_own(name, options, sizes):
    task, rows, steps = PettingZoo(name, options, max_steps=20), 3, 15
    assert task.action_mask().sum(1).tolist() == sizes and task.continuous_actions == (name == MUJOCO or bool(options))
    state, actions, returns = starts(task, rows), some_actions(task, steps, rows), torch.zeros(rows)
    packages = [found(name)(**options) for _ in range(rows)]
    seen = [env.reset(seed=int(seed))[0] for env, seed in zip(packages, state["seed"], strict=True)]
    for action in actions:
        state, reward, terminated, success, truncated = step(task, state, action)
        observation, vector = task.observe(state)
        for row, env in enumerate(packages):
            seen, rewards, ends, cuts, _ = env.step(as_the_package_takes(env, action[row], task.continuous_actions))
            for agent, agent_name in enumerate(env.possible_agents):
                theirs = torch.from_numpy(seen[agent_name]).float()
                assert torch.equal(observation[row, agent, : len(theirs)], theirs)
                assert not observation[row, agent, len(theirs) :].any()
            assert torch.equal(vector[row], torch.from_numpy(env.state()).float())
            assert reward[row].tolist() == [np.float32(rewards[each]) for each in env.possible_agents]
            assert bool(terminated[row]) == all(ends.values()) and bool(truncated[row]) == any(cuts.values())
        returns += reward.abs().sum(1)
        if terminated.any():  # the ant fell, the package goes on
            break
    assert (returns > 0).all() and not success.any()
    assert len(state["seed"].unique()) == rows


@pytest.mark.parametrize(
    ("name", "options"), [(SPREAD, {}), (SPREAD, CONTINUOUS), (LISTENER, CONTINUOUS), (MUJOCO, REACHER)], ids=str
)
def test_steps_are_those_of_torchrls_wrapper(name, options):
    from torchrl.envs import MarlGroupMapType
    from torchrl.envs.libs.pettingzoo import PettingZooWrapper

    task, steps = PettingZoo(name, options, max_steps=60), 55
    state, actions = starts(task, 1), some_actions(task, steps, 1)
    wrapper = PettingZooWrapper(
        found(name)(**options), group_map=MarlGroupMapType.ONE_GROUP_PER_AGENT, return_state=True
    )
    theirs = wrapper.reset(seed=int(state["seed"][0]))
    for action in actions:
        given = as_the_package_takes(wrapper._env, action[0], task.continuous_actions)
        for agent, value in given.items():
            theirs.set((agent, "action"), torch.as_tensor(value).unsqueeze(0))
        theirs = wrapper.step(theirs)["next"]
        state, reward, terminated, _, truncated = step(task, state, action)
        observation, vector = (value[0] for value in task.observe(state))
        for number, agent in enumerate(given):
            seen = theirs[agent, "observation"][0].float()
            assert torch.equal(observation[number, : len(seen)], seen)
            assert torch.equal(reward[0, number], theirs[agent, "reward"][0, 0].float())
        assert torch.equal(vector, theirs["state"].float())
        assert (bool(terminated[0]), bool(truncated[0])) == (bool(theirs["terminated"]), bool(theirs["truncated"]))
        if truncated.any():
            break
    assert truncated.all(), "the package's own time limit"
    assert int(state["taken"][0]) == (50 if name == MUJOCO else 25)


@pytest.mark.every(2)
@pytest.mark.parametrize(("name", "options", "sizes"), PLAYED.values(), ids=PLAYED)
def test_a_forgotten_episode_is_rebuilt_and_a_state_can_be_stepped_again(name, options, sizes):
    task, rows, steps = PettingZoo(name, options, max_steps=12), 3, 12
    state, actions = starts(task, rows), some_actions(task, steps, rows)
    visited = [state]
    for action in actions:
        visited.append(step(task, visited[-1], action).state)
    other = PettingZoo(name, options, max_steps=12)
    for number in (7, 0, 11, 3):
        task._live.forget()
        for each in (task, task, other):  # rebuilt, rebuilt again as the object moved on, and in another process
            assert_same(step(each, visited[number], actions[number]).state, visited[number + 1])


def counted(monkeypatch):
    calls = {"reset": 0, "step": 0}
    for method in calls:
        original = getattr(Agents, method)

        def counting(self, *args, original=original, method=method):
            calls[method] += 1
            return original(self, *args)

        monkeypatch.setattr(Agents, method, counting)
    return calls


def test_training_and_evaluation_by_turns_replay_nothing(monkeypatch):
    task = PettingZoo(SPREAD, max_steps=6)
    calls = counted(monkeypatch)
    training = TaskEnv(task, 1, [0, 7], 3)
    current, rows = training.reset(), 6
    for turn in range(3):
        _, current = play(training, current, random_actions(training, (0, 7), 4, turn))
        evaluation = TaskEnv(task, 1, [0, 7], 8, f"evaluation {turn}")
        play(evaluation, evaluation.reset(), random_actions(evaluation, (0, 7), 5))  # leaves episodes unfinished
    assert calls["step"] == rows * 12 + 3 * 16 * 5
    assert calls["reset"] == rows * 3 + 3 * 16  # the training episodes end twice
    assert len(task._live) <= 2 * 16


def test_live_environments_are_bounded_and_the_oldest_goes():
    task, rows = PettingZoo("pettingzoo_toys.plain"), 5
    first = starts(task, rows)
    for salt in range(1, 20):
        state = step(task, starts(task, rows, salt), some_actions(task, 1, rows)[0]).state
    assert len(task._live) == 2 * rows
    held = {seed for seed, _ in task._live._live}
    assert set(state["seed"].tolist()) <= held and not held & set(first["seed"].tolist())
    # Rows in one state each have an environment of their own.
    same = {name: value[:1].expand(rows, *value.shape[1:]) for name, value in first.items()}
    action = some_actions(task, 1, 1)[0].expand(rows, -1)
    after = step(task, same, action).state
    assert_same({n: v[0] for n, v in after.items()}, {n: v[0] for n, v in step(task, first, action).state.items()})
    assert len(task._live) == 2 * rows


@pytest.mark.parametrize(("name", "options"), [(LISTENER, {}), (MUJOCO, REACHER)], ids=str)
def test_a_resume_in_mid_episode_continues_bit_for_bit(name, options, monkeypatch):
    ids, settings = (0, 7), {"name": name, "options": options, "max_steps": 10}
    env = make("PettingZoo", settings, ids)
    actions = random_actions(env, ids, 30)
    _, current = play(env, env.reset(), actions[:14])
    file = io.BytesIO()
    torch.save(env.checkpoint_state(), file)
    file.seek(0)
    carried, expected = current.clone(), play(env, current, actions[14:])[0]
    restored = make("PettingZoo", settings, ids)
    restored.restore(torch.load(file, weights_only=True))
    calls = counted(monkeypatch)
    assert_same(expected, play(restored, carried, actions[14:])[0])
    assert calls["step"] == 6 * (16 + 4), "4 steps of each running episode are played again"


def test_a_fixed_start_is_one_start_and_one_seed_of_the_package():
    env = make("PettingZoo", {"fixed_start": True, "max_steps": 3}, (0, 7))
    steps = trajectory(env, (0, 7), 7)
    for start in (3, 6):
        assert torch.equal(steps["state"][0], steps["state"][start])
    assert (steps["state"][0] == steps["state"][0][:, :1]).all()
    assert not torch.equal(steps["state"][0, 0], steps["state"][0, 1])


def test_the_packages_time_limit_truncates():
    env = make("PettingZoo", {"name": LISTENER, "options": {"max_cycles": 5}, "max_steps": 9})
    after = trajectory(env, (0, 7), 12)["next"]
    last = torch.arange(12) % 5 == 4
    assert torch.equal(after["truncated"].flatten(1).all(1), last) and torch.equal(after["done"], after["truncated"])
    assert not after["terminated"].any() and not after["success"].any()


def test_the_rules_of_a_toy_reach_the_tensors():
    task = PettingZoo("pettingzoo_toys.plain", max_steps=9)
    assert (task.n_actions, task.observation_dim, task.state_dim) == (3, 3, 6)  # it has no state of its own
    state = starts(task, 1)
    assert task.observe(state)[0].tolist() == [[[0, 0, -1], [1, 0, -1]]]
    for count, action in enumerate([[0, 2], [1, 1], [1, 0], [0, 0]], 1):
        state, reward, terminated, _, truncated = step(task, state, torch.tensor([action]))
        observation, vector = task.observe(state)
        assert observation.tolist() == [[[0, count, action[0]], [1, count, action[1] + 5]]]  # numbers from 5 on
        assert torch.equal(vector, observation.flatten(1)) and reward.tolist() == [[1, 1]]
        assert (bool(terminated), bool(truncated)) == (False, count == 4)
    over = step(task, state, torch.tensor([[0, 0]]))
    assert_same(over.state, state)
    assert over.truncated.all() and not over.reward.any()


def test_agents_that_leave_early_see_zeros_until_the_last_has_left():
    task = PettingZoo("pettingzoo_toys.leaving", max_steps=9)
    state, rewards, ends = starts(task, 1), [], []
    for _ in range(3):
        state, reward, terminated, _, truncated = step(task, state, torch.tensor([[1, 2]]))
        rewards.append(reward[0].tolist())
        ends.append((bool(terminated), bool(truncated)))
    assert rewards == [[1, 1], [1, 1], [0, 1]] and ends == [(False, False), (False, False), (True, False)]
    assert task.observe(state)[0].tolist() == [[[0, 0, 0], [0, 3, 7]]]  # what is left is the first in the list


def episode(name, steps):
    """Outcomes of one episode under action 0."""
    task = PettingZoo(name, max_steps=9)
    state, outcomes = task.initial_state(torch.rand(1, 2)), []
    for _ in range(steps):
        outcomes.append(task.transition(state, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 0)))
        state = outcomes[-1].state
    return outcomes


def test_terminated_and_truncated_at_once_is_terminated():
    """So V is what the rewards of three steps add up to: 2.97, 1.99, 1 at gamma 0.99, and not 99."""
    outcomes = episode("pettingzoo_toys.both_at_once", 3)
    assert [bool(o.terminated) for o in outcomes] == [False, False, True]
    assert not any(o.truncated for o in outcomes)


def test_agents_that_stay_after_their_end_are_not_paid_and_see_nothing():
    outcomes = episode("pettingzoo_toys.lingering", 4)
    assert [o.reward[0].tolist() for o in outcomes] == [[10, 10], [10, 10], [0, 10], [0, 10]]
    assert [o.state["observation"][0, 0].tolist() for o in outcomes] == [[9] * 3, [9] * 3, [0] * 3, [0] * 3]
    assert [bool(o.truncated) for o in outcomes] == [False, False, False, True]
    assert not any(o.terminated for o in outcomes)


def test_every_agents_end_is_its_own():
    """Of the survivor's truncation the others, who had terminated before it, know nothing."""
    task = PettingZoo("pettingzoo_toys.survivor", max_steps=9)
    state, ends = task.initial_state(torch.rand(1, 2)), []
    for _ in range(6):
        outcome = task.transition(state, torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 0))
        state = outcome.state
        ends.append(task.agent_ends(state)[0].tolist())
    assert ends == [[0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 2]]
    assert outcome.truncated.all() and not outcome.terminated.any()


def test_numbers_may_come_in_arrays_of_one():
    for plain, arrays in zip(
        episode("pettingzoo_toys.plain", 4), episode("pettingzoo_toys.array_like", 4), strict=True
    ):
        assert torch.equal(plain.reward, arrays.reward)
        assert (plain.terminated, plain.truncated) == (arrays.terminated, arrays.truncated)


def test_boxes_are_scaled_from_minus_one_to_one():
    task, boxes = PettingZoo("pettingzoo_toys.boxes"), found("pettingzoo_toys.boxes").does
    assert task.action_mask().tolist() == [[True, False, False, False], [True] * 4]
    start = starts(task, 1)
    for share in (-1.0, 0.0, 0.5, 1.0):
        last = step(task, start, torch.full((1, 2, 4), share)).state["observation"][0, :, 2]
        scaled = [
            np.interp(share, [-1, 1], ends) for box in boxes for ends in zip(box.low.flat, box.high.flat, strict=True)
        ]
        assert last.tolist() == pytest.approx([scaled[0], sum(scaled[1:])])


def generators():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


@pytest.mark.parametrize("name", [SPREAD, MUJOCO, "pettingzoo_toys.seeded_globally"])
def test_global_generators_are_left_alone(name):
    before = generators()
    if name.startswith("pettingzoo_toys"):  # refused
        with pytest.raises(ConfigError):
            PettingZoo(name)
    else:
        trajectory(make("PettingZoo", {"name": name, "options": REACHER if name == MUJOCO else {}}), (0, 7), 7)
    assert generators() == before


BAD = {
    "no module": ({"name": "mpe2.simple_chess_v1"}, ["--data.env.name", "mpe2.simple_chess_v1"]),
    "no package": ({"name": "mpe9.simple_spread_v3"}, ["no module mpe9", "import path"]),
    "no name": ({"name": ""}, ["--data.env.name"]),
    "moved": ({"name": "pettingzoo.mpe.simple_spread_v3"}, ["--data.env.name", "pip install mpe2"]),
    "no PettingZoo module": ({"name": "json.decoder"}, ["--data.env.name", "parallel_env"]),
    "nothing in it": ({"name": "pettingzoo_toys.nothing"}, ["parallel_env"]),
    "a class in it": ({"name": "pettingzoo_toys"}, ["no parallel_env: give its class, pettingzoo_toys."]),
    "a class misspelt": ({"name": "pettingzoo_toys.Leavin"}, ["no module pettingzoo_toys.Leavin", "mean Leaving"]),
    "the function itself": ({"name": "mpe2.simple_v3.parallel_env"}, ["give its module alone, mpe2.simple_v3"]),
    "a class of turns": ({"name": "pettingzoo.AECEnv"}, ["no parallel_env", "turns"]),
    "an agent overlooked": (
        {"name": "pettingzoo_toys.overlooked"},
        ["agent b is in agents and no observation is given"],
    ),
    "another key": ({"name": "pettingzoo_toys.misnamed"}, ["what agent a sees has no observation"]),
    "turns only": ({"name": "pettingzoo_toys.by_turns"}, ["parallel_env", "turns"]),
    "options": ({"options": {"agents": 3}}, ["--data.env.options", "agents 3"]),
    "an option is missing": ({"name": MUJOCO}, ["--data.env.options", "no options", "scenario"]),
    "a model is missing": ({"name": MUJOCO, "options": REACHER | {"agent_conf": "1x9"}}, ["--data.env.options"]),
    "mixed": ({"name": "pettingzoo_toys.mixed"}, ["Box and Discrete"]),
    "unbounded": ({"name": "pettingzoo_toys.unbounded"}, ["without bounds"]),
    "a mask alone": ({"name": "pettingzoo_toys.dictionaries"}, ["see nothing but what they may do"]),
    "nobody": ({"name": "pettingzoo_toys.anonymous"}, ["possible_agents"]),
    "unseeded": ({"name": "pettingzoo_toys.unseeded"}, ["reset with a seed"]),
    "an old reset": ({"name": "pettingzoo_toys.old_reset"}, ["old interface", "observations and infos"]),
    "NaN": ({"name": "pettingzoo_toys.blind"}, ["gives NaN in an observation"]),
    "no reward": ({"name": "pettingzoo_toys.unpaid"}, ["the reward of agent a is None"]),
    "two rewards": ({"name": "pettingzoo_toys.paid_twice"}, ["the reward of agent a is an array of shape (2,)"]),
    "a broken state": ({"name": "pettingzoo_toys.broken_state"}, ["has a state() that fails", "concatenate"]),
    "a state broken later": ({"name": "pettingzoo_toys.broken_state_later"}, ["its state() fails", "concatenate"]),
    "a mask of another size": ({"name": "pettingzoo_toys.masked"}, ["action_mask of agent b is [1 0], expected 3"]),
    "no legal action": (
        {"name": "pettingzoo_toys.stuck_from_the_start"},
        ["starts without a legal action of agent b: mend its action_mask"],
    ),
    "spaces that raise": (
        {"name": "pettingzoo_toys.no_spaces"},
        ["--data.env.name", "raises when asked for an observation_space", "have to be positive"],
    ),
    "masks later": ({"name": "pettingzoo_toys.masked_later"}, ["cannot be played", "reset had given none"]),
    "masked boxes": ({"name": "pettingzoo_toys.doors_in_boxes"}, ["action_mask", "boxes"]),
    "whole numbers": ({"name": "pettingzoo_toys.whole_numbers"}, ["whole numbers (int64)", "Discrete"]),
    "few whole numbers": ({"name": "pettingzoo_toys.bytes_"}, ["whole numbers (int8)", "Discrete"]),
    "global numbers": ({"name": "pettingzoo_toys.global_numbers"}, ["different episodes"]),
    "seeded globally": ({"name": "pettingzoo_toys.seeded_globally"}, ["different episodes"]),
    "remembers": ({"name": "pettingzoo_toys.remembers"}, ["different episodes"]),
    "no steps": ({"max_steps": 0}, ["--data.env.max_steps"]),
    "no way of squashing": ({"squash": "sigmoid"}, ["--data.env.squash", "tanh, clip"]),
}


@pytest.mark.parametrize(("settings", "words"), BAD.values(), ids=BAD)
def test_what_cannot_work_is_one_line(settings, words):
    with pytest.raises(ConfigError) as error:
        PettingZoo(**settings)
    text = with_flags(error.value.marked)
    assert "\n" not in text and all(word in text for word in words), text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def f(:", "SyntaxError: invalid syntax"),
        ("x = y", "NameError: name 'y' is not defined"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("open('no_such_file')", "FileNotFoundError: "),
        ("import no_such_package", "there is no module no_such_package: install no_such_package"),
    ],
)
def test_a_module_that_fails_is_one_line(monkeypatch, tmp_path, code, words):
    (tmp_path / "failing_door.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as error:
        PettingZoo("failing_door")
    text = with_flags(error.value.marked)
    assert text.startswith("--data.env.name is 'failing_door'") and words in text and "\n" not in text


def test_a_class_can_be_named_itself():
    tasks = [PettingZoo(f"pettingzoo_toys.{name}") for name in ("Leaving", "leaving")]
    noise = torch.rand(1, 2)
    one, other = (task.initial_state(noise) for task in tasks)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert tasks[0].title == "PettingZoo pettingzoo_toys.Leaving"


@pytest.mark.parametrize("missing", ["mpe2", "pettingzoo"])
def test_a_missing_package_is_one_line(monkeypatch, capsys, tmp_path, missing):
    for module in [name for name in sys.modules if name.partition(".")[0] == "mpe2"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    config = ["--config", str(ROOT / "conf/vmas_balance.yaml"), "--runs_dir", str(tmp_path)]
    assert main(["fit", *config, "--data.env", "PettingZoo", "--data.env.name", SPREAD]) == 2
    error = capsys.readouterr().err.strip()
    assert "pip install " in error and "'pettingzoo>=1.25' 'mpe2>=1.1'" in error and len(error.splitlines()) == 1, error


@pytest.mark.parametrize(
    ("options", "behavior"), [({}, "MAPROPS"), (CONTINUOUS, "GaussianAdjustment")], ids=["discrete", "continuous"]
)
def test_a_small_run_of_agents_that_differ(tmp_path, options, behavior):
    small = {
        "num_seeds": 2, "total_env_steps": 64, "eval_interval": 2, "eval_episodes": 2, "behavior": behavior,
        "learner": "MAPPO", "learner.epochs": 1,
    }  # fmt: skip
    data = {"env": "PettingZoo", "env.name": LISTENER, "env.options": options, "env.max_steps": 10, "num_envs": 2}
    data |= {"behavior_batch_size": 8, "target_batch_size": 32}
    flags = [f"--model.{k}={v}" for k, v in small.items()] + [f"--data.{k}={v}" for k, v in data.items()]
    assert main(["fit", *flags, "--runs_dir", str(tmp_path), "--run_name", "x"]) == 0
    rows = pd.read_csv(tmp_path / "x" / "metrics.csv")
    assert len(rows) == 2 and (rows["train/episode_return"] < 0).all() and (rows["behavior/kl"] >= 0).all()
    assert rows["train/success_rate"].isna().all()  # PettingZoo has none


DISCRETE = sorted(
    name for name, kind in BEHAVIORS.items() if kind.discrete and name not in ("Greedy", "TabularMAPROPS")
)
SAMPLERS = [(name, "survivor") for name in DISCRETE]
SAMPLERS += [(name, "survivor_in_boxes") for name in sorted(BEHAVIORS) if BEHAVIORS[name].continuous]


@pytest.mark.every(2)
@pytest.mark.parametrize("learner", ["IPPO", pytest.param("Reinforce", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("behavior", "toy"), SAMPLERS)
def test_agents_that_left_choose_nothing_whatever_samples(behavior, toy, learner):
    """Two batches under every sampler; D holds their first action, with probability 1, and all figures are finite."""
    run = LitMAPROPS(BEHAVIORS[behavior](), LEARNERS[learner](), num_seeds=2, total_env_steps=96, eval_episodes=1,
                     sampling_error="energy" if "boxes" in toy else "likelihood")  # fmt: skip
    data = MultiAgentData(PettingZoo(f"pettingzoo_toys.{toy}", max_steps=8), num_envs=2, behavior_batch_size=12,
                          target_batch_size=48)  # fmt: skip
    run.prepare(data)
    run.on_fit_start()
    for _ in range(2):
        run._start_iteration()
        while not run.buffer.is_full:
            collected = run._collect()
            if not run.buffer.is_full:
                run._update_behavior(collected)
        run._measure()
        batch = run.buffer.current().clone()
        run._update_targets()
        left = batch.get(keys.END) != 0
        assert left[..., 0].sum() > 0 and left[..., 2].sum() == 0
        assert (batch.get(keys.LOG_PROB)[left] == 0).all() or "boxes" in toy
        if "boxes" not in toy:
            assert not batch.get(keys.ACTION)[left].any()
        figures = {name: value for name, value in run.row.items() if "success" not in name}
        assert all(value.isfinite().all() for value in figures.values()), figures
    # 2 + 4 + 6 steps are paid 1 each; the mean is over agents.
    assert run.row["train/episode_return"].tolist() == [4, 4]
    assert all(parameter.isfinite().all() for parameter in run.parameters())
