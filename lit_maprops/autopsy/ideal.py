"""A target update redone with an ideal batch: one without sampling error, as far as that can be had.

Of a one-step game REINFORCE's expected gradient is exact, every joint action weighs what pi_theta gives it. Elsewhere
the batch has many times the n env steps, drawn from pi_theta afresh from where the environments stood, and the learner
takes as many gradient steps on it as on its own; in one-step games the draws are spread evenly (low-discrepancy).
"""

import torch
from tensordict import TensorDictBase

from lit_maprops.autopsy.branches import IDEAL, MOST_BRANCHES, branch_ids
from lit_maprops.autopsy.case import Case
from lit_maprops.autopsy.replica import Replica, State, replica
from lit_maprops.behavior import OnPolicy
from lit_maprops.buffer import Buffer
from lit_maprops.collect import BehaviorActor, Collection, NativeCollection, unsupported
from lit_maprops.envs.remembering import environment
from lit_maprops.metrics.gradients import exact_reference
from lit_maprops.system.checkpoint import CHECKPOINT_KEY
from lit_maprops.targets import Reinforce

TIMES = 64  # n
PURPOSE = "ideal"


def is_exact(case: Case) -> bool:
    """Whether the ideal update needs no draws."""
    model = replica(case, case.seeds[:1], case.seeds[:1])
    return _exact(model)


def redone(case: Case, before: State, after: State, seeds: list[int], times: int = TIMES) -> State:
    """``after`` as it would be had its update learned from an ideal batch.

    Args:
        case: the run.
        before: state of ``seeds`` before the update.
        after: the same after it: where the environments stand and phi, which the update does not change.
        seeds: of the run, each once.
        times: env steps of the ideal batch, in n.
    """
    model = _at(case, before, seeds)
    _update(model, times)
    ideal = model.state()
    learner = {name: value for name, value in ideal["state_dict"].items() if name.startswith("learner.")}
    optimizers = [ideal["optimizer_states"][0], *after["optimizer_states"][1:]]
    return after | {"state_dict": {**after["state_dict"], **learner}, "optimizer_states": optimizers}


def run_out(case: Case, before: State, seeds: list[int], times: int = TIMES) -> list[bool]:
    """Whether each seed ends solved if every update from here to the run's end learns from an ideal batch.

    Drawn batches all begin where the seeds' environments stand in ``before``.
    """
    model = _at(case, before, seeds)
    while model.iteration < model.data.iterations:
        _update(model, times)
        model.iteration += 1
    return [bool(well) for well in case.solved(model.evaluate("evaluation", model.eval_episodes)["greedy"])]


def _at(case: Case, state: State, seeds: list[int]) -> Replica:
    model = replica(case, _ids(seeds, state[CHECKPOINT_KEY]["iteration"]), seeds)
    model.branch_from(state)
    return model


def _ids(seeds: list[int], iteration: int) -> list[int]:
    """Whose streams the ideal batch after ``iteration`` reads."""
    return branch_ids(seeds, iteration, IDEAL, range(MOST_BRANCHES - 1, MOST_BRANCHES))


def _exact(model: Replica) -> bool:
    return type(model.learner) is Reinforce and exact_reference(model.learner.policies, model.task) is not None


def _update(model: Replica, times: int) -> None:
    """One ideal update of all seeds."""
    learner = model.learner
    learner.anneal(model.iteration / model.data.iterations)
    if not _exact(model):
        buffer = Buffer(model.buffer.steps)
        buffer.extend(_batch(model, times))
        learner.update(buffer)
        return
    reference = exact_reference(learner.policies, model.task)
    assert reference is not None
    flat = learner.policies.net.flat
    learner.optimizer.zero_grad()
    flat.grad = -reference.gradient.view_as(flat)
    learner.step_optimizer()


@torch.no_grad()
def _batch(model: Replica, times: int) -> TensorDictBase:
    """n * ``times`` on-policy env steps of every seed, ``[R, T, E * times]``, from where its environments stand."""
    task, data, seeds, policies = model.task, model.data, model.own_seeds, model.learner.policies
    behavior = OnPolicy("low_discrepancy" if task.max_steps == 1 else "independent")
    purposes = f"{PURPOSE} {model.iteration}"
    assert model.start_ids is not None  # the run's own seeds
    behavior.build(task, model.run_seed, _ids(model.start_ids, model.iteration))  # else every update draws the same
    envs = data.num_envs * times
    actor = BehaviorActor(policies, behavior, model.learner.acting_critic())
    place = task, model.run_seed, seeds, envs, f"{purposes} environment"
    env = environment(actor.remembered, *place, start_ids=model.start_ids)
    reason = unsupported(task, policies, behavior, env.device, critic=actor.critic)
    kind = Collection if reason else NativeCollection
    collection = kind(env, actor, data.target_batch_size * times)
    stands = model.collection.checkpoint_state()
    stands["env"].pop("next_start_noise", None)
    rows = {"state": stands["env"]["state"], "carried": stands["carried"]}
    rows = {name: {k: v.repeat_interleave(times, 1) for k, v in part.items()} for name, part in rows.items()}
    fresh = collection.checkpoint_state()["env"]["streams"]
    collection.restore({"env": {"state": rows["state"], "streams": fresh}, "carried": rows["carried"]})
    behavior.reset(None)
    batch = collection.collect().clone()
    if isinstance(collection, Collection):
        collection.close()
    return batch
