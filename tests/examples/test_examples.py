"""The examples run, and in each of them the sampler decides more runs of the figure1 game for the better equilibrium.

Seeds are fixed, yet a processor that rounds otherwise may turn a run; examples/README.md has shares of many other
seeds, with intervals. At the share it gives, 0.97, fewer than ``ENOUGH`` of twelve happen once in 200 times.
"""

import importlib
import os
import re
import subprocess
from types import ModuleType

import pytest
from conftest import ROOT
from scipy.stats import binomtest

EXAMPLES = ROOT / "examples"
BENCHMARL = ROOT / "build/peers/benchmarl"
SEEDS = 12
ENOUGH = 10  # runs with MA-PROPS that end at (A, A)
LINE = re.compile(r"^(on_policy|ma_props): (\d+) of (\d+) runs end at \(A, A\), [\d.]+ \[[\d.]+, [\d.]+\]$", re.M)


def wins(output: str, sampler: str) -> int:
    """How many runs ended at (A, A), as printed."""
    (line,) = LINE.findall(output)
    assert (line[0], int(line[2])) == (sampler, SEEDS)
    return int(line[1])


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """In this process: importing torch takes longer than the example."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module(name)


@pytest.mark.parametrize("name", ["cleanrl_style_ppo", "torchrl_multiagent_ppo"])
def test_the_sampler_makes_the_difference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    ends = {}
    for sampler in ("on_policy", "ma_props"):
        example(name, monkeypatch).main(["--sampler", sampler, "--seeds", str(SEEDS)])
        ends[sampler] = wins(capsys.readouterr().out, sampler)
    assert ends["ma_props"] >= ENOUGH
    assert ends["on_policy"] < ends["ma_props"]


@pytest.mark.skipif(not (BENCHMARL / "installed").exists(), reason="no BenchMARL: `make examples` installs it")
def test_benchmarl() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    samplers = ("on_policy", "ma_props")
    calls = [f"main(['--seeds', '{SEEDS}', '--sampler', '{sampler}'])" for sampler in samplers]
    code = "; ".join(["from benchmarl_mappo import main", *calls])  # one process: what it imports takes longest
    program = [str(BENCHMARL / "bin/python"), "-W", "ignore", "-c", code]
    said = subprocess.run(program, env=environment, cwd=EXAMPLES, text=True, stdout=subprocess.PIPE, check=True).stdout
    ends = {sampler: wins(line, sampler) for sampler, line in zip(samplers, said.splitlines(), strict=True)}
    assert ends["ma_props"] >= ENOUGH
    assert ends["on_policy"] < ends["ma_props"]


def test_both_intervals_are_wilson(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cleanrl_style_ppo", "figure1"):
        for successes, runs in ((0, 5), (3, 7), (40, 40)):
            expected = binomtest(successes, runs).proportion_ci(method="wilson")
            low, high = example(name, monkeypatch).wilson(successes, runs)
            assert low == pytest.approx(expected.low, abs=1e-4)
            assert high == pytest.approx(expected.high, abs=1e-4)
