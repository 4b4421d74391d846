"""``analyze`` as a user meets it, and its batches against those that training collects."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_maprops import keys
from lit_maprops.analyze import batches as batches_module
from lit_maprops.analyze.analysis import analyze, reference_of
from lit_maprops.analyze.batches import FIRST_BATCH, draw, entry_ids, on_policy_reference
from lit_maprops.analyze.subject import Sampler, load, samplers_of
from lit_maprops.behavior import MAPROPS, Greedy, OnPolicy, TabularMAPROPS
from lit_maprops.cli.main import main
from lit_maprops.metrics.gradients import exact_reference, spread


def checkpoint_of(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def files_of(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


CONTINUOUS = ["--model.behavior", "GaussianAdjustment", "--model.learner", "IPPO"]


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("env", "options", "other"),
    [("MatrixGame", [], "TabularMAPROPS"), ("BoulderPush", [], "TabularMAPROPS"), ("TwoPeaks", CONTINUOUS, "PROPS")],
)
def test_table_json_and_csv_agree_and_the_run_is_left_alone(
    fit: Callable[..., Path], capsys: Any, env: str, options: list[str], other: str
) -> None:
    folder = fit("x", *options, env=env)
    before = files_of(folder)
    capsys.readouterr()
    args = ["analyze", "--ckpt_path", str(checkpoint_of(folder)), "--batches", "4", "--reference_batches", "6"]
    assert main([*args, "--samplers", other]) == 0
    out = capsys.readouterr().out
    summary = json.loads((folder / "gradients.json").read_text())
    with (folder / "gradients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    after = files_of(folder)
    assert {p: after[p] for p in before} == before
    assert set(summary["samplers"]) == {"OnPolicy", "own", other}
    assert summary["reference"]["kind"] == ("exact" if env == "MatrixGame" else "on_policy")
    for name, figures in summary["samplers"].items():
        assert name in out
        own = [row for row in rows if row["sampler"] == name]
        assert [int(row["seed"]) for row in own] == summary["seeds"]
        for figure in ("bias_squared", "variance", "mse"):
            mean = sum(float(row[figure]) for row in own) / len(own)
            assert figures[figure] == pytest.approx(mean)
            assert figures[f"{figure}_ci95"][0] <= figures[figure] <= figures[f"{figure}_ci95"][1]
    assert summary["samplers"]["OnPolicy"]["effective_sample_share"] == 1.0
    # Once more: equal to the last digit.
    assert main([*args, "--samplers", other, "-o", str(folder / "again.json")]) == 0
    assert json.loads((folder / "again.json").read_text()) == summary
    assert (folder / "again.csv").read_text() == (folder / "gradients.csv").read_text()


BAD = {
    "no checkpoint": ([], "--ckpt_path"),
    "one batch": (["--batches", "1"], "--batches"),
    "half a batch": (["--batches", "1.5"], "--batches"),
    "unknown sampler": (["--samplers", "Gredy"], "--samplers"),
    "batch of one step": (["--batch_size", "1"], "--batch_size"),
    "no steps": (["--batch_size", "0"], "--batch_size"),
    "negative batch": (["--batch_size", "-8"], "--batch_size"),
    "one reference batch": (["--reference_batches", "1"], "--reference_batches"),
    "nowhere": (["-o", "none/such/x.json"], "--output"),
    "misspelt": (["--bacthes", "3"], "--bacthes"),
}


@pytest.mark.every(2)
@pytest.mark.parametrize(("options", "word"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_writes_nothing(game: Path, capsys: Any, options: list[str], word: str) -> None:
    before = files_of(game)
    capsys.readouterr()
    given = [] if word == "--ckpt_path" else ["--ckpt_path", str(checkpoint_of(game))]
    assert main(["analyze", *given, *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1 and word in captured.err
    assert files_of(game) == before


def test_a_batch_of_no_whole_sequences_is_one_line(fit: Callable[..., Path], capsys: Any) -> None:
    """2 environments, sequences of 4 steps and m = 4: 12 env steps are six of each environment."""
    memory = ["--model.learner", "IPPO", "--model.learner.memory", "gru", "--model.learner.sequence_length", "4"]
    memory += ["--model.sampling_error", "null"]
    batches = ["--data.num_envs", "2", "--data.behavior_batch_size", "4", "--data.target_batch_size", "16"]
    folder = fit("x", *memory, *batches, "--model.total_env_steps", "16")
    capsys.readouterr()
    args = ["analyze", "--ckpt_path", str(checkpoint_of(folder)), "--batches", "2", "--reference_batches", "2"]
    assert main([*args, "--batch_size", "12"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "--batch_size is 12" in captured.err and "make it a multiple of 8" in captured.err
    assert main([*args, "--batch_size", "8"]) == 0


def test_samplers_of_the_runs_own_class_have_default_settings(fit: Callable[..., Path]) -> None:
    """Beside the run's own, whose settings are others; so has on-policy sampling, where that is the run's own."""
    folder = fit("x", "--model.behavior.hidden", "[3]")
    subject = load(checkpoint_of(folder))
    found = samplers_of(subject, ["MAPROPS", "OnPolicy"])
    assert list(found) == ["OnPolicy", "own", "MAPROPS"]
    assert [found[name].template.hidden for name in ("own", "MAPROPS")] == [[3], [64, 64]]
    environments = ["--data.num_envs", "2", "--data.behavior_batch_size", "2"]
    even = fit("even", "--model.behavior", "OnPolicy", "--model.behavior.draws", "stratified", *environments)
    found = samplers_of(load(checkpoint_of(even)), [])
    assert [(name, found[name].template.draws) for name in found] == [
        ("OnPolicy", "independent"),
        ("own", "stratified"),
    ]


@pytest.mark.parametrize("kind", ["missing", "truncated", "foreign", "pickle", "outside", "other config", "no yaml"])
def test_a_checkpoint_that_is_none_is_one_line(game: Path, capsys: Any, tmp_path: Path, kind: str) -> None:
    path = checkpoint_of(game)
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "foreign":
        torch.save({"state_dict": {}}, path)
    elif kind == "pickle":
        torch.save({"lit_maprops": Path}, path)
    elif kind == "outside":
        path = Path(shutil.copy(path, tmp_path / "a.ckpt"))
    elif kind == "other config":
        config = game / "config.yaml"
        config.write_text(config.read_text().replace("hidden: []", "hidden: [3]"))
    else:
        (game / "config.yaml").write_text("model: [")
    before = files_of(game)
    capsys.readouterr()
    assert main(["analyze", "--ckpt_path", str(path)]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1 and "--ckpt_path" in err
    assert files_of(game) == before


def test_a_sampler_that_cannot_serve_the_task_is_one_line(fit: Callable[..., Path], capsys: Any) -> None:
    folder = fit("x", "--data.env", "Coordination", "--data.env.n_agents", "3", "--model.behavior", "OnPolicy")
    subject = load(checkpoint_of(folder))
    subject.task.n_actions = 10**4  # too many joint actions for a table
    from lit_maprops.system.errors import ConfigError

    with pytest.raises(ConfigError, match="joint actions"):
        samplers_of(subject, ["TabularMAPROPS"])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lit_maprops.cli.main import main; main(['analyze', '--help']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--reference_batches" in done.stdout and done.stdout.strip().endswith("False")


def test_batches_do_not_depend_on_their_groups_nor_seeds_on_each_other(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = load(checkpoint_of(fit("x", env="BoulderPush")))
    together, returns = draw(subject, subject.own, 5, 32)
    monkeypatch.setattr(batches_module, "STEPS_AT_ONCE", 2 * 2 * 32)  # two batches of two seeds at a time
    apart, other_returns = draw(subject, subject.own, 5, 32)
    torch.testing.assert_close(together, apart, atol=1e-7, rtol=1e-3)
    for name in returns:
        torch.testing.assert_close(returns[name], other_returns[name], equal_nan=True)
    reference = on_policy_reference(subject, 5, 32)
    monkeypatch.undo()
    whole = on_policy_reference(subject, 5, 32)
    torch.testing.assert_close(reference.gradient, whole.gradient, atol=1e-7, rtol=1e-3)
    torch.testing.assert_close(reference.variance, whole.variance, rtol=1e-3, atol=0)
    # The reference's error is the variance of its batches' mean, by the plain formula.
    gradients, _ = draw(
        subject._replace(retained=None), Sampler(OnPolicy()), 5, 32, batches_module.FIRST_REFERENCE_BATCH
    )
    torch.testing.assert_close(whole.variance.float(), gradients.var(1).sum(-1) / 5, rtol=1e-3, atol=0)


def test_no_batch_reads_a_stream_of_training_or_of_another_batch() -> None:
    ids = entry_ids([0, 1, 2**40], FIRST_BATCH, range(50))
    ids += entry_ids([0, 1, 2**40], batches_module.FIRST_REFERENCE_BATCH, range(50))
    assert len(set(ids)) == 300 and min(ids) >= 2**64


def test_on_policy_is_unbiased_and_greedy_has_no_variance_at_a_uniform_policy(fit: Callable[..., Path]) -> None:
    """Through the whole machinery: collection, advantages, gradient, exact reference; 8 samples, 4 joint actions."""
    folder = fit("x", "--model.learner.learning_rate", "1.0e-9")
    subject = load(checkpoint_of(folder))
    samplers = {"OnPolicy": Sampler(OnPolicy()), "Greedy": Sampler(Greedy()), "own": subject.own}
    found = analyze(subject, samplers, 400, 8, reference_of(subject, 8, 2)).summary()["samplers"]
    low, high = found["OnPolicy"]["bias_squared_ci95"]
    assert low < 0 < high
    assert found["Greedy"]["variance"] == pytest.approx(0, abs=1e-12)
    # The leave-one-out baseline makes even exact proportions 8/7 of the exact gradient: squared bias |g|^2 / 49.
    norm = float(exact_reference(subject.learner.policies, subject.task).gradient.square().sum(-1).mean())
    assert found["Greedy"]["bias_squared"] == pytest.approx(norm / 49, rel=1e-3)
    assert found["own"]["mse"] < found["OnPolicy"]["mse"] / 3
    low, high = found["OnPolicy"]["return_bias_ci95"]
    assert low < 0 < high


def test_on_policy_is_unbiased_on_continuous_actions(fit: Callable[..., Path]) -> None:
    """Against the derivative of the expected reward by quadrature, which knows no densities of ours."""
    subject = load(checkpoint_of(fit("x", env="TwoPeaks")))
    gradients, returns = draw(subject, Sampler(OnPolicy()), 1500, 8)  # [R, K, P]
    points, weights = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(60))
    z = torch.cartesian_prod(points, points)
    weight = torch.cartesian_prod(weights, weights).prod(-1) / weights.sum() ** 2
    policies = subject.learner.policies
    mean, log_std = policies.distribution_parameters(torch.ones(3, 1, 2, 1)).chunk(2, -1)  # [R, 1, A, 1]
    action = (mean.squeeze(-1) + log_std.squeeze(-1).exp() * z.float()).tanh().unsqueeze(-1)  # [R, points, A, 1]
    start = subject.task.initial_state(torch.zeros(3, len(z), 0))
    reward = subject.task.transition(start, action, torch.zeros(3, len(z), 0)).reward[..., 0]
    expected = (reward * weight.float()).sum(1)
    (truth,) = torch.autograd.grad(expected.sum(), policies.net.flat)
    error = gradients.std(1) / 1500**0.5
    assert ((gradients.mean(1) - truth.flatten(1)).abs() < 4 * error).all()
    assert (truth.flatten(1).abs() > 4 * error).any(1).sum() >= 2  # of three seeds: large enough to say something
    means = returns["monte_carlo"]
    assert ((means.mean(1) - expected.detach()).abs() < 4 * means.std(1) / 1500**0.5).all()


def test_old_batches_bias_the_gradient_by_their_share(fit: Callable[..., Path]) -> None:
    """D of one old batch and new on-policy ones: the bias is (old gradient - exact) * old steps / all steps."""
    folder = fit("x", "--data.history_batches", "2", "--model.learner", "Reinforce", "--model.behavior", "OnPolicy")
    subject = load(checkpoint_of(folder))
    assert subject.retained is not None and subject.retained.shape[1:] == (1, 8, 1)
    reference = exact_reference(subject.learner.policies, subject.task)
    gradients, _ = draw(subject, Sampler(OnPolicy()), 3000, 8)
    found = spread(gradients, reference)["bias_squared"]
    # The old batch's own gradient, sample by sample, with log pi_theta of the tables written out.
    theta = subject.learner.policies.net.flat.detach()  # [R, A, N], logits
    action, reward = subject.retained.get(keys.ACTION)[:, 0, :, 0], subject.retained.get(("next", *keys.REWARD))
    returns = reward[:, 0, :, 0, :, 0]
    advantage = (returns - returns.mean(1, keepdim=True)) * 8 / 7
    for seed in range(3):
        old = torch.zeros(2, 2)
        for t in range(8):
            for agent in range(2):
                score = -theta[seed, agent].softmax(-1)
                score[action[seed, t, agent]] += 1
                old[agent] += advantage[seed, t, agent] * score / 8
        expected = (0.5 * (old.flatten() - reference.gradient[seed])).square().sum().item()
        assert abs(found.value[seed].item() - expected) < 4 * found.error[seed].item() + 1e-9


def test_own_sampler_starts_from_what_training_left(fit: Callable[..., Path]) -> None:
    """Hidden layers and kept Adam moments are the checkpoint's, whichever batch they serve."""
    folder = fit("x", "--model.behavior.hidden", "[6]", "--model.behavior.reset_optimizer", "false")
    subject = load(checkpoint_of(folder))
    behavior = MAPROPS(hidden=[6], reset_optimizer=False)
    behavior.build(subject.task, 5, list(range(6)))
    trained = subject.own.trained
    batches_module._take_over(behavior, trained, 2)
    saved = torch.load(checkpoint_of(folder), weights_only=True)
    for entry in range(6):
        assert torch.equal(behavior.net.flat[entry], saved["state_dict"]["behavior.net.flat"][entry // 2])
        moment = saved["optimizer_states"][1]["state"][0]["exp_avg"][entry // 2]
        assert moment.abs().max() > 0
        assert torch.equal(behavior.optimizer.state[behavior.net.flat]["exp_avg"][entry], moment)


def test_a_fixed_start_is_that_of_the_seed(fit: Callable[..., Path]) -> None:
    folder = fit("x", "--data.env.fixed_start", "true", env="BoulderPush")
    subject = load(checkpoint_of(folder))
    ids = entry_ids(subject.seed_ids, FIRST_BATCH, range(3))
    data = batches_module._collect(subject, Sampler(TabularMAPROPS()), ids, 3, 32)
    first = data.get(keys.STATE_INDEX)[:, 0, :, 0].unflatten(0, (2, 3))  # [R, K, E]
    assert (first == first[:, :1, :1]).all()
    from lit_maprops.envs import TaskEnv

    own = TaskEnv(subject.task, subject.run_seed, subject.seed_ids, 1).reset().get(keys.STATE_INDEX)[:, 0, 0]
    assert torch.equal(first[:, 0, 0], own)


def test_every_figure_is_documented(fit: Callable[..., Path]) -> None:
    folder = fit("x")
    assert main(["analyze", "--ckpt_path", str(checkpoint_of(folder)), "--batches", "3", "--batch_size", "4"]) == 0
    summary = json.loads((folder / "gradients.json").read_text())
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    names = set(summary["samplers"]["own"]) | set(summary["reference"])
    for name in {name.removesuffix("_ci95") for name in names}:
        assert f"`{name}`" in page, name
