"""Exported programs against the policies they are made of, and against the packages that execute their actions."""

import json

import numpy as np
import onnxruntime
import own_modules
import pytest
import torch
from env_cases import NEEDS, actions_of, make

from lit_maprops import keys
from lit_maprops.envs import TASKS
from lit_maprops.export.document import agent_document, policy_document
from lit_maprops.export.programs import AgentPolicy, write_onnx, write_torch
from lit_maprops.stacked.layers import Architecture
from lit_maprops.targets import TargetPolicies

TOLERANCE = 1e-5
SPEAKER = {"name": "mpe2.simple_speaker_listener_v4"}  # 3 and 5 actions, 3 and 11 numbers observed
CONTINUOUS = {"options": {"continuous_actions": True}, "max_steps": 4}
TRIED = {
    "discrete": ("BoulderPush", {"sensor_range": 1}),
    "small integers": ("Foraging", {"size": 5, "n_agents": 3}),
    "one state": ("MatrixGame", {"payoff": "climbing"}),
    "different numbers of actions": ("PettingZoo", SPEAKER),
    "different boxes, tanh": ("PettingZoo", SPEAKER | CONTINUOUS),
    "different boxes, clip": ("PettingZoo", SPEAKER | CONTINUOUS | {"squash": "clip"}),
    "tanh": ("TwoPeaks", {"n_agents": 3, "components": [2, 1, 3]}),
    "clip": ("TwoPeaks", {"squash": "clip"}),
    "different numbers observed": ("SparseReacher", {"max_steps": 5}),
}


def cases(*names):
    return [pytest.param(*TRIED[name], id=name, marks=NEEDS.get(TRIED[name][0], ())) for name in names]


def policies_of(task, hidden, share, seeds=2):
    """Policies with all weights drawn large, so that their outputs depend on everything."""
    generators = [torch.Generator().manual_seed(5 + seed) for seed in range(seeds)]
    policies = TargetPolicies(task, hidden, share, generators, 0.3 if task.continuous_actions else None)
    with torch.no_grad():
        for seed, generator in enumerate(generators):
            drawn = torch.randn(policies.net.flat[seed].shape, generator=generator)
            policies.net.flat[seed].copy_(0.5 * drawn)
    return policies.requires_grad_(False)


def observations(task, env, rows, seeds=2):
    """Padded observations ``[seeds, rows, A, O]``: of an episode, and as many random numbers."""
    rng, current, seen = np.random.default_rng(3), env.reset(), []
    for _ in range(rows):
        seen.append(current.get(keys.OBSERVATION)[:, 0].float())
        action = np.stack([actions_of(task, (env.batch_size[1],), rng) for _ in range(seeds)])
        current = env.step(current.set(keys.ACTION, torch.from_numpy(action))).get("next")
    drawn = torch.from_numpy(rng.normal(size=(seeds, rows, task.n_agents, task.observation_dim)).astype(np.float32))
    for agent in range(task.n_agents):
        drawn[:, :, agent, len(task.interface(agent).observation) :] = 0
    return torch.cat([torch.stack(seen, 1), drawn], 1)


def expected(task, policies, observation, agent):
    """The outputs an exported agent must give: one dictionary for all seeds, ``[seeds, rows, ...]``."""
    parameters = policies.distribution_parameters(observation)
    mode = policies.family.mode(parameters)[..., agent] if not task.continuous_actions else None
    mine, has = parameters[..., agent, :], task.action_mask()[agent]
    if mode is not None:
        assert (mine[..., ~has] == -torch.inf).all()
        return {"log_prob": mine[..., has], "action": mode}
    mean, log_std = mine.chunk(2, -1)
    bounded = (torch.tanh(mean) if task.squash == "tanh" else mean.clip(-1, 1))[..., has].double()
    interface = task.interface(agent)
    low, high = (torch.tensor(side, dtype=torch.float64) for side in (interface.low, interface.high))
    return {"mean": mean[..., has], "log_std": log_std[..., has], "action": low + (high - low) * (bounded + 1) / 2}


def assert_equal(outputs, wanted):
    for name, value in outputs.items():
        one, other = torch.as_tensor(value), wanted[name]
        assert one.shape == other.shape, name
        if one.dtype == torch.int64:
            assert torch.equal(one, other), name
        else:
            assert (one - other).abs().max() <= TOLERANCE, name


@pytest.mark.parametrize("hidden", [[], [16, 12]], ids=["table", "layers"])
@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize(("name", "settings"), cases(*TRIED))
def test_an_agents_layers_are_its_policy(name, settings, share, hidden):
    env = make(name, settings, num_envs=1)
    task, policies = env.task, policies_of(env.task, hidden, share)
    observation = observations(task, env, 5)
    for agent in range(task.n_agents):
        wanted = expected(task, policies, observation, agent)
        for seed in range(2):
            policy = AgentPolicy(policies, task, seed, agent)
            own = observation[seed, :, agent, : policy.n_observed]
            outputs = dict(zip(policy.outputs, policy(own), strict=True))
            assert_equal(outputs, {key: value[seed] for key, value in wanted.items()})
            if hidden and name != "MatrixGame":  # what would go unnoticed if all were alike
                assert not torch.allclose(outputs[policy.outputs[0]], wanted[policy.outputs[0]][1 - seed])


KINDS = {
    "layer norm": Architecture([8], "gelu", layer_norm=True),
    "convolutions": Architecture([8], cnn=[[4, 2, 1]]),
    "own": Architecture([], own=own_modules.Residual),
}


@pytest.mark.every(6)
@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        pytest.param("convolutions", *TRIED["discrete"], id="convolutions"),
        pytest.param("layer norm", *TRIED["tanh"], id="layer norm, tanh"),
        pytest.param("own", *TRIED["different numbers of actions"], id="own, padded", marks=NEEDS["PettingZoo"]),
    ],
)
def test_other_networks_are_exported(kind, name, settings, share, tmp_path):
    """Both files against the policies."""
    env = make(name, settings, num_envs=1)
    task, policies = env.task, policies_of(env.task, KINDS[kind], share)
    observation = observations(task, env, 5)
    for agent in range(task.n_agents):
        wanted = {key: value[1] for key, value in expected(task, policies, observation, agent).items()}
        policy = AgentPolicy(policies, task, 1, agent)
        own = observation[1, :, agent, : policy.n_observed]
        assert_equal(dict(zip(policy.outputs, policy(own), strict=True)), wanted)
        program = policy.program()
        write_onnx(program, tmp_path / "x.onnx", policy.outputs)
        session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
        assert_equal(dict(zip(policy.outputs, session.run(None, {"observation": own.numpy()}), strict=True)), wanted)
        write_torch(program, tmp_path / "x.pt2")
        loaded = torch.export.load(tmp_path / "x.pt2").module()
        assert_equal(dict(zip(policy.outputs, loaded(own), strict=True)), wanted)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("share", "agent", "name", "settings"),
    [
        pytest.param(True, 1, *TRIED["discrete"], id="shared, discrete"),
        pytest.param(True, 0, *TRIED["different numbers of actions"], id="3 of 5", marks=NEEDS["PettingZoo"]),
        pytest.param(False, 1, *TRIED["different boxes, tanh"], id="a box, tanh", marks=NEEDS["PettingZoo"]),
        pytest.param(False, 0, *TRIED["clip"], id="separate, clip"),
    ],
)
def test_files_give_the_policys_outputs(tmp_path, share, agent, name, settings):
    env = make(name, settings, num_envs=1)
    task, policies = env.task, policies_of(env.task, [16, 12], share)
    observation = observations(task, env, 4)
    policy = AgentPolicy(policies, task, 1, agent)
    program = policy.program()
    write_torch(program, tmp_path / "a.pt2")
    write_onnx(program, tmp_path / "a.onnx", policy.outputs)
    assert {path.name for path in tmp_path.iterdir()} == {"a.pt2", "a.onnx"}
    graph = torch.export.load(tmp_path / "a.pt2").module()
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert [one.name for one in session.get_outputs()] == policy.outputs
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("observation", "tensor(float)", ["batch", policy.n_observed])
    wanted = {key: value[1] for key, value in expected(task, policies, observation, agent).items()}
    own = observation[1, :, agent, : policy.n_observed]
    for rows in (slice(0, 1), slice(1, 8)):
        some = {key: value[rows] for key, value in wanted.items()}
        assert_equal(dict(zip(policy.outputs, graph(own[rows]), strict=True)), some)
        outputs = session.run(None, {"observation": own[rows].numpy()})
        assert_equal(dict(zip(policy.outputs, outputs, strict=True)), some)


@NEEDS["PettingZoo"]
@pytest.mark.parametrize("squash", ["tanh", "clip"])
def test_the_package_goes_where_our_environment_goes(squash):
    """simple_speaker_listener's boxes are [0, 1]: the exported actions go into the package as they are."""
    from mpe2 import simple_speaker_listener_v4

    settings = SPEAKER | CONTINUOUS | {"squash": squash}
    env = make("PettingZoo", settings, seed_ids=[4], num_envs=1)
    task, policies = env.task, policies_of(env.task, [16], True, seeds=1)
    agents = {task.interface(agent).name: AgentPolicy(policies, task, 0, agent) for agent in range(2)}
    package = simple_speaker_listener_v4.parallel_env(continuous_actions=True)
    assert list(agents) == package.possible_agents
    current = env.reset()
    seen, _ = package.reset(seed=int(env.state["seed"][0, 0]))
    moved = 0.0
    for _ in range(3):
        actions = {}
        for number, (name, policy) in enumerate(agents.items()):
            ours = current.get(keys.OBSERVATION)[0, 0, number, : policy.n_observed]
            assert np.abs(seen[name] - ours.numpy()).max() <= TOLERANCE
            actions[name] = policy(torch.from_numpy(np.float32(seen[name])[None]))[-1][0].numpy()
            assert package.action_space(name).contains(actions[name])
        mean = policies.family.mode(policies.distribution_parameters(current.get(keys.OBSERVATION)))
        before, current = current, env.step(current.clone().set(keys.ACTION, mean)).get("next")
        seen = package.step(actions)[0]
        moved += float((current.get(keys.OBSERVATION) - before.get(keys.OBSERVATION)).abs().max())
    assert moved > 0.1


@NEEDS["PettingZoo"]
@pytest.mark.parametrize("continuous", [False, True])
def test_the_document_fits_the_programs(continuous):
    task = TASKS["PettingZoo"](**SPEAKER, options={"continuous_actions": continuous}, squash="clip")
    policies = policies_of(task, [8], True)
    programs = [AgentPolicy(policies, task, 0, agent) for agent in range(2)]
    agents = [agent_document(task, agent, program, {"onnx": f"{agent}"}) for agent, program in enumerate(programs)]
    document = json.loads(json.dumps(policy_document(task, {"name": "x"}, {}, agents)))
    assert [agent["name"] for agent in document["agents"]] == ["speaker_0", "listener_0"]
    for agent, program, seen, does in zip(document["agents"], programs, (3, 11), (3, 5), strict=True):
        assert (len(agent["observation"]), len(agent["actions"])) == (seen, does)
        assert agent["input"]["shape"] == ["batch", seen]
        outputs = dict(zip(program.outputs, program(torch.zeros(4, seen)), strict=True))
        described = {one["name"]: one for one in agent["outputs"]}
        assert described.keys() == outputs.keys() <= document["use"].keys()
        for name, value in outputs.items():
            assert described[name]["shape"] == ["batch", *value.shape[1:]]
            assert described[name]["dtype"] == str(value.dtype).removeprefix("torch.")
        if continuous:
            assert (agent["action_low"], agent["action_high"]) == ([0.0] * does, [1.0] * does)
    assert "padded it with zeros to 11" in document["use"]["observation"]
    assert ("clipped to [-1, 1]" in document["use"]["action"]) == continuous


@NEEDS["VMAS"]
def test_actions_are_in_vmas_units():
    import vmas

    settings = {"scenario": "diff_drive", "continuous": True, "max_steps": 5}
    env = make("VMAS", settings, num_envs=1)
    task, policies = env.task, policies_of(env.task, [8], False)
    package = vmas.make_env("diff_drive", 2, continuous_actions=True)
    observation = observations(task, env, 3)
    for agent, (space, seen) in enumerate(zip(package.action_space, package.observation_space, strict=True)):
        policy = AgentPolicy(policies, task, 0, agent)
        assert task.interface(agent).name == package.agents[agent].name
        assert policy.n_observed == seen.shape[0]
        action = policy(observation[0, :, agent, : policy.n_observed])[-1].numpy()
        bounded = torch.tanh(policies.distribution_parameters(observation)[0, :, agent, : space.shape[0]]).numpy()
        assert np.abs(action - (space.low + (space.high - space.low) * (bounded + 1) / 2)).max() <= TOLERANCE


def test_every_task_says_what_its_agents_see_and_do():
    for name, settings in [*TRIED.values(), *((name, {}) for name in ("Coordination", "BoulderPush"))]:
        if name in NEEDS and NEEDS[name].args[0]:
            continue
        task = TASKS[name](**settings)
        sizes = []
        for agent in range(task.n_agents):
            interface = task.interface(agent)
            sizes.append(len(interface.observation))
            assert len(set(interface.observation)) == len(interface.observation)
            assert len(interface.actions) == int(task.action_mask()[agent].sum())
            assert len(interface.low) == len(interface.high) == len(interface.actions) * task.continuous_actions
        assert max(sizes) == task.observation_dim
