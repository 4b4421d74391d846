"""What a run warns of: sampling errors by several estimates, near-deterministic policies apart, no shipped config."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from scipy.stats import sem

from lit_maprops.cli.main import main
from lit_maprops.metrics.likelihood import fitted_kl
from lit_maprops.run.diagnosis import FIRST_VISITS, RunningMeans, diagnose, near_deterministic, not_revisited
from lit_maprops.stacked.streams import SeedStreams

SIGNATURE = "no_less_sampling_error"
CONFIGS = sorted(path.stem for path in (ROOT / "conf").glob("*.yaml"))


def seen(
    own: Iterable[float], on_policy: Iterable[float], measure: str = "joint_tv", entropy: float = 1.0
) -> RunningMeans:
    means = RunningMeans()
    for pair in zip(own, on_policy, strict=True):
        names = f"sampling_error/{measure}", f"sampling_error/{measure}_on_policy"
        means.add(dict(zip(names, pair, strict=True)) | {"target/entropy": entropy})
    return means


def test_the_comparison_is_that_of_scipy() -> None:
    own, on_policy = np.random.default_rng(0).random((2, 50))
    result = seen(own, on_policy).compared("joint_tv")
    assert result.estimates == 50
    expected = own.mean(), on_policy.mean(), (own - on_policy).mean(), sem(own - on_policy)
    assert result[1:] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("own", "on_policy", "warns"),
    [
        ([0.3] * 10, [0.2] * 10, True),
        ([0.3] * 4, [0.2] * 4, False),  # too few estimates
        ([0.204] * 10, [0.2] * 10, False),  # 2%: it does not matter
        ([0.5, 0.0] * 5, [0.2] * 10, False),  # 0.05 above by a standard error of 0.08
        ([-8.43e-9] * 10, [-8.43e-9] * 10, False),  # a tie of rounding
        ([0.0] * 10, [-8.43e-9] * 10, False),
        ([1e-8] * 10, [0.0] * 10, False),
        ([0.2] * 10, [0.2] * 10, False),
    ],
)
@pytest.mark.parametrize("measure", ["joint_tv", "joint_kl", "joint_energy"])
def test_a_warning_needs_a_difference_that_matters(
    own: list[float], on_policy: list[float], warns: bool, measure: str
) -> None:
    means = seen([*own, math.nan], [*on_policy, math.nan], measure)  # an iteration without an estimate
    assert (SIGNATURE in diagnose(means, kl_cutoff=0.05)) == warns
    assert diagnose(means, kl_cutoff=None) == {}


def test_chance_hardly_warns() -> None:
    """Samplers that are on-policy, looked at after each of 100 iterations: 3 standard errors, not one."""
    generator, warned = np.random.default_rng(0), 0
    for _ in range(200):
        means, ever = RunningMeans(), False
        for own, on_policy in generator.normal(0.2, 0.05, (100, 2)):
            means.add({"sampling_error/joint_tv": own, "sampling_error/joint_tv_on_policy": on_policy})
            ever |= SIGNATURE in diagnose(means, kl_cutoff=0.05)
        warned += ever
    assert warned <= 20


def test_near_deterministic_policies_are_counted_apart() -> None:
    means = seen([0.1] * 10, [0.2] * 10, entropy=0.69)
    for _ in range(50):  # one rare action more in a batch of 8 than pi_theta gives
        means.add(
            {"sampling_error/joint_tv": 0.125, "sampling_error/joint_tv_on_policy": 0.001, "target/entropy": 0.05}
        )
    assert diagnose(means, kl_cutoff=0.05) == {}
    assert near_deterministic(means) == pytest.approx({"estimates": 50, "joint_tv": 0.125, "joint_tv_on_policy": 0.001})
    assert near_deterministic(seen([0.1] * 10, [0.2] * 10)) is None
    whitened = seen([0.3] * 10, [0.2] * 10, "joint_energy")
    whitened.add({"target/entropy": 9.0})
    assert SIGNATURE in diagnose(whitened, kl_cutoff=0.05)  # whose scale is always the same


@pytest.mark.parametrize("measure", ["joint_tv", "joint_kl", "joint_energy"])
@pytest.mark.parametrize(
    ("share", "estimates", "own", "warns"),
    [
        (FIRST_VISITS + 0.01, 5, 0.2, True),
        (1.0, 5, 0.3, True),  # besides the warning that the error is above on-policy's
        (1.0, 5, 0.195, True),  # 2.5% below: it does not matter
        (1.0, 4, 0.2, False),  # too few estimates
        (FIRST_VISITS - 0.01, 5, 0.2, False),
        (1.0, 5, 0.1, False),  # networks share among states
    ],
)
def test_states_that_are_not_revisited_are_warned_of(
    share: float, estimates: int, own: float, warns: bool, measure: str
) -> None:
    means = RunningMeans()
    for _ in range(estimates):
        means.add({"sampling_error/first_visits": share})  # and iterations without an estimate
        means.add({f"sampling_error/{measure}": own, f"sampling_error/{measure}_on_policy": 0.2, "target/entropy": 1.0})
    found = not_revisited(means)
    assert bool(found) == warns
    assert all(f"{share:.0%}" in line and "<data.target_batch_size>" in line for line in found.values())
    assert "not_revisited" not in diagnose(means, kl_cutoff=0.05)  # which is looked at while training, too
    assert not_revisited(RunningMeans()) == {}


@pytest.mark.parametrize(("sampler", "warns"), [("MAPROPS", True), ("Greedy", False), ("OnPolicy", False)])
def test_environments_side_by_side_in_one_state_are_warned_of(
    fit: Callable[..., Path], capsys: pytest.CaptureFixture[str], sampler: str, warns: bool
) -> None:
    """As many as a batch has steps: a game with a single state, and none has been there before another.

    Greedy lets them choose one after the other all the same, and has the smaller error to show for it.
    """
    options = ["--model.behavior", sampler, "--data.num_envs", "8", "--data.behavior_batch_size", "8"]
    summary = json.loads((fit("x", *options) / "summary.json").read_text())
    assert summary["first_visits"] == 1
    said = [line for line in summary["warnings"] if "100% of a batch's steps are D's first in their state" in line]
    assert bool(said) == warns and all("lower --data.num_envs" in line for line in said)
    assert ("first in their state" in capsys.readouterr().err) == warns


def test_a_state_that_comes_back_is_not_warned_of(fit: Callable[..., Path]) -> None:
    summary = json.loads((fit("x") / "summary.json").read_text())
    assert summary["first_visits"] == 1 / 8 and not [line for line in summary["warnings"] if "first" in line]


def test_a_fitted_divergence_is_never_negative() -> None:
    """Deterministic policies, which every fit equals: the rounded sum can be below 0."""
    logits = torch.randn(3, 64, 8, generator=torch.Generator().manual_seed(0)).mul(4).log_softmax(-1)
    streams = SeedStreams(0, [0, 1, 2], "sampling error")
    action, held_out = logits.argmax(-1), torch.arange(64).expand(3, -1) % 5 == 0
    kl = fitted_kl(torch.zeros(3, 64, 1), logits, action, held_out, [4], streams, steps=1)
    assert (kl >= 0).all()


def test_a_sampler_that_fails_is_warned_of(fit: Callable[..., Path]) -> None:
    """One giant update in the middle of a batch: its other half is one joint action, again and again."""
    giant = ["--model.behavior.learning_rate", "100", "--model.behavior.kl_cutoff", "1000"]
    half = ["--data.behavior_batch_size", "16", "--data.target_batch_size", "32", "--model.total_env_steps", "320"]
    slow = ["--model.learner.learning_rate", "0.01", "--model.num_seeds", "20"]
    summary = json.loads((fit("x", *giant, *half, *slow) / "summary.json").read_text())
    [warning] = [line for line in summary["warnings"] if "sampling error" in line]
    assert "is above on-policy's" in warning and "estimates" in warning and "--model.behavior.learning_rate" in warning
    assert summary["joint_tv"] > summary["joint_tv_on_policy"] and summary["near_deterministic"] is None


def without_warning(config: str, tmp_path: Path, *options: str) -> dict:
    path = ROOT / "conf" / f"{config}.yaml"
    args = ["fit", "--config", str(path), "--runs_dir", str(tmp_path), "--run_name", "x", *options]
    assert main(args) == 0
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    assert summary["warnings"] == []
    return summary


def test_the_shipped_matrix_game_does_not_warn(tmp_path: Path) -> None:
    apart = without_warning("matrix_game", tmp_path, "--model.num_seeds", "6")["near_deterministic"]
    assert apart["estimates"] > 20 and apart["joint_tv"] > apart["joint_tv_on_policy"]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_no_shipped_config_warns(config: str, tmp_path: Path) -> None:
    """As they ship, but with 6 seeds; what takes longest is cut to 60 iterations."""
    content = yaml.safe_load((ROOT / "conf" / f"{config}.yaml").read_text())
    most = 60 * content["data"]["target_batch_size"]
    total = min(most, content["model"]["total_env_steps"]) if config != "boulderpush" else 81_920
    without_warning(config, tmp_path, "--model.num_seeds", "6", "--model.total_env_steps", str(total))
