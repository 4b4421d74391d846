"""What a bit-exact resume needs beyond parameters and optimizers: tensors and plain types, for a checkpoint.

Every tensor starts with the seed dimension, so that ranks can join theirs and take their own. ``module`` is always a
prepared ``LitMAPROPS``, which imports this file.
"""

from typing import Any


def identity_of(module: Any) -> dict[str, Any]:
    """Which run it is: a checkpoint of another one cannot be continued."""
    data = module.data
    return {
        "seed_ids": module.seed_ids,
        "run_seed": module.run_seed,
        "shape": [data.num_envs, data.target_batch_size, data.history_batches],
        "identity": module.identity,
    }


def state_of(module: Any) -> dict[str, Any]:
    """Where the run stands, between two target iterations."""
    return identity_of(module) | {
        "iteration": module.iteration,
        "collection": module.collection.checkpoint_state(),
        "buffer": module.buffer.state_dict(),
        "behavior": module.behavior.checkpoint_state(),
        "learner": module.learner.checkpoint_state(),
        "metric_streams": module.metric_streams.state_dict(),
        "running_return": module.running_return,
        "quarantined": module.quarantined,
    }


def restore(module: Any, saved: dict[str, Any]) -> None:
    """Continue from a ``state_of``, once the collection is there."""
    module.collection.restore(saved["collection"])
    module.buffer.load_state_dict(saved["buffer"], module.device)
    module.behavior.restore(saved["behavior"])
    module.learner.restore(saved["learner"])
    retained = module.retained()
    if retained is not None:
        module.behavior.reset(retained)
    module.metric_streams.load_state_dict(saved["metric_streams"])
    module.running_return = saved["running_return"].to(module.device)
