"""Collecting D with a compiled kernel, ``rollout.cpp``: the draws and the keys of ``Collection``, without TorchRL."""

import math
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, BehaviorPolicy
from lit_maprops.behavior.draws import StratifiedDraws
from lit_maprops.behavior.low_discrepancy_draws import LowDiscrepancyDraws
from lit_maprops.collect.collection import BehaviorActor, carried
from lit_maprops.collect.native_call import (
    ACT,
    ASKED,
    CHOOSE,
    DRAWS,
    LOOK,
    TASKS,
    Batch,
    Game,
    Rollout,
    behavior_number,
)
from lit_maprops.collect.native_networks import ActingNetworks, Weights
from lit_maprops.collect.native_sequences import NativeSequences
from lit_maprops.envs import State, Task, TaskEnv
from lit_maprops.native.build import run, why_none
from lit_maprops.native.networks import unknown
from lit_maprops.native.threads import worker_threads
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.targets import TargetPolicies
from lit_maprops.targets.critics import Critic
from lit_maprops.targets.memory import (
    RecurrentAgentSpecificCritic,
    RecurrentCentralCritic,
    RecurrentIndependentCritic,
    RecurrentPolicies,
)

SHARED_FROM = 256  # env steps per call from which seeds are shared out to threads; below, starting one takes longer


def unsupported(
    task: Task,
    policies: TargetPolicies,
    behavior: BehaviorPolicy,
    device: torch.device,
    team: int = 1,
    critic: Critic | None = None,
) -> str | None:
    """Why a ``NativeCollection`` cannot serve; None: it can.

    Args:
        task: of the run; a subclass of a native task may have changed its rules.
        policies: pi_theta.
        behavior: pi_phi.
        device: where tensors live.
        team: ranks that share the environments of a seed.
        critic: as that of ``BehaviorActor``.
    """
    native = TASKS.get(type(task))
    if native is None:
        return f"{type(task).__name__} has no compiled rules"
    if type(policies) not in (TargetPolicies, RecurrentPolicies):
        return f"{type(policies).__name__} are policies of your own"
    if reason := unknown(policies.net, "policies are") or _unknown_critic(policies, critic):
        return reason
    if not behavior.discrete:
        return f"{type(behavior).__name__} is for continuous actions"
    if device.type != "cpu":
        return f"the kernels are for the CPU, and the run is on {device}"
    if team > 1:
        return f"{team} ranks share the environments of a seed"
    return native.why_not(task) or why_none()


def _unknown_critic(policies: TargetPolicies, critic: Critic | None) -> str | None:
    if critic is None:
        return None
    if isinstance(critic, RecurrentAgentSpecificCritic):
        return "the kernel knows critics that remember the state or observations, not both"
    if type(critic) not in (RecurrentIndependentCritic, RecurrentCentralCritic):
        return f"{type(critic).__name__} is a critic of your own"
    if isinstance(critic, RecurrentIndependentCritic) and len(critic.net.stack) != len(policies.net.stack):
        return "either policies or critics share their parameters, and the kernel knows both or neither"
    return unknown(critic.net, "the critic is")


class NativeCollection:
    """As ``Collection``, for what ``unsupported`` has nothing against: the same numbers up to rounding.

    A draw that falls between two roundings of a cumulative probability gives another action. Behavior policies that
    the kernel does not know are asked in torch, at every vector step. Native tasks break no rules and give finite
    numbers: nothing is watched.

    Args:
        env: the training environments, ``[R, E]``, which play on from where this stands once it is restored.
        actor: the behavior policy.
        behavior_batch_size: m, env steps per seed and batch; a multiple of E.
    """

    def __init__(self, env: TaskEnv, actor: BehaviorActor, behavior_batch_size: int) -> None:
        self.updates: dict[str, list[Tensor]] = {}
        self.update_seconds = 0.0
        self.env, self.behavior, self._actor = env, actor.behavior, actor
        self._task, self._env_steps = env.task, behavior_batch_size
        seeds, envs = env.batch_size
        self._call = call = Rollout()
        self._game = Game(call, env.task, seeds, envs, env.fixed_start_noise)
        call.steps = self._steps = behavior_batch_size // envs
        self._batch = Batch(env.task, seeds, self._steps, envs, actor.remembered)
        self._batch.enter(call)
        self._networks = ActingNetworks(call, self._batch.data, actor.policies, actor.critic)
        self._delta: Weights | None = None
        self._sequences: NativeSequences | None = None
        self._noise_count = envs * (env.task.step_noise + env.task.start_noise)
        self._over_threads = seeds * behavior_batch_size >= SHARED_FROM
        call.threads, call.phases = 1, LOOK | CHOOSE | ACT
        self._enter_behavior()
        actor(env.reset())  # TorchRL's collector draws once to see what an actor writes
        self._own_state(env.checkpoint_state())

    def _enter_behavior(self) -> None:
        behavior, call, envs = self.behavior, self._call, self._call.envs
        call.behavior, source = behavior_number(behavior), behavior.source
        self._drawn_count = envs * math.prod(source.columns) * source.layers(envs)
        if call.behavior != ASKED and (envs > 1 or DRAWS[type(source)] != DRAWS[StratifiedDraws]):
            call.draws = DRAWS[type(source)]
        if isinstance(source, LowDiscrepancyDraws) and call.behavior != ASKED:
            self._sequences = NativeSequences(source, call)
        if isinstance(behavior, MAPROPS) and call.behavior != ASKED:
            assert isinstance(behavior.net, StackedMLP)  # ``behavior_number`` says so of others
            self._delta = Weights(behavior.net, behavior.net.shapes, call.delta, False)
        elif call.behavior == ASKED:
            data = self._batch.data.select(keys.OBSERVATION, keys.STATE, keys.STATE_INDEX, strict=False)
            self._seen = data.unbind(1)  # of each vector step

    def _own_state(self, saved: dict[str, Any]) -> None:
        """Let the kernel step the state of ``env`` in place, from a ``checkpoint_state`` of it."""
        self.env.restore(saved | {"state": _copied(saved["state"])})
        self._game.enter(self.env.state)
        # Where the noise of the newest vector steps lies; None: ``env`` knows what comes next.
        self._noise: tuple[Tensor, int] | None = None

    def collect(self) -> TensorDictBase:
        """The next m env steps of every seed, ``[R, m / E, E]``, in memory that the next call uses again."""
        call, env = self._call, self.env
        self._noise = noise, first = env.streams.reserve(self._steps, self._noise_count)
        call.noise, call.noise_seed = at, _ = noise.data_ptr() + 4 * first, noise.shape[1]
        if self._over_threads:
            call.threads = worker_threads()
        self._networks.renew()
        if call.behavior == ASKED:
            self._ask(at)
        else:
            uniform, first = self.behavior.action_streams.reserve(self._steps, self._drawn_count)
            call.uniform, call.uniform_seed = uniform.data_ptr() + 4 * first, uniform.shape[1]
            if self._delta is not None:
                self._delta.renew()
            if self._sequences is not None:
                self._sequences.renew(self._steps * call.envs)
            self._run()
            if self._sequences is not None:
                self._sequences.done(self._steps * call.envs)
            env.faults.env_steps += self._env_steps
        return self._batch.data

    def _run(self) -> None:
        run("rollout", self._call)

    @torch.no_grad()
    def _ask(self, noise: int) -> None:
        """Step by step, with the behavior policy's own ``choose``; ``noise`` is where the steps' lies."""
        call, arrays, faults = self._call, self._batch.arrays, self.env.faults
        call.steps = 1
        for step, seen in enumerate(self._seen):
            call.first, call.noise, call.phases = step, noise + 4 * step * self._noise_count, LOOK
            run("rollout", call)
            self._networks.renew()
            choice = self._actor.asked.choose(seen, arrays["parameters"][:, step])
            arrays["action"][:, step] = choice.action
            arrays["behavior_log_prob"][:, step] = choice.behavior_log_prob
            arrays["behavior_kl"][:, step] = choice.kl
            call.phases = ACT
            run("rollout", call)
            faults.env_steps += call.envs

    def checkpoint_state(self) -> dict[str, Any]:
        """As ``Collection.checkpoint_state``: either restores the other's."""
        saved = self.env.checkpoint_state()
        saved["state"] = _copied(saved["state"])
        if self._noise is not None:  # what the start of an episode has used up is not saved
            saved.pop("next_start_noise", None)
            if not self._batch.arrays["done"][:, -1].any():
                (numbers, first), call = self._noise, self._call
                last = first + (self._steps - 1) * self._noise_count
                newest = numbers[:, last : last + self._noise_count]
                newest = newest.unflatten(1, (call.envs, call.step_noise + call.start_noise))
                saved["next_start_noise"] = newest[..., call.step_noise :].clone()
        return {"env": saved, "carried": carried(self.env, self._shown())}

    def _shown(self) -> TensorDict:
        """What the next vector step starts from."""
        env, task, batch = self.env, self._task, self.env.batch_size
        observation, state = task.observe(self._game.state)
        index = task.state_index(self._game.state)
        shown = TensorDict({keys.STATE: state}, batch)
        shown.set(keys.OBSERVATION, observation)
        if index is not None:
            shown.set(keys.STATE_INDEX, index.unsqueeze(-1))
        for key, remembered in self._networks.now.items():
            shown.set(key, remembered.clone())
        for flag in (keys.SUCCESS, keys.DONE, keys.TERMINATED, keys.TRUNCATED):
            shown.set(flag, torch.zeros(*batch, 1, dtype=torch.bool, device=env.device))
        return shown

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a ``checkpoint_state``, of a ``Collection`` or of this."""
        self._own_state(saved["env"])
        for key, remembered in self._networks.now.items():
            remembered.copy_(saved["carried"]["/".join((key,) if isinstance(key, str) else key)])

    def close(self) -> None:
        """Release the environments."""
        self.env.close()


def _copied(state: State) -> State:
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}
