"""States without a legal action, engines, specs, and what ``analyze`` and sampling errors make of masks."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL
from masked_game import LEGAL, Doors, legal_joint
from tensordict import TensorDict
from torchrl.envs import TransformedEnv
from torchrl.envs.transforms import ActionMask
from torchrl.envs.utils import check_env_specs

from lit_maprops import keys
from lit_maprops.cli.main import main
from lit_maprops.collect import step_bytes
from lit_maprops.envs import TaskEnv
from lit_maprops.envs.faults import Faults
from lit_maprops.metrics.sampling_error import likelihood_error, tabular_error
from lit_maprops.native.build import why_none
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.errors import EnvironmentFault
from lit_maprops.system.tables import read_table

KERNELS = pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")
# Three seeds, two environments each, eight iterations of four vector steps.
GAME = [*SMALL["MatrixGame"], "--data.env", "masked_game.Doors", "--model.sampling_error", "null",
        "--data.num_envs", "2", "--data.behavior_batch_size", "2"]  # fmt: skip


def fit(runs: Path, name: str, *options: str) -> tuple[int, Path]:
    return main(["fit", *GAME, "--runs_dir", str(runs), "--run_name", name, *options]), runs / name


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (lambda self: torch.tensor([[True, True, True], [False, False, False]]),
         "action_mask() leaves agent 1 without any action: give it one"),
        (lambda self: torch.ones(3, 3).bool(), "action_mask() gives [3, 3] bool, expected [2, 3] bool: mend it"),
        (lambda self: torch.ones(2, 3), "action_mask() gives [2, 3] float32, expected [2, 3] bool: mend it"),
        (lambda self: [[True] * 3] * 2, "action_mask() gives list, expected [2, 3] bool: mend it"),
        (lambda self, state: torch.ones(2, 3).bool(), "say in legal_actions(state) what they may do in a state"),
    ],
)  # fmt: skip
def test_a_mask_of_what_agents_have_is_looked_at_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mask: Any, words: str
) -> None:
    monkeypatch.setattr(Doors, "action_mask", mask)
    code, folder = fit(tmp_path, "x")
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("lit_maprops: error: --data.env Doors: action_mask() ") and words in line
    assert not folder.exists()


def test_a_picture_larger_than_the_observation_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Doors, "observation_shape", (1, 9, 9))
    assert fit(tmp_path, "x")[0] == 2
    line = capsys.readouterr().err
    assert "observation_shape (1, 9, 9) is a picture of 81 numbers, and an observation has " in line


def test_no_legal_action_stops_the_run_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, folder = fit(tmp_path, "x", "--data.env.stuck", "3")
    lines = capsys.readouterr().err.splitlines()
    assert code == 1 and not any("Traceback" in line for line in lines)
    assert lines[-1].startswith(
        "lit_maprops: error: Doors: no legal action of agent 1, seed 1, environment 1, at env step 8: correct the "
        "environment, or give --model.on_fault quarantine"
    )
    assert not (folder / "error.txt").exists() and not (folder / "summary.json").exists()


def test_a_seed_without_a_legal_action_is_quarantined(tmp_path: Path) -> None:
    _, healthy = fit(tmp_path, "healthy")
    code, sick = fit(tmp_path, "sick", "--data.env.stuck", "3", "--model.on_fault", "quarantine")
    assert code == 0
    summary = json.loads((sick / "summary.json").read_text())
    reason = "no legal action of agent 1, environment 1"
    assert summary["quarantined_seeds"] == [{"seed": 1, "env_step": 8, "reason": reason}]
    a, b = read_table(healthy / "eval.csv"), read_table(sick / "eval.csv")
    sound = a["seed"] != 1
    for column in a:
        np.testing.assert_array_equal(a[column][sound], b[column][sound])
    assert np.isnan(b["greedy_return"][~sound]).all()


def test_evaluation_names_the_seed_too() -> None:
    task = Doors(max_steps=5, stuck=1, stuck_seed=0)
    env = TaskEnv(task, 0, [4, 7], 2, "evaluation environment", faults=Faults("Doors", [4, 7]))
    current = env.reset()
    with pytest.raises(
        EnvironmentFault, match=r"no legal action of agent 1 in evaluation, seed 4, environment 1, at env"
    ):
        env.rand_step(current)


@pytest.mark.parametrize("flaw", [torch.ones(2, 3), torch.ones(3, 2, 2, 2, dtype=torch.bool)], ids=["numbers", "shape"])
def test_masks_of_another_kind_say_what_was_expected(flaw: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Doors, "legal_actions", lambda self, state: flaw)
    with pytest.raises(EnvironmentFault, match=r"^[^\n]*legal_actions is \[.*expected \[3, 2, 2, 3\] bool[^\n]*$"):
        TaskEnv(Doors(), 0, [0, 1, 2], 2).reset()


@KERNELS
def test_the_engine_says_what_is_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for engine in ("auto", "native"):
        assert fit(tmp_path, engine, "--model.total_env_steps", "8", "--model.engine", engine)[0] == 0
        line = "updates; rollout in torch (Doors has no compiled rules)"
        assert line in capsys.readouterr().err


def masked_data(seeds: int = 2, rows: int = 40) -> tuple[TensorDict, torch.Tensor]:
    """Random legal actions in random rooms, and log pi_theta ``[R, rooms, A, N]``."""
    rng = torch.Generator().manual_seed(0)
    policy = torch.randn(seeds, *LEGAL.shape, generator=rng).masked_fill(~LEGAL, -torch.inf).log_softmax(-1)
    room = torch.randint(len(LEGAL), (seeds, rows), generator=rng)
    pick = torch.rand(seeds, rows, generator=rng)
    action = torch.tensor([
        [legal_joint(r)[int(u * len(legal_joint(r)))] for r, u in zip(rooms, us, strict=True)]
        for rooms, us in zip(room.tolist(), pick.tolist(), strict=True)
    ])  # fmt: skip
    observation, state = Doors().observe({"room": room})
    data = TensorDict(
        {keys.OBSERVATION: observation, keys.STATE: state, keys.STATE_INDEX: room.unsqueeze(-1), keys.ACTION: action},
        batch_size=(seeds, rows),
    )
    return data.set(keys.PARAMETERS, policy[torch.arange(seeds).unsqueeze(1), room]), policy


def test_tabular_sampling_error_by_enumeration() -> None:
    data, policy = masked_data()
    found = tabular_error(data, SeedStreams(0, [0, 1], "test"))
    for seed in range(2):
        rooms, actions = data.get(keys.STATE_INDEX)[seed, :, 0].tolist(), data.get(keys.ACTION)[seed].tolist()
        total = 0.0
        for room in set(rooms):
            here = [tuple(a) for r, a in zip(rooms, actions, strict=True) if r == room]
            for joint in itertools.product(range(3), repeat=2):  # illegal ones included, at 0
                chance = math.exp(sum(policy[seed, room, i, a].item() for i, a in enumerate(joint)))
                total += 0.5 * abs(here.count(joint) / len(here) - chance) * len(here) / len(rooms)
        assert found["joint_tv"][seed].item() == pytest.approx(total, abs=1e-5)
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=KERNELS)])
def test_likelihood_sampling_error_counts_legal_actions_only(native: bool) -> None:
    """In rooms with a single legal joint action nothing can be wrong; elsewhere what is lopsided shows."""
    data, _ = masked_data(rows=200)
    found = likelihood_error(data, SeedStreams(0, [0, 1], "test"), [8], native=native)
    for name, value in likelihood_error(data, SeedStreams(0, [0, 1], "test"), [8]).items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    assert all(value.isfinite().all() for value in found.values())
    assert (found["joint_kl"] > 0.05).all() and (found["joint_kl"] > found["joint_kl_on_policy"]).all()
    only = data.get(keys.STATE_INDEX).squeeze(-1) == 3
    assert LEGAL[3].sum() == 2
    single = torch.stack([data[seed][only[seed]][:30] for seed in range(2)])
    found = likelihood_error(single, SeedStreams(0, [0, 1], "test"), [8], native=native)
    assert (found["joint_kl"].abs() < 1e-6).all()


@pytest.mark.parametrize("history", ["1", "2"])
def test_analyze_compares_samplers_on_masked_actions(tmp_path: Path, history: str) -> None:
    """The reference is the mean of many on-policy batches: the exact one is of games with a single state."""
    code, folder = fit(tmp_path, "x", "--data.history_batches", history)
    args = [
        "analyze",
        "--ckpt_path",
        str(folder / "checkpoints/last.ckpt"),
        "--batches",
        "4",
        "--reference_batches",
        "6",
    ]
    assert code == 0 and main([*args, "--samplers", "PROPS"]) == 0
    summary = json.loads((folder / "gradients.json").read_text())
    assert summary["reference"]["kind"] == "on_policy"
    for figures in summary["samplers"].values():
        assert all(math.isfinite(value) for name, value in figures.items() if name in ("mse", "variance", "cosine"))


def test_d_holds_a_mask_only_where_there_is_one() -> None:
    class Open(Doors):
        """No state removes anything, and nothing says so."""

        legal_actions = Doors.__mro__[1].legal_actions

    assert not Open().masks_actions
    keys_of = [set(TaskEnv(task, 0, [0], 1).reset().keys(True, True)) for task in (Open(), Doors())]
    assert keys_of[1] - keys_of[0] == {keys.ACTION_MASK} and not keys_of[0] - keys_of[1]
    assert step_bytes(Doors()) - step_bytes(Open()) == 2 * LEGAL[0].numel()  # before and after a step, a byte each


def test_torchrl_reads_the_mask() -> None:
    """Its checks, its random actions and its transform; ``Doors`` raises at illegal actions."""
    check_env_specs(TaskEnv(Doors(), 0, [0, 1], 3))
    env = TaskEnv(Doors(), 0, [0, 1], 3)
    transform = ActionMask(action_key=keys.ACTION, mask_key=keys.ACTION_MASK)
    for one in (env, TransformedEnv(env, transform)):
        steps = one.rollout(30, break_when_any_done=False)
        room = steps.get(keys.STATE_INDEX).squeeze(-1)
        assert torch.equal(steps.get(keys.ACTION_MASK), LEGAL[room])
        assert steps.get(("next", keys.DONE)).any()
