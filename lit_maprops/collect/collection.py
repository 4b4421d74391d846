"""Collecting D: a TorchRL collector that steps the environments under the behavior policy, m env steps at a time."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.collectors import Collector

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy, Choice
from lit_maprops.behavior.watched import WatchedBehavior
from lit_maprops.envs import Task, TaskEnv
from lit_maprops.envs.ends import living, only_living
from lit_maprops.envs.remembering import environment
from lit_maprops.targets import TargetPolicies
from lit_maprops.targets.critics import Critic


class BehaviorActor(TensorDictModuleBase):
    """pi_phi as a TorchRL policy that also stores what the updates need of pi_theta.

    The stored ``LOG_PROB`` is pi_theta's: PPO must never read pi_phi's.

    Args:
        policies: the target policies.
        behavior: the behavior policy built on them.
        critic: one that remembers, so that it must see every step, too (``Learner.acting_critic``); None: none does.
        watched: asked for actions instead of the behavior policy, which it watches; None: nobody does.

    Attributes:
        remembered: what policies and critic carry from step to step, for ``envs.remembering.environment``.
    """

    in_keys = [keys.OBSERVATION, keys.STATE]  # noqa: RUF012
    out_keys = [  # noqa: RUF012
        keys.ACTION,
        keys.PARAMETERS,
        keys.LOG_PROB,
        keys.TARGET_LOG_PROB,
        keys.BEHAVIOR_LOG_PROB,
        keys.BEHAVIOR_KL,
    ]

    def __init__(
        self,
        policies: TargetPolicies,
        behavior: BehaviorPolicy,
        critic: Critic | None = None,
        watched: WatchedBehavior | None = None,
    ) -> None:
        super().__init__()
        self.policies, self.behavior, self.critic = policies, behavior, critic
        self._watched = watched
        self.remembered = dict(policies.remembered) | ({} if critic is None else dict(critic.remembered))

    @property
    def asked(self) -> BehaviorPolicy | WatchedBehavior:
        """What is asked for actions."""
        return self.behavior if self._watched is None else self._watched

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``out_keys`` for one vector step ``[R, E]``."""
        parameters = self.policies.advance(tensordict)
        if self.critic is not None:
            self.critic.advance(tensordict)
        present = living(tensordict)
        if present is not None:
            parameters = self.policies.family.idle(parameters, ~present)
        choice = self.asked.choose(tensordict, parameters)
        log_prob = self.policies.family.log_prob(parameters, choice.action)
        if present is not None and choice.action.dim() > present.dim():  # continuous: noise is drawn for all agents
            own = only_living(log_prob, tensordict)
            without = choice.behavior_log_prob - (log_prob - own).sum(-1)
            log_prob, choice = own, Choice(only_living(choice.action, tensordict), without, choice.kl)
        tensordict.set(keys.ACTION, choice.action)
        tensordict.set(keys.PARAMETERS, parameters)
        tensordict.set(keys.LOG_PROB, log_prob)
        tensordict.set(keys.TARGET_LOG_PROB, log_prob.sum(-1))
        tensordict.set(keys.BEHAVIOR_LOG_PROB, choice.behavior_log_prob)
        return tensordict.set(keys.BEHAVIOR_KL, choice.kl)


def update_keys(task: Task) -> tuple[Any, ...]:
    """Keys of D that behavior updates read."""
    names = [keys.OBSERVATION, keys.STATE, keys.ACTION, keys.PARAMETERS]
    names += [keys.STATE_INDEX] if task.numbers_states() else []
    return (*names, keys.END) if task.agents_leave else tuple(names)


def step_bytes(task: Task, remembered: Mapping[Any, tuple[int, int]] = MappingProxyType({})) -> int:
    """What one env step takes in D: the environment's keys, also those under ``"next"``, and ``BehaviorActor``'s.

    Collected parameters, which only a history stores, are counted too.

    Args:
        task: the environment's.
        remembered: as ``BehaviorActor.remembered``.
    """
    env = environment(remembered, task, 0, [0], 1)
    before, after = env.observation_spec, (env.observation_spec, env.reward_spec, env.done_spec)
    specs = [before, env.done_spec, env.action_spec, *after]
    leaves = [leaf for spec in specs for leaf in spec.values(True, True)]
    taken = sum(leaf.shape.numel() * leaf.dtype.itemsize for leaf in leaves)
    # Parameters and collected parameters, log pi_i, three of [R, E].
    numbers = 2 * task.n_agents * task.family.outputs + task.n_agents + 3
    return taken + 4 * numbers


def saved_like(env: TaskEnv, actor: BehaviorActor) -> tuple[dict[str, Any], TensorDictBase]:
    """What a ``Collection`` saves, and one vector step ``[R, E]`` of D: their keys, types and shapes count, not values.

    Args:
        env: an environment of its own; it is stepped once.
        actor: the behavior policy; its action streams move on.
    """
    step = env.step(actor(env.reset()))
    return {"env": env.checkpoint_state(), "carried": carried(env, step)}, step


def carried(env: TaskEnv, step: TensorDictBase) -> dict[str, Any]:
    """What the next vector step starts from; what the actor wrote is written anew."""
    names = [*env.observation_spec.keys(True, True), *env.done_spec.keys(True, True)]
    return step.select(*names).flatten_keys("/").to_dict()


class Collection:
    """An endless collection of batches of m env steps per seed, with the state that a bit-exact resume needs.

    Nothing is prefetched: a batch is collected when it is asked for, after the update on the one before.

    Args:
        env: the training environments, ``[R, E]``.
        actor: the behavior policy.
        behavior_batch_size: m, env steps per seed and batch; a multiple of E.

    Attributes:
        updates: statistics of the behavior updates that the newest batch's collection made, a value ``[R]`` each; as
            ``BehaviorPolicy.update`` returns them. None here: others make them.
        update_seconds: that those took, of the collection's.
    """

    def __init__(self, env: TaskEnv, actor: BehaviorActor, behavior_batch_size: int) -> None:
        self.updates: dict[str, list[Tensor]] = {}
        self.update_seconds = 0.0
        self.env = env
        self._collector = Collector(
            env,
            actor,
            frames_per_batch=behavior_batch_size * env.batch_size[0],
            total_frames=-1,
            trust_policy=True,
            track_traj_ids=False,
            auto_register_policy_transforms=False,
        )
        self._batches: Iterator[TensorDictBase] = iter(self._collector)

    def collect(self) -> TensorDictBase:
        """The next m env steps of every seed, ``[R, m / E, E]``."""
        batch = next(self._batches)
        return batch if batch.shape[1:] == (1, 1) else batch.transpose(1, 2)  # with m = 1 it costs 3% of a small run

    def checkpoint_state(self) -> dict[str, Any]:
        """What ``restore`` needs to continue bit for bit; plain tensors and integers."""
        # TorchRL's own state_dict leaves out the observation it carries from one batch to the next.
        return {"env": self.env.checkpoint_state(), "carried": carried(self.env, self._collector._carrier)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a ``checkpoint_state``."""
        self.env.restore(saved["env"])
        start = TensorDict(saved["carried"], batch_size=self.env.batch_size)
        self._collector._carrier.update(start.unflatten_keys("/").to(self.env.device))

    def close(self) -> None:
        """Release the environments."""
        self._collector.shutdown()
