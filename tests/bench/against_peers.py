"""IPPO with on-policy sampling against BenchMARL and JaxMARL: equal environments, passes and minibatches."""

import os
import subprocess
import sys

from figures import hand_over, in_turn, ratio, row
from fits import iteration
from peers import PEERS, python_of

# BenchMARL 1.5.2's defaults for VMAS: 10 environments, 6,000 frames a batch, 45 passes of 15 minibatches of 400, a
# 256-256 tanh network shared by the agents; discrete actions on both sides.
BENCHMARL = """
import sys, time, tempfile, torch
torch.set_num_threads(1)
from benchmarl.algorithms import IppoConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
config, model = ExperimentConfig.get_from_yaml(), MlpConfig.get_from_yaml()
config.loggers, config.evaluation, config.render, config.create_json = [], False, False, False
config.prefer_continuous_actions, config.save_folder = False, tempfile.mkdtemp()
config.max_n_iters, config.max_n_frames = 2, None
model.num_cells = [int(sys.argv[1])] * 2
experiment = Experiment(
    task=VmasTask.BALANCE.get_from_yaml(), algorithm_config=IppoConfig.get_from_yaml(), model_config=model,
    critic_model_config=model, seed=0, config=config,
)
started = time.perf_counter()
experiment.run()
print("rate", experiment.total_frames / (time.perf_counter() - started))
"""
LEARNER = "--model.learner.init_args."


def rate(python: str, *command: str) -> float:
    """The number a peer's script prints last, on one core."""
    one_core = {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    pinned = ["taskset", "-c", "0", python, *command]
    done = subprocess.run(pinned, env=os.environ | one_core, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def ours(scenario: str, n_agents: int, seeds: int, envs: int, steps: int, passes: int, parts: int, width: int) -> float:
    """Env steps per second of all seeds together."""
    flags = {
        "--model.behavior": "OnPolicy",
        "--model.learner": "IPPO",
        f"{LEARNER}share_parameters": "true",
        f"{LEARNER}epochs": passes,
        f"{LEARNER}minibatches": parts,
        f"{LEARNER}hidden": f"[{width}, {width}]",
        "--model.num_seeds": seeds,
        "--model.total_env_steps": steps if seeds * width > 1000 else 2 * steps,
        "--data.env.init_args.scenario": scenario,
        "--data.env.init_args.n_agents": n_agents,
        "--data.env.init_args.max_steps": 100,
        "--data.num_envs": envs,
        "--data.behavior_batch_size": steps,
        "--data.target_batch_size": steps,
    }
    seconds, _ = iteration("conf/vmas_balance.yaml", *(str(part) for pair in flags.items() for part in pair))
    return seeds * steps / seconds


def benchmarl() -> list[dict[str, str | float]]:
    """VMAS balance at BenchMARL's sizes, with its network and with one of 64-64."""
    python = python_of("benchmarl")
    if python is None:
        print(f"benchmarl could not be installed ({PEERS['benchmarl']})", file=sys.stderr)
        return []
    rows = []
    for width, bars in ((256, ("4 or more", "12 or more")), (64, ("", "3 or more"))):
        t = in_turn(
            {
                "peer": lambda width=width: rate(python, "-c", BENCHMARL, str(width)),
                "1": lambda width=width: ours("balance", 4, 1, 10, 6000, 45, 15, width),
                "16": lambda width=width: ours("balance", 4, 16, 10, 6000, 45, 15, width),
            },
            1,
        )
        name = f"IPPO, VMAS balance, 10 envs, 45 passes of 15 minibatches, {width}-{width}"
        rows.append(row(f"{name}: BenchMARL 1.5.2", t["peer"], "env steps/s"))
        for seeds, bar in zip(("1", "16"), bars, strict=True):
            rows.append(row(f"{name}: ours, {seeds} seeds together", t[seeds], "env steps/s"))
            rows.append(ratio(f"{name}: ours, {seeds} seeds / BenchMARL", t[seeds], t["peer"], bar))
    return rows


def jaxmarl() -> list[dict[str, str | float]]:
    """Simple spread, 16 environments, 128 steps, 4 passes of 4 minibatches, 64-64, 8 seeds side by side."""
    python = python_of("jaxmarl")
    if python is None:
        print(f"jaxmarl could not be installed ({PEERS['jaxmarl']})", file=sys.stderr)
        return []
    t = in_turn(
        {
            "peer": lambda: rate(python, "jax_ippo.py", "8"),
            "ours": lambda: ours("simple_spread", 3, 8, 16, 2048, 4, 4, 64),
        },
        3,
    )
    name = "IPPO, simple_spread, 16 envs, 4 passes, 64-64, 8 seeds together"
    return [
        row(f"{name}: JaxMARL 0.2.0, compiled", t["peer"], "env steps/s"),
        row(f"{name}: ours, VMAS", t["ours"], "env steps/s"),
        ratio(f"{name}: ours / JaxMARL", t["ours"], t["peer"], "0.9 or more"),
    ]


if __name__ == "__main__":
    parts = {"jaxmarl": jaxmarl, "benchmarl": benchmarl}
    for part in sys.argv[1:] or parts:
        hand_over(parts[part]())
