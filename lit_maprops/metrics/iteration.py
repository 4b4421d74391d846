"""What one target iteration reports, and its means over seeds; formulas in docs/metrics.md."""

import math

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.metrics.evaluate import Evaluation

PerSeed = dict[str, Tensor]  # values are [R]


@torch.no_grad()
def batch_metrics(batch: TensorDictBase, running_return: Tensor, tells_success: bool = True) -> PerSeed:
    """Episodes that ended in this batch, and how far phi was from theta while collecting it.

    Args:
        batch: the newest n env steps, ``[R, T, E]``.
        running_return: return so far of the episodes under way, ``[R, E, A]``; updated in place, since episodes go on
            across batches.
        tells_success: of the task; if not, a seed without a success has no success rate.
    """
    reward = batch.get(("next", *keys.REWARD)).squeeze(-1)  # [R, T, E, A]
    done = batch.get(("next", keys.DONE)).squeeze(-1)
    success = batch.get(("next", keys.SUCCESS)).squeeze(-1)
    # What an environment earns up to its last end in the batch are the returns of all episodes that end there.
    of_ended = (done.flip(1).cumsum(1) > 0).flip(1).unsqueeze(-1)  # [R, T, E, 1]
    ended = of_ended[:, 0]
    # where, not a product with 0: a NaN reward ends with its episode.
    of_episodes = running_return.where(ended, 0.0) + reward.where(of_ended, 0.0).sum(1)
    returns = of_episodes.sum(1).mean(-1)
    running_return.copy_(running_return.where(~ended, 0.0) + reward.where(~of_ended, 0.0).sum(1))
    finished, solved = done.sum((1, 2)), (success & done).sum((1, 2))
    success_rate = solved / finished
    return {
        "train/success_rate": success_rate if tells_success else success_rate.where(solved > 0, torch.nan),
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


def means_over_seeds(row: PerSeed, evaluations: dict[str, Evaluation] | None) -> dict[str, float]:
    """One row of numbers: means over the seeds that have one, standard errors of the sampling error, evaluations.

    Args:
        row: of one target iteration.
        evaluations: of the same, if any was made; without, their columns are NaN.
    """
    means: dict[str, float] = {}
    if row:
        of_all = torch.stack([value.float().cpu() for value in row.values()]).nanmean(1).tolist()
        means = dict(zip(row, of_all, strict=True))
    return means | _standard_errors(row) | _evaluation_means(evaluations)


def _standard_errors(row: PerSeed) -> dict[str, float]:
    """Of the means over seeds of the sampling error; NaN for a single seed."""
    errors = {}
    for name, value in row.items():
        if name.startswith("sampling_error/"):
            seeds = value[value.isfinite()].double()
            spread = float(seeds.std()) if len(seeds) > 1 else float("nan")
            errors[f"{name}_se"] = spread / max(1, len(seeds)) ** 0.5
    return errors


def _evaluation_means(evaluations: dict[str, Evaluation] | None) -> dict[str, float]:
    """Of returns over the seeds that have one; of success rates over all, or a seed that diverges would raise them."""
    means = {}
    for kind in ("greedy", "stochastic"):
        found = None if evaluations is None else evaluations[kind]
        means[f"eval/{kind}_success_rate"] = math.nan if found is None else found.mean_success_rate
        means[f"eval/{kind}_episode_return"] = math.nan if found is None else Evaluation.mean(found.episode_return)
    return means
