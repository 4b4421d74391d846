"""Evaluations by a compiled kernel, ``evaluation.cpp``: the episodes of ``metrics.evaluate``, up to rounding."""

import ctypes

import torch
from torch import Tensor

from lit_maprops.behavior import OnPolicy
from lit_maprops.collect.native import SHARED_FROM
from lit_maprops.collect.native_call import ACT, BEHAVIORS, CHOOSE, LOOK, MOST_PROBABLE, Batch, Game, Rollout
from lit_maprops.collect.native_networks import ActingNetworks
from lit_maprops.envs import Task
from lit_maprops.envs.faults import Faults
from lit_maprops.metrics.evaluate import Evaluation
from lit_maprops.native.build import run
from lit_maprops.native.threads import worker_threads
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets import TargetPolicies

NUMBERS = 2**22  # random numbers that are drawn at once


class _Evaluation(ctypes.Structure):
    """``Evaluation`` of evaluation.cpp."""

    _fields_ = [
        ("rollout", ctypes.POINTER(Rollout)),
        *((name, ctypes.c_void_p) for name in ("over", "success", "returns", "sound")),
    ]


@torch.no_grad()
def evaluate(
    policies: TargetPolicies,
    task: Task,
    run_seed: int,
    seed_ids: list[int],
    episodes: int,
    greedy: bool,
    purpose: str,
    faults: Faults,
    start_ids: list[int] | None = None,
) -> Evaluation:
    """As ``metrics.evaluate.evaluate``, for a task and policies of which ``unsupported`` says nothing."""
    play = _Play(policies, task, run_seed, seed_ids, episodes, greedy, purpose, start_ids)
    while not play.over.all():  # max_steps ends every episode
        play.go_on()
    figures = play.success.float().mean(1), play.returns.mean((1, 2))
    return Evaluation(*(faults.figures(figure.where(play.sound, torch.nan)) for figure in figures))


class _Play:
    """One episode in each of ``episodes`` environments of every seed.

    Attributes:
        over: which have come to their end, ``[R, E]`` bool.
        success: likewise.
        returns: so far, ``[R, E, A]`` (reward).
        sound: ``[R]`` bool, no NaN from the seed's policies.
    """

    def __init__(
        self,
        policies: TargetPolicies,
        task: Task,
        run_seed: int,
        seed_ids: list[int],
        episodes: int,
        greedy: bool,
        purpose: str,
        start_ids: list[int] | None,
    ) -> None:
        seeds = len(seed_ids)
        self.over = torch.zeros(seeds, episodes, dtype=torch.bool)
        self.success = torch.zeros_like(self.over)
        self.returns = torch.zeros(seeds, episodes, task.n_agents)
        self.sound = torch.ones(seeds, dtype=torch.bool)
        self._environment = SeedStreams(run_seed, seed_ids, f"{purpose} environment")
        self._actions = None if greedy else SeedStreams(run_seed, seed_ids, f"{purpose} actions")
        self._call = call = Rollout()
        fixed = torch.zeros(seeds, 1, task.start_noise)
        if task.fixed_start:  # that of training
            starts = seed_ids if start_ids is None else start_ids
            fixed = SeedStreams(run_seed, starts, "start").uniform(1, task.start_noise)
        self._game = Game(call, task, seeds, episodes, fixed)
        self._game.enter(self._first_state(task, fixed))
        self._batch = Batch(task, seeds, 1, episodes, policies.remembered)  # nobody wants more than the newest step
        self._batch.enter(call)
        self._networks = ActingNetworks(call, self._batch.data, policies)
        self._networks.renew()
        call.phases = LOOK | CHOOSE | ACT
        call.behavior = MOST_PROBABLE if greedy else BEHAVIORS[OnPolicy]
        call.rests = self.over.data_ptr()
        self._noises, self._draws = episodes * (task.step_noise + task.start_noise), episodes * task.n_agents
        call.steps = max(1, min(task.max_steps, NUMBERS // (seeds * (self._noises + self._draws))))
        call.threads = worker_threads() if seeds * episodes * call.steps >= SHARED_FROM else 1

    def _first_state(self, task: Task, fixed: Tensor) -> dict[str, Tensor]:
        noise = self._environment.uniform(self.over.shape[1], task.start_noise)
        state = task.initial_state(fixed.expand_as(noise) if task.fixed_start else noise)
        state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}
        return state | {"step": torch.zeros(self.over.shape, dtype=torch.int32)}

    def go_on(self) -> None:
        """Some vector steps, up to all that an episode can have."""
        call = self._call
        noise, first = self._environment.reserve(call.steps, self._noises)
        call.noise, call.noise_seed = noise.data_ptr() + 4 * first, noise.shape[1]
        if self._actions is not None:
            uniform, first = self._actions.reserve(call.steps, self._draws)
            call.uniform, call.uniform_seed = uniform.data_ptr() + 4 * first, uniform.shape[1]
        figures = self.over, self.success, self.returns, self.sound
        run("evaluation", _Evaluation(ctypes.pointer(call), *(figure.data_ptr() for figure in figures)))
