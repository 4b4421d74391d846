"""Agents whose ends do not follow from each other, what is exported, and what a run says where agents come and go."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from masked_game import Doors
from shifts import PLAN, Shifts
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.cli.main import main
from lit_maprops.envs.ends import ABSENT, RUNS, TERMINATED, TRUNCATED, check_ends, own_done, own_terminated, weights
from lit_maprops.envs.faults import Faults
from lit_maprops.export.document import policy_document
from lit_maprops.system.errors import EnvironmentFault
from lit_maprops.system.tables import read_table

# Three seeds, two environments each, eight iterations of eight vector steps.
GAME = [*SMALL["MatrixGame"], "--data.env", "shifts.Shifts", "--model.sampling_error", "null", "--data.num_envs", "2",
        "--data.target_batch_size", "16", "--data.behavior_batch_size", "4",
        "--model.total_env_steps", "128"]  # fmt: skip


def fit(runs: Path, name: str, *options: str) -> tuple[int, Path]:
    return main(["fit", *GAME, "--runs_dir", str(runs), "--run_name", name, *options]), runs / name


FLAWS = {
    "acts": "agent 1 acts after its end",
    "paid": "a reward of 0.5 for agent 1, which is not there",
    "vanishes": "agent 0 is absent without an end",
    "unknown": "9 in agent_ends of agent 1, where 0 to 3 are known",
}


@pytest.mark.parametrize(("flaw", "words"), FLAWS.items())
def test_what_does_not_follow_stops_the_run_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flaw: str, words: str
) -> None:
    code, folder = fit(tmp_path, "x", "--data.env.flaw", flaw)
    lines = capsys.readouterr().err.splitlines()
    assert code == 1 and not any("Traceback" in line for line in lines)
    assert lines[-1].startswith(f"lit_maprops: error: Shifts: {words}, seed 1, environment "), lines[-1]
    assert "at env step" in lines[-1] and "--model.on_fault quarantine" in lines[-1]
    assert not (folder / "summary.json").exists()


def test_such_a_seed_is_quarantined(tmp_path: Path) -> None:
    _, healthy = fit(tmp_path, "healthy")
    code, sick = fit(tmp_path, "sick", "--data.env.flaw", "acts", "--model.on_fault", "quarantine")
    assert code == 0
    (entry,) = json.loads((sick / "summary.json").read_text())["quarantined_seeds"]
    assert entry["seed"] == 1 and entry["reason"].startswith("agent 1 acts after its end, environment ")
    a, b = read_table(healthy / "eval.csv"), read_table(sick / "eval.csv")
    sound = a["seed"] != 1
    for column in a:
        np.testing.assert_array_equal(a[column][sound], b[column][sound])
    assert np.isnan(b["greedy_return"][~sound]).any()


@pytest.mark.parametrize("before", [RUNS, TERMINATED, TRUNCATED, ABSENT, 4])
@pytest.mark.parametrize("after", [RUNS, TERMINATED, TRUNCATED, ABSENT, 4])
def test_what_may_follow_what(before: int, after: int) -> None:
    may = {RUNS: {RUNS, TERMINATED, TRUNCATED}, ABSENT: {RUNS, TERMINATED, TRUNCATED, ABSENT}}
    fine = before != 4 and after in may.get(before, {before})
    batch = TensorDict(batch_size=[2, 3, 2])
    end = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    following = end.clone()
    end[1, 1, 0, 1], following[1, 1, 0, 1] = before, after
    batch.set(keys.END, end).set(("next", *keys.END), following)
    batch.set(("next", *keys.REWARD), torch.ones(2, 3, 2, 2, 1) * (end == RUNS).unsqueeze(-1))
    faults = Faults("Task", [5, 8])
    faults.env_steps = 106
    if fine:
        check_ends(batch, faults)
        return
    with pytest.raises(EnvironmentFault, match=r"^Task: [^\n]*agent 1[^\n]*, seed 8, environment 0, at env step 103: "):
        check_ends(batch, faults)


def test_plain_batches_are_not_looked_at() -> None:
    check_ends(TensorDict(batch_size=[1, 1, 1]), Faults("Task", [0]))


def test_an_agent_that_comes_later_has_what_follows_its_coming() -> None:
    """Hour by hour of the third plan: absent, there, there, gone; absent, then there; there, there, gone."""
    end = PLAN[2].unsqueeze(0)  # [1, 5, A]
    following = TensorDict({
        keys.END: end[:, 1:], keys.DONE: torch.zeros(1, 4, 1, dtype=torch.bool),
        keys.TERMINATED: torch.zeros(1, 4, 1, dtype=torch.bool), keys.REWARD: torch.zeros(1, 4, 3, 1),
    }, batch_size=[1, 4])  # fmt: skip
    data = TensorDict({keys.END: end[:, :-1]}, batch_size=[1, 4])
    third = torch.tensor(4 / 3).item()
    assert weights(data)[0].T.tolist() == [[0, 2, 2, 0], [0, third, third, third], [2, 2, 0, 0]]
    own = weights(data)[0] > 0
    done, terminated = (flag(following)[0, ..., 0] & own for flag in (own_done, own_terminated))
    assert done.T.tolist() == [[False, False, True, False], [False] * 4, [False, True, False, False]]
    assert terminated.T.tolist() == [[False] * 4, [False] * 4, [False, True, False, False]]


def test_exported_policies_say_that_agents_come_and_go() -> None:
    document = policy_document(Shifts(), {}, {}, [])
    assert document["task"]["agents_leave"] is True and "while it is there" in document["use"]["presence"]
    other = policy_document(Doors(), {}, {}, [])
    assert "agents_leave" not in other["task"] and "presence" not in other["use"]


def test_native_rollouts_are_refused_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "x", "--model.total_env_steps", "16")[0] == 0
    assert "Shifts has no compiled rules" in capsys.readouterr().err
