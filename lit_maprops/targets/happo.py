"""HAPPO (Kuba et al. 2022, arXiv 2109.11251, Algorithm 4): agents update one after another, each on the others' news.

The agents of a seed come in a random order i_1, ..., i_A, drawn anew for every update. With A(s, a) the advantage of
the team, pi_old the policies that D was collected with and pi_new those that have been updated by now, agent i_m
ascends PPO's clipped objective of

    M^{i_1:m}(s, a) = prod_{j < m} pi_new^{i_j}(a^{i_j} | o^{i_j}) / pi_old^{i_j}(a^{i_j} | o^{i_j}) A(s, a),

whose product, the compound ratio, is not clipped. That is what makes the joint update improve the team (the paper's
multi-agent advantage decomposition); it takes a policy of its own for every agent. In one step of this file every
seed's own agent is at its turn.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.buffer import taken_rows
from lit_maprops.envs import Task
from lit_maprops.envs.ends import living, weighted
from lit_maprops.stacked.nets import StackedNet
from lit_maprops.stacked.optimizer import SeedAdam, adam_, clip_grad_norm
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.errors import check
from lit_maprops.targets import native_ppo
from lit_maprops.targets.burn_in import BurnIn, begun
from lit_maprops.targets.critics import CentralCritic
from lit_maprops.targets.losses import UncheckedMAPPOLoss
from lit_maprops.targets.policies import OneAgent
from lit_maprops.targets.ppo import PPO

COMPOUND = "compound_ratio"  # [R, B, 1], product of the ratios of the agents that were at their turn


class TurnAdam(SeedAdam):
    """``SeedAdam`` in which networks of one agent of every seed are stepped, with moments and counts of their own.

    Attributes:
        turn: ``[R]`` int64, whose agent's row of parameters ``[R, A, P]`` the next step changes.
    """

    turn: Tensor

    @override
    def reset_state(self) -> None:
        """Set moments and step counts to zero, ``[R, A]`` of the latter for parameters ``[R, A, P]``."""
        super().reset_state()
        for p in self.param_groups[0]["params"]:
            self.state[p]["steps_taken"] = torch.zeros(p.shape[:-1], device=p.device)

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, active: Tensor | None = None) -> None:  # type: ignore[override]
        """Update the seeds that are ``active``, ``[R]`` bool, from ``.grad``, where there is one; None: all."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        asks = self.device.type == "cpu"  # elsewhere an answer is waited for
        if asks and active is not None and bool(active.all()):
            active = None
        for p in self.param_groups[0]["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            tensors = p, p.grad, state["exp_avg"], state["exp_avg_sq"], state["steps_taken"]
            if p.dim() == 2:
                adam_(*tensors, active, None, self.settings, by_entry=asks)
                continue
            place = torch.arange(len(p), device=p.device), self.turn
            weights, grad, exp_avg, exp_avg_sq, steps_taken = (tensor[place] for tensor in tensors)
            adam_(weights, grad, exp_avg, exp_avg_sq, steps_taken, active, None, self.settings, by_entry=asks)
            p[place], state["exp_avg"][place], state["exp_avg_sq"][place] = weights, exp_avg, exp_avg_sq
            state["steps_taken"][place] = steps_taken


class HAPPO(PPO):
    """Heterogeneous-agent PPO (Kuba et al. 2022): agents update in turn, weighing D by the ratios of those before.

    The critic is MAPPO's. All agents ascend one advantage, that of the mean of their rewards; after an agent has left,
    its part is 0. Every agent makes ``epochs`` passes at its turn, then the critic does, on the same minibatches.
    ``kl_stop`` ends the turn of the agent whose own KL(old || new) exceeds it; the next one's, and the critic's, go on.
    ``share_parameters`` is refused. Arguments as ``PPO``.
    """

    critic_class = CentralCritic
    loss_class = UncheckedMAPPOLoss
    optimizer_class = TurnAdam
    known_to_kernel = True
    optimizer: TurnAdam

    def __init__(self, **ppo: Any) -> None:
        super().__init__(**ppo)
        check(
            not self.share_parameters,
            "<learner.share_parameters> is true and HAPPO updates one agent after another, each with a policy of its "
            "own: give false",
        )

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        self.order_streams = SeedStreams(run_seed, seed_ids, "agent order")
        self._n_agents = task.n_agents

    @override
    def _orders(self, n_rows: int) -> list[Tensor]:
        """Last, the order of the agents ``[R, A]``."""
        return [*super()._orders(n_rows), self.order_streams.permutation(self._n_agents)]

    @override
    @torch.no_grad()
    def _estimates(self, data: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """As of PPO, with the team's advantage for every agent: that of the mean of all rewards, as it is linear."""
        value, advantage, target = super()._estimates(data)
        present = living(data)
        own = advantage if present is None else torch.where(present.unsqueeze(-1), advantage, 0.0)
        return value, own.mean(-2, keepdim=True).expand_as(value), target

    @override
    def _by_kernel(self, trajectories: TensorDictBase, orders: Sequence[Tensor]) -> dict[str, Tensor]:
        *passes, turns = orders
        return native_ppo.update(self, trajectories, passes, turns)

    @override
    def _learn(self, trajectories: TensorDictBase, orders: Sequence[Tensor], active: Tensor) -> dict[str, Tensor]:
        *passes, turns = orders
        data = self._prepare(trajectories)
        n_seeds, n_steps = data.batch_size
        n_rows = n_steps // self.policies.sequence_length
        parts = [rows.tensor_split(min(self.minibatches, n_rows), dim=1) for rows in passes]
        data.set(COMPOUND, torch.ones(n_seeds, n_steps, 1, device=active.device))
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros(n_seeds, device=active.device))
        for turn in turns.unbind(1):
            for name, value in self._take_turn(data, turn, parts, active).items():
                totals[name] += value
        kl, clip_fraction, entropy = self._drift(data)
        return {
            "policy_loss": totals["policy_loss"],
            "critic_loss": self._train_critic(data, parts, active),
            "entropy_loss": totals["entropy_loss"],
            "target_kl": kl,
            "clip_fraction": clip_fraction,
            "entropy": entropy,
            "target_epochs": totals["target_epochs"] / self._n_agents,
        }

    def _take_turn(
        self, data: TensorDictBase, turn: Tensor, passes: Sequence[Sequence[Tensor]], active: Tensor
    ) -> dict[str, Tensor]:
        """Passes of the agents ``turn`` ``[R]``, by which ``data``'s compound ratio grows; statistics ``[R]``."""
        samples = self._samples_of(data, turn)
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros(len(turn), device=turn.device))
        asks = active.device.type == "cpu"
        self.optimizer.turn = turn
        for number, parts in enumerate(passes, 1):
            for part in parts:
                own, count = self.team.share(part)
                agent = self.policies.of_agents(turn)
                taken = self._steps_of(agent, samples, own)
                losses = self._policy_losses(agent, taken, turn, count * agent.sequence_length)
                step = self._descend(losses, self.policies.net, active)
                for name, value in step.items():
                    totals[name] += torch.where(active, value, 0.0)
                totals["gradient_steps"] += active
            totals["target_epochs"] += active
            last = number == len(passes)
            if not last and asks and self.kl_stop is None and self.policies.moderate():
                continue
            kl, log_ratio = self._moved(samples, turn)
            active = active & (kl <= (torch.inf if self.kl_stop is None else self.kl_stop))
            if asks and not active.any():
                break
        data.set(COMPOUND, data.get(COMPOUND) * log_ratio.exp().unsqueeze(-1))
        steps = totals.pop("gradient_steps")
        return {name: total if name == "target_epochs" else total / steps for name, total in totals.items()}

    def _samples_of(self, data: TensorDictBase, turn: Tensor) -> TensorDictBase:
        """What agents ``turn`` learn from, ``[R, B]``; what stands per agent is theirs alone, ``[R, B, 1, ...]``."""
        names = [keys.OBSERVATION, keys.MEMORY, keys.LOG_PROB, keys.ADVANTAGE, keys.PARAMETERS, keys.WEIGHT]
        samples = TensorDict(batch_size=data.batch_size)
        for name in names:
            if (value := data.get(name, None)) is not None:
                samples.set(name, _of_agents(value, turn))
        samples.set(keys.ADVANTAGE, samples.get(keys.ADVANTAGE).squeeze(-1) * data.get(COMPOUND))
        return samples.update(data.select(keys.ACTION, keys.ACTION_MASK, keys.BEGINS, keys.BEFORE, strict=False))

    def _steps_of(self, net: Any, samples: TensorDictBase, rows: Tensor) -> TensorDictBase:
        """The steps of rows ``[R, b]``, begun with what ``net`` remembers."""
        taken = taken_rows(samples, self.policies.steps_of(rows, samples.shape[1]))
        return BurnIn([net], samples, self.policies.sequence_length, self.burn_in).begin(taken, rows)

    def _policies_of(self, agent: OneAgent, samples: TensorDictBase, turn: Tensor) -> Tensor:
        """pi_theta of agents ``turn`` in ``samples``, at their place in ``[R, b, A, K]``; the others' mean nothing."""
        output = agent.outputs(samples).unsqueeze(2)
        everyone = output.new_zeros(*output.shape[:2], self._n_agents, output.shape[-1])
        placed = everyone.scatter(2, _index(turn, output), output)
        return self.policies.family.from_outputs(placed, self.policies.initial_std, samples.get(keys.ACTION_MASK, None))

    def _policy_losses(self, agent: OneAgent, samples: TensorDictBase, turn: Tensor, count: int) -> dict[str, Tensor]:
        """Losses ``[R]``, divided by ``count``."""
        parameters, family = self._policies_of(agent, samples, turn), self.policies.family
        log_prob = _of_agents(family.log_prob(parameters, samples.get(keys.ACTION)), turn)
        log_ratio, advantage = log_prob - samples.get(keys.LOG_PROB), samples.get(keys.ADVANTAGE)
        lowest, highest = torch.tensor([-self.clip_epsilon, self.clip_epsilon]).log1p().tolist()  # as in ``losses``
        gain, bounded = log_ratio.exp() * advantage, log_ratio.clamp(lowest, highest).exp() * advantage
        entropy = _of_agents(family.entropy(parameters), turn).nan_to_num(0.0)
        losses = {"policy_loss": -torch.minimum(gain, bounded), "entropy_loss": -self.entropy_coeff * entropy}
        weight = samples.get(keys.WEIGHT, None)
        return {name: weighted(loss, weight).sum((1, 2)) / count for name, loss in losses.items()}

    @torch.no_grad()
    def _moved(self, samples: TensorDictBase, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Of agents ``turn`` over D: mean KL(old || new) ``[R]``, and log ratios ``[R, B]``, 0 after they have left.

        Every rank of a team looks at all of D: the next agent's needs the ratios of its rows, whosever they are.
        """
        agent, family = self.policies.of_agents(turn), self.policies.family
        parameters = self._policies_of(agent, begun(agent, samples, self.burn_in), turn)
        log_prob = _of_agents(family.log_prob(parameters, samples.get(keys.ACTION)), turn)
        weight = samples.get(keys.WEIGHT, None)
        present = None if weight is None else (weight != 0).to(log_prob.dtype)
        ratio = weighted(log_prob - samples.get(keys.LOG_PROB), present)
        old = samples.get(keys.PARAMETERS).expand_as(parameters)  # at the other agents' places it is not looked at
        kl = _of_agents(family.kl_divergence(old, parameters), turn)
        return weighted(kl, weight).mean((1, 2)), ratio.squeeze(2)

    def _train_critic(self, data: TensorDictBase, passes: Sequence[Sequence[Tensor]], active: Tensor) -> Tensor:
        """All passes of the critic; the mean of its losses ``[R]``, NaN of a seed that does not learn."""
        names = [*self.critic.in_keys, keys.VALUE, keys.VALUE_TARGET, keys.WEIGHT, keys.BEGINS, keys.BEFORE]
        samples, length = data.select(*names, strict=False), self.policies.sequence_length
        total = torch.zeros(len(active), device=active.device)
        for part in (part for parts in passes for part in parts):
            own, count = self.team.share(part)
            taken = self._steps_of(self.critic, samples, own)
            loss = self.loss.loss_critic(taken)[0].squeeze(-1)
            per_seed = (weighted(loss, taken.get(keys.WEIGHT, None)).sum(1) / (count * length)).sum(-1)
            total += self._descend({"critic_loss": per_seed}, self.critic.net, active)["critic_loss"]
        return torch.where(active, total / sum(map(len, passes)), torch.nan)

    def _descend(self, losses: dict[str, Tensor], net: StackedNet, active: Tensor) -> dict[str, Tensor]:
        """One step of the networks down losses ``[R]`` of this rank's rows; the team's losses."""
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        stats = {name: value.detach() for name, value in losses.items()}
        self.sum_over_team(stats)
        clip_grad_norm(list(net.parameters()), self.max_grad_norm, len(net.stack))
        self.step_optimizer(active=active)
        return stats

    @override
    def move_streams(self, device: torch.device) -> None:
        super().move_streams(device)
        self.order_streams.device = device

    @override
    def checkpoint_state(self) -> dict[str, Any]:
        return {**super().checkpoint_state(), "order_streams": self.order_streams.state_dict()}

    @override
    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self.order_streams.load_state_dict(saved["order_streams"])


def _index(turn: Tensor, like: Tensor) -> Tensor:
    """Where agents ``turn`` ``[R]`` stand, for ``gather`` and ``scatter`` along dimension 2: as ``like``, of size 1."""
    shape = [*like.shape[:2], 1, *like.shape[3:]]
    return turn.view(-1, *(1,) * (like.dim() - 1)).expand(shape)


def _of_agents(tensor: Tensor, turn: Tensor) -> Tensor:
    """``[R, B, A, ...] -> [R, B, 1, ...]``, of agents ``turn`` ``[R]``."""
    return tensor.gather(2, _index(turn, tensor))
