"""Evaluations by the kernel of the rollout: the episodes of ``metrics.evaluate``, up to rounding."""

import torch

from lit_maprops import keys
from lit_maprops.behavior import OnPolicy
from lit_maprops.collect.collection import BehaviorActor
from lit_maprops.collect.native import NativeCollection
from lit_maprops.envs import Task, TaskEnv
from lit_maprops.envs.faults import Faults
from lit_maprops.metrics.evaluate import Evaluation
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets import TargetPolicies

NUMBERS = 2**22  # of observations that are played at once


@torch.no_grad()
def evaluate(
    policies: TargetPolicies,
    task: Task,
    run_seed: int,
    seed_ids: list[int],
    episodes: int,
    greedy: bool,
    purpose: str,
    faults: Faults,
) -> Evaluation:
    """As ``metrics.evaluate.evaluate``, for a task and policies of which ``unsupported`` says nothing."""
    env = TaskEnv(task, run_seed, seed_ids, episodes, f"{purpose} environment", faults=faults)
    player = OnPolicy()
    player.build(task, run_seed, seed_ids)
    player.action_streams = SeedStreams(run_seed, seed_ids, f"{purpose} actions")
    of_step = len(seed_ids) * episodes * task.n_agents * task.observation_dim
    steps = max(1, min(task.max_steps, NUMBERS // of_step))
    actor = BehaviorActor(policies, player)
    collection = NativeCollection(env, actor, steps * episodes, evaluates=True, greedy=greedy)
    running = torch.ones(len(seed_ids), 1, episodes, dtype=torch.bool)
    success, returns = torch.zeros_like(running), torch.zeros(len(seed_ids), 1, episodes, task.n_agents)
    sound = torch.ones(len(seed_ids), dtype=torch.bool)
    while running.any():  # max_steps ends every episode
        played = collection.collect()
        sound &= ~played.get(keys.PARAMETERS).isnan().flatten(1).any(1)
        following = played.get("next")
        over = following.get(keys.DONE).squeeze(-1).cumsum(1) > 0
        before = running & ~torch.cat([torch.zeros_like(running), over[:, :-1]], 1)  # of the first episode's steps
        returns += (following.get(keys.REWARD).squeeze(-1) * before.unsqueeze(-1)).sum(1, keepdim=True)
        success |= (following.get(keys.SUCCESS).squeeze(-1) & before).any(1, keepdim=True)
        running &= ~over[:, -1:]
    env.close()
    figures = success.float().mean((1, 2)), returns.mean((1, 2, 3))
    return Evaluation(*(faults.figures(figure.where(sound, torch.nan)) for figure in figures))
