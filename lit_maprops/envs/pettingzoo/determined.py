"""Whether seed and actions determine an environment's episodes, which is what a ``PettingZoo`` task rests on."""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_maprops.envs.base import State, Task, Transition
from lit_maprops.envs.ends import RUNS
from lit_maprops.envs.global_generators import generators_kept, seed_all
from lit_maprops.envs.pettingzoo.masks import MASK, nth_legal
from lit_maprops.system.errors import check

_TRIED = 12  # steps of the episodes that are played several times


def check_determined(task: Task, named: str, forget: Callable[[], None], fix: str) -> None:
    """Play two episodes together and alone, with new objects and used ones, and with others' random numbers.

    Args:
        task: of the package.
        named: the argument that gave it, for messages.
        forget: has episodes under way played again, by other objects.
        fix: what to do if episodes differ.

    Raises:
        ConfigError: episodes differ, hold NaN, or come to a state in which an agent has no legal action.
        RowsFailed: the package raised.
    """
    rows, steps = 2, min(_TRIED, task.max_steps)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(rows, task.start_noise, generator=generator)
    if task.continuous_actions:
        actions = 2 * torch.rand(steps, rows, *task.action_mask().shape, generator=generator) - 1
    else:
        actions = torch.randint(2**31, (steps, rows, task.n_agents), generator=generator)
    played: list[list[Tensor]] = [[], []]
    for salt, some in enumerate([[0, 1], [0], [1], [1, 0], [1], [0]]):
        with generators_kept():
            seed_all(salt)
            state = task.initial_state(noise[some])
            states, over = [*state.values()], torch.zeros(len(some)).bool()
            for step, action in enumerate(actions[:, some]):
                if salt == 3 and step == steps // 2:
                    forget()
                if not task.continuous_actions:
                    action = nth_legal(_legal(task, named, state, over, step).expand(*action.shape, -1), action)
                outcome = task.transition(state, action, noise[some, :0])
                state, over = outcome.state, over | _over(outcome)
                states += [*state.values(), *(value for value in outcome[1:] if value is not None)]
        for place, row in enumerate(some):
            numbers = torch.cat([value[place].double().flatten() for value in states])
            played[row].append(numbers)
    unclear = any(numbers.isnan().any() for episodes in played for numbers in episodes)
    check(not unclear, f"{named} gives NaN in an observation, its state or a reward: choose another, or mend it")
    same = all(torch.equal(first, again) for first, *others in played for again in others)
    check(
        same,
        f"{named} plays different episodes for equal seeds and actions, so that no run could be continued or "
        f"repeated: {fix}",
    )


def _over(outcome: Transition) -> Tensor:
    return outcome.terminated if outcome.truncated is None else outcome.terminated | outcome.truncated


def _legal(task: Task, named: str, state: State, over: Tensor, step: int) -> Tensor:
    """Which actions are legal in states ``[B]`` whose episode may be ``over``: ``[B, A, N]``, or for all ``[A, N]``."""
    legal = task.legal_actions(state)
    stuck = ~legal.any(-1).expand(len(over), -1) & ~over.unsqueeze(1)
    if task.agents_leave:
        stuck = stuck & (task.agent_ends(state) == RUNS)
    agents = stuck.any(0).nonzero().flatten().tolist()
    who = task.interface(agents[0]).name if agents else ""
    check(not agents, f"{named} leaves agent {who} without a legal action after {step} steps: mend its {MASK}")
    return legal
