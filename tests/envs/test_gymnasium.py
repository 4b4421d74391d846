"""Gymnasium's environments of several agents as tasks: what packages say step by step, ends, masks, and refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_maprops.cli.main import main
from lit_maprops.envs import Foraging, Gymnasium, State, Transition
from lit_maprops.envs.ends import RUNS, TERMINATED, TRUNCATED
from lit_maprops.system.errors import ConfigError

gymnasium = pytest.importorskip("gymnasium")
TOY = "gymnasium_toys.Counting"


def begun(task: Gymnasium, rows: int = 2) -> State:
    return task.initial_state(torch.rand(rows, 2, generator=torch.Generator().manual_seed(0)))


def stepped(task: Gymnasium, state: State, *actions: int) -> Transition:
    rows = len(state["seed"])
    return task.transition(state, torch.tensor([actions] * rows), torch.zeros(rows, 0))


def legal_draw(task: Gymnasium, state: State, generator: torch.Generator) -> Tensor:
    legal = torch.as_tensor(task.legal_actions(state)).expand(len(state["seed"]), -1, -1)
    return torch.multinomial(legal.flatten(0, 1).float(), 1, generator=generator).view(-1, task.n_agents)


PACKAGES = {
    "lbforaging:Foraging-8x8-2p-2f-coop-v3": ("lbforaging", 50, {}),
    "lbforaging:Foraging-2s-6x6-3p-2f-v3": ("lbforaging", 50, {}),
    "rware:rware-tiny-2ag-v2": ("rware", 500, {}),
    "rware:rware-tiny-3ag-easy-v2": ("rware", 12, {"max_steps": 12}),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("name", PACKAGES)
def test_steps_are_those_of_the_package(name: str) -> None:
    package, limit, options = PACKAGES[name]
    pytest.importorskip(package)
    task, generator = Gymnasium(name, options), torch.Generator().manual_seed(1)
    assert task.max_steps == limit
    state = begun(task)
    envs = [gymnasium.make(name, disable_env_checker=True, **options) for _ in range(2)]  # never used before
    seen = [env.reset(seed=int(seed))[0] for env, seed in zip(envs, state["seed"], strict=True)]
    for _ in range(min(limit, 60)):
        np.testing.assert_array_equal(task.observe(state)[0].numpy(), np.array(seen, np.float32))
        action = legal_draw(task, state, generator)
        found = task.transition(state, action, torch.zeros(2, 0))
        answers = [env.step(tuple(own)) for env, own in zip(envs, action.tolist(), strict=True)]
        seen = [answer[0] for answer in answers]
        np.testing.assert_allclose(found.reward.numpy(), [answer[1] for answer in answers], rtol=1e-6)
        over = [answer[2] or answer[3] for answer in answers]
        assert (found.terminated | found.truncated).tolist() == over
        state = found.state
        if any(over):
            break
    assert limit > 60 or any(over)


def test_they_are_foraging_as_we_have_it() -> None:
    """Sizes and rewards of our own, batched Foraging, which other tests hold to the package."""
    pytest.importorskip("lbforaging")
    task, ours = Gymnasium("lbforaging:Foraging-5x5-2p-1f-coop-v3"), Foraging("Foraging-5x5-2p-1f-coop-v3")
    assert (task.n_agents, task.n_actions, task.observation_dim) == (
        ours.n_agents,
        ours.n_actions,
        ours.observation_dim,
    )
    assert task.max_steps == ours.max_steps


@pytest.mark.parametrize(("rewards", "expected"), [("each", [2.0, 1.0]), ("all", [3.0, 3.0])])
def test_rewards_and_starts_of_actions(rewards: str, expected: list[float]) -> None:
    task = Gymnasium(TOY, {"rewards": rewards})
    assert task.action_mask().tolist() == [[True] * 3, [True, True, False]]
    assert stepped(task, begun(task), 1, 1).reward.tolist() == [expected] * 2


@pytest.mark.parametrize("how", ["list", "array", "numbers"])
def test_ends_of_each_agent_and_of_all(how: str) -> None:
    task = Gymnasium(TOY, {"ends": [1, 3], "how": how})
    found = stepped(task, begun(task), 0, 0)
    assert task.agent_ends(found.state).tolist() == [[TERMINATED, RUNS]] * 2 and not found.terminated.any()
    found = stepped(task, found.state, 2, 1)
    assert found.reward.tolist() == [[0.0, 1.0]] * 2  # who has left gets nothing
    assert stepped(task, found.state, 0, 0).terminated.all()
    by_word = Gymnasium(TOY, {"ends": "__all__"})
    found = stepped(by_word, stepped(by_word, begun(by_word), 0, 0).state, 0, 0)
    assert by_word.agent_ends(found.state).tolist() == [[TERMINATED, RUNS]] * 2
    assert stepped(by_word, found.state, 0, 0).terminated.all()
    whole = Gymnasium(TOY, {"ends": 2})
    assert stepped(whole, stepped(whole, begun(whole), 0, 0).state, 0, 0).terminated.all()


def test_the_registrys_time_limit_truncates() -> None:
    task = Gymnasium("gymnasium_toys:Counting-v0", {"ends": 9})
    assert task.max_steps == 2
    found = stepped(task, stepped(task, begun(task), 0, 0).state, 0, 0)
    assert found.truncated.all() and not found.terminated.any()
    assert Gymnasium("Counting-v0").max_steps == 2  # known by now


@pytest.mark.parametrize("how", ["list", "array", "numbers"])
@pytest.mark.parametrize("where", ["infos", "method"])
def test_masks(where: str, how: str) -> None:
    task = Gymnasium(TOY, {"masks": where, "how": how})
    state = begun(task, 1)
    first = [[True, False, True], [False, True, False]]
    assert task.masks_actions and task.legal_actions(state).tolist() == [first]
    following = stepped(task, state, 0, 1).state
    assert task.legal_actions(following).tolist() == [[first[0], [True, True, False]]]


@pytest.mark.parametrize(("verdict", "succeeds"), [(True, True), ([True, False], False), ([True, True], True)])
def test_verdicts(verdict: Any, succeeds: bool) -> None:
    task = Gymnasium(TOY, {"ends": 1, "verdict": verdict})
    assert stepped(task, begun(task), 0, 0).success.tolist() == [succeeds] * 2


def test_infos_in_a_list_are_those_of_the_agents() -> None:
    task = Gymnasium("gymnasium_toys.Listed", {"ends": 2})
    first = stepped(task, begun(task), 0, 0)
    legal = [[False, True, True], [True, True, False]]
    assert task.masks_actions and task.legal_actions(first.state).tolist() == [legal] * 2
    assert stepped(task, first.state, 1, 0).success.tolist() == [True] * 2


def test_agents_by_name() -> None:
    """In the order of Gymnasium's Dict, which is that of the alphabet."""
    task = Gymnasium("gymnasium_toys.Named")
    assert [task.interface(agent).name for agent in range(2)] == ["puller", "pusher"]
    found = stepped(task, begun(task), 1, 0)
    assert found.reward.tolist() == [[10.0, 0.0]] * 2
    found = stepped(task, found.state, 1, 1)
    assert task.agent_ends(found.state).tolist() == [[TRUNCATED, RUNS]] * 2
    found = stepped(task, stepped(task, found.state, 1, 1).state, 1, 1)
    assert found.terminated.all() and found.success.all()


def test_what_a_reset_leaves_of_an_episode_counts_unless_made_anew() -> None:
    """lbforaging looks where its players stood."""
    pytest.importorskip("lbforaging")
    with pytest.raises(ConfigError, match=r"plays different episodes [^\n]*: leave anew at true, or choose another$"):
        Gymnasium("lbforaging:Foraging-8x8-2p-2f-coop-v3", anew=False)
    assert Gymnasium(TOY, anew=False).n_agents == 2


def test_a_global_state() -> None:
    task = Gymnasium(TOY, {"state": True})
    assert task.observe(stepped(task, begun(task), 0, 0).state)[1].tolist() == [[1.0, 7.0]] * 2


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("gymnasium_toys.Alone", {}, "sees Box.*: choose one that has Tuples of both with an entry for each agent"),
        ("CartPole-v1", {}, "acts in Discrete.2. and sees Box.*: choose one that has Tuples"),
        ("gymnasium_toys:Foo-v0", {}, "gymnasium_toys registers no Foo-v0: give another, such as Counting-v0"),
        ("gymnasium_toys", {}, "is 'gymnasium_toys': give an id of Gymnasium behind the package that registers it"),
        ("gymnasium_toys.SIGHT", {}, "which is no class that extends gymnasium.Env: give an id of Gymnasium behind"),
        (
            "gymnasium_toys.Counted",
            {},
            "there is no module gymnasium_toys.Counted .did you mean Counting",
        ),
        ("no_such_package:Foo-v0", {}, "there is no module no_such_package: give the import path of the package that"),
        ("../toys:Foo-v0", {}, "is '../toys:Foo-v0': give an id of Gymnasium behind the package that registers it"),
        (TOY, {"speed": 3}, r"cannot be built with speed 3 \(options\): .*unexpected keyword argument 'speed'"),
        (TOY, {"broken": "reset"}, "fails at its reset: its reset gives no observations and infos, as Gymnasium's"),
        (TOY, {"broken": "step"}, "cannot be played: its step does not give five things, as Gymnasium's does since"),
        (
            TOY,
            {"broken": "rewards"},
            "its rewards have 3 entries, expected one for each of 2 agents: mend it",
        ),
        (TOY, {"broken": "names"}, "its rewards have an entry of 'red', which is no agent: name agent_0 and agent_1"),
        (TOY, {"broken": "infos"}, "its infos are of the kind str, expected a dict: mend it"),
        (
            TOY,
            {"broken": "observations"},
            "its observations have 1 entries, expected one for each of 2 agents: mend",
        ),
    ],
)
def test_one_line_says_what_is_wrong(name: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^name [^\n]*{line}[^\n]*$"):
        Gymnasium(name, options)


def test_a_run_resumes_bit_for_bit(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line, with the masks of the toy; what a run folder alone names is not imported."""
    words = ["fit", "--config", "conf/boulderpush.yaml", "--data.env", "Gymnasium", "--data.env.name", TOY]
    words += ["--data.env.options", "{masks: infos}", "--model.num_seeds", "2", "--model.eval_interval", "1"]
    words += ["--data.num_envs", "2", "--data.behavior_batch_size", "4", "--data.target_batch_size", "8"]
    words += ["--model.eval_episodes", "2", "--model.learner.hidden", "[4]", "--runs_dir", str(tmp_path)]
    assert main([*words, "--model.total_env_steps", "32", "--run_name", "whole"]) == 0
    assert main([*words, "--model.total_env_steps", "16", "--run_name", "half"]) == 0
    checkpoint = tmp_path / "half/checkpoints/last.ckpt"
    capsys.readouterr()
    assert main(["fit", "--ckpt_path", str(checkpoint), "--model.total_env_steps", "32"]) != 0
    assert "<trust> gymnasium_toys".replace("<", "--").replace(">", "") in capsys.readouterr().err
    assert (
        main(["fit", "--ckpt_path", str(checkpoint), "--model.total_env_steps", "32", "--trust", "gymnasium_toys"]) == 0
    )
    ends = [torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("whole", "half")]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name
