"""VMAS: steps and starts are the simulator's own, worlds and seeds keep apart, what cannot be is refused."""

import io
import random
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from env_cases import assert_same, make, play, random_actions, trajectory
from scipy.stats import ks_2samp

from lit_maprops.cli.main import main
from lit_maprops.envs import VMAS
from lit_maprops.run.flags import with_flags
from lit_maprops.system.errors import ConfigError

vmas = pytest.importorskip("vmas")
CPU = torch.device("cpu")
ROWS = 32  # loops over other numbers of worlds may round the last ones differently


def always_looked_for(world):
    """VMAS's own test of which bodies to look at for contacts, without its shortcut across worlds."""

    def collides(a, b):
        moves = any(body.movable or body.rotatable for body in (a, b))
        return a.collides(b) and b.collides(a) and moves and {type(a.shape), type(b.shape)} in world._collidable_pairs

    return collides


def as_vmas_takes(environment, action):
    """Ours ``[P, A]`` or ``[P, A, D]`` as VMAS's list of actions: forces within u_range, messages within [0, 1]."""
    if not environment.continuous_actions:
        return [one.unsqueeze(-1) for one in action.unbind(1)]
    given = []
    for agent, chosen in zip(environment.agents, action.unbind(1), strict=True):
        force = chosen[:, : agent.action_size] * torch.as_tensor(agent.u_range)
        words = 0 if agent.silent else environment.world.dim_c
        message = (chosen[:, agent.action_size : agent.action_size + words] + 1) / 2
        given.append(torch.cat([force, message], 1))
    return given


def padded(seen):
    """What agents see as ``[P, A, O]``."""
    longest = max(one.shape[1] for one in seen)
    return torch.stack([torch.cat([one, torch.zeros(len(one), longest - one.shape[1])], 1) for one in seen], 1)


def reference_at_start(task, noise, **options):
    """VMAS's environment with every body where ``initial_state`` puts it."""
    ours = task._built(ROWS, CPU).env
    start = task.initial_state(noise)
    reference = vmas.make_env(task.scenario, ROWS, continuous_actions=task.continuous_actions, seed=3, **options)
    for body, own in zip(reference.world.entities, ours.world.entities, strict=True):
        for name in ("pos", "vel", "rot", "ang_vel"):
            getattr(body, f"set_{name}")(getattr(own.state, name).clone(), batch_index=None)
    scenario = reference.scenario
    if task.scenario == "balance":
        way = scenario.package.state.pos - scenario.package.goal.state.pos
        scenario.global_shaping = torch.linalg.vector_norm(way, dim=1) * scenario.shaping_factor
        scenario.compute_on_the_ground()
    return start, reference


STEPPED = [
    ("balance", {"n_agents": 4}, [9, 9, 9, 9], [2, 2, 2, 2]),
    ("balance", {"n_agents": 3, "package_mass": 1}, [9, 9, 9], [2, 2, 2]),
    ("simple_spread", {}, [9, 9, 9], [2, 2, 2]),
    ("simple_tag", {}, [9, 9, 9, 9], [2, 2, 2, 2]),  # observations of 16 and 14 numbers
    ("diff_drive", {}, [9, 27], [2, 3]),
    ("simple_world_comm", {}, [36, 9, 9, 9, 9, 9], [6, 2, 2, 2, 2, 2]),  # the first agent talks
]


@pytest.mark.every(5)
@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize(("scenario", "options", "numbers", "components"), STEPPED, ids=str)
def test_steps_are_those_of_vmas(scenario, options, numbers, components, continuous):
    task = VMAS(scenario, options=options, continuous=continuous)
    sizes = torch.tensor(components if continuous else numbers)
    assert torch.equal(task.action_mask().sum(1), sizes) and task.action_mask()[:, 0].all()
    assert (task.n_actions, task.action_dim) == ((0, max(components)) if continuous else (max(numbers), 0))
    generator = torch.Generator().manual_seed(1)
    state, reference = reference_at_start(task, torch.rand(ROWS, 2, generator=generator), **options)
    reference.world.collides = always_looked_for(reference.world)
    seen = padded(reference.get_from_scenario(True, False, False, False)[0])
    assert torch.equal(task.observe(state)[0], seen)
    ended, rewarded = torch.zeros(ROWS, dtype=torch.bool), torch.zeros(task.n_agents)
    for step in range(60 if scenario == "balance" else 25):  # packages fall within 60
        action = some_actions(task, step, generator)
        seen, reward, done, _ = reference.step(as_vmas_takes(reference, action))
        state, own_reward, terminated, success = task.transition(state, action, torch.zeros(ROWS, 0))[:4]
        observation, vector = task.observe(state)
        assert torch.equal(observation, padded(seen)) and torch.equal(vector, padded(seen).flatten(1))
        assert torch.equal(own_reward, torch.stack(reward, 1)) and torch.equal(terminated, done)
        ended |= done
        rewarded += own_reward.abs().sum(0)
    assert ended.any() == (scenario == "balance")
    assert scenario == "balance" or not success.any()
    assert task.tells_success == (scenario == "balance")
    assert rewarded.any() != (scenario == "diff_drive")  # that one has no reward


def some_actions(task, step, generator):
    """Random actions; half of the worlds push upward now and then, so that contacts and flights occur beside falls."""
    if task.continuous_actions:
        action = 2 * torch.rand(ROWS, task.n_agents, task.action_dim, generator=generator) - 1
        action[: ROWS // 2, step % 2 :, :2] = torch.tensor([0.0, 1.0])
    else:
        action = torch.randint(1000, (ROWS, task.n_agents), generator=generator) % task.action_mask().sum(1)
        action[: ROWS // 2][:, step % 2 :] = 2
    return action


def test_continuous_actions_reach_the_ends_of_the_range():
    task = VMAS("balance", n_agents=2, continuous=True)
    start = task.initial_state(torch.rand(ROWS, 2, generator=torch.Generator().manual_seed(8)))
    agents = task._built(ROWS, CPU).env.agents
    for end in (-1.0, 1.0):
        task.transition(start, torch.full((ROWS, 2, 2), end), torch.zeros(ROWS, 0))
        assert all((agent.action.u == end * agent.u_range * agent.u_multiplier).all() for agent in agents)


@pytest.mark.parametrize("scenario", ["balance", "simple_spread", "navigation", "give_way"])
def test_starts_are_distributed_as_in_vmas(scenario):
    task = VMAS(scenario)
    rows = 256 if task._by_row else 512
    ours = task.initial_state(torch.rand(rows, 2, generator=torch.Generator().manual_seed(2)))["observation"]
    reference = vmas.make_env(scenario, rows, continuous_actions=False, seed=4)
    if task._by_row:  # what VMAS draws for all worlds at once differs only in resets of single ones
        for world in range(rows):
            reference.reset_at(world, return_observations=False)
    theirs = torch.stack(reference.get_from_scenario(True, False, False, False)[0], 1)
    for own, other in zip(ours.flatten(1).T.numpy(), theirs.flatten(1).T.numpy(), strict=True):
        assert ks_2samp(own, other).pvalue > 1e-4
    assert len(ours.flatten(1).unique(dim=0)) == rows


@pytest.mark.every(3)
@pytest.mark.parametrize("scenario", ["balance", "navigation", "give_way"])
def test_seeds_do_not_mix_over_many_episodes(scenario):
    settings, ids = {"scenario": scenario, "max_steps": 12}, [8, 3, 5, 11, 0, 2, 6]
    alone = trajectory(make("VMAS", settings, [5], num_envs=5), [5], 30)
    together = trajectory(make("VMAS", settings, ids, num_envs=5), ids, 30)  # 35 rows: another simulator than 5
    assert_same(alone, together[:, 2:3])
    assert together["next", "done"].flatten(2).any(0).all()


def test_a_contact_counts_whatever_happens_in_other_worlds():
    """Bodies between VMAS's bound and where they begin to touch."""
    task = VMAS("balance")
    worlds, noise = task._built(ROWS, CPU), torch.rand(ROWS, 2, generator=torch.Generator().manual_seed(5))
    task.initial_state(noise)
    scenario = worlds.env.scenario
    line, package = scenario.line, scenario.package
    line.state._rot = torch.full_like(line.state.rot, torch.pi / 2)
    beyond = line.shape.circumscribed_radius() + package.shape.radius + 0.003
    package.state._pos = line.state.pos + torch.tensor([0.0, beyond])
    among_equals = worlds.read(ROWS)
    package.state._pos = line.state.pos + torch.tensor([0.0, beyond - 0.01])
    among_nearer = {name: torch.cat([among_equals[name][:1], value[1:]]) for name, value in worlds.read(ROWS).items()}
    action = torch.zeros(ROWS, 3, dtype=torch.int64)
    first, second = (
        task.transition(state, action, noise[:, :0]).state["observation"][0] for state in (among_equals, among_nearer)
    )
    assert torch.equal(first, second)
    assert (first[:, 11] > 0).all(), "the package is pushed up"


def test_a_restored_environment_continues_after_ends():
    ids = (0, 7)
    env = make("VMAS", {"max_steps": 70}, ids, num_envs=4)
    actions = random_actions(env, ids, 150)
    before, current = play(env, env.reset(), actions[:95])
    assert before["next", "terminated"].any() and not current["done"].any()
    file = io.BytesIO()
    torch.save(env.checkpoint_state(), file)
    file.seek(0)
    carried, expected = current.clone(), play(env, current, actions[95:])[0]
    restored = make("VMAS", {"max_steps": 70}, ids, num_envs=4)
    restored.restore(torch.load(file, weights_only=True))
    assert_same(expected, play(restored, carried, actions[95:])[0])
    assert expected["next", "done"].any()


def test_the_time_limit_is_no_end_of_the_rules():
    steps = trajectory(make("VMAS", {"scenario": "simple_spread", "max_steps": 4}), (0, 7), 12)["next"]
    last = torch.arange(12) % 4 == 3
    assert torch.equal(steps["truncated"].squeeze(-1), last.reshape(12, 1, 1).expand(12, 2, 3))
    assert not steps["terminated"].any() and not steps["success"].any()


def test_balance_is_solved_on_the_goal_and_not_on_the_floor():
    task = VMAS("balance", n_agents=2)
    worlds = task._built(ROWS, CPU)
    task.initial_state(torch.rand(ROWS, 2, generator=torch.Generator().manual_seed(6)))
    package = worlds.env.scenario.package
    on_goal, on_floor = package.goal.state.pos, worlds.env.scenario.floor.state.pos + torch.tensor([0.0, 0.5])
    third = torch.arange(ROWS).unsqueeze(-1) % 3
    package.state._pos = package.state.pos.where(third == 0, on_goal.where(third == 1, on_floor))
    outcome = task.transition(worlds.read(ROWS), torch.zeros(ROWS, 2, dtype=torch.int64), torch.zeros(ROWS, 0))
    assert torch.equal(outcome.terminated, third.squeeze(-1) > 0)
    assert torch.equal(outcome.success, third.squeeze(-1) == 1)


def generators():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


@pytest.mark.parametrize("scenario", ["balance", "passage", "simple_reference"], ids=str)
def test_global_generators_are_left_alone(scenario):
    before, rand = generators(), torch.rand
    if scenario == "simple_reference":  # refused
        with pytest.raises(ConfigError):
            VMAS(scenario)
    else:
        trajectory(make("VMAS", {"scenario": scenario, "max_steps": 3}), (0, 7), 7)
    assert generators() == before
    assert torch.rand is rand and "uniform_" not in vars(torch.Tensor)


BAD = {
    "unknown": ({"scenario": "chess"}, ["--data.env.scenario is 'chess'", "balance", "simple_spread"]),
    "no way of squashing": ({"continuous": True, "squash": "sigmoid"}, ["--data.env.squash", "tanh, clip"]),
    "noise in steps": ({"scenario": "discovery"}, ["--data.env.scenario discovery", "random"]),
    "goals all worlds share": ({"scenario": "simple_reference"}, ["--data.env.scenario simple_reference", "share"]),
    "no such option": ({"options": {"agents": 3}}, ["--data.env.scenario balance", "agents"]),
    "VMAS asserts": ({"n_agents": 1}, ["--data.env.scenario balance", "n_agents 1"]),
    "no agents": ({"n_agents": 0}, ["--data.env.n_agents"]),
    "deaf to n_agents": ({"scenario": "give_way", "n_agents": 3}, ["n_agents"]),
    "no steps": ({"max_steps": 0}, ["--data.env.max_steps"]),
}


@pytest.mark.parametrize(("settings", "words"), BAD.values(), ids=BAD)
def test_what_cannot_work_is_one_line(settings, words):
    with pytest.raises(ConfigError) as error:
        VMAS(**settings)
    text = with_flags(error.value.marked)
    assert "\n" not in text and all(word in text for word in words), text


def test_a_missing_package_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "vmas", None)
    config = ["--config", str(ROOT / "conf/vmas_balance.yaml"), "--runs_dir", str(tmp_path)]
    assert main(["fit", *config]) == 2
    error = capsys.readouterr().err.strip()
    assert "pip install 'vmas<1.6,>=1.5.2'" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(("behavior", "learner"), [("MAPROPS", "MAPPO"), ("OnPolicy", "IPPO")])
def test_a_small_run(tmp_path, behavior, learner):
    small = {
        "num_seeds": 2, "total_env_steps": 64, "eval_interval": 2, "eval_episodes": 2, "behavior": behavior,
        "learner": learner, "learner.epochs": 1,
    }  # fmt: skip
    data = {"num_envs": 2, "behavior_batch_size": 8, "target_batch_size": 32, "env.n_agents": 2, "env.max_steps": 10}
    options = [f"--model.{k}={v}" for k, v in small.items()] + [f"--data.{k}={v}" for k, v in data.items()]
    folder = ["--runs_dir", str(tmp_path), "--run_name", "x"]
    assert main(["fit", "--config", str(ROOT / "conf/vmas_balance.yaml"), *folder, *options]) == 0
    assert (tmp_path / "x" / "summary.json").exists()
