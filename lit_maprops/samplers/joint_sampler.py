"""A behavior policy as a drop-in for any on-policy loop: plain tensors in, joint actions out.

The loop is that of Algorithm 1 of arXiv 2508.01049 with the user's own environment, target policies and learner::

    sampler = JointSampler(MAPROPS(), n_actions=[5, 5], num_envs=8, seed=0)
    for every target update:
        for every vector step:
            action = sampler.act(state, log_probs)  # log_probs: log pi_theta_i of all actions, from the actors
            ...step the environments, store sampler.drawn.log_prob as PPO's old log-probability...
            sampler.observe()
            if m env steps have been observed and the batch is not yet full:
                sampler.update()
        ...PPO on the batch...
        sampler.reset()

PPO's old log-probability is log pi_theta_i, never log pi_phi: there is no importance correction.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.samplers import checks
from lit_maprops.samplers.saved import SamplerState, restored, saved_state
from lit_maprops.samplers.task import PlainTask
from lit_maprops.system.argument_types import Count, NonNegativeInt
from lit_maprops.system.arguments import checked
from lit_maprops.system.errors import check


class Drawn(NamedTuple):
    """The newest joint actions and their log-probabilities; E environments, A agents."""

    action: Tensor  # [E, A] int64, or [E, A, D] float32
    log_prob: Tensor  # [E, A], log pi_theta_i of each agent's action: PPO's denominator (nats)
    behavior_log_prob: Tensor  # [E], log pi_phi of the joint action, for diagnosis only (nats)
    kl: Tensor  # [E], KL(pi_theta || pi_phi) in each state (nats)


class JointSampler(SamplerState):
    """Draws joint actions so that the batch collected so far, D, comes close to pi_theta's own proportions.

    ``E`` is ``num_envs``, ``A`` the number of agents, ``N`` the most actions any agent has, ``S`` the numbers in a
    state and ``O`` those in an observation; S and O are taken from the first ``act``. pi_phi changes in ``update`` and
    ``reset`` only (``Greedy`` counts while it draws). With one agent this is PROPS for single-agent training.

    Args:
        behavior: what samples, any of ``lit_maprops.behavior.BEHAVIORS``; the sampler works on a copy.
        n_actions: number of actions of each agent; they may differ.
        action_dims: instead of ``n_actions``, components of each agent's continuous action.
        num_envs: environments that step together, E. They are not corrected against each other within one step: one
            environment, or ``draws="stratified"``, have the least sampling error.
        seed: fixes all random numbers: those of seed 0 of a ``LitMAPROPS`` run with this ``run_seed``, whose collector
            draws one step on trial first.
        device: where the tensors of the loop live.

    Attributes:
        drawn: the newest ``Drawn``; None before the first ``act``.

    Raises:
        ConfigError: arguments that cannot go together.
    """

    @checked("")
    def __init__(
        self,
        behavior: BehaviorPolicy,
        n_actions: Sequence[int] | None = None,
        *,
        action_dims: Sequence[int] | None = None,
        num_envs: Count,
        seed: NonNegativeInt = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        check(
            isinstance(behavior, BehaviorPolicy),
            f"behavior is {behavior!r}: give a behavior policy, such as MAPROPS()",
        )
        check(not hasattr(behavior, "task"), "behavior has served a run already: make a new one")
        check(
            (n_actions is None) != (action_dims is None),
            "n_actions and action_dims exclude each other: give one of them, with one number per agent",
        )
        self.continuous = action_dims is not None
        sizes = (action_dims if n_actions is None else n_actions) or []
        checks.check_sizes("action_dims" if self.continuous else "n_actions", sizes)
        name = type(behavior).__name__
        check(behavior.continuous or not self.continuous, f"{name} has no continuous actions: give n_actions")
        check(behavior.discrete or self.continuous, f"{name} has continuous actions only: give action_dims")
        behavior.check_environments(num_envs)
        self.sizes, self.num_envs, self.seed, self.device = list(sizes), num_envs, seed, torch.device(device)
        self._unbuilt = copy.deepcopy(behavior)
        self.forget()

    @override
    def forget(self) -> None:
        self.behavior = copy.deepcopy(self._unbuilt)
        self.task = None
        self.sees_observations = False  # the loop gives observations beside states
        self.drawn: Drawn | None = None
        self.steps: list[TensorDictBase] = []  # D, vector steps [1, E], oldest first
        self.chunks: list[int] = []  # vector steps of each part of D that the behavior policy took in
        self._pending: TensorDictBase | None = None  # the step that is drawn and not yet observed

    @override
    def build(self, state_dim: int, observation_dim: int | None) -> None:
        """Create the behavior policy's networks; done by the first ``act``.

        Args:
            state_dim: S.
            observation_dim: O; None: agents' observations are the state.

        Raises:
            ConfigError: the behavior policy cannot serve these sizes.
        """
        self.forget()
        task = PlainTask(state_dim, observation_dim or state_dim, self.sizes, self.continuous)
        self.behavior.build(task, self.seed, [0])
        self.behavior.to(self.device)
        if self.behavior.optimizer is not None:
            self.behavior.optimizer.reset_state()  # on the device
        self.behavior.move_streams(self.device)
        self.behavior.reset(None)
        self.task, self.sees_observations = task, observation_dim is not None

    @property
    def new_steps(self) -> int:
        """Vector steps observed since the last ``update`` or ``reset``."""
        return len(self.steps) - sum(self.chunks)

    @torch.no_grad()
    def act(self, state: Tensor, log_probs: Tensor, observation: Tensor | None = None) -> Tensor:
        """Draw the joint actions of one vector step from pi_phi.

        Args:
            state: global states, input of the adjustment, ``[E, S]``; without one, the observations side by side.
            log_probs: log pi_theta_i of every action, ``[E, A, N]``, normalized, -inf where an agent has fewer actions
                or an action is illegal (nats). With ``action_dims``: means, then log standard deviations
                ``[E, A, 2 D]``, 0 in components that an agent does not have.
            observation: of each agent, ``[E, A, O]``, what PROPS adjusts its policies by; None: the state. In every
                call or in none.

        Returns:
            ``[E, A]`` int64, or ``[E, A, D]`` float32; the rest is in ``drawn``.

        Raises:
            ConfigError: wrong shapes, values or device.
            RuntimeError: the step before was not observed.
        """
        if self._pending is not None:
            raise RuntimeError("act() twice without observe(): call observe() after every step")
        self._check_state(state, observation)
        self._check_parameters("log_probs", log_probs, (self.num_envs,))
        if self.task is None:
            self.build(state.shape[-1], None if observation is None else observation.shape[-1])
        step = self._step(state, log_probs, observation)
        parameters = step.get(keys.PARAMETERS)
        choice = self.behavior.choose(step, parameters)
        log_prob = self.behavior.family.log_prob(parameters, choice.action)
        self._pending = step.set(keys.ACTION, choice.action)
        self.drawn = Drawn(*(part[0] for part in (choice.action, log_prob, choice.behavior_log_prob, choice.kl)))
        return self.drawn.action

    def observe(self) -> None:
        """Add the step that ``act`` drew to D, once the environments took it.

        Raises:
            RuntimeError: no step is waiting.
        """
        if self._pending is None:
            raise RuntimeError("observe() without act(): call act() first")
        self.steps.append(self._pending)
        self._pending = None

    def update(self, measure: bool = True) -> dict[str, float]:
        """Algorithm 2 on all of D: once every m env steps, except when the batch is full and ``reset`` comes next.

        Args:
            measure: also return the statistics that cost another pass over D.

        Returns:
            Statistics of ``lit_maprops.behavior.algorithm2.update_behavior``; empty where nothing is trained.

        Raises:
            RuntimeError: D is empty, or a step is not yet observed.
        """
        self._check_observed("update")
        if not self.steps:
            raise RuntimeError("update() before observe(): D is empty")
        if self.new_steps:
            new = self.steps[-self.new_steps :]
            self.behavior.extend(torch.cat(new, 1))
            self.chunks.append(len(new))
        return {name: float(value) for name, value in self.behavior.update(measure=measure).items()}

    @torch.no_grad()
    def reset(self, new_log_probs: Tensor | None = None) -> None:
        """After an update of theta: pi_phi equals the new pi_theta again, and D is emptied, or keeps its newest steps.

        Args:
            new_log_probs: what D keeps: log pi_theta_i of all actions under the new theta in the newest T vector steps,
                ``[T, E, A, N]``, oldest first, or ``[T, E, A, 2 D]``. None: D keeps nothing.

        Raises:
            ConfigError: wrong shapes or values, or more steps than D has.
            RuntimeError: a step is not yet observed.
        """
        self._check_observed("reset")
        kept: list[TensorDictBase] = []
        if new_log_probs is not None and len(new_log_probs):
            self._check_parameters("new_log_probs", new_log_probs, ("T", self.num_envs))
            count, held = len(new_log_probs), len(self.steps)
            check(count <= held, f"new_log_probs is of {count} vector steps and D has {held}: give those it has")
            new = new_log_probs.float().unsqueeze(1).unbind()
            kept = [
                step.copy().set(keys.PARAMETERS, value) for step, value in zip(self.steps[-count:], new, strict=True)
            ]
        if self.task is not None:
            self.behavior.reset(torch.cat(kept, 1) if kept else None)
        self.steps, self.chunks = kept, [len(kept)] if kept else []

    def state_dict(self) -> dict[str, Any]:
        """Everything from which ``load_state_dict`` continues bit for bit: tensors, numbers, strings.

        Raises:
            RuntimeError: a step is not yet observed.
        """
        self._check_observed("state_dict")
        return saved_state(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict`` of a sampler made with the same arguments; ``seed`` may differ.

        Raises:
            ConfigError: it is of another sampler; this one stays as it was.
        """
        restored(self, state)

    def _check_observed(self, call: str) -> None:
        if self._pending is not None:
            raise RuntimeError(f"{call}() between act() and observe(): call observe() first")

    def _check_state(self, state: Tensor, observation: Tensor | None) -> None:
        task, envs, agents = self.task, self.num_envs, len(self.sizes)
        checks.check_tensor("state", state, (envs, "S" if task is None else task.state_dim), self.device)
        checks.check_finite("state", state)
        if task is not None:
            check(
                (observation is not None) == self.sees_observations,
                "observation is given in some calls of act() only: give it in every call or in none",
            )
        if observation is not None:
            dim = "O" if task is None else task.observation_dim
            checks.check_tensor("observation", observation, (envs, agents, dim), self.device)
            checks.check_finite("observation", observation)

    def _check_parameters(self, name: str, parameters: Tensor, rows: tuple[int | str, ...]) -> None:
        most = max(self.sizes)
        columns = 2 * most if self.continuous else most
        checks.check_tensor(name, parameters, (*rows, len(self.sizes), columns), self.device)
        mask = (torch.arange(most) < torch.tensor(self.sizes).unsqueeze(1)).to(self.device)
        (checks.check_gaussians if self.continuous else checks.check_log_probs)(name, parameters, mask)

    def _step(self, state: Tensor, log_probs: Tensor, observation: Tensor | None) -> TensorDictBase:
        """One vector step ``[1, E]`` as behavior policies read it."""
        assert self.task is not None
        state = state.detach().float()
        seen = state.unsqueeze(1).expand(-1, len(self.sizes), -1) if observation is None else observation.detach()
        values = {
            keys.STATE: state,
            keys.STATE_INDEX: self.task.state_index({"state": state}).unsqueeze(-1),
            keys.OBSERVATION: seen.float(),
            keys.PARAMETERS: log_probs.detach().float(),
        }
        rows = {name: value.unsqueeze(0).clone() for name, value in values.items()}  # the loop may write to its own
        return TensorDict(rows, batch_size=[1, self.num_envs], device=self.device)
