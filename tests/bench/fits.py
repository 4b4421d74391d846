"""Whole fits as a user runs them: cost of the behavior updates, seeds side by side, memory, start-up."""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from figures import ROOT, hand_over, in_turn, ratio, row
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.envs import BoulderPush

ROUNDS = 3
PROGRAM = [sys.executable, "-m", "lit_maprops"]
OPTION = "--model.behavior.init_args."
# One environment per seed, m = 1, n = 256, 64 seeds; three iterations, the last two of which count.
RELIABILITY = ["conf/boulderpush_reliability.yaml", "--model.total_env_steps", "768"]
SAMPLERS = {
    "OnPolicy": ["--model.behavior", "OnPolicy"],
    "MAPROPS": [],
    "MAPROPS, compile": [f"{OPTION}compile", "true"],
    "MAPROPS, merge_states": [f"{OPTION}merge_states", "true"],
    "MAPROPS, trained_layers last": [f"{OPTION}trained_layers", "last", f"{OPTION}learning_rate", "0.03"],
    "MAPROPS, max_sample_passes 256": [f"{OPTION}max_sample_passes", "256"],
    "MAPROPS, max_states 64": [f"{OPTION}max_states", "64"],
    "MAPROPS, warm_start, 1 epoch": [f"{OPTION}warm_start", "true", f"{OPTION}epochs", "1"],
    "TabularMAPROPS": ["--model.behavior", "TabularMAPROPS"],
}
# 16 seeds x 8 environments, n = 512, m = one vector step.
WIDE = ["conf/boulderpush.yaml", "--model.total_env_steps", "1536", "--data.behavior_batch_size", "8"]
WIDE += ["--model.sampling_error", "null"]
# m = 1, minibatches of at most 64 rows in both updates.
SMALL = [*RELIABILITY, f"{OPTION}minibatches", "4", "--model.learner.init_args.minibatches", "4"]
SEEDS = (1, 8, 32, 64, 128)


def environment(threads: int = 1) -> dict[str, str]:
    """One core, or more."""
    return os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def iteration(config: str, *flags: str, root: Path = ROOT, threads: int = 1) -> tuple[float, float]:
    """Mean time of the iterations after the first, evaluation left out (s), and peak memory of the process (MB).

    Of the first, if it is the only one.

    Args:
        config: a file of conf/.
        *flags: that change it.
        root: where the program lies, this one or an older one.
        threads: as OMP_NUM_THREADS says.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [*PROGRAM, "fit", "--config", config, *flags, "--wandb", "disabled", "--model.eval_interval", "1000"]
        process = subprocess.Popen(
            [*command, "--runs_dir", folder, "--run_name", "bench"],
            cwd=root,  # of which -m takes the package
            env=environment(threads),
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with {status}")
        with (Path(folder) / "bench" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        rows = rows[1:] or rows
    spent = [sum(float(row[f"time/{part}"]) for part in ("collect", "behavior", "target")) for row in rows]
    return sum(spent) / len(spent), usage.ru_maxrss / 1024


def cost_of_updates() -> list[dict[str, str | float]]:
    """The samplers against OnPolicy."""
    t = in_turn(
        {name: lambda flags=flags: iteration(*RELIABILITY, *flags)[0] for name, flags in SAMPLERS.items()}, ROUNDS
    )
    place = "64 seeds x 1 env, m = 1, n = 256"
    rows = [row(f"{place}: {name}, one iteration", times, "s") for name, times in t.items()]
    for name in list(SAMPLERS)[1:]:
        bar = "" if name in ("MAPROPS", "MAPROPS, compile") else "4 or less"
        rows.append(ratio(f"{place}: {name} / OnPolicy", t[name], t["OnPolicy"], bar))
    cases = {name: lambda name=name: iteration(*WIDE, *SAMPLERS[name])[0] for name in ("OnPolicy", "MAPROPS")}
    wide = in_turn(cases, ROUNDS)
    name = "16 seeds x 8 envs, m = one vector step, n = 512: MAPROPS / OnPolicy"
    return [*rows, ratio(name, wide["MAPROPS"], wide["OnPolicy"], "3 or less")]


def cost_of_draws() -> list[dict[str, str | float]]:
    """Low-discrepancy draws against independent ones, by both engines."""
    rows = []
    large = ["conf/rware.yaml", "--model.num_seeds", "8", "--model.total_env_steps", "38400"]
    for place, flags, engine, bar in (
        ("64 seeds x 1 env, n = 256", [*RELIABILITY, "--model.total_env_steps", "2560"], "native", "1.05 or less"),
        ("16 seeds x 8 envs, n = 512", [*WIDE, "--model.total_env_steps", "5120"], "native", "1.05 or less"),
        ("64 seeds x 1 env, n = 256", RELIABILITY, "torch", "1.05 or less"),
        # The warehouse's rules are not compiled, so whole rollouts are torch's.
        ("8 seeds x 128 envs, RWARE, n = 12,800", large, "auto", "1.3 or less"),
    ):
        given = [*flags, "--model.engine", engine]
        cases = {
            name: lambda name=name, given=given: iteration(*given, "--model.behavior", name)[0]
            for name in ("OnPolicy", "LowDiscrepancy")
        }
        t = in_turn(cases, ROUNDS + 2)
        name = f"draws, {place}, {engine}: LowDiscrepancy / OnPolicy"
        rows.append(ratio(name, t["LowDiscrepancy"], t["OnPolicy"], bar))
    return rows


def cost_of_memory() -> list[dict[str, str | float]]:
    """A GRU of 64 units against the second of two hidden layers of that width, everything else being equal."""
    rows = []
    flags = [*WIDE, "--model.learner.sequence_length", "8", "--model.learner.hidden", "[64]"]
    cases = {"feed-forward": WIDE, "GRU": [*flags, "--model.learner.memory", "gru"]}
    for engine in ("torch", "auto"):
        calls = {
            name: lambda given=given, engine=engine: iteration(*given, "--model.engine", engine)[0]
            for name, given in cases.items()
        }
        t = in_turn(calls, ROUNDS)
        place = f"16 seeds x 8 envs, n = 512, MAPROPS, sequences of 8, {engine}"
        rows += [row(f"{place}: {name}, one iteration", times, "s") for name, times in t.items()]
        rows.append(ratio(f"{place}: GRU / feed-forward", t["GRU"], t["feed-forward"], "2.5 or less"))
    return rows


def seed_scaling() -> list[dict[str, str | float]]:
    """Time and memory per seed."""
    memory: dict[int, list[float]] = {seeds: [] for seeds in SEEDS}

    def case(seeds: int) -> float:
        spent, peak = iteration(*SMALL, "--model.num_seeds", str(seeds))
        memory[seeds].append(peak)
        return spent / seeds

    t = in_turn({str(seeds): lambda seeds=seeds: case(seeds) for seeds in SEEDS}, ROUNDS)
    rows = [row(f"seeds side by side: {seeds}, one iteration, per seed", t[str(seeds)], "s") for seeds in SEEDS]
    rows += [row(f"seeds side by side: {seeds}, peak memory of the process", memory[seeds], "MB") for seeds in SEEDS]
    return [*rows, ratio("seeds side by side: time per seed, 1 seed / 64 seeds", t["1"], t["64"], "5 or more")]


def around_the_algorithm() -> list[dict[str, str | float]]:
    """A whole iteration of a small game against its collection and updates: what Lightning, figures and files add."""
    whole, alone = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                *PROGRAM,
                "fit",
                "--config",
                "conf/matrix_game.yaml",
                "--model.num_seeds",
                "8",
                "--wandb",
                "disabled",
            ]
            command += ["--model.total_env_steps", "1600", "--model.eval_interval", "1000", "--runs_dir", folder]
            command += ["--model.sampling_error", "null", "--model.checkpoint_interval", "1000", "--run_name", "bench"]
            subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True)
            with (Path(folder) / "bench" / "metrics.csv").open() as file:
                rows = list(csv.DictReader(file))[20:-1]  # the last one evaluates
        whole.append((float(rows[-1]["wall_seconds"]) - float(rows[0]["wall_seconds"])) / (len(rows) - 1))
        alone.append(
            sum(float(r[f"time/{p}"]) for r in rows[1:] for p in ("collect", "behavior", "target")) / (len(rows) - 1)
        )
    place = "figure1, 8 seeds, m = 1, n = 8"
    return [
        row(f"{place}: one iteration as the clock sees it", 1e3 * np.array(whole), "ms"),
        ratio(f"{place}: the same / its collection and updates", whole, alone, "1.1 or less"),
    ]


def start_up() -> list[dict[str, str | float]]:
    """Help, and the first line of metrics.csv."""

    def help_of(*command: str) -> float:
        started = time.perf_counter()
        subprocess.run([*PROGRAM, *command, "--help"], check=True, stdout=subprocess.DEVNULL, env=environment())
        return time.perf_counter() - started

    def first_iteration() -> float:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            command = [*PROGRAM, "fit", "--config", "conf/boulderpush.yaml", "--wandb", "disabled"]
            process = subprocess.Popen(
                [*command, "--runs_dir", folder, "--run_name", "bench"],
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.DEVNULL,
            )
            metrics = Path(folder) / "bench" / "metrics.csv"
            while not (metrics.exists() and metrics.read_text().count("\n") > 1):
                time.sleep(0.02)
            spent = time.perf_counter() - started
            process.kill()
            process.wait()
            return spent

    def before_the_first_step() -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [*PROGRAM, "fit", "--config", "conf/boulderpush.yaml", "--wandb", "disabled"]
            command += ["--trainer.callbacks+", "first_step.FirstStep", "--runs_dir", folder, "--run_name", "bench"]
            path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'bench'}"}
            done = subprocess.run(command, cwd=ROOT, env=environment() | path, check=True, stdout=subprocess.PIPE)
            return float(done.stdout)

    light = ("sweep", "report")
    cases = {"": help_of} | {name: lambda name=name: help_of(name) for name in ("fit", *light)}
    t = in_turn(cases | {"first": first_iteration, "before": before_the_first_step}, ROUNDS)
    return [
        row("start-up: --help", t[""], "s", "1 or less"),
        row("start-up: fit --help", t["fit"], "s"),
        *(row(f"start-up: {name} --help", t[name], "s", "1 or less") for name in light),
        row("start-up: first training iteration of boulderpush.yaml done", t["first"], "s", "12 or less"),
        row("start-up: processor time before that iteration", t["before"], "s", "5.3 or less"),
    ]


def memory_of_d() -> list[dict[str, str | float]]:
    """D of 64 seeds x n = 8,192 x 4 agents with BoulderPush's pictures, as the buffer allocates it."""
    task, steps = BoulderPush(size="small", n_agents=4), 8192
    shape = (64, 1, 1)
    flags = {key: torch.zeros(*shape, 1, dtype=torch.bool) for key in (keys.DONE, keys.TERMINATED, keys.TRUNCATED)}
    seen = flags | {
        keys.SUCCESS: torch.zeros(*shape, 1, dtype=torch.bool),
        keys.OBSERVATION: torch.zeros(*shape, 4, task.observation_dim, dtype=task.observation_dtype),
        keys.STATE: torch.zeros(*shape, task.state_dim, dtype=task.observation_dtype),
        keys.STATE_INDEX: torch.zeros(*shape, 1, dtype=torch.int64),
    }
    row_of_d = TensorDict(seen, batch_size=shape)
    row_of_d.set("next", TensorDict(seen, batch_size=shape).set(keys.REWARD, torch.zeros(*shape, 4, 1)))
    for key, size in ((keys.PARAMETERS, (4, 4)), (keys.LOG_PROB, (4,)), (keys.TARGET_LOG_PROB, ())):
        row_of_d.set(key, torch.zeros(*shape, *size))
    row_of_d.set(keys.ACTION, torch.zeros(*shape, 4, dtype=torch.int64))
    for key in (keys.BEHAVIOR_LOG_PROB, keys.BEHAVIOR_KL):
        row_of_d.set(key, torch.zeros(*shape))
    buffer = Buffer(steps)
    buffer.extend(row_of_d)
    return [
        row("D of 64 seeds x 8,192 steps x 4 agents, BoulderPush 8x8", [buffer.bytes / 2**30], "GiB", "1.5 or less")
    ]


if __name__ == "__main__":
    parts = {
        "cost": cost_of_updates,
        "draws": cost_of_draws,
        "recurrent": cost_of_memory,
        "seeds": seed_scaling,
        "around": around_the_algorithm,
        "start": start_up,
        "memory": memory_of_d,
    }
    for part in sys.argv[1:] or parts:
        hand_over(parts[part]())
