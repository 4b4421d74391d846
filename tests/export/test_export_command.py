"""``export`` as a user meets it: the files, the choice of a seed, the example, and one line for every mistake."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from conftest import ROOT
from lbforaging.foraging.environment import ForagingEnv
from torch.nn.functional import one_hot

from lit_maprops.cli import export as command
from lit_maprops.cli.main import main
from lit_maprops.envs import Foraging
from lit_maprops.export import policies
from lit_maprops.export.policies import load
from lit_maprops.system.files import write_atomically

EPISODES = 20  # of the example


def checkpoint_of(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def export(folder: Path, output: Path, *options: str) -> int:
    return main(["export", "--ckpt_path", str(checkpoint_of(folder)), "--output", str(output), *options])


def files_of(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def error_of(capsys: Any, code: int) -> str:
    captured = capsys.readouterr()
    assert code == 2 and captured.out == ""
    (line,) = captured.err.splitlines()[-1:]
    assert line.startswith("lit_maprops: error: ") and "Traceback" not in captured.err
    return line


def change_policies(folder: Path, change: Callable[[torch.Tensor], object]) -> None:
    """Change the weights ``[R, ...]`` of all policies in the run's checkpoint."""
    content = torch.load(checkpoint_of(folder), weights_only=True)
    change(content["state_dict"]["learner.policies.net.flat"])
    torch.save(content, checkpoint_of(folder))


def evaluated(folder: Path, success: list[float], returns: list[float], env_steps: int = 64) -> None:
    """Let eval.csv say this of seeds 0, 1, ..., with an older evaluation that says otherwise."""
    rows = ["env_steps,seed,greedy_success_rate,stochastic_success_rate,greedy_return,stochastic_return"]
    rows += [f"32,{seed},{float(seed == 0)},0,9,9" for seed in range(len(success))]
    rows += [f"{env_steps},{k},{one},0,{other},0" for k, (one, other) in enumerate(zip(success, returns, strict=True))]
    rows += [f"999,{seed},{float(seed == 0)},0,9,9" for seed in range(len(success))]  # after the checkpoint
    write_atomically(folder / "eval.csv", "\n".join(rows) + "\n")


def clone_a_teacher(folder: Path) -> None:
    """Give the run's agents policies that walk to the food and load it: a little supervised learning for all seeds."""
    trained = load(checkpoint_of(folder))
    generator = torch.Generator().manual_seed(0)
    food = torch.randint(1, 4, (1500, 2), generator=generator)
    agents = torch.randint(5, (1500, 2, 2), generator=generator)
    levels = torch.randint(1, 3, (1500, 3), generator=generator)
    way = food.unsqueeze(1) - agents
    down, right = way.unbind(-1)
    vertical, horizontal = torch.where(down > 0, 2, 1), torch.where(right > 0, 4, 3)
    teacher = torch.where(down.abs() > right.abs(), vertical, horizontal)
    teacher = torch.where(way.abs().sum(-1) == 1, 5, teacher)
    seen = torch.cat([food, levels[:, :1], agents[:, 0], levels[:, 1:2], agents[:, 1], levels[:, 2:]], 1).float()
    observation = torch.stack([seen, seen[:, [0, 1, 2, 6, 7, 8, 3, 4, 5]]], 1).expand(len(trained.seed_ids), -1, 2, 9)
    optimizer = torch.optim.Adam(trained.policies.parameters(), 3e-3)
    for _ in range(150):
        log_prob = trained.policies.distribution_parameters(observation)
        loss = -(log_prob * one_hot(teacher, 6)).sum(-1).mean((1, 2)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learned = trained.policies.net.flat.detach()
    change_policies(folder, lambda flat: flat.copy_(learned))


def test_the_example_plays_as_our_evaluation_does(fit: Callable[..., Path], tmp_path: Path, capfd: Any) -> None:
    name = "Foraging-5x5-2p-1f-coop"
    folder = fit("x", "--data.env.max_steps", "50", env="Foraging")
    clone_a_teacher(folder)
    capfd.readouterr()
    assert export(folder, tmp_path / "out", "--seed", "1", "--format", "onnx") == 0
    captured = capfd.readouterr()
    assert captured.out == "" and [line.split(":")[0] for line in captured.err.splitlines()] == ["export", "export"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"agent_0.onnx", "agent_1.onnx", "policy.json"}
    document = json.loads((tmp_path / "out" / "policy.json").read_text())
    assert document["run"] == {"name": "x", "seed": 1, "run_seed": 0, "env_steps": 96}
    assert (document["task"]["class"], document["task"]["options"]["name"]) == ("Foraging", name)

    # The example, where our package cannot be imported.
    code = "import sys, runpy; sys.modules['lit_maprops'] = None; sys.argv.pop(0); runpy.run_path(sys.argv[0])"
    args = [sys.executable, "-c", code, str(ROOT / "docs/examples/run_exported.py"), str(tmp_path / "out")]
    played = subprocess.run(args, capture_output=True, text=True, cwd=tmp_path)
    assert played.returncode == 0, played.stderr
    returns = [line.rsplit(" ", 1)[1] for line in played.stdout.splitlines()]

    # Our environment and policies beside the package's and the files, from the same starts.
    task, trained = Foraging(name), load(checkpoint_of(folder))
    sessions = [onnxruntime.InferenceSession(tmp_path / "out" / f"agent_{k}.onnx") for k in range(2)]
    ours = [episode_return(task, trained, sessions, seed) for seed in range(EPISODES)]
    assert returns == [f"{one:.2f}" for one in ours]
    assert returns.count("1.00") >= EPISODES / 2


def test_the_example_plays_policies_that_remember(fit: Callable[..., Path], tmp_path: Path) -> None:
    """With one cell in sight, for which lbforaging has no registered name."""
    words = ["--data.env.name", "Foraging-1s-5x5-2p-1f-coop", "--model.learner.memory", "lstm"]
    words += ["--model.learner.memory_size", "8", "--model.learner.sequence_length", "4"]
    folder = fit("remembering", "--data.env.max_steps", "50", *words, env="Foraging")
    assert export(folder, tmp_path / "out", "--seed", "1", "--format", "onnx") == 0
    args = [sys.executable, str(ROOT / "docs/examples/run_exported.py"), str(tmp_path / "out")]
    played = subprocess.run(args, capture_output=True, text=True, cwd=tmp_path)
    assert played.returncode == 0, played.stderr
    assert len(played.stdout.splitlines()) == EPISODES


@torch.no_grad()
def episode_return(task: Foraging, trained: Any, sessions: list[Any], seed: int) -> float:
    """Of seed 1's greedy policies in our environment, which is compared with lbforaging at every step."""
    from foraging_package import Food, as_state, read

    package = ForagingEnv(
        players=2, min_player_level=1, max_player_level=2, min_food_level=1, max_food_level=None, field_size=(5, 5),
        max_num_food=1, sight=5, max_episode_steps=50, force_coop=True,
    )  # fmt: skip
    seen, _ = package.reset(seed=seed)
    state, total = as_state([read(package, Food.of(package))]), 0.0
    for _ in range(50):
        observation = task.observe(state)[0].float()  # [1, A, O]
        parameters = trained.policies.distribution_parameters(observation.expand(2, 1, -1, -1))[1]
        action = trained.policies.family.mode(parameters)
        for agent, session in enumerate(sessions):
            assert np.array_equal(seen[agent], observation[0, agent])
            log_prob, chosen = session.run(None, {"observation": np.float32(seen[agent])[None]})
            assert np.abs(log_prob[0] - parameters[0, agent].numpy()).max() <= 1e-5
            assert chosen[0] == action[0, agent]
        outcome = task.transition(state, action, torch.zeros(1, 0))
        seen, rewards, done, _, _ = package.step(action[0].tolist())
        state, total = outcome.state, total + float(outcome.reward.sum())
        assert np.allclose(rewards, outcome.reward[0], atol=1e-6)
        if outcome.terminated.all():
            assert done
            break
    return total


def test_a_torch_export_program_needs_no_class_of_ours(fit: Callable[..., Path], tmp_path: Path) -> None:
    folder = fit("x", env="TwoPeaks")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["trainer"] |= {"accelerator": "gpu", "devices": 64}  # as if trained on a machine that is far away
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert export(folder, tmp_path / "out", "--seed", "2", "--format", "torch") == 0
    document = json.loads((tmp_path / "out" / "policy.json").read_text())
    assert (document["agents"][0]["action_low"], document["agents"][0]["action_high"]) == ([-1.0], [1.0])
    assert "tanh" in document["use"]["action"]
    code = (
        "import sys; sys.modules['lit_maprops'] = None; import torch\n"
        "print(*(float(x) for x in torch.export.load(sys.argv[1]).module()(torch.ones(1, 1))))"
    )
    file = str(tmp_path / "out" / document["agents"][1]["torch"])
    out = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True).stdout
    with torch.no_grad():
        mean, log_std = load(checkpoint_of(folder)).policies.distribution_parameters(torch.ones(3, 1, 2, 1))[2, 0, 1]
    assert np.allclose([float(one) for one in out.split()], [mean, log_std, mean.tanh()], atol=1e-5)


def test_the_best_seed_is_exported_or_the_one_asked_for(
    fit: Callable[..., Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fit("x")
    written: list[tuple[int, Path, list[str]]] = []
    monkeypatch.setattr(policies, "write_policies", lambda _, *args: written.append(args))

    def exported(*options: str) -> str:
        written.clear()
        capsys.readouterr()
        (tmp_path / "out").mkdir()  # an empty folder may stand there
        assert export(folder, tmp_path / "out", *options) == 0
        (tmp_path / "out").rmdir()
        return capsys.readouterr().err

    evaluated(folder, [0.25, 0.5, 0.5], [3.0, 1.0, 2.0])
    assert "seed 2, the best of 3 in the newest evaluation (greedy success 0.50, return 2)" in exported()
    assert [(seed, formats) for seed, _, formats in written] == [(2, ["onnx", "torch"])]
    evaluated(folder, [0.5, 0.5, 0.5], [1.0, 1.0, 1.0])
    assert "seed 0, the best" in exported()
    evaluated(folder, [float("nan"), 0.0, 0.0], [float("nan"), 0.0, 0.0])
    assert "seed 1, the best" in exported()
    evaluated(folder, [float("nan")] * 3, [1.0, 3.0, 2.0])  # the task has no success
    assert "seed 1, the best of 3 in the newest evaluation (return 3, no success told)" in exported()
    for rubbish in ("", "a,b\n1,2\n", "env_steps,seed\n"):
        write_atomically(folder / "eval.csv", rubbish)
        assert "seed 0, the first: eval.csv has no evaluation" in exported("--format", "onnx")
    (folder / "eval.csv").unlink()
    assert "seed 0, the first" in exported()
    exported("--seed", "1")
    assert [seed for seed, *_ in written] == [1]
    exported("--seed", "all")
    assert [(seed, path.name) for seed, path, _ in written] == [(0, "seed_0"), (1, "seed_1"), (2, "seed_2")]

    change_policies(folder, lambda flat: flat[1].fill_(torch.nan))
    assert "all seeds, 0 to 2, without 1" in exported("--seed", "all")
    evaluated(folder, [0.0, 1.0, 0.5], [0.0, 1.0, 0.5])  # of times before it broke
    assert "seed 2, the best" in exported()
    assert "--seed is 1" in error_of(capsys, export(folder, tmp_path / "o", "--seed", "1"))
    change_policies(folder, lambda flat: flat.fill_(torch.inf))
    assert "of every seed" in error_of(capsys, export(folder, tmp_path / "o"))


def test_mistakes_are_one_line_and_write_nothing(
    game: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "note").write_text("mine")
    before = files_of(tmp_path)
    out = str(tmp_path / "out")
    stranger = tmp_path / "elsewhere.ckpt"
    for options, words in {
        ("--output", out): ["--ckpt_path", "required"],
        ("--ckpt_path", str(checkpoint_of(game))): ["--output", "required"],
        ("--ckpt_path", str(stranger), "--output", out): ["--ckpt_path", "no file"],
    }.items():
        error = error_of(capsys, main(["export", *options]))
        assert all(word in error for word in words), error
    for path, options, words in [
        (full, [], ["--output", "nothing is overwritten"]),
        (full / "note", [], ["--output", "is a file"]),
        (tmp_path / "no" / "out", [], ["--output", "create it first"]),
        (tmp_path / ("x" * 300), [], ["--output", "too long"]),
        (Path(out), ["--seed", "3"], ["--seed", "'3'", "0 to 2"]),
        (Path(out), ["--seed", "best"], ["--seed", "'best'", "0 to 2"]),
        (Path(out), ["--format", "jax"], ["--format", "torch"]),
    ]:
        error = error_of(capsys, export(game, path, *options))
        assert all(word in error for word in words), error
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "onnxscript<0.8,>=0.7" in error_of(capsys, export(game, Path(out)))
    assert files_of(tmp_path) == before and {p.name for p in tmp_path.iterdir()} == {"full", "runs"}

    damaged = checkpoint_of(game).with_name("damaged.ckpt")
    damaged.write_bytes(checkpoint_of(game).read_bytes()[:5000])
    args = ["export", "--ckpt_path", str(damaged), "--output", out, "--format", "torch"]
    assert "damaged" in error_of(capsys, main(args)) and not Path(out).exists()


def test_a_failure_leaves_nothing_behind(
    game: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(policies, "write_json", full_disk)  # the last file: the others are there by then
    error = error_of(capsys, export(game, tmp_path / "out", "--format", "torch", "--seed", "0"))
    assert "--output" in error and "No space left" in error
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lit_maprops.cli.main import main; main(['export', '--help']); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--output DIR" in out and out.strip().endswith("False")
    assert command.DESCRIPTION.split()[0] in out
