"""A ``JointSampler`` as a TorchRL policy: what a collector calls at every vector step."""

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import InteractionType, TensorDictModuleBase
from tensordict.nn.probabilistic import interaction_type
from torch import Tensor

from lit_maprops.samplers.joint_sampler import JointSampler
from lit_maprops.system.errors import check


class SampledPolicy(TensorDictModuleBase):
    """Discrete target policies, sampled by a ``JointSampler``; give it to the collector, and the actors to the loss.

    At the start of a vector step it calls ``sampler.update()`` if m env steps are new in D, so that a full batch, after
    which the loop calls ``sampler.reset()``, gets no update: Algorithm 1 of arXiv 2508.01049. A collector may try its
    policy when it is made: call ``sampler.reset()`` once it is. The log-probability written is log pi_theta_i, which is
    what TorchRL's PPO losses want of a collector. Under a deterministic ``set_exploration_type`` every agent takes
    its most probable action and the sampler knows nothing of it.

    Args:
        logits: the target policies' networks, which write ``logits_key``: logits of every agent ``[*B, A, N]``.
        sampler: of E environments, the product of ``*B``, the environments' batch size.
        behavior_batch_size: m, env steps of all E environments between updates; a multiple of E.
        logits_key: see ``logits``.
        action_key: numbers of the actions are written there, ``[*B, A]`` int64.
        log_prob_key: log pi_theta_i of the actions is written there, ``[*B, A]`` (nats).
        observation_key: local observations ``[*B, A, O]``, for the sampler.
        state_key: global states ``[*B, S]``; None: the observations of all agents side by side.
        mask_key: which actions are legal, ``[*B, A, N]`` bool; None: all.

    Attributes:
        statistics: what the newest ``sampler.update`` returned.

    Raises:
        ConfigError: m is no multiple of E, or the sampler draws continuous actions.
    """

    def __init__(
        self,
        logits: TensorDictModuleBase,
        sampler: JointSampler,
        *,
        behavior_batch_size: int,
        logits_key: NestedKey = ("agents", "logits"),
        action_key: NestedKey = ("agents", "action"),
        log_prob_key: NestedKey = ("agents", "action_log_prob"),
        observation_key: NestedKey = ("agents", "observation"),
        state_key: NestedKey | None = None,
        mask_key: NestedKey | None = None,
    ) -> None:
        super().__init__()
        envs = sampler.num_envs
        check(
            behavior_batch_size >= 1 and behavior_batch_size % envs == 0,
            f"behavior_batch_size is {behavior_batch_size}: give a multiple of the sampler's num_envs {envs}",
        )
        check(not sampler.continuous, "sampler draws continuous actions: write a policy that calls act() and observe()")
        self.logits, self.sampler, self.steps_per_update = logits, sampler, behavior_batch_size // envs
        self.logits_key, self.action_key, self.log_prob_key = logits_key, action_key, log_prob_key
        self.observation_key, self.state_key, self.mask_key = observation_key, state_key, mask_key
        read = [observation_key, state_key, mask_key]
        self.in_keys = list(dict.fromkeys([*logits.in_keys, *(key for key in read if key is not None)]))
        self.out_keys = [*logits.out_keys, action_key, log_prob_key]
        self.statistics: dict[str, float] = {}

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the logits, the actions and log pi_theta_i of one vector step ``[*B]``."""
        logits = self.logits(tensordict).get(self.logits_key)
        if self.mask_key is not None:
            logits = logits.masked_fill(~tensordict.get(self.mask_key), -torch.inf)
        log_probs = logits.log_softmax(-1)
        if interaction_type() in (None, InteractionType.RANDOM):
            action, log_prob = self._drawn(tensordict, log_probs)
        else:
            action = log_probs.argmax(-1)
            log_prob = log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        return tensordict.set(self.action_key, action).set(self.log_prob_key, log_prob)

    def _drawn(self, tensordict: TensorDictBase, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and log pi_theta_i, both ``[*B, A]``, of one step that D takes in."""
        batch = log_probs.shape[:-2]
        rows = max(1, batch.numel())
        observation = tensordict.get(self.observation_key)
        observation = observation.reshape(rows, *observation.shape[len(batch) :])
        if self.state_key is None:
            state = observation.flatten(1)
        else:
            state = tensordict.get(self.state_key).reshape(rows, -1)
        if self.sampler.new_steps >= self.steps_per_update:
            self.statistics = self.sampler.update(measure=False)
        self.sampler.act(state, log_probs.reshape(rows, *log_probs.shape[-2:]), observation)
        self.sampler.observe()
        drawn = self.sampler.drawn
        assert drawn is not None
        return drawn.action.reshape(*batch, -1), drawn.log_prob.reshape(*batch, -1)
