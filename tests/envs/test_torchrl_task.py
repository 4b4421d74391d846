"""TorchRL's multi-agent environments as tasks: what they say step by step, ends, masks, and what is refused."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from torchrl.envs import check_env_specs
from torchrl_toys import Groups, Seeing

from lit_maprops.behavior import BEHAVIORS
from lit_maprops.cli.main import main
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import MatrixGame, TaskEnv, TorchRL
from lit_maprops.envs.ends import RUNS, TERMINATED, TRUNCATED
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.flags import with_flags
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import LEARNERS

pytest.importorskip("gymnasium")
VMAS = "torchrl.envs.VmasEnv"


def task_of(max_steps=None, **options):
    return TorchRL("torchrl_toys.make", options, max_steps)


def numbers_of(task, rows=2):
    return task.initial_state(torch.rand(rows, 2, generator=torch.Generator().manual_seed(0)))


def step(task, state, action):
    return task.transition(state, action, torch.zeros(len(action), 0))


def some_actions(task, steps, rows):
    generator = torch.Generator().manual_seed(1)
    if task.continuous_actions:
        return 2 * torch.rand(steps, rows, *task.action_mask().shape, generator=generator) - 1
    return torch.randint(10**6, (steps, rows, task.n_agents), generator=generator) % task.action_mask().sum(1)


SCENARIOS = {
    "forces": {"scenario": "dispersion"},
    "one-hot": {"scenario": "balance", "continuous_actions": False, "categorical_actions": False},
    "agents that differ": {"scenario": "simple_speaker_listener"},
    "time limit": {"scenario": "simple_spread", "continuous_actions": False, "max_steps": 6},
}


@pytest.mark.every(2)
@pytest.mark.parametrize("options", SCENARIOS.values(), ids=SCENARIOS)
def test_steps_are_those_of_the_environment(options):
    pytest.importorskip("vmas")
    from torchrl.envs import VmasEnv

    options = {"num_envs": 1, **options}
    task, rows = TorchRL(VMAS, options, max_steps=8), 2
    envs = [VmasEnv(**options) for _ in range(rows)]
    state, data = numbers_of(task, rows), []
    for env, seed in zip(envs, state["seed"], strict=True):
        env.set_seed(int(seed))
        data.append(env.reset())
    groups = [(group, len(names)) for group, names in envs[0].group_map.items()]
    assert task._agents.names == [name for names in envs[0].group_map.values() for name in names]
    for action in some_actions(task, 7, rows):
        state, reward, terminated, _, truncated = step(task, state, action)
        observation, vector = task.observe(state)
        for row, env in enumerate(envs):
            agents = iter(action[row])
            for group, count in groups:
                spec, own = env.full_action_spec[group, "action"], torch.stack([next(agents) for _ in range(count)])
                if options.get("continuous_actions", True):
                    low, high = spec.space.low[0].double(), spec.space.high[0].double()
                    own = ((low + high + own[:, : spec.shape[-1]] * (high - low)) / 2).float()
                elif not options.get("categorical_actions", True):
                    own = torch.eye(9, dtype=torch.int64)[own]
                data[row].set((group, "action"), own.reshape(spec.shape))
            with torch.random.fork_rng():
                after = env.step(data[row])["next"]
            data[row] = after
            seen = [one for group, _ in groups for one in after[group, "observation"][0]]
            for agent, numbers in enumerate(seen):
                torch.testing.assert_close(observation[row, agent, : len(numbers)], numbers, rtol=0, atol=0)
            assert torch.equal(vector[row], torch.cat(seen))
            assert torch.equal(reward[row], torch.cat([after[group, "reward"][0, :, 0] for group, _ in groups]))
            assert bool(terminated[row] | truncated[row]) == bool(after["done"])
        if (terminated | truncated).all():
            break


VALUES = {
    "categorical": [0, 1, 2], "one component": [0, 1, 2], "one-hot": [0, 1, 2],
    "components": [0, 1, 2, 10, 11, 12, 20, 21, 22], "multi": [0, 1, 2, 10, 11, 12],
    "multi one-hot": [0, 1, 2, 10, 11, 12], "binary": [0, 1, 10, 11],
}  # fmt: skip


@pytest.mark.every(2)
@pytest.mark.parametrize("batch", [(), (1,), (1, 1)])
@pytest.mark.parametrize("kind", VALUES)
def test_every_spec_of_actions_reaches_the_environment(kind, batch):
    task, values = task_of(kind=kind, batch=batch), VALUES[kind]
    assert task.n_actions == len(values) and task._agents.names == ["left", "right", "voice"]
    state = numbers_of(task, len(values))
    each = torch.arange(len(values))
    action = torch.stack([each, each.flip(0), each], 1)
    outcome = step(task, state, action)
    expected = torch.tensor(values)[action].float()
    assert torch.equal(outcome.reward, expected)
    observation = task.observe(outcome.state)[0]
    assert torch.equal(observation[..., 3], expected) and (observation[..., 1] == 1).all()
    assert observation[0, :, 0].tolist() == [0, 1, 0] and observation.shape[-1] == 4, "infos are not seen"


@pytest.mark.parametrize("batch", [(), (1,)])
def test_boxes_are_scaled(batch):
    task = task_of(kind="bounded", batch=batch)
    assert task.continuous_actions and task.interface(0).low == [-2, 0] and task.interface(2).high == [2, 5]
    state = numbers_of(task, 3)
    for share in (-1.0, 0.0, 1.0):
        reward = step(task, state, torch.full((3, 3, 2), share)).reward
        expected = 10 * np.interp(share, [-1, 1], [-2, 2]) + np.interp(share, [-1, 1], [0, 5])
        assert torch.equal(reward, torch.full((3, 3), float(expected)))


@pytest.mark.parametrize("batch", [(), (1,)])
def test_states_rewards_of_all_and_verdicts(batch):
    task = task_of(state=True, shared=True, verdict="whole", batch=batch)
    state = numbers_of(task)
    assert task.state_dim == 2 and task.observe(state)[1].tolist() == [[0, 0.5]] * 2
    outcome = step(task, state, torch.tensor([[0, 1, 2], [2, 2, 2]]))
    assert outcome.reward.tolist() == [[3, 3, 3], [6, 6, 6]] and task.tells_success
    for action in ([[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]], [[2, 2, 2], [2, 2, 1]]):
        outcome = step(task, outcome.state, torch.tensor(action))
    assert outcome.truncated.all() and outcome.success.tolist() == [True, False]
    assert task.observe(outcome.state)[1].tolist() == [[4, 0.5]] * 2


def test_verdicts_of_groups_count_together():
    task = task_of(verdict="group")
    state = numbers_of(task)
    for _ in range(4):
        outcome = step(task, state, torch.tensor([[2, 2, 2], [2, 2, 0]]))
        state = outcome.state
    assert outcome.success.tolist() == [True, False]


@pytest.mark.parametrize("ends", ["whole", "groups", "done"])
def test_ends_are_the_groups_or_the_environments(ends):
    task = task_of(ends=ends)
    state, found = numbers_of(task, 1), []
    for _ in range(4):
        outcome = step(task, state, torch.ones(1, 3, dtype=torch.int64))
        state = outcome.state
        found.append(task.agent_ends(state)[0].tolist())
    last = TERMINATED if ends == "done" else TRUNCATED
    voice = [RUNS, TERMINATED, TERMINATED, TERMINATED] if ends == "groups" else [RUNS, RUNS, RUNS, last]
    assert found == [[RUNS if k < 3 else last] * 2 + [voice[k]] for k in range(4)]
    assert bool(outcome.truncated) == (ends != "done") and bool(outcome.terminated) == (ends == "done")
    assert outcome.reward.tolist() == [[1, 1, 0 if ends == "groups" else 1]]


def test_masks_are_those_of_the_environment():
    task = task_of(masked=True)
    state = numbers_of(task, 1)
    for count in range(4):
        legal = task.legal_actions(state)
        assert legal.tolist() == [[[k != count % 3 for k in range(3)]] * 2 + [[True] * 3]]
        state = step(task, state, legal.int().argmax(-1)).state


def test_our_own_environments_are_some_of_theirs():
    """With the mask of the spec itself, groups by ``group_map``, and a verdict beside the agents."""
    check_env_specs(game())
    task, env = TorchRL("test_torchrl_task.game"), game()
    assert task._agents.names == ["agent_0", "agent_1"] == env.group_map["agents"] and task.state_dim == 1
    for row in range(3):
        for column in range(3):
            outcome = step(task, numbers_of(task, 1), torch.tensor([[row, column]]))
            env.reset()
            data = env.step(env.reset().set(("agents", "action"), torch.tensor([[[row, column]]])))["next"]
            assert torch.equal(outcome.reward[0], data["agents", "reward"].flatten())
            assert outcome.terminated.all() and bool(outcome.success) == bool(data["success"])
    assert outcome.reward.tolist() == [[5, 5]]


def game() -> TaskEnv:
    return TaskEnv(MatrixGame("climbing"), 0, [0], 1)


@pytest.mark.parametrize("batch", [(), (1,)])
def test_every_spec_of_observations_is_read(batch):
    task, env = TorchRL("torchrl_toys.seeing", {"batch": batch}), Seeing(batch)
    assert task.observation_shape == (3, 6, 5)
    state = numbers_of(task, 1)
    env.set_seed(int(state["seed"][0]))
    data = env.reset()
    for _ in range(3):
        observation, vector = task.observe(state)
        expected = []
        for group, count in env.sizes.items():
            drawn = {key: value.reshape(count, *value.shape[len(batch) + 1 :])
                     for key, value in env.drawn[group].flatten_keys(".").items()}  # fmt: skip
            one_hot = torch.nn.functional.one_hot
            pair = [one_hot(drawn["nested.pair"][:, k], size) for k, size in ((0, 2), (1, 3))]
            # By names, as Gymnasium orders a dict; the picture last.
            parts = [drawn["code"], drawn["flags"], *pair, drawn["nested.speed"], one_hot(drawn["team"], 4)]
            parts += [drawn["camera"].flatten(1) / 255]
            expected.append(torch.cat([part.float() for part in parts], -1))
        torch.testing.assert_close(observation[0], torch.cat(expected), rtol=0, atol=1e-7)
        assert torch.equal(vector[0], observation[0].flatten())
        state = step(task, state, torch.ones(1, 3, dtype=torch.int64)).state
        for group, count in env.sizes.items():
            data[group, "action"] = torch.ones(*batch, count, dtype=torch.int64)
        data = env.step(data)["next"]


def test_agents_have_names_where_the_environment_has_none():
    assert task_of(named=False)._agents.names == ["talker_0", "walkers_0", "walkers_1"]


def test_transforms_are_part_of_the_environment():
    task = TorchRL("torchrl_toys.transformed")
    assert task._agents.names == ["left", "right", "voice"] and task.observation_dim == 4 and task.masks_actions
    state, cut = numbers_of(task, 1), []
    for _ in range(3):
        outcome = step(task, state, task.legal_actions(state).int().argmax(-1))
        state = outcome.state
        cut.append(bool(outcome.truncated))
    assert cut == [False, False, True]


def test_a_forgotten_episode_is_played_again():
    task, other, steps = task_of(masked=True), task_of(masked=True), 4
    state, visited = numbers_of(task), []
    for _ in range(steps):
        visited.append((state, task.legal_actions(state).int().argmax(-1)))
        state = step(task, *visited[-1]).state
    for number in (3, 0, 2):
        task._live.forget()
        for each in (task, other):
            following = visited[number + 1][0] if number + 1 < steps else state
            again = step(each, *visited[number]).state
            assert all(torch.equal(again[key], following[key]) for key in following)


@pytest.mark.parametrize(("kind", "behavior"), [("multi", "MAPROPS"), ("bounded", "GaussianAdjustment")])
def test_they_train(kind, behavior):
    run = LitMAPROPS(BEHAVIORS[behavior](), LEARNERS["MAPPO"](), num_seeds=2, total_env_steps=64, eval_episodes=1,
                     sampling_error="likelihood" if kind == "multi" else "energy")  # fmt: skip
    task = task_of(kind=kind, ends="groups", masked=False, state=True)
    run.prepare(MultiAgentData(task, num_envs=2, behavior_batch_size=8, target_batch_size=32))
    run.on_fit_start()
    for _ in range(2):
        run.training_step(0, 0)
    assert all(parameter.isfinite().all() for parameter in run.parameters())


BAD = {
    "no module": ("torchrl_toy.make", {}, ["--data.env.name is 'torchrl_toy.make'", "cannot be imported"]),
    "no such name": ("torchrl_toys.mak", {}, ["torchrl_toys has no mak", "make"]),
    "no path": ("make", {}, ["import path of a TorchRL environment"]),
    "another class": ("torchrl.data.Bounded", {}, ["no EnvBase of TorchRL"]),
    "says nothing": ("torchrl_toys.unnamed", {}, ["'-> EnvBase'"]),
    "says another thing": ("torchrl_toys.runs_code", {"command": "touch trace"}, ["'-> EnvBase'"]),
    "gives nothing": ("torchrl_toys.nothing", {}, ["gave NoneType"]),
    "options": ("torchrl_toys.make", {"kinds": 3}, ["cannot be built with kinds 3 (--data.env.options)"]),
    "a batch": ("torchrl_toys.make", {"batch": [3]}, ["is a batch of [3] environments", "num_envs 1"]),
    "alone": ("torchrl_toys.Alone", {}, ["no groups of agents", "'action'"]),
    "words": ("torchrl_toys.Words", {}, ["observations of spec NonTensor"]),
    "unlike": ("torchrl_toys.Unlike", {}, ["different specs in the group walkers", "ONE_GROUP_PER_AGENT"]),
    "two actions": ("torchrl_toys.Twofold", {}, ["several actions for one group"]),
    "misnamed": ("torchrl_toys.Misnamed", {}, ["names 1 agents of the group walkers", "actions of 2"]),
    "whole numbers": ("torchrl_toys.make", {"kind": "whole"}, ["Box actions of whole numbers (int64)"]),
    "unbounded": ("torchrl_toys.make", {"kind": "unbounded"}, ["actions without bounds"]),
    "comes back": (
        "torchrl_toys.make",
        {"ends": "back"},
        ["cannot be played: agent voice acts after its end"],
    ),
}


@pytest.mark.parametrize(("name", "options", "words"), BAD.values(), ids=BAD)
def test_what_cannot_work_is_one_line(name, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        TorchRL(name, options)
    text = with_flags(error.value.marked)
    assert "\n" not in text and all(word in text for word in words), text
    assert not list(tmp_path.iterdir())


def test_a_run_folder_may_name_no_code_of_its_own():
    from lit_maprops.system.named_code import only_of

    with only_of({"lit_maprops"}):
        with pytest.raises(ConfigError, match="if you trust it, give trust torchrl_toys"):
            task_of()
        with pytest.raises(ConfigError, match="if you trust it, give trust torchrl"):
            TorchRL("torchrl.envs.GymEnv", {"env_name": "evil:Env-v0"})


@pytest.mark.parametrize("kind", ["categorical", "one-hot", "multi", "binary", "bounded"])
def test_the_toys_are_environments(kind):
    check_env_specs(Groups(kind, (1,), "groups", kind == "categorical", True, False, "group"))


def test_the_flag_of_a_name_that_is_missing_is_said(capsys):
    assert main(["fit", "--config", str(ROOT / "conf/boulderpush.yaml"), "--data.env", "TorchRL"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lit_maprops: error: --data.env.name is required") and error.count("\n") == 1
