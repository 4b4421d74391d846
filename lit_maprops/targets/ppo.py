"""PPO for R seeds of independent agents: what IPPO and MAPPO share, which differ in their critic only.

TorchRL supplies the generalized advantage estimate and the losses; this file supplies the seed dimension: advantages
are normalized, losses reduced, gradients clipped and KL stops decided per seed. The ratio's denominator is log
pi_theta_i at collection, never pi_phi (arXiv 2508.01049, section 5: no importance correction). A team of ranks splits
the rows of a minibatch and adds up what it finds before every clip and every stop, so that its members agree. An agent
that left before the others learns from its own steps alone.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives.value.functional import generalized_advantage_estimate
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.envs import Task
from lit_maprops.envs.ends import agents_with_steps, own_done, own_terminated, weighted, weights
from lit_maprops.stacked.graphs import can_record
from lit_maprops.stacked.optimizer import SeedAdam, clip_grad_norm
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.argument_types import ClosedUnitInterval, Count, LearningRate, NonNegativeFloat, PositiveFloat
from lit_maprops.system.errors import check
from lit_maprops.targets import gae, native_ppo
from lit_maprops.targets.burn_in import begun
from lit_maprops.targets.critics import Critic
from lit_maprops.targets.learner import Learner
from lit_maprops.targets.losses import UncheckedIPPOLoss, UncheckedMAPPOLoss, built
from lit_maprops.targets.memory import critic_of
from lit_maprops.targets.normalized import normalized
from lit_maprops.targets.recorded import RecordedUpdate
from lit_maprops.targets.sequence_gradient import gradient_on
from lit_maprops.targets.value_norm import PopArt, ValueNorm

HUBER_DELTA, POPART = 10.0, "popart"


class PPO(Learner):
    """Clipped PPO; subclasses choose the critic. Those that say ``known_to_kernel`` are; what extends them is not.

    Args:
        learning_rate: see ``Learner``.
        gamma: see ``Learner``.
        gae_lambda: lambda of the generalized advantage estimate.
        clip_epsilon: PPO's ratio clip.
        clip_value: how far the value may move per update before its loss is clipped (return units, so a good number
            depends on the size of the rewards; with ``value_norm`` deviations of returns); None is off.
        entropy_coeff: weight of the entropy bonus (per nat).
        critic_coeff: weight of the squared value error.
        value_norm: let the critic learn value targets minus their running mean, over their deviation, per seed and
            agent (``targets.value_norm``); ``popart`` also keeps its values where they are when these move.
        value_loss: ``mse``, or ``huber``: the squared error up to ``huber_delta``, beyond it the line that goes on.
        huber_delta: in the units of ``clip_value``; None: 10, as MAPPO's code has it.
        epochs: passes over D per update.
        minibatches: parts of D, one gradient step each, per pass.
        max_grad_norm: largest gradient norm of each network, per seed and agent.
        kl_stop: mean KL(old || new) per agent at which a seed's update stops, checked after every pass, exact (nats);
            None is off.
        hidden: see ``Learner``; also the critic's, where ``critic_hidden`` is not given.
        **learner: the other arguments of ``Learner``; ``share_parameters`` also for IPPO's critic.
    """

    has_critic = has_memory = True
    optimizer: SeedAdam
    optimizer_class: type[SeedAdam] = SeedAdam
    loss_class: type[UncheckedIPPOLoss] | type[UncheckedMAPPOLoss]

    @property
    @abstractmethod
    def critic_class(self) -> type[Critic]:
        """The kind of critic; a class attribute of every subclass."""

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        gamma: ClosedUnitInterval = 0.99,
        gae_lambda: ClosedUnitInterval = 0.95,
        clip_epsilon: PositiveFloat = 0.2,
        clip_value: PositiveFloat | None = None,
        entropy_coeff: NonNegativeFloat = 0.01,
        critic_coeff: NonNegativeFloat = 0.5,
        value_norm: bool | Literal["popart"] = False,
        value_loss: Literal["mse", "huber"] = "mse",
        huber_delta: PositiveFloat | None = None,
        epochs: Count = 4,
        minibatches: Count = 4,
        max_grad_norm: PositiveFloat = 0.5,
        kl_stop: PositiveFloat | None = None,
        hidden: Sequence[Count] = (64, 64),
        **learner: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, gamma=gamma, hidden=hidden, **learner)
        self.gae_lambda, self.clip_epsilon, self.clip_value = gae_lambda, clip_epsilon, clip_value
        self.entropy_coeff, self.critic_coeff = entropy_coeff, critic_coeff
        told = "<learner.huber_delta> is given and <learner.value_loss> is mse: leave it out, or give huber"
        check(huber_delta is None or value_loss == "huber", told)
        made, told = self.critic_architecture, "<learner.value_norm> is popart, which rescales the critic's last layer"
        popart = value_norm == POPART and made.cell is None  # behind a cell there always is one
        check(not popart or made.own is None, f"{told}, and <learner.critic_network> is your own: give true")
        check(not popart or bool(made.hidden), f"{told} behind hidden ones: give <learner.critic_hidden>, or true")
        self.value_norm, self.huber_delta = value_norm, (huber_delta or HUBER_DELTA) if value_loss == "huber" else None
        self.epochs, self.minibatches = epochs, minibatches
        self.max_grad_norm, self.kl_stop = max_grad_norm, kl_stop

    @override
    @torch.no_grad()
    def values(self, data: TensorDictBase) -> Tensor:
        return self._values(data).squeeze(-1)

    def _values(self, data: TensorDictBase) -> Tensor:
        value = self.critic.values(data)
        return self.normalizer.denormalize(value) if self.value_norm else value

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        told = f"<learner.critic_cnn> looks at pictures, and {type(self).__name__}'s critic sees the global state"
        fix = ", which is none: leave it out, or use MAPPO with <learner.critic_input> agent_specific_state"
        check(self.networks.critic_cnn is None or self.critic_class.sees_observations, told + fix)
        self.networks.check_convolved(self.critic_class.sees_observations)
        generators = SeedStreams(run_seed, seed_ids, "critic weights").generators
        made = task, self.critic_architecture, self.share_parameters, generators
        self.critic = critic_of(self.critic_class, self.sequence_length, *made)
        self.minibatch_streams = SeedStreams(run_seed, seed_ids, "target minibatches")
        networks = [*self.policies.parameters(), *self.critic.parameters()]
        self.optimizer = self.optimizer_class(networks, self.learning_rate, (len(seed_ids),), eps=1e-5, fused=True)
        self._recorded = RecordedUpdate(self._learn, self.optimizer)
        self.loss = built(self.loss_class, self.policies, self.critic, self)
        if self.value_norm:
            sizes, popart = (len(seed_ids), task.n_agents), self.value_norm == POPART
            hidden, cell = self.critic_architecture.hidden, self.critic_architecture.cell
            width = [0, *hidden][-1] if cell is None else cell.units
            net, outputs = self.critic.net, self.critic.outputs
            self.normalizer = PopArt(*sizes, net, width, outputs) if popart else ValueNorm(*sizes)

    @override
    def update(self, buffer: Buffer) -> dict[str, Tensor]:
        trajectories = buffer.trajectories()
        # Drawn beforehand: how many numbers a seed uses must not depend on when the others stop.
        orders = self._orders(trajectories.batch_size[1:].numel() // self.policies.sequence_length)
        if self.native and self.stepper is None:  # else every step is to be heard
            return self._by_kernel(trajectories, orders)
        active = torch.ones(len(trajectories), dtype=torch.bool, device=self.optimizer.device)
        active = active if self.learning is None else active & self.learning.to(active.device)
        by_itself = self.stepper is None and self.team.size == 1 and self.memory is None
        learn = self._recorded if by_itself and can_record(active.device) else self._learn
        return learn(trajectories, orders, active)

    def _by_kernel(self, trajectories: TensorDictBase, orders: Sequence[Tensor]) -> dict[str, Tensor]:
        return native_ppo.update(self, trajectories, orders)

    def _orders(self, n_rows: int) -> list[Tensor]:
        """Of every pass, in which order the rows of D come ``[R, B]``."""
        return [self.minibatch_streams.permutation(n_rows) for _ in range(self.epochs)]

    def _learn(self, trajectories: TensorDictBase, orders: Sequence[Tensor], active: Tensor) -> dict[str, Tensor]:
        """All passes over D; ``active`` ``[R]`` are the seeds that learn. Accelerators are asked nothing."""
        data = self._prepare(trajectories)
        n_seeds = len(data)
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros(n_seeds, device=active.device))
        gradient = self._gradient_on(data)
        asks = active.device.type == "cpu"  # an accelerator's answers are waited for: there all go on to the end
        everyone = asks and self.learning is None  # known here, so that a gradient step need not ask
        for epoch, rows in enumerate(orders, 1):
            for part in rows.tensor_split(min(self.minibatches, rows.shape[1]), dim=1):
                own, count = self.team.share(part)
                step = self._gradient_step(gradient(own, count), None if everyone else active)
                for name, value in step.items():
                    totals[name] += torch.where(active, value, 0.0)
                totals["gradient_steps"] += active
            totals["target_epochs"] += active
            if asks and epoch < self.epochs and self.kl_stop is None and self.policies.moderate():
                continue
            kl, clip_fraction, entropy = self._drift(data)
            active = active & (kl <= (torch.inf if self.kl_stop is None else self.kl_stop))
            if asks:
                going = active.tolist()
                if not any(going):
                    break
                everyone = all(going)
        steps, epochs = totals.pop("gradient_steps"), totals.pop("target_epochs")
        return {name: total / steps for name, total in totals.items()} | {
            "target_kl": kl,
            "clip_fraction": clip_fraction,
            "entropy": entropy,
            "target_epochs": epochs,
        }

    @override
    def advantages(self, data: TensorDictBase) -> Tensor:
        """The generalized advantage estimate of the present critic."""
        advantage = self._estimates(data)[1].squeeze(-1)
        return weighted(advantage.flatten(2, 3), weights(data.flatten(2, 3))).reshape(advantage.shape)

    @torch.no_grad()
    def _estimates(self, data: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """Values, advantages and value targets of ``[R, k, T, E]``, each ``[R, k, T, E, A, 1]``."""
        following = data.get("next")
        value, next_value = self._values(data), self._values(following)
        flags = [flag(following).flatten(3) for flag in (own_done, own_terminated)]
        # TorchRL wants [*batch, T, features]; environments and agents are features here.
        estimate = generalized_advantage_estimate if value.device.type == "cpu" else gae.advantages
        advantage, target = estimate(
            self.gamma,
            self.gae_lambda,
            value.flatten(3),
            next_value.flatten(3),
            following.get(keys.REWARD).flatten(3),
            *flags,
        )
        return value, advantage.reshape(value.shape), target.reshape(value.shape)

    @torch.no_grad()
    def _prepare(self, data: TensorDictBase) -> TensorDictBase:
        """Values, advantages and value targets for ``[R, k, T, E]``; returns them flat, ``[R, B]``."""
        value, advantage, target = self._estimates(data)
        names = [*self.policies.in_keys, *self.critic.remembered, keys.STATE]
        names += [keys.ACTION, keys.LOG_PROB, keys.PARAMETERS]
        flat = data.select(*names).set(keys.VALUE, value).flatten(1, 3)
        weight = weights(data.flatten(1, 3))
        if weight is not None:
            flat.set(keys.WEIGHT, weight)
        flat.set(keys.ADVANTAGE, normalized(advantage.flatten(1, 3), flat.get(keys.VALUE), weight))
        target = target.flatten(1, 3)
        if self.value_norm:  # the loss is in the critic's units; what it put out was in those of before
            put_out = self.normalizer.normalize(flat.get(keys.VALUE))
            self.normalizer.update(target, weight, self.learning)
            put_out = self.normalizer.normalize(flat.get(keys.VALUE)) if self.value_norm == POPART else put_out
            flat.set(keys.VALUE, put_out)
            target = self.normalizer.normalize(target)
        return self.policies.rows(flat.set(keys.VALUE_TARGET, target), data)

    def _gradient_on(self, data: TensorDictBase) -> Callable[[Tensor, int], dict[str, Tensor]]:
        """What gives the losses ``[R]`` of rows ``[R, b]`` of D, divided by a count, and leaves their gradients."""
        return gradient_on(self, self.loss, data, self._autograd)

    def _autograd(self, own: TensorDictBase, count: int) -> dict[str, Tensor]:
        """As ``ppo_gradient.gradient``, for any policies, critic and loss."""
        out = self.loss(own)
        parts = {
            "policy_loss": out["loss_objective"],
            "critic_loss": out["loss_critic"],
            "entropy_loss": out["loss_entropy"],
        }
        weight = own.get(keys.WEIGHT, None)
        per_seed = {name: (weighted(part, weight).sum(1) / count).sum(-1) for name, part in parts.items()}  # agents add
        self.optimizer.zero_grad()
        torch.stack(list(per_seed.values())).sum().backward()
        return {name: value.detach() for name, value in per_seed.items()}

    def _gradient_step(self, stats: dict[str, Tensor], active: Tensor | None) -> dict[str, Tensor]:
        """One step on a minibatch of which this rank has looked at its own rows; see ``Team.share``."""
        self.sum_over_team(stats)
        for net in (self.policies.net, self.critic.net):
            clip_grad_norm(list(net.parameters()), self.max_grad_norm, len(net.stack))
        self.step_optimizer(active=active)
        return stats

    @torch.no_grad()
    def _drift(self, data: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """Exact KL(old || new), share of clipped ratios and entropy over D, means over agents: each ``[R]``."""
        rows, agents = data.shape[1], agents_with_steps(data.get(keys.WEIGHT, None), data.get(keys.PARAMETERS).shape[2])
        data = self.policies.share(begun(self.policies, data, self.burn_in), self.team.every)
        new, family = self.policies.parameters_in(data), self.policies.family
        kl = family.kl_divergence(data.get(keys.PARAMETERS), new)
        log_prob = family.log_prob(new, data.get(keys.ACTION))
        ratio = (log_prob - data.get(keys.LOG_PROB)).exp()
        clipped = ((ratio - 1).abs() > self.clip_epsilon).float()
        figures = (weighted(value, data.get(keys.WEIGHT, None)) for value in (kl, clipped, family.entropy(new)))
        means = [value.sum((1, 2)) / (rows * agents) for value in figures]
        self.team.add_(means)
        return means[0], means[1], means[2]

    @override
    def why_not_native(self) -> str | None:
        if not vars(type(self)).get("known_to_kernel"):
            return super().why_not_native()
        if self.team.size > 1:
            return "several ranks share the gradients of a seed, and the kernel does not add them up"
        if self.value_norm or self.huber_delta is not None:
            return "the kernel knows squared errors of plain values"
        return native_ppo.lacks(self.policies, self.critic)

    @override
    def move_streams(self, device: torch.device) -> None:
        self.minibatch_streams.device = device

    @override
    def checkpoint_state(self) -> dict[str, Any]:
        return {"minibatch_streams": self.minibatch_streams.state_dict()}

    @override
    def restore(self, saved: dict[str, Any]) -> None:
        self.minibatch_streams.load_state_dict(saved["minibatch_streams"])
