"""Whether a checkpoint holds all that a run needs to continue, found before anything is written."""

from typing import Any

import torch
from tensordict import TensorDictBase

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.collect import BehaviorActor, saved_like
from lit_maprops.envs.remembering import environment
from lit_maprops.module import LitMAPROPS
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.checkpoint import check_like, own_state, refuse
from lit_maprops.system.errors import check


def check_resumes(module: LitMAPROPS, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint that the prepared module cannot continue: one of another run, or damaged.

    Compares keys, types and shapes with those of one vector step of the module's own, so that its action streams have
    moved on and its behavior policy is pi_theta: load the checkpoint next.

    Raises:
        ConfigError: what differs.
    """
    module.check_checkpoint(checkpoint)
    saved, own_seeds = module.ranks.sliced(own_state(checkpoint)), module.own_seeds
    data, behavior = module.data, module.behavior
    behavior.reset(None)
    own_behavior = behavior.checkpoint_state()  # as between target iterations; a step can add to it
    actor = BehaviorActor(module.learner.policies, behavior, module.learner.acting_critic())
    env = environment(actor.remembered, module.task, module.run_seed, own_seeds, data.num_envs)
    collection, step = saved_like(env, actor)
    buffer = Buffer(data.target_batch_size // data.num_envs, data.stored_batches)
    retained = _check_buffer(saved.get("buffer"), buffer, step)
    check_like(saved.get("collection"), collection, "collection")
    check_like(saved.get("behavior"), own_behavior, "behavior", retained * data.num_envs)
    check_like(saved.get("learner"), module.learner.checkpoint_state(), "learner")
    streams = SeedStreams(module.run_seed, own_seeds, "sampling error")
    check_like(saved.get("metric_streams"), streams.state_dict(), "metric_streams")
    quarantined = saved.get("quarantined")
    kinds = {"seed": 0, "env_step": 0, "reason": ""}
    check_like(quarantined, [kinds] * len(quarantined if isinstance(quarantined, list) else []), "quarantined")
    check_like(saved.get("running_return"), step.get(("next", *keys.REWARD)).squeeze(-1), "running_return")
    optimizers = [optimizer.state_dict() for optimizer in module.configure_optimizers()]
    check_like(module.ranks.sliced(checkpoint["optimizer_states"]), optimizers, "optimizer_states")


def _check_buffer(saved: Any, own: Buffer, step: TensorDictBase) -> int:
    """Refuse a D that is damaged, or of other batches.

    Args:
        saved: from a checkpoint.
        own: an empty one of this run.
        step: one vector step, ``[R, E]``.

    Returns:
        Vector steps in it.
    """
    counts = {"stored_batches": 0, "filled": 0}
    given: Any = {name: saved.get(name) for name in counts} if isinstance(saved, dict) else saved
    check_like(given, counts, "buffer")
    used = given["stored_batches"] + int(given["filled"] > 0)
    shape = [step.shape[0], used, own.steps, step.shape[1]] if used else []
    parameters = "/".join(keys.COLLECTED_PARAMETERS)
    if own.history_batches > 1:
        step = step.copy().set(keys.COLLECTED_PARAMETERS, step.get(keys.PARAMETERS))
        check(
            not used or not isinstance(saved.get("storage"), dict) or parameters in saved["storage"],
            "<ckpt_path> holds the history of an earlier version of lit_maprops: start the run anew",
        )
    storage = {
        name: torch.empty(*shape, *value.shape[2:], dtype=value.dtype, device="meta")
        for name, value in (step.flatten_keys("/").items() if used else ())
    }
    check_like(saved, counts | {"storage": storage}, "buffer")
    refuse("buffer/filled", unless=given["filled"] <= own.steps)
    return given["stored_batches"] * own.steps + given["filled"]
