"""A task that is only sizes, data for behavior updates, and brute-force joint distributions."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.behavior.enumerated import EnumeratedPolicy
from lit_maprops.distributions import gaussian
from lit_maprops.envs.base import State, Task, Transition
from lit_maprops.run.flags import with_flags
from lit_maprops.system.errors import ConfigError

ALL_TRAINED = [name for name, cls in BEHAVIORS.items() if issubclass(cls, AdjustedPolicy)]
DISCRETE = [name for name, cls in BEHAVIORS.items() if cls.discrete]
CONTINUOUS = [name for name, cls in BEHAVIORS.items() if cls.continuous]
TRAINED = [name for name in ALL_TRAINED if name in DISCRETE]
WITH_COST_OPTIONS = [name for name in TRAINED if issubclass(BEHAVIORS[name], EnumeratedPolicy)]
# Every policy on every kind of actions that it serves.
SERVED = [(name, kind) for kind, names in (("discrete", DISCRETE), ("continuous", CONTINUOUS)) for name in names]
SERVED_TRAINED = [(name, kind) for name, kind in SERVED if name in ALL_TRAINED]


class StatesTask(Task):
    """``n_states`` states, one-hot as observation of every agent and as global state."""

    max_steps = 1

    def __init__(self, n_states: int = 1, n_agents: int = 2, n_actions: int = 2, numbered: bool = True) -> None:
        self.n_agents, self.n_actions, self.numbered = n_agents, n_actions, numbered
        self.observation_dim = self.state_dim = n_states

    def initial_state(self, noise: Tensor) -> State:
        return {"state": torch.zeros(noise.shape[:-1], dtype=torch.int64)}

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        raise NotImplementedError

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def state_index(self, state: State) -> Tensor | None:
        return state["state"] if self.numbered else None


class ComponentsTask(StatesTask):
    """Continuous actions; agent i has ``components[i]`` of them."""

    continuous_actions = True

    def __init__(self, n_states: int = 1, components: tuple[int, ...] = (1, 1)) -> None:
        super().__init__(n_states, len(components), 0)
        self.components, self.action_dim = components, max(components)

    def action_mask(self) -> Tensor:
        return torch.arange(self.action_dim) < torch.tensor(self.components).unsqueeze(1)


def task_of(kind: str, n_states: int = 1) -> StatesTask:
    """Two agents with three actions each, or with two components and one."""
    return StatesTask(n_states, 2, 3) if kind == "discrete" else ComponentsTask(n_states, (2, 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_policy(task: Task, n_seeds: int, seed: int = 0) -> Tensor:
    """log pi_theta_i(a | s), ``[R, n_states, A, N]``, or means and log stds, ``[R, n_states, A, 2 D]``."""
    if task.continuous_actions:
        drawn = 0.7 * torch.randn(n_seeds, task.state_dim, task.n_agents, 2, task.action_dim, generator=generator(seed))
        return torch.where(task.action_mask().unsqueeze(1), drawn, 0.0).flatten(-2)
    shape = (n_seeds, task.state_dim, task.n_agents, task.n_actions)
    return torch.randn(shape, generator=generator(seed)).log_softmax(-1)


def data_of(task: Task, policy: Tensor, state: Tensor, action: Tensor | None = None) -> TensorDict:
    """States ``[R, B]`` (and actions ``[R, B, A]``) as the keys that behavior policies read."""
    one_hot = torch.nn.functional.one_hot(state, task.state_dim).float()
    data = TensorDict({keys.STATE: one_hot, keys.STATE_INDEX: state.unsqueeze(-1)}, batch_size=state.shape)
    data.set(keys.OBSERVATION, one_hot.unsqueeze(2).expand(-1, -1, task.n_agents, -1).clone())
    data.set(keys.PARAMETERS, policy[torch.arange(len(state)).unsqueeze(1), state])
    if action is not None:
        data.set(keys.ACTION, action)
    return data


def random_data(task: Task, policy: Tensor, rows: int, seed: int = 1) -> TensorDict:
    """States and actions uniform at random, so that d_D differs from pi_theta; continuous ones are off and too wide."""
    n_seeds = len(policy)
    state = torch.randint(task.state_dim, (n_seeds, rows), generator=generator(seed))
    if task.continuous_actions:
        mask, spread = task.action_mask(), torch.linspace(0.8, 1.6, n_seeds).reshape(-1, 1, 1)
        z = 0.3 + spread * torch.randn(n_seeds, rows, int(mask.sum()), generator=generator(seed + 100))
        data = data_of(task, policy, state)
        return data.set(keys.ACTION, gaussian.unwhiten(data.get(keys.PARAMETERS), z, mask))
    action = torch.randint(task.n_actions, (n_seeds, rows, task.n_agents), generator=generator(seed + 100))
    return data_of(task, policy, state, action)


def everywhere(task: Task, policy: Tensor, state: int, envs: int) -> TensorDict:
    """``envs`` parallel environments of every seed, all in one state."""
    return data_of(task, policy, torch.full((len(policy), envs), state))


def built(name: str, task: Task, n_seeds: int, **arguments: object) -> BehaviorPolicy:
    policy = BEHAVIORS[name](**arguments)
    policy.build(task, 0, list(range(n_seeds)))
    policy.reset(None)
    return policy


def updated(behavior: BehaviorPolicy, data: TensorDict) -> dict[str, Tensor]:
    """One update on ``data`` ``[R, B]`` as all of D."""
    if isinstance(behavior, AdjustedPolicy):
        behavior.delta_trainer.store.clear()
    behavior.extend(data)
    return behavior.update()


def joint_actions(task: Task) -> list[tuple[int, ...]]:
    return list(itertools.product(range(task.n_actions), repeat=task.n_agents))


def joint_probabilities(policy: Tensor, seed: int, state: int) -> dict[tuple[int, ...], float]:
    """pi_theta(a | s) of every joint action, by multiplying the agents' probabilities."""
    n_agents, n_actions = policy.shape[-2:]
    result = {}
    for actions in itertools.product(range(n_actions), repeat=n_agents):
        product = 1.0
        for agent, action in enumerate(actions):
            product *= policy[seed, state, agent, action].double().exp().item()
        result[actions] = product
    return result


def adjusted_probabilities(policy: Tensor, delta: Tensor, seed: int, state: int) -> dict[tuple[int, ...], float]:
    """pi_theta(a | s) exp(Delta(s, a)), normalized; ``delta`` ``[R, n_states, n_joint]`` in itertools' order."""
    target = joint_probabilities(policy, seed, state)
    weights = delta[seed, state].double().exp().tolist()
    weighted = {a: p * w for (a, p), w in zip(target.items(), weights, strict=True)}
    total = sum(weighted.values())
    return {a: w / total for a, w in weighted.items()}


def seen_log_probs(choice_action: Tensor, log_prob: Tensor) -> dict[tuple[int, ...], float]:
    """Joint action -> the log-probability ``choose`` stored with it; ``[E, A]`` and ``[E]``."""
    return {tuple(a): p for a, p in zip(choice_action.tolist(), log_prob.tolist(), strict=True)}


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    """The message as the command line shows it; in Python the same without the flags' prefixes."""
    message = with_flags(error.value.marked)
    assert "\n" not in message and "--" not in str(error.value)
    return message


class _Written(TorchDispatchMode):
    """Counts the numbers in what operations give, but for views."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for one in answer if isinstance(answer, (tuple, list)) else [answer]:
            self.numbers += one.numel() if isinstance(one, Tensor) and not one._is_view() else 0
        return answer


def written(call: Callable[[], Any]) -> int:
    """How many numbers a call has computed: what it costs, on any machine."""
    with _Written() as mode:
        call()
    return mode.numbers
