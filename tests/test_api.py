"""Runs from Python: the same bits as the command line's, one line for every mistake, and results that can be read."""

import copy
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
import yaml
from conftest import ROOT, SMALL
from lightning.pytorch import Callback
from statsmodels.stats.proportion import proportion_confint

import lit_maprops as lm
from lit_maprops.api import settings as api_settings
from lit_maprops.api.start import say
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.cli.main import main
from lit_maprops.envs import TASKS
from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.run import callbacks
from lit_maprops.targets import LEARNERS

# SMALL of conftest as a user of Python writes it: the first without a file, the second on top of one.
SHORT = {"eval_interval": 2, "checkpoint_interval": 1}
FIGURE1: dict[str, Any] = {
    "env": lm.MatrixGame("figure1"),
    "behavior": lm.MAPROPS(clip_epsilon=1.0, kl_cutoff=1.0, epochs=8, minibatches=1, learning_rate=1.0, hidden=[]),
    "learner": lm.Reinforce(learning_rate=1.0, hidden=[]),
    "num_seeds": 3, "total_env_steps": 64, "eval_episodes": 4, "sampling_error": "tabular", "num_envs": 1,
    "behavior_batch_size": 1, "target_batch_size": 8,
}  # fmt: skip
BOULDER: dict[str, Any] = {
    "config": "boulderpush",
    "env": lm.BoulderPush("tiny", penalty=0.0, push_direction="north", max_steps=10),
    "learner": lm.MAPPO(
        learning_rate=2.5e-3, gamma=0.99, clip_value=None, entropy_coeff=0.02, epochs=2, minibatches=8, hidden=[64, 64]
    ),
    "num_seeds": 2, "total_env_steps": 192, "eval_episodes": 3, "sampling_error_interval": 6, "num_envs": 2,
    "behavior_batch_size": 8, "target_batch_size": 32,
}  # fmt: skip
RUNS = {"MatrixGame": FIGURE1 | SHORT, "BoulderPush": BOULDER | SHORT}


def fit(tmp_path: Path, name: str, **settings: Any) -> lm.RunResult:
    return lm.fit(**(RUNS[name] | {"runs_dir": str(tmp_path / "runs"), "run_name": "python"} | settings))


def same(a: Any, b: Any) -> bool:
    """Whether two parts of checkpoints are equal, NaN to NaN."""
    if isinstance(a, torch.Tensor):
        return a.dtype is b.dtype and bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[name]) for name, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def same_bits(a: Path, b: Path) -> None:
    """All that two runs wrote is equal, times and names left out."""
    configs = [yaml.safe_load((run / "config.yaml").read_text()) for run in (a, b)]
    assert [config.pop("run_name") for config in configs] == [a.name, b.name]
    assert configs[0] == configs[1]
    for name in ("metrics.csv", "eval.csv"):
        tables = [pandas.read_csv(run / name, float_precision="round_trip") for run in (a, b)]
        timed = [column for column in tables[0] if column.startswith(("time/", "wall_seconds"))]
        pandas.testing.assert_frame_equal(*(table.drop(columns=timed) for table in tables), check_exact=True)
    states = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (a, b)]
    for part in ("state_dict", "optimizer_states", "lit_maprops"):
        assert states[0][part]
        assert same(states[0][part], states[1][part]), part


@pytest.mark.every(2)
@pytest.mark.parametrize("name", list(RUNS))
def test_same_settings_give_the_bits_of_the_command_line(tmp_path: Path, name: str) -> None:
    longer = RUNS[name]["total_env_steps"]
    shorter = {"MatrixGame": 32, "BoulderPush": 128}[name]  # 4 iterations: the last of them is one that is evaluated
    run = fit(tmp_path, name, total_env_steps=shorter, sampling_error_interval=3)
    line = ["fit", *SMALL[name], "--model.sampling_error_interval", "3", "--runs_dir", str(tmp_path / "runs")]
    assert main([*line, "--run_name", "line", "--model.total_env_steps", str(shorter)]) == 0
    same_bits(run.folder, tmp_path / "runs" / "line")

    resumed = run.resume(total_env_steps=longer)
    assert main([*line, "--run_name", "longer", "--model.total_env_steps", str(longer)]) == 0
    same_bits(resumed.folder, tmp_path / "runs" / "longer")


def test_a_package_that_is_imported_costs_no_torch() -> None:
    code = "import lit_maprops, sys; print(dir(lit_maprops), 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "'MAPROPS'" in out
    assert out.strip().endswith("False")


def test_every_registered_name_is_stable() -> None:
    for name, kind in (TASKS | BEHAVIORS | LEARNERS).items():
        assert getattr(lm, name) is kind
    assert set(TASKS | BEHAVIORS | LEARNERS) <= set(lm.__all__)
    assert all(getattr(lm, name) is not None for name in lm.__all__)
    assert lm.samplers.JointSampler is lm.JointSampler
    with pytest.raises(AttributeError, match="MAPROP"):
        _ = lm.MAPROP  # type: ignore[attr-defined]


def test_settings_are_the_arguments_of_their_owners() -> None:
    """What ``Settings`` spells out for editors and type checkers is what the classes take."""
    owned = {}
    for kind, objects in ((lm.LitMAPROPS, {"behavior", "learner"}), (lm.MultiAgentData, {"env"})):
        parameters = inspect.signature(kind).parameters
        owned |= {name: parameter.annotation for name, parameter in parameters.items() if name not in objects}
    hints = inspect.get_annotations(api_settings.Settings, eval_str=True)
    assert {name: hints[name] for name in owned} == owned
    labels = {"wandb_group", "wandb_job_type", "wandb_tags", "wandb_artifacts"}
    assert set(hints) - set(owned) == {"run_name", "runs_dir", "keep", "wandb", *labels, "trainer", "trust"}


class Meet(lm.MatrixGame):
    def __init__(self, payoff: str = "figure1", *, size: Any = 3, **more: Any) -> None:
        super().__init__(payoff)


@pytest.mark.parametrize(
    ("made", "arguments"),
    [
        (lambda: lm.MAPROPS(kl_cutoff=0.1), {"kl_cutoff": 0.1}),  # handed on to a class above
        (lambda: lm.MAPROPS(7), {"max_joint_actions": 7}),
        (lambda: Meet("stag", size=4, other=1), {"payoff": "stag", "size": 4, "other": 1}),
        (lambda: lm.OnPolicy(), {}),
        (lambda: copy.deepcopy(lm.IPPO(hidden=[8])), {"hidden": [8]}),
    ],
)
def test_objects_know_their_own_arguments(made: Callable[[], Any], arguments: dict[str, Any]) -> None:
    assert made().init_args == arguments


def test_wrong_arguments_of_a_class_without_an_init_are_refused() -> None:
    class Plain(lm.OnPolicy): ...

    with pytest.raises(TypeError, match="unknown"):
        Plain(unknown=1)


def earlier() -> lm.Task:
    made = type("Meet", (Meet,), {"__module__": __name__})()
    assert type(made) is not Meet
    return made


def local() -> lm.Task:
    class Local(lm.MatrixGame): ...

    return Local()


BAD = {
    "misspelt": ({"num_sedes": 3}, ["num_sedes is not an argument (did you mean num_seeds?)"]),
    "the behavior's": ({"kl_cutoff": 3}, ["behavior=MAPROPS(kl_cutoff=...)"]),
    "a name": ({"env": "BoulderPush"}, ["env is 'BoulderPush'", "lm.BoulderPush()"]),
    "a class": ({"env": lm.BoulderPush}, ["env is the class BoulderPush"]),
    "no environment": ({"env": None}, ["env is required"]),
    "no number": ({"num_seeds": "many"}, ["num_seeds is many: give int"]),
    "no whole number": ({"target_batch_size": 7.5}, ["target_batch_size is 7.5"]),
    "no seeds": ({"num_seeds": 0}, ["num_seeds is 0", "from 1 to"]),
    "n is no multiple of m": ({"behavior_batch_size": 3}, ["target_batch_size", "multiple of behavior_batch_size"]),
    "two devices": ({"trainer": {"devices": 2, "accelerator": "cpu"}}, ["devices makes 2", "python -m lit_maprops"]),
    "the Trainer's, misspelt": ({"trainer": {"devicess": 1}}, ["devicess is not an option"]),
    "no arguments of the Trainer": ({"trainer": 3}, ["trainer is 3"]),
    "half precision": ({"trainer": {"precision": "16-true"}}, ["precision is 16-true"]),
    "no such configuration": ({"config": "boulderpus"}, ["config: there is no file", "did you mean boulderpush?"]),
    "no such checkpoint": ({"ckpt_path": "none.ckpt"}, ["ckpt_path: there is no file"]),
    "a function": ({"env": Meet(size=len)}, ["size holds a builtin_function_or_method", "numbers, texts"]),
    "a tensor": ({"num_seeds": torch.tensor(3)}, ["num_seeds holds a Tensor"]),
    "a class inside a function": ({"env": local()}, ["Local, which cannot be found", "top level"]),
    "an earlier class": ({"env": earlier()}, ["env is of an earlier definition of Meet"]),
    "another kind of actions": ({"behavior": lm.GaussianAdjustment()}, ["behavior GaussianAdjustment", "MAPROPS"]),
    "another task's": ({"learner": lm.IPPO(initial_std=0.5)}, ["initial_std is 0.5"]),
    "W&B's mode": ({"wandb": "maybe"}, ["wandb is 'maybe'"]),
    "a run seed below 0": ({"run_seed": -1}, ["run_seed: -1 is not in bounds"]),
    "a name with a slash": ({"run_name": "a/b"}, ["run_name is 'a/b'"]),
}


@pytest.mark.parametrize("name", list(BAD))
def test_mistakes_name_arguments_of_python(tmp_path: Path, name: str) -> None:
    settings, words = BAD[name]
    with pytest.raises(lm.ConfigError) as error:
        fit(tmp_path, "MatrixGame", **settings)
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert all(word in line for word in words), line
    assert "--" not in line
    assert error.value.__suppress_context__ or error.value.__context__ is None  # nothing of the parser's
    assert not (tmp_path / "runs").exists()


def test_classes_of_a_notebook_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their module is ``__main__``, whatever that is; arguments without types included."""

    class Louder(lm.MatrixGame):
        def __init__(self, factor=2, base=None) -> None:
            base = [[1, -1], [-1, 0.8]] if base is None else base
            super().__init__([[factor * float(value) for value in row] for row in base])

    class Own(lm.OnPolicy): ...

    for kind in (Louder, Own):
        kind.__module__, kind.__qualname__ = "__main__", kind.__name__
        monkeypatch.setattr(sys.modules["__main__"], kind.__name__, kind, raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as in a notebook and in a script
    base = np.array([[2.0, 0.0], [0.0, 1.0]])
    run = fit(tmp_path, "MatrixGame", env=Louder(np.int64(3), base=base), behavior=Own(draws="low_discrepancy"))
    assert run.config["data"]["env"] == {
        "class_path": "__main__.Louder",
        "init_args": {"factor": 3, "base": [[2.0, 0.0], [0.0, 1.0]]},
    }
    assert run.policies.task.payoff[:, 0].tolist() == [6.0, 0.0, 0.0, 3.0]
    assert run.resume(total_env_steps=80).metrics["env_steps"].iloc[-1] == 80


class Interrupting(Callback):
    """Does something at the end of an iteration."""

    def __init__(self, action: Callable[[], None], iteration: int = 3) -> None:
        self.action, self.iteration = action, iteration

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.iteration == self.iteration:
            self.action()


def test_an_interrupted_run_is_saved_and_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = fit(tmp_path, "MatrixGame", run_name="whole")
    before = signal.getsignal(signal.SIGINT)
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, "MatrixGame", callbacks=[Interrupting(lambda: os.kill(os.getpid(), signal.SIGINT))])
    assert signal.getsignal(signal.SIGINT) is before
    out, err = capsys.readouterr()
    assert f'lm.resume("{tmp_path / "runs" / "python"}")' in out
    assert "--" not in out + err
    run = lm.load_run(tmp_path / "runs" / "python")
    assert "unfinished at 16 env steps" in repr(run)
    assert not run.finished
    same_bits(lm.resume(run.folder).folder, whole.folder)


def test_a_second_interrupt_stops_a_notebooks_cell_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its process, nor the iteration after the newest checkpoint, is waited for or lost."""

    def interrupt_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    whole = fit(tmp_path, "MatrixGame", run_name="whole")
    monkeypatch.setattr(callbacks, "in_notebook", lambda: True)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, "MatrixGame", callbacks=[Interrupting(interrupt_twice)])
    assert signal.getsignal(signal.SIGINT) is before
    run = lm.load_run(tmp_path / "runs" / "python")
    assert run.metrics["env_steps"].iloc[-1] == 16  # the third iteration was not recorded yet
    same_bits(run.resume().folder, whole.folder)


def test_what_a_failed_fit_changed_is_given_back(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("of a callback")

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    state, numbers = torch.get_rng_state(), np.random.get_state()[1]
    with pytest.raises(RuntimeError, match="of a callback"):
        fit(tmp_path, "MatrixGame", callbacks=[Interrupting(fail)])
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert torch.equal(state, torch.get_rng_state())
    assert (numbers == np.random.get_state()[1]).all()


def test_a_thread_can_fit(tmp_path: Path) -> None:
    runs: list[lm.RunResult] = []
    thread = threading.Thread(target=lambda: runs.append(fit(tmp_path, "MatrixGame")))
    thread.start()
    thread.join()
    assert runs[0].finished


def test_results_are_what_the_files_say(tmp_path: Path) -> None:
    a, b = (fit(tmp_path, "MatrixGame", num_seeds=n, run_name=str(n), run_seed=n) for n in (5, 9))
    rows = pandas.read_csv(a.folder / "eval.csv", float_precision="round_trip")
    pandas.testing.assert_frame_equal(a.evaluations, rows, check_exact=True, check_dtype=False)
    last = rows[rows["env_steps"] == 64]["greedy_success_rate"].to_numpy()
    assert a.success_rate.tolist() == last.tolist()
    assert a.solved_share == (last >= 0.8).mean()
    assert a.solved_interval == pytest.approx(proportion_confint(a.solved, 5, method="wilson"), abs=1e-12)
    assert a.success_interval[0] == pytest.approx(proportion_confint(last[0] * 4, 4, method="wilson"), abs=1e-12)
    difference = a.compare(b)
    expected = score_interval([a.solved], [5], [b.solved], [9])  # which has its own tests
    assert difference.value == pytest.approx(a.solved / 5 - b.solved / 9)
    assert (difference.low, difference.high) == pytest.approx(expected, abs=1e-9)
    other = fit(tmp_path, "MatrixGame", run_name="other", env=lm.MatrixGame([[1.0, 0.0], [0.0, 1.0]]))
    with pytest.raises(
        lm.ConfigError, match=r"are runs of different environments \(data.env.payoff\): compare runs of"
    ):
        a.compare(other)
    assert f"solved {a.solved} of 5 seeds" in repr(a)
    assert a._repr_html_().count("<tr>") == 6
    page = tmp_path / "report.html"
    assert len(a.report(page, beside=[b]).runs) == 2
    assert "MA-PROPS reliability report" in page.read_text()
    moved = a.folder.rename(tmp_path / "elsewhere")
    assert lm.resume(moved, total_env_steps=80).seeds == [0, 1, 2, 3, 4]
    with pytest.raises(lm.ConfigError, match="not a run's folder"):
        lm.load_run(tmp_path)


def test_trained_policies_act(tmp_path: Path) -> None:
    run = fit(tmp_path, "MatrixGame")
    policies = run.policies
    assert (
        repr(policies)
        == "<Policies of 2 agents of MatrixGame, 3 seeds, at 64 env steps: act(observation, seed, agent)>"
    )
    weights = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    [logits] = [value for name, value in weights.items() if "policies.net" in name]
    probabilities = logits.reshape(3, 2, -1)[1, 0, -2:].softmax(-1)  # a table: seed 1, agent 0
    assert policies.act([1.0], seed=1, agent=0).item() == probabilities.argmax()
    drawn = policies.act(
        np.ones((20, 200, 1)), seed=1, agent=0, greedy=False, generator=torch.Generator().manual_seed(0)
    )
    assert drawn.shape == (20, 200)
    assert drawn.float().mean().item() == pytest.approx(probabilities[1].item(), abs=0.04)
    with pytest.raises(lm.ConfigError, match="seed is 7"):
        policies.act([1.0], seed=7, agent=0)


def test_policies_of_ones_own_code_act(tmp_path: Path) -> None:
    """What this program has named itself is known; of a folder it says whom it trusts."""
    learner = lm.IPPO(network="own_modules.Residual", memory="gru", memory_size=8, sequence_length=4, minibatches=1)
    env = lm.PettingZoo("pettingzoo_toys.doors")
    sizes = {"num_seeds": 2, "total_env_steps": 32, "num_envs": 2, "target_batch_size": 16, "behavior_batch_size": 16}
    run = lm.fit(env=env, behavior=lm.OnPolicy(), learner=learner, runs_dir=tmp_path, wandb="disabled", **sizes)
    trusted = ["own_modules", "pettingzoo_toys"]
    assert list(run.trust) == trusted
    again = lm.load_run(run.folder, trust=trusted)
    for policies in (run.policies, again.policies, again.resume(total_env_steps=48).policies):
        agent = policies.agent(seed=1, agent=0)
        seen, memory = torch.zeros(1, agent.n_observed), torch.zeros(1, agent.remembered)
        legal = torch.ones(1, agent.n_actions, dtype=torch.bool)
        log_prob, _, memory = agent(seen, legal, memory=memory)
        assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-5) and memory.any()
    with pytest.raises(lm.ConfigError, match=r"if you trust it, give trust (own_modules|pettingzoo_toys)"):
        _ = lm.load_run(run.folder).policies
    with pytest.raises(lm.ConfigError, match="trust is 'own_modules': give a list of packages"):
        lm.load_run(run.folder, trust="own_modules")
    with pytest.raises(lm.ConfigError, match="trust is 'os', which is Python's own"):
        lm.load_run(run.folder, trust=["os"])


def test_lines_for_the_user_have_no_flags(capsys: pytest.CaptureFixture[str]) -> None:
    say("raise <behavior.kl_cutoff>")
    assert capsys.readouterr().out == "raise kl_cutoff\n"


def test_checkpoints_of_before_the_stable_names_continue(tmp_path: Path) -> None:
    run = fit(tmp_path, "MatrixGame")
    content = torch.load(run.checkpoint, weights_only=True)
    identity = content["lit_maprops"]["identity"]
    assert identity["--model.behavior"] == "lit_maprops.MAPROPS"  # what every configuration has
    identity["--model.behavior"] = "lit_maprops.behavior.MAPROPS"
    identity["--data.env"]["class_path"] = "lit_maprops.envs.MatrixGame"
    torch.save(content, run.checkpoint)
    assert run.resume(total_env_steps=72).finished
    with pytest.raises(lm.ConfigError, match=r"^behavior differs from the run of ckpt_path"):
        run.resume(behavior=lm.TabularMAPROPS())
