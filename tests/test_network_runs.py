"""Runs with a module of the user's own: trained, stopped and continued bit for bit, never imported on a file's word."""

import json

import pytest
import torch
from conftest import ROOT

from lit_maprops.behavior import BEHAVIORS
from lit_maprops.cli.main import main

CONTINUOUS = {"GaussianAdjustment"}
KINDS = {
    "targets": ["--model.learner", "IPPO", "--model.learner.network", "own_modules.Residual"],
    "behavior": ["--model.behavior", "MAPROPS", "--model.behavior.network", "own_modules.Residual"],
}
TOLD = {
    "targets": "rollout in torch (the kernel knows plain tanh networks, and policies are of another kind)",
    "behavior": "behavior updates in torch (the adjustment is no plain tanh network)",
}


@pytest.mark.every(2)
@pytest.mark.parametrize("part", KINDS)
def test_an_own_module_trains_and_continues_bit_for_bit(part, fit, capsys):
    kind = KINDS[part]
    whole = fit("whole", *kind, env="BoulderPush")
    assert TOLD[part] in capsys.readouterr().err
    assert json.loads((whole / "summary.json").read_text())["engine"][part] == "torch"
    cut = fit("cut", *kind, "--model.total_env_steps", "96", env="BoulderPush")
    checkpoint = str(cut / "checkpoints" / "last.ckpt")
    again = ["fit", "--ckpt_path", checkpoint, "--model.total_env_steps", "192"]
    capsys.readouterr()
    assert main(again) == 2
    said = capsys.readouterr().err
    assert f"{kind[2]} is own_modules.Residual in the run's config.yaml" in said and said.count("\n") == 1
    assert main([*again, "--trust", "own_modules"]) == 0
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (whole, cut)]
    assert states[0].keys() == states[1].keys()
    assert any("kept_0" in name for name in states[0]) == (part == "targets")
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.every(6)
@pytest.mark.parametrize("behavior", sorted(BEHAVIORS))
def test_every_sampler_takes_other_networks(fit, behavior):
    """Pictures with discrete actions; with continuous ones layer norm and normalized values."""
    env = "TwoPeaks" if behavior in CONTINUOUS else "BoulderPush"
    options = ["--model.behavior", behavior, "--model.learner", "IPPO", "--model.learner.activation", "relu"]
    if env == "BoulderPush":
        options += ["--model.learner.cnn", "[[3, 3, 3]]", "--model.total_env_steps", "96"]
    else:
        options += ["--model.learner.layer_norm", "true", "--model.learner.value_norm", "true"]
    run = fit("x", *options, env=env)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_a_run_goes_on_with_the_networks_it_has(fit, capsys):
    """Even where others have as many weights."""
    other = ["--model.learner.activation", "relu", "--model.behavior.activation", "relu"]
    adjusted = ["--model.behavior", "MAPROPS", "--model.behavior.hidden", "[4]", *other]
    run = fit("x", *adjusted, "--model.total_env_steps", "96", env="BoulderPush")
    again = ["fit", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--model.total_env_steps", "128"]
    for option in ("learner.activation", "learner.critic_activation", "behavior.activation"):
        capsys.readouterr()
        assert main([*again, f"--model.{option}", "gelu"]) == 2
        said = capsys.readouterr().err
        assert f"--model.{option} differs from the run of --ckpt_path: leave it as it was, relu" in said
        assert said.count("\n") == 1
    assert main(again) == 0


@pytest.mark.parametrize(
    ("option", "module"),
    [
        ("learner.network", "MixesRows"),
        ("learner.critic_network", "UsesALayerOutside"),
        ("behavior.network", "SharesWeights"),
    ],
)
def test_a_module_that_mixes_seeds_or_rows_is_refused_before_anything_is_written(option, module, tmp_path, capsys):
    options = ["--runs_dir", str(tmp_path), f"--model.{option}", f"own_modules.{module}"]
    assert main(["fit", "--config", str(ROOT / "conf/boulderpush.yaml"), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lit_maprops: error: --model.{option} is own_modules.{module}, which ")
    assert said.count("\n") == 1 and not any(tmp_path.iterdir())
