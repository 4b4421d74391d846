"""Fixtures shared by all tests: small runs through the real command line."""

import contextlib
import functools
import inspect
import itertools
import os
import shutil
import subprocess
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoints, entry_points
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from PIL import Image

from lit_maprops.cli.main import main
from lit_maprops.envs import TASKS
from lit_maprops.run import figures

ROOT = Path(__file__).parent.parent

# A program of JAX that one test had compiled serves the others, and the programs they start: 10 seconds for battles.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / "build" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# They are compiled for longer than they run here: without optimizing, in half the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

# The files that take longest, or wait most, are begun first: at the end no worker is left alone with one of them.
FIRST = [
    "test_pages.py", "test_devices.py", "test_slurm.py", "test_resume.py", "sweeps/test_agent.py",
    "examples/test_examples.py", "drill/test_readers.py", "sweeps/test_wandb_faults.py", "drill/test_kills.py",
    "envs/test_jaxmarl.py", "envs/test_contract.py", "envs/test_contract_seeds.py", "sweeps/test_ray.py",
    "report/test_report_browser.py", "test_studies.py", "autopsy/test_autopsy.py", "report/test_report_page.py",
    "hostile/test_checkpoints.py", "packages/test_packages.py", "test_engine.py", "test_whole_table.py",
    "hostile/test_config_fuzz.py", "test_tutorial.py", "test_tracking.py", "test_plain_trainer.py",
    "export/test_export_command.py", "test_faults.py", "test_nodes.py", "autopsy/test_figure1.py", "envs/test_vmas.py",
    "analyze/test_analyze.py", "drill/test_disk.py", "test_api.py", "test_cli.py", "test_soak.py", "test_module.py",
]  # fmt: skip

# A run that touches everything and takes about a second. Those that are spelled out have numbers that
# tests count on.
SMALL = {
    "MatrixGame": [
        "--config", str(ROOT / "conf/matrix_game.yaml"), "--model.num_seeds", "3", "--model.total_env_steps", "64",
        "--model.eval_interval", "2", "--model.eval_episodes", "4", "--model.checkpoint_interval", "1",
    ],
    "BoulderPush": [
        "--config", str(ROOT / "conf/boulderpush.yaml"), "--model.num_seeds", "2", "--model.total_env_steps", "192",
        "--model.eval_interval", "2", "--model.eval_episodes", "3", "--model.checkpoint_interval", "1",
        "--model.sampling_error_interval", "6", "--data.num_envs", "2", "--data.behavior_batch_size", "8",
        "--data.target_batch_size", "32", "--data.env.max_steps", "10", "--model.learner.epochs", "2",
    ],
    "TwoPeaks": [
        "--config", str(ROOT / "conf/continuous_game.yaml"), "--model.num_seeds", "3", "--model.total_env_steps", "64",
        "--model.eval_interval", "2", "--model.eval_episodes", "4", "--model.checkpoint_interval", "1",
    ],
}  # fmt: skip
# An environment that is in no file of conf/, or not with these arguments.
WITHOUT_CONFIG = {
    "Gymnasium": ("foraging", [
        "--data.env", "Gymnasium", "--data.env.name", "lbforaging:Foraging-5x5-2p-1f-coop-v3",
    ]),
    "JaxMARL": ("smax", [  # whose program is compiled in a third of the time
        "--data.env.scenario", "MPE_simple_spread_v3", "--data.env.map_name", "null", "--model.behavior", "PROPS",
    ]),
    "PettingZoo": ("reacher_sparse", ["--data.env", "PettingZoo", "--data.env.options", "{continuous_actions: true}"]),
    "TMaze": ("tmaze", [  # a small run's batches are shorter
        "--model.learner.sequence_length", "16", "--model.learner.minibatches", "2",
    ]),
    "TorchRL": ("vmas_balance", [
        "--data.env", "TorchRL", "--data.env.name", "torchrl.envs.VmasEnv", "--model.behavior", "PROPS",
        "--data.env.options", "{scenario: simple_spread, num_envs: 1, continuous_actions: false, n_agents: 2}",
    ]),
    "VMAS": ("vmas_balance", ["--model.behavior", "PROPS", "--data.env.n_agents", "2"]),
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before what is slow is left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put ``FIRST`` first, each file's tests in their own order; xdist keeps it with ``--no-loadscope-reorder``."""
    thin_out(config, items)
    rank = {ROOT / "tests" / name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(FIRST)))
    if find_spec("jaxmarl") is None:
        for item in items:
            if hasattr(item, "callspec") and any(map(of_jaxmarl, item.callspec.params.values())):
                item.add_marker(pytest.mark.skip(reason="needs the extra jaxmarl"))


def thin_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a long table of cases that is marked ``every(k)``, leave all but one in k to ``make test-slow``.

    Not of cases that are asked for, by ``-k`` or by their own names.
    """
    if config.option.keyword or any("[" in arg for arg in config.args):
        return
    tables: dict[str, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("every") and not is_slow(item):
            tables[item.nodeid.partition("[")[0]].append(item)
    for name, cases in tables.items():
        (k,) = next(cases[0].iter_markers("every")).args
        values = [[f"{key} {value!r}" for key, value in case.callspec.params.items()] for case in cases]
        kept = spread(values, k, zlib.crc32(name.encode()))
        for number, item in enumerate(cases):
            if number not in kept:
                item.add_marker(pytest.mark.slow)


def is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def spread(cases: list[list[str]], k: int, begin: int) -> set[int]:
    """Which of the cases to keep so that every value of theirs has about the same share of its cases among them.

    Each k-th, from ``begin`` on, where values do not matter: alone it would always have the same of two values. Tables
    of the same cases begin at different places, so that what one leaves out another has.
    """
    whole, taken = Counter(itertools.chain(*cases)), Counter[str]()
    left = [(begin + number) % len(cases) for first in range(k) for number in range(first, len(cases), k)]
    for _ in range(-(-len(cases) // k)):
        best = min(left, key=lambda number: sum(taken[value] / whole[value] for value in cases[number]))
        left.remove(best)
        taken.update(cases[best])
    return set(range(len(cases))) - set(left)


def of_jaxmarl(case: object) -> bool:
    """Whether a parameter of a test is the task, its class or its file of conf/."""
    if isinstance(case, Path):
        return case.stem == "smax"
    return isinstance(case, str | type) and case in ("JaxMARL", TASKS["JaxMARL"])


def config_of(env: str) -> Path:
    """The first file of conf/ that trains on an environment."""
    for config in sorted((ROOT / "conf").glob("*.yaml")):
        if yaml.safe_load(config.read_text())["data"]["env"]["class_path"] == env:
            return config
    raise LookupError(f"no file of conf/ has {env}: add one, the third step of CONTRIBUTING.md")


def small_run(env: str) -> list[str]:
    """The options of a small run of a registered environment, whatever its file of conf/ says."""
    name, options = WITHOUT_CONFIG.get(env) or (config_of(env).stem, [])
    config = ROOT / "conf" / f"{name}.yaml"
    if "max_steps" in inspect.signature(TASKS[env]).parameters:
        options = [*options, "--data.env.max_steps", "10"]
    if "epochs" in yaml.safe_load(config.read_text())["model"]["learner"].get("init_args", {}):
        options = [*options, "--model.learner.epochs", "2"]
    return [
        "--config", str(config), *options, "--model.num_seeds", "2", "--model.total_env_steps", "96",
        "--model.eval_interval", "2", "--model.eval_episodes", "3", "--model.checkpoint_interval", "1",
        "--data.num_envs", "2", "--data.behavior_batch_size", "8", "--data.target_batch_size", "32",
    ]  # fmt: skip


SMALL |= {env: small_run(env) for env in TASKS if env not in SMALL}


STARTED: list[subprocess.Popen[str]] = []  # programs of the test at hand


def dot(path: Path, *of_curve: object) -> None:
    """A picture of one pixel in place of a run's curve, whose drawing is a fifth of a small run."""
    Image.new("RGB", (1, 1)).save(path)


@functools.cache
def registered_on(path: tuple[str, ...], group: str) -> EntryPoints:
    """What packages on a path register; reading the metadata of all of them is a sixth of parsing a command line."""
    return entry_points(group=group)


@pytest.fixture
def curves() -> None:
    """Asked for by tests in which runs draw their curves in earnest."""


@pytest.fixture(autouse=True)
def _one_thread_no_tracking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of whatever a test starts
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(
        "lit_maprops.system.entry_points.entry_points", lambda group: registered_on((*sys.path,), group)
    )
    if "curves" not in request.fixturenames:
        for name in ("success_curve", "return_curve"):
            monkeypatch.setattr(figures, name, dot)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power cut is expected, and disks are slow
    yield
    end(*STARTED, seconds=5)  # of a test that failed: an endless run would slow all that follow
    STARTED.clear()


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Path]:
    """Train a small run and return its folder."""

    def run(name: str, *options: str, env: str = "MatrixGame") -> Path:
        args = ["fit", *SMALL[env], "--runs_dir", str(tmp_path / "runs"), "--run_name", name, *options]
        assert main(args) == 0
        return tmp_path / "runs" / name

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run, which nobody may change."""
    runs = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    args = ["fit", *SMALL["MatrixGame"], "--wandb", "disabled", "--runs_dir", str(runs), "--run_name", "x"]
    assert main(args) == 0
    return runs / "x"


@pytest.fixture
def game(trained: Path, tmp_path: Path) -> Path:
    """A finished small run of the test's own, where only that it is one matters: not trained for each test."""
    return shutil.copytree(trained, tmp_path / "runs" / "x")


def end(*processes: subprocess.Popen[str], seconds: float = 60) -> None:
    """Ask processes to end; kill what is left of them and of what they started later: that fails no test."""
    left = []
    for process in processes:
        if process.poll() is None:
            left += [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            process.terminate()
    stubborn = psutil.wait_procs(left, seconds)[1]
    for one in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(stubborn, 60)


def command(*args: str, **kwargs: object) -> subprocess.Popen[str]:
    """Start the program as a user would, without a terminal."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lit_maprops", *args],
        cwd=ROOT,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,  # type: ignore[call-overload]
    )
    STARTED.append(process)
    return process
