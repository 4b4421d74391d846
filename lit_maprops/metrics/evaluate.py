"""Evaluation of the decentralized target policies on fresh episodes; the behavior policy plays no part in it."""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_maprops import keys
from lit_maprops.envs import Task
from lit_maprops.envs.faults import Faults
from lit_maprops.envs.remembering import environment
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets import TargetPolicies


class Evaluation(NamedTuple):
    """Per-seed results of some episodes; NaN for a seed whose policies gave NaN, or that is quarantined."""

    success_rate: Tensor  # [R], share of episodes; NaN of all seeds where the task tells none
    episode_return: Tensor  # [R], undiscounted, mean over episodes and agents (reward)

    @staticmethod
    def mean(figure: Tensor) -> float:
        """Of a figure over the seeds that have one; NaN if none has."""
        return float(figure[~figure.isnan()].mean())

    @property
    def mean_success_rate(self) -> float:
        """Over all seeds: one whose policies gave NaN, or that is quarantined, succeeded nowhere; NaN: see above."""
        return float(self.success_rate.nan_to_num(0.0).mean()) if self.tells_success else float("nan")

    @property
    def tells_success(self) -> bool:
        """Whether success rates are known; where no seed has any figure, nothing says that they are not."""
        return not bool(self.success_rate.isnan().all()) or bool(self.episode_return.isnan().all())


class Film(NamedTuple):
    """One episode, drawn: its start and the state after every step."""

    seed: int  # number of the seed whose policies play
    frames: Tensor  # [T + 1, height, width, 3] uint8


@torch.no_grad()
def evaluate(
    policies: TargetPolicies,
    task: Task,
    run_seed: int,
    seed_ids: list[int],
    episodes: int,
    greedy: bool,
    purpose: str,
    faults: Faults | None = None,
    start_ids: list[int] | None = None,
) -> Evaluation:
    """Play ``episodes`` fresh episodes per seed.

    Args:
        policies: pi_theta.
        task: the rules.
        run_seed: of the run.
        seed_ids: the run's seeds.
        episodes: episodes per seed.
        greedy: take each agent's most probable action instead of sampling.
        purpose: names the random stream; equal purposes replay equal episodes.
        faults: of the run.
        start_ids: whose fixed start each seed has, if the task has one; None: its own.

    Raises:
        EnvironmentFault: the environment broke.
    """
    player = _Player(policies, task, run_seed, seed_ids, episodes, greedy, purpose, faults, start_ids)
    while player.step():
        pass
    player.check_finite(purpose)
    success, returns = player.success.float().mean(1), player.episode_return.mean((1, 2))
    # argmax of NaN is action 0, which may well be the best one: a broken policy must not look like a good one.
    figures = (figure.where(player.sound, torch.nan) for figure in (success, returns))
    return Evaluation(*map(player.env.faults.figures, figures))


def with_verdicts(evaluations: dict[str, Evaluation], told: bool) -> dict[str, Evaluation]:
    """Evaluations without success rates, unless the task tells success (``told``) or any episode was one."""
    if told or any(bool((evaluation.success_rate > 0).any()) for evaluation in evaluations.values()):
        return evaluations
    none = {k: torch.full_like(evaluation.success_rate, torch.nan) for k, evaluation in evaluations.items()}
    return {k: evaluation._replace(success_rate=none[k]) for k, evaluation in evaluations.items()}


@torch.no_grad()
def record(
    policies: TargetPolicies,
    task: Task,
    run_seed: int,
    seed_ids: list[int],
    episodes: int,
    faults: Faults | None = None,
) -> dict[str, Film]:
    """Draw one successful and one failed episode of the greedy policies, the first of each over seeds and episodes.

    Returns:
        ``{"success": film, "failure": film}``; a kind that did not occur in ``episodes`` episodes per seed is left out.
        ``{"episode": film}``, the first one, where the task tells no success.
    """
    player = _Player(policies, task, run_seed, seed_ids, episodes, True, "video", faults)
    states, length = [player.env.state], torch.ones_like(player.over, dtype=torch.int64)
    more = True
    while more:
        length += ~player.over
        more = player.step()
        states.append(player.env.state)
    films = {}
    kinds = {"success": player.success, "failure": ~player.success}
    if not (task.tells_success or player.success.any()):
        kinds = {"episode": player.over}
    for kind, wanted in kinds.items():
        where = wanted.nonzero()
        if len(where):
            seed, env = where[0].tolist()
            cut = [{k: v[seed, env] for k, v in s.items()} for s in states[: int(length[seed, env])]]
            films[kind] = Film(seed_ids[seed], torch.stack([task.render(state) for state in cut]))
    return films


class _Player:
    """Steps environments until each has finished one episode."""

    def __init__(
        self,
        policies: TargetPolicies,
        task: Task,
        run_seed: int,
        seed_ids: list[int],
        episodes: int,
        greedy: bool,
        purpose: str,
        faults: Faults | None,
        start_ids: list[int] | None = None,
    ) -> None:
        device = next(policies.parameters()).device
        sizes = (task, run_seed, seed_ids, episodes)
        self.env = environment(policies.remembered, *sizes, f"{purpose} environment", device, start_ids, faults)
        self.actions = SeedStreams(run_seed, seed_ids, f"{purpose} actions", device)
        self.policies, self.greedy = policies, greedy
        self.current = self.env.reset()
        batch = self.env.batch_size
        self.over = torch.zeros(batch, dtype=torch.bool, device=device)
        self.success = torch.zeros_like(self.over)
        self.sound = torch.ones(batch[0], dtype=torch.bool, device=device)  # no NaN from the seed's policies
        self.episode_return = torch.zeros(*batch, task.n_agents, device=device)
        self.broken = torch.zeros(batch, device=device)  # NaN once an observation was not finite

    def step(self) -> bool:
        """One vector step; returns whether any episode still runs."""
        observation = self.current.get(keys.OBSERVATION)
        if observation.is_floating_point():
            self.broken += observation.mul(0.0).sum((-2, -1))  # 0 times what is not finite is NaN
        parameters, family = self.policies.advance(self.current), self.policies.family
        self.sound &= ~parameters.isnan().flatten(1).any(1)
        if self.greedy:
            action = family.mode(parameters)
        else:
            action = family.sample(parameters, self.actions.uniform(parameters.shape[1], *family.uniforms))
        following = self.env.step(self.current.set(keys.ACTION, action)).get("next")
        running = ~self.over
        self.episode_return += following.get(keys.REWARD).squeeze(-1) * running.unsqueeze(-1)
        self.success |= following.get(keys.SUCCESS).squeeze(-1) & running
        self.over |= following.get(keys.DONE).squeeze(-1)
        self.current = following
        return not bool(self.over.all())

    def check_finite(self, purpose: str) -> None:
        """Name the seeds whose environments gave NaN or infinite numbers."""
        rewards = ~self.episode_return.isfinite().all(-1)
        for seed, env in (rewards | self.broken.isnan()).nonzero().tolist():
            what = "a reward" if rewards[seed, env] else "an observation"
            what = f"NaN or infinity in {what} in {purpose}"
            self.env.faults.found(what, seed, env, self.env.faults.env_steps)
