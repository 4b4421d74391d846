"""Collecting D in torch without TorchRL: the steps of ``Collection`` bit for bit, without its cost at every one.

A vector step of small networks costs a collector, its TensorDicts and its specs as much again as the environment and
the policies. Here pi_theta's weights are laid out once for as long as they stay the same, random numbers are drawn for
all steps at once, and what no next step depends on is computed after the last one.
"""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, OnPolicy
from lit_maprops.collect.collection import BehaviorActor, carried
from lit_maprops.collect.native_call import Batch
from lit_maprops.envs import BoulderPush, Coordination, Foraging, MatrixGame, Task, TaskEnv, TMaze
from lit_maprops.stacked.mlp import split_layers
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.targets import TargetPolicies

# Tasks whose steps are functions of tensors, with nothing kept in Python.
PURE: frozenset[type[Task]] = frozenset({BoulderPush, Coordination, Foraging, MatrixGame, TMaze})
FLAGS = (keys.SUCCESS, keys.DONE, keys.TERMINATED, keys.TRUNCATED)
Seen = tuple[Tensor, Tensor, Tensor | None]  # observations, global state, its number


def serves(env: TaskEnv, actor: BehaviorActor, team: int = 1) -> bool:
    """Whether a ``PlainCollection`` does what a ``Collection`` does; what is somebody's own keeps the latter.

    Args:
        env: the training environments.
        actor: the behavior policy.
        team: ranks that share the environments of a seed.
    """
    return (
        type(env) is TaskEnv
        and type(env.task) in PURE
        and type(actor) is BehaviorActor
        and type(actor.policies) is TargetPolicies
        and type(actor.behavior) in BEHAVIORS.values()
        and env.device.type == "cpu"
        and team == 1
    )


class PlainCollection:
    """As ``Collection``, for what ``serves`` says.

    Args:
        env: the training environments, ``[R, E]``.
        actor: the behavior policy.
        behavior_batch_size: m, env steps per seed and batch; a multiple of E.
    """

    def __init__(self, env: TaskEnv, actor: BehaviorActor, behavior_batch_size: int) -> None:
        self.updates: dict[str, list[Tensor]] = {}
        self.update_seconds = 0.0
        self.env, self.behavior = env, actor.behavior
        seeds, self._envs = env.batch_size
        self._steps = behavior_batch_size // self._envs
        self._batch = Batch(env.task, seeds, self._steps, self._envs)
        data = self._batch.data.select(keys.OBSERVATION, keys.STATE, keys.STATE_INDEX, strict=False)
        self._seen = data.unbind(1)  # of each vector step, as behavior policies read it
        self._policies = _Policies(actor.policies)
        actor(env.reset())  # TorchRL's collector draws once to see what an actor writes
        self._now: Seen | None = None  # None: to be looked at

    @torch.no_grad()
    def collect(self) -> TensorDictBase:
        """The next m env steps of every seed, ``[R, m / E, E]``, in memory that the next call uses again."""
        env, task, arrays = self.env, self.env.task, self._batch.arrays
        noise = env.streams.several(self._steps, self._envs, task.step_noise + task.start_noise).unbind(1)
        self._policies.renew()
        choose = self._chooser()
        now = env.look() if self._now is None else self._now
        steps: list[dict[str, Tensor]] = []
        for step in range(self._steps):
            self._show(step, now)
            parameters = self._policies(now[0])
            chosen = choose(step, parameters)
            outcome = env.play(chosen["action"], noise[step])
            following = now = env.look()
            if outcome["done"].any():
                env.begin(outcome["done"])
                now = env.look()
            after = zip(("next_observation", "next_everything", "next_index"), following, strict=True)
            steps.append(outcome | chosen | {"parameters": parameters} | {k: v for k, v in after if v is not None})
        self._now = now
        if env._next_start_noise is not None:  # a view of all that was drawn, which a checkpoint would hold
            env._next_start_noise = env._next_start_noise.clone()
        for name in steps[0]:
            values = torch.stack([values[name] for values in steps], 1)
            arrays[name].copy_(values.view(arrays[name].shape))
        self._finish(arrays, "behavior_kl" in steps[0])
        return self._batch.data

    def _show(self, step: int, seen: Seen) -> None:
        arrays, (observation, state, index) = self._batch.arrays, seen
        arrays["observation"][:, step] = observation
        arrays["everything"][:, step] = state
        if index is not None:
            arrays["index"][:, step] = index.unsqueeze(-1)

    def _chooser(self) -> Callable[[int, Tensor], dict[str, Tensor]]:
        """What chooses the actions of a step by pi_theta's parameters ``[R, E, A, K]``."""
        behavior, family = self.behavior, self.behavior.family
        if isinstance(behavior, OnPolicy) and behavior.draws_each_agent():
            source, seen = behavior.source, self._seen
            fresh = behavior.action_streams.several(self._steps, *source.fresh_shape(self._envs)).unbind(1)
            return lambda step, parameters: {
                "action": family.sample(parameters, source.arranged(fresh[step], seen[step]))
            }

        def chosen(step: int, parameters: Tensor) -> dict[str, Tensor]:
            choice = behavior.choose(self._seen[step], parameters)
            return {"action": choice.action, "behavior_log_prob": choice.behavior_log_prob, "behavior_kl": choice.kl}

        return chosen

    def _finish(self, arrays: dict[str, Tensor], chosen: bool) -> None:
        """What follows from actions and parameters; ``chosen``: pi_phi has told of itself."""
        family, parameters = self.behavior.family, arrays["parameters"]
        arrays["log_prob"].copy_(family.log_prob(parameters, arrays["action"]))
        arrays["target_log_prob"].copy_(arrays["log_prob"].sum(-1))
        if not chosen:  # pi_phi is pi_theta
            arrays["behavior_log_prob"].copy_(arrays["target_log_prob"])
            arrays["behavior_kl"].copy_(family.kl_divergence(parameters, parameters).sum(-1))

    def checkpoint_state(self) -> dict[str, Any]:
        """As ``Collection.checkpoint_state``: either restores the other's."""
        off = torch.zeros(self.env.batch_size, dtype=torch.bool)
        shown = self.env._shown(**{flag: off for flag in FLAGS})
        return {"env": self.env.checkpoint_state(), "carried": carried(self.env, shown)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a ``checkpoint_state``, of a ``Collection`` or of this."""
        self.env.restore(saved["env"])
        self._now = None

    def close(self) -> None:
        """Release the environments."""
        self.env.close()


class _Policies:
    """pi_theta of one vector step after the other, with what depends on its weights alone computed once.

    Args:
        policies: whose parameters may change in place, and move, between calls of ``renew``.
    """

    def __init__(self, policies: TargetPolicies) -> None:
        self._whole, self._at = policies, (0, 0)
        net = policies.net
        self._packs = type(net) is StackedMLP and len(net.stack) == 2 and len(net.shapes) > 1

    def renew(self) -> None:
        """Look at the weights; who writes to them where torch does not see it calls ``increment_version``."""
        net = self._whole.net
        at = net.flat.data_ptr(), net.flat._version
        if self._packs and at != self._at:
            assert isinstance(net, StackedMLP)
            self._at = at
            layers = [
                (w.contiguous(), b)
                for w, b in split_layers(net.flat.detach().flatten(0, -2), net.shapes)
                if b is not None
            ]
            # As ``mlp.forward`` has them.
            offsets = [bias if place == 0 else weight.sum(2) + bias for place, (weight, bias) in enumerate(layers)]
            self._layers = [(weight, offset) for (weight, _), offset in zip(layers, offsets, strict=True)]

    def __call__(self, observation: Tensor) -> Tensor:
        """``keys.PARAMETERS`` ``[R, E, A, K]`` of observations ``[R, E, A, O]``."""
        policies = self._whole
        if not self._packs:
            return policies.distribution_parameters(observation)
        x = observation.transpose(1, 2).flatten(0, 1).float()
        (first, bias), *hidden, (last, offset) = self._layers
        x = torch.baddbmm(bias.unsqueeze(1), x, first.mT, beta=-2, alpha=-2).sigmoid_()
        for weight, shift in hidden:
            x = torch.baddbmm(shift.unsqueeze(1), x, weight.mT, beta=-2, alpha=4).sigmoid_()
        outputs = torch.baddbmm(offset.unsqueeze(2), last, x.mT, alpha=-2).mT
        outputs = outputs.unflatten(0, policies.net.stack).transpose(1, 2)
        return policies.family.from_outputs(outputs, policies.initial_std)
