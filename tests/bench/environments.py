"""Random actions through TorchRL, resets included: ours against lbforaging (in its own .venv); ``mpe``: MPE, twice."""

import subprocess
import sys
from itertools import cycle

import torch
from figures import hand_over, in_turn, ratio, row, seconds
from peers import PEERS, python_of

from lit_maprops.envs import BoulderPush, Foraging, JaxMARL, PettingZoo, Task, TaskEnv

ROUNDS, SEEDS, ENVS = 5, 64, 64
MPE_SEEDS, MPE_ENVS = 32, 16
FORAGING = "Foraging-8x8-2p-2f-coop"
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


def ours(task: Task, seeds: int = SEEDS, envs: int = ENVS) -> float:
    """Env steps per second, 4,096 environments or as many as given."""
    env = TaskEnv(task, 0, list(range(seeds)), envs)
    actions = cycle(torch.randint(task.n_actions, (400, seeds, envs, task.n_agents)))
    current = env.reset()

    def step() -> None:
        nonlocal current
        _, current = env.step_and_maybe_reset(current.set(("agents", "action"), next(actions)))

    for _ in range(5):
        step()
    return seeds * envs / seconds(step, 0.5)


def lbforaging(python: str) -> float:
    """Env steps per second of one process."""
    return float(subprocess.run([python, "-c", LBFORAGING], check=True, capture_output=True, text=True).stdout)


def mpe() -> None:
    """Print the rows of simple_spread, by the two packages that have it."""
    cases = {
        "mpe2 through PettingZoo": lambda: ours(PettingZoo("mpe2.simple_spread_v3"), MPE_SEEDS, MPE_ENVS),
        "JaxMARL": lambda: ours(JaxMARL("MPE_simple_spread_v3"), MPE_SEEDS, MPE_ENVS),
    }
    t = in_turn(cases, ROUNDS)
    rows = [row(f"MPE simple_spread, {name}, 512 environments, random actions", t[name], "env steps/s") for name in t]
    rows.append(ratio("MPE simple_spread, JaxMARL / mpe2", t["JaxMARL"], t["mpe2 through PettingZoo"], ""))
    hand_over(rows)


def main() -> None:
    """Print the rows of our environments."""
    cases = {n: lambda n=n: ours(BoulderPush(size="small", n_agents=int(n))) for n in "24"}
    cases[FORAGING] = lambda: ours(Foraging(FORAGING))
    python = python_of("lbforaging")
    if python is not None:
        cases["lbforaging"] = lambda: lbforaging(python)
    t = in_turn(cases, ROUNDS)
    rows = [row(f"BoulderPush 8x8, {n} agents, 4,096 environments, random actions", t[n], "env steps/s") for n in "24"]
    rows.append(row(f"{FORAGING}, 4,096 environments, random actions", t[FORAGING], "env steps/s"))
    if python is not None:
        rows.append(row("lbforaging 2.0.0, Foraging-8x8-2p-2f-coop, random actions", t["lbforaging"], "env steps/s"))
        rows.append(ratio("BoulderPush 8x8, 2 agents / lbforaging", t["2"], t["lbforaging"], "60 or more"))
        rows.append(ratio(f"{FORAGING} / lbforaging", t[FORAGING], t["lbforaging"], "30 or more"))
    else:
        print(f"lbforaging could not be installed ({PEERS['lbforaging']})", file=sys.stderr)
    hand_over(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["mpe"]:
        mpe()
    else:
        main()
