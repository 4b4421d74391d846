"""JaxMARL: steps, masks and ends are those of its environments, called plainly one at a time; what is refused."""

import io
import re
import sys

import numpy as np
import pytest
import torch
from env_cases import assert_same, make, play, trajectory

from lit_maprops.cli.main import main
from lit_maprops.envs import JaxMARL
from lit_maprops.envs.ends import RUNS, TERMINATED, check_ends
from lit_maprops.envs.faults import Faults
from lit_maprops.system.errors import ConfigError

jax = pytest.importorskip("jax")
pytest.importorskip("jaxmarl")

BATTLE = {"scenario": "HeuristicEnemySMAX", "map_name": "3m"}
STOP = 4  # of SMAX's actions: four moves, to stop, then to attack an enemy


def plain(scenario, map_name=None, **options):
    """The environment as JaxMARL's own pages make it."""
    import jaxmarl
    from jaxmarl.environments.overcooked import overcooked_layouts
    from jaxmarl.environments.smax import map_name_to_scenario

    if scenario == "overcooked":  # where agents see how many of its steps are left
        return jaxmarl.make(scenario, layout=overcooked_layouts[map_name], max_steps=401, **options)
    return jaxmarl.make(scenario, **({"scenario": map_name_to_scenario(map_name)} if map_name else {}), **options)


def noise_and_keys(rows, generator):
    """Uniform numbers as streams draw them, and the keys that they are."""
    bits = torch.randint(2**24, (rows, 2), generator=generator)
    return bits.float() / 2**24, jax.numpy.asarray(bits.numpy(), jax.numpy.uint32)


def legal_ones(legal, generator):
    """One of each agent's legal actions, ``[P, A]``; attacks before moves, so that battles are decided."""
    preferred = legal * (torch.rand(legal.shape, generator=generator) + 2 * (torch.arange(legal.shape[-1]) > STOP))
    return preferred.argmax(-1)


def waiting(legal, generator):
    """To wait for the enemy, and then fire: about as often won as lost."""
    action = legal_ones(legal.float(), generator)
    return torch.where(action > STOP, action, STOP)


def padded(rows, width):
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])


def near(ours, theirs):
    torch.testing.assert_close(ours, torch.from_numpy(np.array(theirs)).to(ours.dtype), rtol=1e-4, atol=1e-4)


STEPPED = [
    ("HeuristicEnemySMAX", "3m", {}, [8, 8, 8], 72),
    pytest.param("MPE_simple_spread_v3", None, {}, [5, 5, 5], 54, marks=pytest.mark.slow),  # so does test_mpe_ports.py
    pytest.param("MPE_simple_speaker_listener_v4", None, {}, [3, 5], 14, marks=pytest.mark.slow),  # and here
    ("overcooked", "cramped_room", {}, [6, 6], 1040),
]


@pytest.mark.parametrize(("scenario", "map_name", "options", "sizes", "state_dim"), STEPPED, ids=str)
def test_steps_are_those_of_jaxmarl_one_environment_at_a_time(scenario, map_name, options, sizes, state_dim):
    rows, steps, generator = 3, 24, torch.Generator().manual_seed(1)
    task, env = JaxMARL(scenario, map_name, options=options), plain(scenario, map_name, **options)
    assert task.action_mask().sum(1).tolist() == sizes and task.state_dim == state_dim
    noise, keys = noise_and_keys(rows, generator)
    state, theirs = task.initial_state(noise), [jax.jit(env.reset)(key) for key in keys]
    assert_seen(task, env, state, theirs)
    ended, rewarded, step_env = 0, 0.0, jax.jit(env.step_env)
    for _ in range(steps):
        action = legal_ones(task.legal_actions(state).expand(rows, -1, -1).float(), generator)
        noise, keys = noise_and_keys(rows, generator)
        outcome = task.transition(state, action, noise)
        stepped = [
            step_env(key, before, {name: int(one[k]) for k, name in enumerate(env.agents)})
            for key, (_, before), one in zip(keys, theirs, action, strict=True)
        ]
        state, theirs = outcome.state, [each[:2] for each in stepped]
        assert_seen(task, env, state, theirs)
        near(outcome.reward, [[each[2][name] for name in env.agents] for each in stepped])
        assert outcome.terminated.tolist() == [bool(each[3]["__all__"]) for each in stepped]
        ended += int(outcome.terminated.sum())
        rewarded += float(outcome.reward.abs().sum())
    assert (ended > 0) == scenario.endswith("SMAX") and (rewarded > 0) == (scenario != "overcooked")


def assert_seen(task, env, state, theirs):
    """Observations, global state and legal actions in every row, from what JaxMARL gave and its own functions."""
    observation, vector = task.observe(state)
    for row, (seen, own) in enumerate(theirs):
        each = [np.asarray(seen[name]) for name in env.agents]
        flat = [(one.transpose(2, 0, 1) if one.ndim == 3 else one).reshape(-1) for one in each]
        near(observation[row], padded(flat, task.observation_dim))
        near(vector[row], seen["world_state"] if "world_state" in seen else np.concatenate(flat))
        if task.masks_actions:
            legal = env.get_avail_actions(own)
            assert torch.equal(state["legal"][row], torch.from_numpy(np.array([legal[a] for a in env.agents]) > 0))
    assert task.masks_actions == task.scenario.endswith("SMAX")


def battles(task, rows=64, steps=60, salt=0):
    """Every step of some battles to their first end: states before, outcomes, keys, actions, and who still fights."""
    generator = torch.Generator().manual_seed(salt)
    state, fights, told = task.initial_state(noise_and_keys(rows, generator)[0]), torch.ones(rows).bool(), []
    for _ in range(steps):
        action, (noise, _) = waiting(state["legal"], generator), noise_and_keys(rows, generator)
        outcome = task.transition(state, action, noise)
        told.append((state, action, noise, outcome, fights.clone()))
        state, fights = outcome.state, fights & ~outcome.terminated
    return told


@pytest.mark.slow
def test_a_success_is_a_battle_that_jaxmarl_counts_as_won():
    """By the wrapper of its baselines, which reads that from the reward."""
    from jaxmarl.wrappers.baselines import SMAXLogWrapper

    task, wrapper = JaxMARL(**BATTLE), SMAXLogWrapper(plain(**BATTLE))
    assert task.tells_success and task.judges() and not JaxMARL().judges()
    simulator, rows, generator = task._simulator, 12, torch.Generator().manual_seed(5)
    keys = jax.random.split(jax.random.PRNGKey(0), rows)
    _, theirs = jax.vmap(wrapper.reset)(keys)
    wrapped = jax.jit(jax.vmap(wrapper.step))
    ours, fights, won = simulator.start(as_int32(keys)), np.ones(rows, dtype=bool), []
    for number in range(60):
        keys = jax.random.split(jax.random.PRNGKey(number + 1), rows)
        used = jax.vmap(lambda key: jax.random.split(key)[0])(keys)  # the other half is for its own reset
        action = waiting(ours["legal"], generator)
        ours = simulator.step(ours, action, as_int32(used))
        given = {name: jax.numpy.asarray(action[:, k].numpy()) for k, name in enumerate(wrapper.agents)}
        _, theirs, _, _, info = wrapped(keys, theirs, given)
        over = np.asarray(info["returned_episode"])[:, 0]
        assert (ours["over"].numpy() == over)[fights].all()
        counted = np.asarray(info["returned_won_episode"])[:, 0] > 0
        assert (ours["won"].numpy() == counted)[fights & over].all() and not ours["won"][fights & ~over].any()
        won += counted[fights & over].tolist()
        fights &= ~over
    assert len(won) == rows and 0 < sum(won) < rows


def as_int32(keys):
    return torch.from_numpy(np.array(keys).view(np.int32))


def test_a_battle_that_ends_at_the_time_limit_is_truncated_unless_it_was_decided():
    told = battles(JaxMARL(**BATTLE))
    ends = torch.stack([outcome.terminated & fights for *_, outcome, fights in told])
    limit = int(ends.int().argmax(0).min()) + 1  # when the first is decided
    task = JaxMARL(**BATTLE, max_steps=limit)
    outcomes = [task_step(task, told, step) for step in range(limit)]
    assert not any(outcome.terminated.any() for outcome in outcomes[:-1])
    assert torch.equal(outcomes[-1].terminated, ends[limit - 1]) and 0 < ends[limit - 1].sum() < 64
    env = make("JaxMARL", {**BATTLE, "max_steps": limit}, (0,), num_envs=64)
    env.reset()
    env._state = {name: value.unsqueeze(0) for name, value in told[limit - 1][0].items()}
    env._state["step"] = torch.full((1, 64), limit - 1, dtype=torch.int32)
    _, action, noise, *_ = told[limit - 1]
    played = env.play(action.unsqueeze(0), torch.cat([noise, noise], -1).unsqueeze(0))
    assert played["done"].all() and torch.equal(played["truncated"], ~ends[limit - 1 : limit])


def task_step(task, told, step):
    """The same step of the same battles, under another time limit."""
    state, action, noise, *_ = told[step]
    return task.transition(state, action, noise)


def test_the_time_limit_of_mpe_is_no_end_of_the_rules():
    """JaxMARL's own comes one step after its max_steps."""
    steps = trajectory(make("JaxMARL", {}), (0, 7), 60)["next"]
    last = torch.arange(60) % 25 == 24
    assert torch.equal(steps["truncated"].squeeze(-1), last.reshape(60, 1, 1).expand(60, 2, 3))
    assert not steps["terminated"].any() and not steps["success"].any()


def test_the_dead_stay_and_share_rewards_unless_agents_leave():
    stay, leave = JaxMARL(**BATTLE), JaxMARL(**BATTLE, agents_leave=True)
    paid = 0.0
    generator = torch.Generator().manual_seed(0)
    state = leave.initial_state(noise_and_keys(64, generator)[0])
    for before, action, noise, outcome, fights in battles(stay):
        dead = (before["observation"] == 0).all(-1) & fights.unsqueeze(-1)  # [P, A], as SMAX shows them
        assert (before["legal"][dead].nonzero()[:, 1] == STOP).all() and (before["legal"][dead].sum(-1) == 1).all()
        assert torch.equal(state["agents_end"][fights] == TERMINATED, dead[fights])
        left = leave.transition(state, action, noise)
        assert torch.equal(outcome.reward, outcome.reward[:, :1].expand(-1, 3))
        assert torch.equal(left.reward[fights], outcome.reward.masked_fill(dead, 0.0)[fights])
        for name in ("observation", "legal"):
            alive = left.state["agents_end"] == RUNS
            assert torch.equal(left.state[name][alive], outcome.state[name][alive])
        assert not left.state["observation"][~alive].any() and torch.equal(left.state["vector"][:, -3:], alive.float())
        paid += float(outcome.reward[dead].sum())
        state = left.state
    assert paid > 0


def test_ends_of_agents_follow_from_each_other():
    steps = trajectory(make("JaxMARL", {**BATTLE, "agents_leave": True}, num_envs=8), (0, 7), 60)
    check_ends(steps.permute(1, 0, 2), Faults("JaxMARL", [0, 7]))
    end = steps["agents", "end"]
    assert set(end.unique().tolist()) == {RUNS, TERMINATED} and (end == RUNS).any(-1).all()
    assert steps["next", "terminated"].any()


def test_a_restored_battle_continues_in_another_object_bit_for_bit():
    ids = (0, 7)
    env = make("JaxMARL", BATTLE, ids, num_envs=5)
    actions = torch.randint(8, (70, 2, 5, 3), generator=torch.Generator().manual_seed(2))
    before, current = play(env, env.reset(), actions[:27])
    assert before["next", "terminated"].any()
    file = io.BytesIO()
    torch.save(env.checkpoint_state(), file)
    file.seek(0)
    carried, expected = current.clone(), play(env, current, actions[27:])[0]
    restored = make("JaxMARL", BATTLE, ids, num_envs=5)
    restored.restore(torch.load(file, weights_only=True))
    assert_same(expected, play(restored, carried, actions[27:])[0])


@pytest.mark.parametrize("settings", [{}, BATTLE], ids=str)
def test_seeds_do_not_mix_in_any_company(settings):
    """Rows lie elsewhere in the programs' blocks, beside others and beside none."""
    ids = [8, 3, 5, 11, 0, 2, 6]
    alone = trajectory(make("JaxMARL", settings, [5], num_envs=5), [5], 45)
    together = trajectory(make("JaxMARL", settings, ids, num_envs=5), ids, 45)
    assert_same(alone, together[:, 2:3])
    order = [3, 6, 0, 2, 1, 5, 4]
    permuted = [ids[k] for k in order]
    assert_same(together[:, order], trajectory(make("JaxMARL", settings, permuted, num_envs=5), permuted, 45))
    assert together["next", "done"].flatten(2).any(0).all()


def test_keys_of_starts_and_steps_are_the_noise():
    """Equal noise is an equal world; in SMAX weapons cool down by chance, so that steps have keys, too."""
    task, generator = JaxMARL(**BATTLE), torch.Generator().manual_seed(3)
    noise = noise_and_keys(40, generator)[0]
    start = task.initial_state(noise)
    assert len(start["observation"].flatten(1).unique(dim=0)) == 40
    state, action, noise, outcome, _ = max(battles(task), key=lambda told: float(told[3].reward.sum()))
    again, other = (task.transition(state, action, one) for one in (noise, noise.flip(0)))
    assert_same(outcome.state, again.state)
    assert not torch.equal(outcome.state["float32"], other.state["float32"])


REFUSED = [
    ({"scenario": "MPE_simple_spred_v3"}, "is 'MPE_simple_spred_v3': choose an environment .*did you mean MPE_simple_"),
    ({"scenario": "SMAX"}, "commands both armies.*choose HeuristicEnemySMAX"),
    ({"scenario": "LearnedPolicyEnemySMAX"}, "needs an enemy policy.*choose HeuristicEnemySMAX"),
    ({**BATTLE, "map_name": "2s3x"}, r"<env.map_name> is '2s3x': choose one of 3m, 2s3z.*did you mean"),
    ({**BATTLE, "options": {"num_allies": 2}}, "<env.options> has num_allies, which <env.map_name> decides"),
    ({"map_name": "3m"}, "<env.map_name> is '3m', and MPE_simple_spread_v3 has no maps: leave it out"),
    ({**BATTLE, "options": {"enemy_shots": False}}, "cannot be built with enemy_shots False.*unexpected keyword"),
    ({"options": {"num_agent": 2}}, "<env.options> has num_agent, of which MPE_simple_spread_v3 takes no notice"),
    ({"options": {"max_steps": 9}}, "<env.options> has max_steps: give <env.max_steps> instead"),
    ({"options": {"dt": object()}}, "<env.options> holds what no file of settings can"),
    ({"options": {"action_type": "Continuous"}}, "actions of kind Box: choose one with Discrete actions, or give"),
    ({"scenario": "MPE_simple_facmac_v1"}, "actions of kind Box"),
    ({"scenario": "hopper_3x1"}, "cannot be built with no options.*brax"),
    ({"scenario": "hanabi"}, "<env.scenario> hanabi has no time limit of its own: give <env.max_steps>"),
    ({"scenario": "storm", "max_steps": 5}, "<env.scenario> storm cannot be played: KeyError"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_played_is_refused_in_one_line(settings, message):
    with pytest.raises(ConfigError) as refused:
        JaxMARL(**settings)
    assert re.search(message, refused.value.marked) and "\n" not in refused.value.marked


def test_options_that_mpe_hands_on_are_taken():
    options = {"num_agents": 2, "damping": 0.5, "local_ratio": 1.0, "accel": [3.0, 4.0]}
    task = JaxMARL(options=options, max_steps=7)
    assert task.n_agents == 2 and task.max_steps == 7
    assert task._simulator._env.damping == 0.5 and task._simulator._env.accel.tolist() == [3.0, 4.0]


def test_a_missing_package_is_one_line_with_the_fix(monkeypatch, capsys, tmp_path):
    from lit_maprops.envs.jaxmarl import task

    monkeypatch.setitem(sys.modules, "jaxmarl", None)
    monkeypatch.setattr(task, "_simulator", task._simulator.__wrapped__)  # nor is it there from before
    assert main(["fit", "--config", "conf/smax.yaml", "--runs_dir", str(tmp_path / "runs")]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and "JaxMARL needs the package jaxmarl: pip install " in line
    assert not (tmp_path / "runs").exists()


def test_a_package_that_does_not_fit_is_one_line_with_the_cause(monkeypatch):
    from lit_maprops.envs.jaxmarl import scenarios

    def broken(name):
        raise AttributeError("module 'jax' has no attribute 'tree'")

    monkeypatch.setattr(scenarios.importlib, "import_module", broken)
    with pytest.raises(ConfigError, match="cannot be imported: AttributeError, module 'jax' has no attribute 'tree'"):
        JaxMARL()


def test_the_package_is_imported_without_a_word(capsys):
    """It takes notice of packages that are not there, and sets Python's streams back."""
    from lit_maprops.envs.jaxmarl.scenarios import package

    names = [name for name in sys.modules if name.partition(".")[0] == "jaxmarl"]
    kept = {name: sys.modules.pop(name) for name in names}
    streams = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    try:
        package()
    finally:
        sys.modules.update(kept)
    assert (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__) == streams
    assert capsys.readouterr() == ("", "")


def test_pictures_are_turned_and_agents_have_their_names():
    task = JaxMARL("overcooked", "cramped_room")
    assert task.observation_shape == (26, 4, 5) and task.observation_dim == 520
    assert JaxMARL(**BATTLE).interface(1).name == "ally_1" and JaxMARL(**BATTLE).title.endswith("SMAX 3m")
    speaker = JaxMARL("MPE_simple_speaker_listener_v4").interface(0)
    assert len(speaker.observation) == 3 and len(speaker.actions) == 3
