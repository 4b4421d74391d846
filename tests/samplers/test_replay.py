"""A sampler fed with what a run collected draws what the run drew: the module's Algorithm 1 and a plain loop agree."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import BoulderPush, MatrixGame, Task, TwoPeaks
from lit_maprops.module import LitMAPROPS
from lit_maprops.samplers import JointSampler
from lit_maprops.targets import Reinforce

Event = tuple[str, Any]
DISCRETE = [name for name, kind in BEHAVIORS.items() if kind.discrete]
CONTINUOUS = [name for name, kind in BEHAVIORS.items() if kind.continuous]
STRONG = {"clip_epsilon": 1.0, "kl_cutoff": 1.0, "learning_rate": 0.5, "epochs": 3, "hidden": []}
RUN_SEED = 7


def policy_of(name: str, hidden: list[int]) -> BehaviorPolicy:
    kind = BEHAVIORS[name]
    return kind(**(STRONG | {"hidden": hidden})) if issubclass(kind, AdjustedPolicy) else kind()


def recorded(
    monkeypatch: pytest.MonkeyPatch, behavior: BehaviorPolicy, task: Task, batches: tuple[int, int, int]
) -> list[Event]:
    """What two target iterations of a run ask of the behavior policy, with its answers."""
    kind, events = type(behavior), []
    choose, update, reset = kind.choose, kind.update, kind.reset

    def spy_choose(self: Any, data: Any, parameters: torch.Tensor) -> Any:
        choice = choose(self, data, parameters)
        events.append(("choose", (data.clone(), parameters.clone(), choice)))
        return choice

    def spy_update(self: Any, measure: bool = True) -> Any:
        stats = update(self, measure)
        events.append(("update", (measure, stats, {k: v.clone() for k, v in self.state_dict().items()})))
        return stats

    def spy_reset(self: Any, data: Any) -> None:
        reset(self, data)
        events.append(("reset", data))

    with monkeypatch.context() as patch:
        for name, spy in (("choose", spy_choose), ("update", spy_update), ("reset", spy_reset)):
            patch.setattr(kind, name, spy)
        patch.setattr("lit_maprops.module.serves", lambda *_: False)  # which asks OnPolicy once for many steps
        num_envs, m, n = batches
        learner = Reinforce(hidden=[8]) if isinstance(task, BoulderPush) else Reinforce()
        settings = {"total_env_steps": 2 * n, "eval_episodes": 1, "run_seed": RUN_SEED, "engine": "torch"}
        model = LitMAPROPS(behavior, learner, **settings)  # a sampler's engine is torch
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **options)
        trainer.fit(model, datamodule=MultiAgentData(task, num_envs, m, n))
    return events


def replay(events: list[Event], sampler: JointSampler) -> int:
    """Ask the sampler the same; returns how many steps were compared, all bit for bit."""
    steps = 0
    for kind, content in events:
        if kind == "choose":
            data, parameters, choice = content
            action = sampler.act(data.get(keys.STATE)[0], parameters[0], data.get(keys.OBSERVATION)[0])
            drawn = sampler.drawn
            assert drawn is not None
            assert torch.equal(action, choice.action[0])
            assert torch.equal(drawn.behavior_log_prob, choice.behavior_log_prob[0])
            assert torch.equal(drawn.kl.nan_to_num(-1), choice.kl[0].nan_to_num(-1))  # Greedy has none
            sampler.observe()
            if not steps:
                sampler.steps.clear()  # the collector tried its policy when it was made
            steps += 1
        elif kind == "update":
            measure, stats, network = content
            assert sampler.update(measure) == {name: float(value) for name, value in stats.items()}
            assert all(torch.equal(value, network[name]) for name, value in sampler.behavior.state_dict().items())
        else:
            sampler.reset()
    return steps - 1


@pytest.mark.parametrize("name", DISCRETE)
def test_figure1(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    events = recorded(monkeypatch, policy_of(name, []), MatrixGame(), (1, 1, 8))
    assert replay(events, JointSampler(policy_of(name, []), [2, 2], num_envs=1, seed=RUN_SEED)) == 16


@pytest.mark.every(3)
@pytest.mark.parametrize("name", DISCRETE)
def test_states_and_observations(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    task = BoulderPush(size="tiny")
    events = recorded(monkeypatch, policy_of(name, [8]), task, (2, 4, 16))
    sampler = JointSampler(policy_of(name, [8]), [task.n_actions] * task.n_agents, num_envs=2, seed=RUN_SEED)
    assert replay(events, sampler) == 16


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_actions(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    task = TwoPeaks()
    events = recorded(monkeypatch, policy_of(name, []), task, (1, 1, 8))
    sampler = JointSampler(policy_of(name, []), action_dims=[1] * task.n_agents, num_envs=1, seed=RUN_SEED)
    assert replay(events, sampler) == 16
