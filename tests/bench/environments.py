"""Random actions: BoulderPush through TorchRL, resets included, against lbforaging (its own virtual environment)."""

import subprocess
import sys

import torch
from figures import hand_over, in_turn, ratio, row, seconds
from peers import PEERS, python_of

from lit_maprops.envs import BoulderPush, TaskEnv

ROUNDS, SEEDS, ENVS = 5, 64, 64
LBFORAGING = """
import time, warnings
warnings.filterwarnings("ignore")
import gymnasium, lbforaging
env = gymnasium.make("Foraging-8x8-2p-2f-coop-v3", disable_env_checker=True)
env.reset(seed=0)
def steps(count):
    for _ in range(count):
        *_, done, truncated, _ = env.step(env.action_space.sample())
        if done or truncated:
            env.reset()
steps(500)
started = time.perf_counter()
steps(5000)
print(5000 / (time.perf_counter() - started))
"""


def boulder_push(n_agents: int) -> float:
    """Env steps per second, 4,096 environments."""
    env = TaskEnv(BoulderPush(size="small", n_agents=n_agents), 0, list(range(SEEDS)), ENVS)
    actions = iter(torch.randint(4, (400, SEEDS, ENVS, n_agents)))
    current = env.reset()

    def step() -> None:
        nonlocal current
        _, current = env.step_and_maybe_reset(current.set(("agents", "action"), next(actions)))

    for _ in range(5):
        step()
    return SEEDS * ENVS / seconds(step, 0.5)


def lbforaging(python: str) -> float:
    """Env steps per second of one process."""
    return float(subprocess.run([python, "-c", LBFORAGING], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the rows."""
    torch.set_num_threads(1)
    cases = {"2": lambda: boulder_push(2), "4": lambda: boulder_push(4)}
    python = python_of("lbforaging")
    if python is not None:
        cases["lbforaging"] = lambda: lbforaging(python)
    t = in_turn(cases, ROUNDS)
    rows = [row(f"BoulderPush 8x8, {n} agents, 4,096 environments, random actions", t[n], "env steps/s") for n in "24"]
    if python is not None:
        rows.append(row("lbforaging 2.0.0, Foraging-8x8-2p-2f-coop, random actions", t["lbforaging"], "env steps/s"))
        rows.append(ratio("BoulderPush 8x8, 2 agents / lbforaging", t["2"], t["lbforaging"], "60 or more"))
    else:
        print(f"lbforaging could not be installed ({PEERS['lbforaging']})", file=sys.stderr)
    hand_over(rows)


if __name__ == "__main__":
    main()
