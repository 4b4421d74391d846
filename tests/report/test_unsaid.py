"""What null stands for may be written out: it is the same run, and the same setting for reports."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lit_maprops.report import load_runs
from lit_maprops.report.settings import UNSAID, UNSAID_AS
from lit_maprops.system.tables import read_table

LEARNER = "model.learner"
WRITTEN = {key: str(value) for key, value in UNSAID.items()} | {
    f"{LEARNER}.critic_activation": "tanh",
    f"{LEARNER}.critic_cnn": "[]",
    f"{LEARNER}.critic_hidden": "[8, 8]",
    f"{LEARNER}.critic_layer_norm": "false",
}
SMALL_NETWORK = ["--model.learner", "MAPPO", f"--{LEARNER}.hidden", "[8, 8]"]
NEEDS = {
    "burn_in": [f"--{LEARNER}.memory", "gru"],
    "memory_size": [f"--{LEARNER}.memory", "gru"],
    "sequence_length": [f"--{LEARNER}.memory", "gru"],
    "critic_cnn": ["--model.learner", "IPPO"],
    "huber_delta": [f"--{LEARNER}.value_loss", "huber"],
}


@pytest.mark.parametrize("flag", [*UNSAID, *UNSAID_AS])
def test_a_default_that_is_written_out_is_the_same_run(fit: Callable[..., Path], tmp_path: Path, flag: str) -> None:
    env = "TwoPeaks" if flag.endswith("initial_std") else "MatrixGame"
    options = [*SMALL_NETWORK, *NEEDS.get(flag.rpartition(".")[2], ())]
    if f"--{LEARNER}.memory" in options:  # 16 steps make a sequence
        options += ["--data.num_envs", "1", "--data.target_batch_size", "16", "--data.behavior_batch_size", "8"]
        options += ["--model.sampling_error", "null", f"--{LEARNER}.minibatches", "1"]
    first = fit("unsaid", *options, f"--{flag}", "null", env=env)
    second = fit("written", *options, f"--{flag}", WRITTEN[flag], env=env)
    losses = [
        {
            name: column.tolist()
            for name, column in read_table(folder / "metrics.csv").items()
            if name.startswith("target/")
        }
        for folder in (first, second)
    ]
    assert losses[0] and losses[0] == losses[1]
    ((run,), (left_out,)) = load_runs([tmp_path / "runs"])
    assert run.config[flag] is None and left_out.reason.startswith("repeats seeds of ")


def test_another_value_stays_another_setting(fit: Callable[..., Path], tmp_path: Path) -> None:
    fit("a", *SMALL_NETWORK)
    fit("b", *SMALL_NETWORK, f"--{LEARNER}.critic_hidden", "[8, 16]")
    fit("c", *SMALL_NETWORK, f"--{LEARNER}.policy_gain", "0.02")
    runs, left_out = load_runs([tmp_path / "runs"])
    assert len({run.setting for run in runs}) == 3 and not left_out
