"""Odd settings that are valid do train: a few, through the whole program, to the end."""

from pathlib import Path

import pytest
from conftest import SMALL
from hostile_helpers import cases, complaint
from hypothesis import given
from hypothesis import strategies as st

VALUES = {
    "--model.num_seeds": ["1", "2"],
    "--model.first_seed": ["0", "1000000000000000"],
    "--model.eval_interval": ["1", "1000000"],
    "--model.sampling_error": ["null", "tabular", "likelihood"],
    "--model.solved_threshold": ["0", "1"],
    "--model.learner": ["IPPO", "Reinforce"],
    "--model.behavior": ["OnPolicy", "PROPS", "MAPROPS", "TabularMAPROPS", "Greedy", "CoordinationGraph"],
    "--data.history_batches": ["1", "2", "50"],
    "--data.env.payoff": ["climbing", "[[1e29, -1e29], [0, 1e-40]]", "[[0, 0], [0, 0]]", "[[1]]"],
    "--trainer.accelerator": ["auto", "cpu"],
}


@cases(20)
@given(options=st.fixed_dictionaries({}, optional={flag: st.sampled_from(values) for flag, values in VALUES.items()}))
def test_odd_settings_train(tmp_path_factory: pytest.TempPathFactory, options: dict[str, str]) -> None:
    runs: Path = tmp_path_factory.mktemp("runs")
    args = ["fit", *SMALL["MatrixGame"], "--model.total_env_steps", "16", "--runs_dir", str(runs), "--run_name", "x"]
    words = [word for option in options.items() for word in option]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        wrong = complaint([*args, *words])
    assert wrong is None, f"{words}: {wrong}"
    assert (runs / "x" / "summary.json").exists() or not any(runs.iterdir())
