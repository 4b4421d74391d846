"""What one target iteration reports about its batch and its behavior updates; formulas in docs/metrics.md."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys

PerSeed = dict[str, Tensor]  # values are [R]


@torch.no_grad()
def batch_metrics(batch: TensorDictBase, running_return: Tensor) -> PerSeed:
    """Episodes that ended in this batch, and how far phi was from theta while collecting it.

    Args:
        batch: the newest n env steps, ``[R, T, E]``.
        running_return: return so far of the episodes under way, ``[R, E, A]``; updated in place, since episodes go on
            across batches.
    """
    reward = batch.get(("next", *keys.REWARD)).squeeze(-1)  # [R, T, E, A]
    done = batch.get(("next", keys.DONE)).squeeze(-1)
    success = batch.get(("next", keys.SUCCESS)).squeeze(-1)
    returns = torch.zeros(len(reward), device=reward.device)
    for t in range(reward.shape[1]):
        running_return += reward[:, t]
        ended = done[:, t]
        returns += torch.where(ended, running_return.mean(-1), 0.0).sum(-1)
        # where, not a product with 0: a NaN reward ends with its episode.
        running_return.copy_(torch.where(ended.unsqueeze(-1), 0.0, running_return))
    finished = done.sum((1, 2))
    return {
        "train/success_rate": (success & done).sum((1, 2)) / finished,
        "train/episode_return": returns / finished,
        "train/episodes": finished.float(),
        "behavior/kl": batch.get(keys.BEHAVIOR_KL).mean((1, 2)),
    }


def behavior_metrics(updates: dict[str, list[Tensor]]) -> PerSeed:
    """Means over the behavior updates of one iteration.

    Args:
        updates: for each statistic of ``update_behavior`` its values ``[R]``, one per update; empty if none was made.
    """
    if not updates:
        return {}
    stacked = {name: torch.stack(values).float() for name, values in updates.items()}
    return {
        "behavior/kl_reached": stacked["kl"].mean(0),
        "behavior/gradient_steps": stacked["gradient_steps"].mean(0),
        "behavior/gradient_steps_allowed": stacked["gradient_steps_allowed"].mean(0),
        "behavior/cutoff_share": stacked["cutoff_hit"].mean(0),
        "behavior/first_step_cutoff_share": stacked["first_step_cutoff"].mean(0),
        "behavior/ratio_clipped": stacked["ratio_clipped"].mean(0),
    }
