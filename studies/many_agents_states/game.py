"""The game of docs/evidence/many_agents_states.md and its runs: a team that must agree, stage by stage."""

import json
from typing import Any, NamedTuple

from studies.runs import Run

CONFIG = "conf/staged_game.yaml"
OPTION, LEARNER, ENV = "--model.behavior.init_args.", "--model.learner.init_args.", "--data.env.init_args."
STAGES, BATCH, UPDATES, FACTOR = 4, 32, 80, 8
UNTRAINED = ("OnPolicy", "LowDiscrepancy")  # m does nothing to them
Behavior = tuple[str, dict[str, Any]]  # its name, its init_args


class Regime(NamedTuple):
    """A team, and what decides whether it agrees on what is best."""

    n_agents: int
    rewards: tuple[float, ...]  # of agreeing on action j
    learning_rate: float  # of the learner

    @property
    def size(self) -> str:
        """Of the team, for tables."""
        return f"{self.n_agents} agents x {len(self.rewards)} actions"

    def __str__(self) -> str:
        rewards = ", ".join(f"{reward:g}" for reward in self.rewards)
        return f"{self.size}, rewards {rewards}, learner's rate {self.learning_rate:g}"


def payoff(n_agents: int, rewards: tuple[float, ...], taken: tuple[int, ...] = ()) -> Any:
    """Of a stage, a nested list: the largest of rewards[j] times the share of agents that choose j.

    That is ``Coordination`` with ``partial``; ``taken``: by the first agents.
    """
    if len(taken) == n_agents:
        return round(max(reward * taken.count(j) / n_agents for j, reward in enumerate(rewards)), 6)
    return [payoff(n_agents, rewards, (*taken, j)) for j in range(len(rewards))]


def run_of(
    part: str, regime: Regime, name: str, behavior: Behavior, run_seed: int, seeds: int, updates: int, factor: int = 1
) -> Run:
    """``factor`` times n env steps in every batch, as many updates; on-policy sampling then takes 8 environments.

    Args:
        part: of the page.
        regime: what is played.
        name: of the sampler or its setting, for the folder.
        behavior: the sampler.
        run_seed: of the run.
        seeds: side by side.
        updates: target updates.
        factor: of n.
    """
    kind, init_args = behavior
    n = factor * BATCH
    values: dict[str, object] = {
        f"{ENV}payoff": json.dumps(payoff(regime.n_agents, regime.rewards)),
        f"{ENV}n_agents": regime.n_agents,
        f"{ENV}stages": STAGES,
        "--data.num_envs": 1 if factor == 1 else 8,
        "--data.behavior_batch_size": n if kind in UNTRAINED else STAGES,
        "--data.target_batch_size": n,
        "--model.total_env_steps": n * updates,
        "--model.num_seeds": seeds,
        "--model.eval_interval": updates,
        "--model.eval_episodes": 1,  # nothing is random where policies are greedy
        "--model.checkpoint_interval": updates,
        "--model.sampling_error": "tabular" if factor == 1 else "null",
        "--model.sampling_error_interval": 2,
        "--model.learner": "IPPO",
        f"{LEARNER}learning_rate": regime.learning_rate,
        "--model.behavior": kind,
        **{OPTION + key: value if isinstance(value, str) else json.dumps(value) for key, value in init_args.items()},
    }
    flags = [str(part) for pair in values.items() for part in pair]
    return Run("many_agents_states", f"{part} {regime} {name} x{factor}", CONFIG, flags, run_seed)
