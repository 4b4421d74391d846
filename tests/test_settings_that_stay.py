"""What a run, or a sampler, cannot go on with is named in one line, with what it was and what was given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL

import lit_maprops as lm
from lit_maprops.behavior import BEHAVIORS, CoordinationGraph, LowDiscrepancy, OnPolicy
from lit_maprops.cli.main import main
from lit_maprops.samplers import JointSampler
from lit_maprops.system.errors import ConfigError

NEWEST = Path("checkpoints") / "last.ckpt"
TWO_ENVIRONMENTS = ["--data.num_envs", "2", "--data.behavior_batch_size", "2"]
STAYS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("LowDiscrepancy", {"order": "policy"}, {"order": "state"}),
    ("LowDiscrepancy", {"order": "policy"}, {"order": None}),
    ("LowDiscrepancy", {"coordinates": "joint"}, {"coordinates": "agent"}),
    ("LowDiscrepancy", {"first_visits": "sequence"}, {"first_visits": "independent"}),
    ("LowDiscrepancy", {"scrambling": "owen"}, {"scrambling": "shift"}),
    ("OnPolicy", {"draws": "low_discrepancy"}, {"draws": "independent"}),
    ("OnPolicy", {"draws": "independent"}, {"draws": "low_discrepancy"}),
    ("MAPROPS", {"draws": "independent"}, {"draws": "stratified"}),
    ("PROPS", {"draws": "low_discrepancy"}, {"draws": "independent"}),
    ("TabularMAPROPS", {"draws": "stratified"}, {"draws": "low_discrepancy"}),
    ("CoordinationGraph", {"edges": "chain"}, {"edges": "star"}),
]


def saved_by(behavior: Any) -> dict[str, Any]:
    """After a step that is learned from."""
    sampler = JointSampler(behavior, [2, 2], num_envs=2)
    sampler.act(torch.ones(2, 3), torch.full((2, 2, 2), 0.5).log())
    sampler.observe()
    sampler.update()
    return sampler.state_dict()


@pytest.mark.parametrize(("name", "was", "given"), [case for case in STAYS if "Tabular" not in case[0]], ids=str)
def test_a_sampler_names_the_argument_that_differs(name: str, was: dict[str, Any], given: dict[str, Any]) -> None:
    state = saved_by(BEHAVIORS[name](**was))
    (argument,) = was
    told = f"state is of a sampler with {argument} {was[argument]} and this one has {given[argument]}: make it with"
    with pytest.raises(ConfigError, match=f"^{told}[^\n]*$"):
        JointSampler(BEHAVIORS[name](**given), [2, 2], num_envs=2).load_state_dict(state)
    JointSampler(BEHAVIORS[name](**was), [2, 2], num_envs=2).load_state_dict(state)


def test_a_sampler_of_before_goes_on() -> None:
    for make in (OnPolicy, lambda: LowDiscrepancy(order="policy"), CoordinationGraph):
        state = saved_by(make())
        for name in ("draws", "coordinates", "first_visits", "scrambling", "order", "edges"):
            state["identity"].pop(name, None)
        JointSampler(make(), [2, 2], num_envs=2).load_state_dict(state)


@pytest.mark.every(2)
@pytest.mark.parametrize(("name", "was", "given"), STAYS, ids=str)
def test_a_run_names_the_argument_that_differs(
    fit: Callable[..., Path], name: str, was: dict[str, Any], given: dict[str, Any]
) -> None:
    options = [word for key, value in was.items() for word in (f"--model.behavior.{key}", str(value))]
    run = fit("x", "--model.behavior", name, *options, *TWO_ENVIRONMENTS, "--model.total_env_steps", "16")
    before = (run / NEWEST).read_bytes()
    (argument,) = was
    told = f"{argument} differs from the run of ckpt_path: leave it as it was, {was[argument]}, not {given[argument]}"
    with pytest.raises(ConfigError, match=f"^{told}$"):
        lm.resume(run, behavior=BEHAVIORS[name](**given), total_env_steps=24)
    assert (run / NEWEST).read_bytes() == before


def test_a_run_of_before_goes_on(fit: Callable[..., Path]) -> None:
    run = fit("x", "--model.behavior", "LowDiscrepancy", "--model.total_env_steps", "16")
    content = torch.load(run / NEWEST, weights_only=True)
    identity = content["lit_maprops"]["identity"]
    for name in ("draws", "coordinates", "first_visits", "scrambling", "order"):
        del identity[f"--model.behavior.{name}"]
    torch.save(content, run / NEWEST)
    assert lm.resume(run, total_env_steps=24).finished


def test_another_environment_is_named_before_its_batches_and_seeds(fit: Callable[..., Path], capsys: Any) -> None:
    run = fit("x", "--model.total_env_steps", "16")
    capsys.readouterr()
    assert main(["fit", *SMALL["BoulderPush"], "--ckpt_path", str(run / NEWEST)]) == 2
    said = capsys.readouterr().err
    assert "--data.env differs from the run of --ckpt_path: leave it as it was, " in said and said.count("\n") == 1
    assert said.rstrip().endswith(" MatrixGame, not BoulderPush")


def test_a_folder_in_place_of_a_checkpoint_is_answered_with_its_newest(
    fit: Callable[..., Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit("x", "--model.total_env_steps", "16")
    monkeypatch.chdir(run.parent.parent)
    for command in ("fit", "validate", "analyze", "export"):
        for given in ("runs/x", "runs/x/checkpoints"):
            capsys.readouterr()
            more = ["--output", "policies"] if command == "export" else []
            assert main([command, "--ckpt_path", given, *more]) == 2
            said = capsys.readouterr().err
            assert f"--ckpt_path: {given} is a folder: give runs/x/checkpoints/last.ckpt" in said, said
            assert said.count("\n") == 1
    (run / NEWEST).unlink()
    assert main(["fit", "--ckpt_path", "runs/x"]) == 2
    assert "there is no file" in capsys.readouterr().err


NETS = """
from torch import nn


class Small(nn.Sequential):
    def __init__(self, n_in, n_out, width=8):
        super().__init__(nn.Linear(n_in, width), nn.Tanh(), nn.Linear(width, n_out))
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_the_caller.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("nets")
def test_what_the_callers_own_objects_name_is_named_by_the_caller(fit: Callable[..., Path]) -> None:
    network = "nets_of_the_caller.Small"
    kinds = ["--model.behavior", "MAPROPS", "--model.behavior.network", network]
    kinds += ["--model.learner", "IPPO", "--model.learner.critic_network", network, "--model.learner.hidden", "[]"]
    run = fit("x", *kinds, "--model.total_env_steps", "16")
    with pytest.raises(
        ConfigError, match="what only that file names is not imported: if you trust it, give trust nets"
    ):
        lm.resume(run, total_env_steps=24)
    with pytest.raises(ConfigError, match=r"^network_args differs from the run"):
        lm.resume(run, behavior=lm.MAPROPS(network=network, network_args={"width": 9}), total_env_steps=24)
    assert lm.resume(run, behavior=lm.MAPROPS(network=network), total_env_steps=24).finished
    assert lm.resume(run, learner=lm.IPPO(critic_network=network, hidden=[]), total_env_steps=32).finished
