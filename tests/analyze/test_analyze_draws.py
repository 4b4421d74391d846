"""``analyze`` of low-discrepancy draws: the visits that count are those of D."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_maprops import keys
from lit_maprops.analyze import batches as batches_module
from lit_maprops.analyze.analysis import analyze, reference_of
from lit_maprops.analyze.batches import FIRST_BATCH, entry_ids
from lit_maprops.analyze.subject import Sampler, load
from lit_maprops.behavior import LowDiscrepancy, OnPolicy
from lit_maprops.cli.main import main
from lit_maprops.distributions import joint

STILL = ["--model.learner.learning_rate", "1.0e-9"]  # policies stay uniform
OWN = ["--model.behavior", "LowDiscrepancy"]


def checkpoint_of(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def collected(checkpoint: Path, sampler: Sampler | None, batches: int, steps: int) -> torch.Tensor:
    """How often each of the game's joint actions is in every batch, ``[R * K, 4]``."""
    subject = load(checkpoint)
    ids = entry_ids(subject.seed_ids, FIRST_BATCH, range(batches))
    data = batches_module._collect(subject, sampler or subject.own, ids, batches, steps)
    index = joint.joint_index(data.get(keys.ACTION), 2).flatten(1)
    return torch.nn.functional.one_hot(index, 4).sum(1)


@pytest.mark.parametrize("scrambling", ["shift", "owen"])
def test_what_the_collector_tries_is_no_visit(fit: Callable[..., Path], scrambling: str) -> None:
    """Four visits, from the first one on, hold each of four equally probable joint actions once."""
    checkpoint = checkpoint_of(fit("x", *STILL))
    own = Sampler(LowDiscrepancy(scrambling=scrambling))
    assert (collected(checkpoint, own, 20, 4) == 1).all()
    assert (collected(checkpoint, Sampler(OnPolicy()), 20, 4) != 1).any()


def test_own_sequences_go_on_where_d_keeps_batches(fit: Callable[..., Path]) -> None:
    """Batches of two: the old one has two of the four joint actions, every new one the other two."""
    size = ["--data.target_batch_size", "2", "--data.history_batches", "2", "--model.total_env_steps", "6"]
    checkpoint = checkpoint_of(fit("x", *STILL, *OWN, *size))
    retained = load(checkpoint).retained
    assert retained is not None
    old = joint.joint_index(retained.get(keys.ACTION), 2).flatten(1)  # [R, 2]
    before = torch.nn.functional.one_hot(old, 4).sum(1).repeat_interleave(10, 0)
    assert (before + collected(checkpoint, None, 10, 2) == 1).all()


def test_balanced_counts_bias_the_leave_one_out_baseline_and_leave_no_variance(fit: Callable[..., Path]) -> None:
    """Each return less the mean of the others': of exact proportions of n = 8 steps 8/7 of the exact gradient."""
    subject = load(checkpoint_of(fit("x", *STILL)))
    reference = reference_of(subject, 8, 2)
    samplers = {"own": Sampler(LowDiscrepancy())}
    found = analyze(subject, samplers, 50, 8, reference).summary()["samplers"]["own"]
    assert found["variance"] == pytest.approx(0, abs=1e-12)
    norm = float(reference.gradient.square().sum(-1).mean())
    assert found["bias_squared"] == pytest.approx(norm / 49, rel=1e-3)


@pytest.mark.parametrize("options", [[], ["--model.behavior.order", "value"]], ids=["state", "value"])
def test_analyze_serves_low_discrepancy(fit: Callable[..., Path], options: list[str], capsys: Any) -> None:
    folder = fit("x", *OWN, *options, env="BoulderPush")
    args = ["analyze", "--ckpt_path", str(checkpoint_of(folder)), "--batches", "3", "--reference_batches", "3"]
    assert main([*args, "--samplers", "MAPROPS"]) == 0
    found = json.loads((folder / "gradients.json").read_text())["samplers"]
    assert set(found) == {"OnPolicy", "own", "MAPROPS"} and "own" in capsys.readouterr().out
    assert found["own"]["effective_sample_share"] == 1.0  # pi_phi is pi_theta
