"""Drawing independent batches at a fixed theta: every seed is repeated, one entry per batch, all side by side."""

import copy
from collections.abc import Iterator

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.analyze.subject import Sampler, Subject
from lit_maprops.behavior import BehaviorPolicy, OnPolicy
from lit_maprops.buffer import Buffer
from lit_maprops.collect import BehaviorActor, Collection, update_keys
from lit_maprops.envs.remembering import environment
from lit_maprops.metrics.gradients import Reference, policy_gradient
from lit_maprops.metrics.importance import episodes_of, return_estimates

STEPS_AT_ONCE = 2**17  # steps of all batches that are drawn side by side
# Numbers of batches start here, beyond every seed of a run: no batch reads a stream that training read.
FIRST_BATCH, FIRST_REFERENCE_BATCH = 2**64, 2**96


def entry_ids(seed_ids: list[int], first: int, batches: range) -> list[int]:
    """Numbers of the entries whose streams the batches read, seed by seed: ``len(seed_ids) * len(batches)``."""
    return [first * (batch + 1) + seed for seed in seed_ids for batch in batches]


def draw(
    subject: Subject, sampler: Sampler, batches: int, steps: int, first: int = FIRST_BATCH
) -> tuple[Tensor, dict[str, Tensor]]:
    """Policy gradients ``[R, K, P]`` and ``return_estimates`` ``[R, K]`` of K independent batches of a sampler.

    Every batch starts with a reset of its environments. With history, D holds the checkpoint's older batches too: the
    sampler corrects them, and gradient and returns are those of all of D. Of low-discrepancy draws the checkpoint's own
    go on in the states of those batches; others do not know which numbers were drawn from there.

    Args:
        subject: the checkpoint.
        sampler: collects.
        batches: K.
        steps: n, env steps per seed and batch; a multiple of m.
        first: which streams are read; equal for all samplers, so that they meet the same chances of the environment.
    """
    gradients, estimates = [], []
    for part in _parts(subject, batches, steps):
        data = _collect(subject, sampler, entry_ids(subject.seed_ids, first, part), len(part), steps)
        gradients.append(_gradients(subject, data, len(part)))
        estimates.append(_returns(subject, data, len(part)))
    return torch.cat(gradients, 1), {name: torch.cat([e[name] for e in estimates], 1) for name in estimates[0]}


def on_policy_reference(subject: Subject, batches: int, steps: int) -> Reference:
    """Mean gradient and return of on-policy batches without history; arguments as ``draw``."""
    subject = subject._replace(retained=None)
    count = 0
    mean = squares = torch.zeros(())
    returns = []
    for part in _parts(subject, batches, steps):
        ids = entry_ids(subject.seed_ids, FIRST_REFERENCE_BATCH, part)
        data = _collect(subject, Sampler(OnPolicy()), ids, len(part), steps)
        gradients = _gradients(subject, data, len(part)).double()
        # Running mean and squared distances (Chan et al. 1983): the batches need not be kept.
        own = gradients.mean(1)
        within = (gradients - own.unsqueeze(1)).square().sum((1, 2))
        shift = own - mean
        squares = squares + within + shift.square().sum(-1) * (count * len(part) / (count + len(part)))
        mean = mean + shift * (len(part) / (count + len(part)))
        count += len(part)
        returns.append(_returns(subject, data, len(part))["monte_carlo"])
    finished = torch.cat(returns, 1)
    error = finished.var(1) / count
    return Reference(mean.float(), squares / ((count - 1) * count), finished.nanmean(1), error, count)


def _parts(subject: Subject, batches: int, steps: int) -> Iterator[range]:
    """The batches in groups that fit side by side; what a batch is does not depend on its group."""
    at_once = max(1, STEPS_AT_ONCE // (len(subject.seed_ids) * steps))
    for start in range(0, batches, at_once):
        yield range(start, min(batches, start + at_once))


def _collect(subject: Subject, sampler: Sampler, ids: list[int], times: int, steps: int) -> TensorDictBase:
    """One batch per entry, ``[R * times, T, E]``, as a target iteration collects it."""
    task, run_seed, envs = subject.task, subject.run_seed, subject.num_envs
    policies, critic = subject.learner.policies.repeated(times), subject.learner.acting_critic()
    behavior = copy.deepcopy(sampler.template)
    behavior.build(task, run_seed, ids)
    behavior.follow(subject.learner, times)
    if sampler.trained is not None:
        _take_over(behavior, sampler.trained, times)
    behavior.reset(None)
    starts = [seed for seed in subject.seed_ids for _ in range(times)]
    actor = BehaviorActor(policies, behavior, None if critic is None else critic.repeated(times))
    env = environment(actor.remembered, task, run_seed, ids, envs, "analysis environment", start_ids=starts)
    at_once = subject.behavior_batch_size if behavior.adapts else steps
    collection = Collection(env, actor, at_once)
    _begin(subject, sampler, behavior, times)  # only now: the collector has drawn once, which D does not hold
    buffer = Buffer(steps // envs)
    while not buffer.is_full:
        collected = collection.collect()
        buffer.extend(collected)
        if not buffer.is_full:
            behavior.extend(collected.select(*update_keys(subject.task)).flatten(1, 2))
            behavior.update(measure=False)
    collection.close()
    return buffer.current()


def _begin(subject: Subject, sampler: Sampler, behavior: BehaviorPolicy, times: int) -> None:
    """Let D hold what the checkpoint retains of older batches, if anything."""
    behavior.reset(None)
    if subject.retained is None:
        return
    if sampler.trained is not None:
        behavior.source.take_over(sampler.trained.source, times)
    old = subject.retained.select(*update_keys(subject.task)).flatten(1, 3)
    batch_size = [len(old) * times, old.shape[1]]
    behavior.reset(old.apply(lambda value: value.repeat_interleave(times, 0), batch_size=batch_size))


@torch.no_grad()
def _take_over(behavior: BehaviorPolicy, trained: BehaviorPolicy, times: int) -> None:
    """Parameters and Adam moments of ``trained``, ``times`` times in a row."""
    for mine, theirs in zip(behavior.parameters(), trained.parameters(), strict=True):
        mine.copy_(theirs.repeat_interleave(times, 0))
        if behavior.optimizer is not None and trained.optimizer is not None:
            for name, moment in trained.optimizer.state[theirs].items():
                behavior.optimizer.state[mine][name].copy_(moment.repeat_interleave(times, 0))


def _gradients(subject: Subject, data: TensorDictBase, times: int) -> Tensor:
    """Of D with each of the batches, ``[R, times, P]``."""
    learner, n_seeds = subject.learner, len(subject.seed_ids)
    by_seed = data.unflatten(0, (n_seeds, times))  # [R, K, T, E]: the critic's seeds, batches apart
    advantage = learner.advantages(by_seed).flatten(2, 3).flatten(0, 1)  # [R * K, B, A]
    steps = learner.policies.rows(data.flatten(1, 2).set(keys.ADVANTAGE, advantage), data)
    new = policy_gradient(learner.policies.repeated(times), steps, steps.get(keys.ADVANTAGE))
    new = new.unflatten(0, (n_seeds, times))
    if subject.retained is None:
        return new
    old_data = subject.retained
    old = policy_gradient(
        learner.policies, old_data.flatten(1, 3), learner.advantages(old_data).flatten(1, 3)
    ).unsqueeze(1)
    old_steps, steps = old_data[0].numel(), data[0].numel()
    return (old * old_steps + new * steps) / (old_steps + steps)


def _returns(subject: Subject, data: TensorDictBase, times: int) -> dict[str, Tensor]:
    """``return_estimates`` of D with each of the batches, ``[R, times]``."""
    parts = [episodes_of(data, from_start=True)]
    if subject.retained is not None:
        # Batches follow each other in time; where the first begins, an episode may be under way.
        stream = subject.retained.flatten(1, 2).apply(lambda value: value.repeat_interleave(times, 0), batch_size=[])
        stream.batch_size = stream.get(keys.TARGET_LOG_PROB).shape
        parts.append(episodes_of(stream, from_start=subject.task.max_steps == 1))
    return {name: value.unflatten(0, (-1, times)) for name, value in return_estimates(*parts).items()}
