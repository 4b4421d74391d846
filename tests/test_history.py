"""What D retains of older batches: storage, what it means under the present policies, staleness, memory, resume."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL
from lightning.pytorch import Callback, Trainer
from tensordict import TensorDict
from torch.distributions import Categorical, kl_divergence

from lit_maprops import data as data_module
from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, Greedy, OnPolicy, TabularMAPROPS
from lit_maprops.buffer import Buffer
from lit_maprops.cli.main import main
from lit_maprops.collect import BehaviorActor, Collection, step_bytes, update_keys
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import TASKS, BoulderPush, MatrixGame, Task, TaskEnv
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.memory import available_bytes
from lit_maprops.system.tables import read_table
from lit_maprops.targets import IPPO, MAPPO, Learner, Reinforce

JOINT = list(itertools.product(range(2), repeat=2))


def train(
    learner: Learner, task: Task, n: int, iterations: int, callback: Callback | None = None, **history: Any
) -> LitMAPROPS:
    model = LitMAPROPS(OnPolicy(), learner, 2, total_env_steps=iterations * n, eval_episodes=2)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[] if callback is None else [callback],
    )  # fmt: skip
    trainer.fit(model, datamodule=MultiAgentData(task, 1, 1, n, **history))
    return model


class KeepsEverything(Callback):
    """D as the learner sees it, and the metrics, of every iteration."""

    def __init__(self) -> None:
        self.seen: list[TensorDict] = []
        self.prepared: list[TensorDict] = []
        self.staleness: list[torch.Tensor | None] = []
        self.places: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        update = pl_module.learner.update

        def spy(buffer: Buffer) -> dict:
            data = buffer.trajectories()
            self.seen.append(data.clone())
            self.places.append(data.get(keys.STATE).data_ptr())
            if hasattr(pl_module.learner, "_prepare"):
                self.prepared.append(pl_module.learner._prepare(data))
                self.values = pl_module.learner.critic.values
                self.prepared[-1].set("following", self.values(data.get("next")).detach().flatten(1, 3))
            return update(buffer)

        pl_module.learner.update = spy

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.staleness.append(pl_module.row.get("history/staleness"))


# storage


@pytest.mark.parametrize("history", [{"history_batches": 3}, {"history": "growing"}])
def test_d_is_the_newest_batches_in_time_order_and_never_moves(history):
    kept = KeepsEverything()
    train(Reinforce(), MatrixGame(), 4, 6, kept, **history)
    room = history.get("history_batches", 6)
    for iteration, data in enumerate(kept.seen):
        assert data.shape[1] == min(iteration + 1, room)
        assert kept.places[iteration] == kept.places[0]
        for age in range(1, data.shape[1]):
            newest_of = kept.seen[iteration - age][:, -1]
            for key in (keys.ACTION, ("next", *keys.REWARD), keys.BEHAVIOR_LOG_PROB, keys.COLLECTED_PARAMETERS):
                assert torch.equal(data[:, -1 - age].get(key), newest_of.get(key))


def test_a_growing_buffer_takes_no_more_batches_than_the_run_has():
    model = train(Reinforce(), MatrixGame(), 4, 2, history="growing")
    assert model.buffer.stored_batches == 2
    with pytest.raises(ValueError, match="do not fit"):
        model.buffer.extend(model.collection.collect())


# meaning


def recursion(data: TensorDict, value: torch.Tensor, following: torch.Tensor, gamma: float, lmbda: float) -> list:
    """GAE of ``[T]`` transitions of one seed and agent, last to first, from floats."""
    reward = data.get(("next", *keys.REWARD))[..., 0]
    done, terminated = data.get(("next", keys.DONE)), data.get(("next", keys.TERMINATED))
    result, carried = [], 0.0
    for t in reversed(range(len(value))):
        error = float(reward[t]) + gamma * float(following[t]) * (not terminated[t]) - float(value[t])
        carried = error + gamma * lmbda * carried * (not done[t])
        result.append(carried)
    return result[::-1]


@pytest.mark.parametrize("history", [{"history_batches": 3}, {"history": "growing"}])
def test_advantages_stop_at_the_seams_of_a_real_run(history):
    """Batches of 8 steps of episodes of 5: nearly every seam lies within an episode."""
    kept = KeepsEverything()
    train(MAPPO(hidden=[4], gae_lambda=0.9, clip_value=None), BoulderPush(max_steps=5), 8, 5, kept, **history)
    crossed = 0
    for data, prepared in zip(kept.seen, kept.prepared, strict=True):
        target = prepared.get(keys.VALUE_TARGET)[0, :, 1, 0].tolist()
        value, following = prepared.get(keys.VALUE)[0, :, 1, 0], prepared.get("following")[0, :, 1, 0]
        rows, batches = data[0, ..., 0], data.shape[1]
        own = []
        for k in range(batches):
            part = slice(8 * k, 8 * k + 8)
            mine = rows[k].exclude("agents").set(("next", *keys.REWARD), rows[k].get(("next", *keys.REWARD))[:, 1])
            own += recursion(mine, value[part], following[part], 0.99, 0.9)
        own = [a + float(v) for a, v in zip(own, value, strict=True)]
        np.testing.assert_allclose(target, own, rtol=1e-4, atol=1e-6)
        joined = rows.flatten(0, 1)
        joined = joined.exclude("agents").set(("next", *keys.REWARD), joined.get(("next", *keys.REWARD))[:, 1])
        wrong = recursion(joined, value, following, 0.99, 0.9)
        crossed += not np.allclose(target, [a + float(v) for a, v in zip(wrong, value, strict=True)], atol=1e-6)
    assert crossed >= 3  # joined batches give other numbers: the comparison above can fail


def matrix_step(action: list[tuple[int, int]], logits: torch.Tensor) -> TensorDict:
    """Steps of a 2x2 game, one seed ``[1, T, 1]``; ``logits`` ``[A, N]`` are those of the policy that collected."""
    steps, taken = len(action), torch.tensor(action).reshape(1, -1, 1, 2)
    data = TensorDict({keys.STATE: torch.ones(1, steps, 1, 1)}, batch_size=[1, steps, 1])
    data.set(keys.STATE_INDEX, torch.zeros(1, steps, 1, 1, dtype=torch.int64))
    data.set(keys.OBSERVATION, torch.ones(1, steps, 1, 2, 1))
    data.set(keys.ACTION, taken)
    data.set(keys.PARAMETERS, logits.expand(1, steps, 1, 2, 2).clone())
    log_prob = data.get(keys.PARAMETERS).gather(-1, taken.unsqueeze(-1)).squeeze(-1)
    data.set(keys.LOG_PROB, log_prob)
    data.set(keys.TARGET_LOG_PROB, log_prob.sum(-1))
    return data


# The old policy almost always played (0, 0), as the old batch says; the present one is indifferent for agent 0.
OLD = torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log()
NOW = torch.tensor([[0.5, 0.5], [0.7, 0.3]]).log()
OLD_BATCH = [(0, 0)] * 7 + [(1, 0)]


def corrected(behavior: BehaviorPolicy) -> tuple[BehaviorPolicy, dict[tuple[int, int], float]]:
    """The behavior policy as the module resets it on a D of one old batch, and pi_theta of all joint actions now."""
    behavior.build(MatrixGame(), 0, [0])
    behavior.reset(None)
    buffer = Buffer(len(OLD_BATCH), 2)
    buffer.extend(matrix_step(OLD_BATCH, OLD))
    buffer.next_batch()
    buffer.recompute_targets(lambda observation: NOW.expand(*observation.shape[:-1], 2), MatrixGame().family)
    behavior.reset(buffer.flat(*update_keys(MatrixGame())))
    return behavior, {(a, b): math.exp(NOW[0, a] + NOW[1, b]) for a, b in JOINT}


def probabilities(behavior: BehaviorPolicy) -> dict[tuple[int, int], float]:
    """pi_phi of every joint action, from what ``choose`` stores with those it draws."""
    step = matrix_step([(0, 0)], NOW)[:, 0].expand(1, 4000).clone()
    choice = behavior.choose(step, step.get(keys.PARAMETERS))
    drawn = zip(choice.action[0].tolist(), choice.behavior_log_prob[0].exp().tolist(), strict=True)
    seen = {tuple(action): probability for action, probability in drawn}
    return {action: seen.get(action, 0.0) for action in JOINT}


def test_tabular_ma_props_corrects_what_the_old_batch_holds_under_the_present_policies():
    """Closed form: phi is the deficit pi(a) (N + 1) - N(a), cut at 0, with N counted in the old batch."""
    behavior, pi = corrected(TabularMAPROPS(clip_epsilon=1.0, kl_cutoff=1e3))
    deficit = {a: max(0.0, pi[a] * (len(OLD_BATCH) + 1) - OLD_BATCH.count(a)) for a in JOINT}
    for action, probability in probabilities(behavior).items():
        assert probability == pytest.approx(deficit[action] / sum(deficit.values()), abs=1e-5)
    assert probabilities(behavior)[0, 0] == 0.0 < pi[0, 0]


def test_ma_props_corrects_what_the_old_batch_holds_under_the_present_policies():
    """The first gradient in the logits is pi_theta - d_D (algorithm.md): small steps move each action by its sign."""
    behavior, pi = corrected(MAPROPS(clip_epsilon=1.0, kl_cutoff=1e3, epochs=1, learning_rate=1e-3, hidden=[]))
    before = probabilities(behavior)
    behavior.update()
    delta = behavior.net(torch.ones(1, 1, 1))[0, 0].tolist()
    for action, change in zip(JOINT, delta, strict=True):
        assert before[action] == pytest.approx(pi[action], abs=1e-6)  # phi starts at the present theta
        assert math.copysign(1, change) == math.copysign(1, pi[action] - OLD_BATCH.count(action) / len(OLD_BATCH))
    # Under the policy that collected it, (0, 0) was over-represented and (0, 1) under-represented too; (1, 0) was
    # not lacking: 1/8 > 0.1 * 0.9. What decides is the present policy.
    assert delta[JOINT.index((1, 0))] > 0 > 1 * (0.1 * 0.9 - OLD_BATCH.count((1, 0)) / 8)


def test_props_corrects_every_agent_under_its_present_policy():
    behavior, _ = corrected(PROPS(clip_epsilon=1.0, kl_cutoff=1e3, epochs=1, learning_rate=1e-3, hidden=[]))
    behavior.update()
    delta = behavior.net(torch.ones(1, 2, 1, 1))[0, :, 0]  # [A, N]
    assert delta[0, 0] < 0 < delta[0, 1]  # agent 0 played 0 in 7 of 8, now wants it in half
    assert delta[1, 0] < 0 < delta[1, 1]  # agent 1 played 0 always, now wants it in 0.7


def test_new_samples_lean_away_from_what_the_old_batch_has_too_much_of():
    """Greedy, uniform present policy: 4 old (0, 0) and 4 new samples; none of the new ones is (0, 0) again."""
    behavior = Greedy()
    behavior.build(MatrixGame(), 0, [0])
    uniform = torch.full((2, 2), math.log(0.5))
    behavior.reset(matrix_step([(0, 0)] * 4, uniform).flatten(1, 2))
    new = Counter()
    for _ in range(4):
        step = matrix_step([(0, 0)], uniform)[:, 0]
        new[tuple(behavior.choose(step, step.get(keys.PARAMETERS)).action[0, 0].tolist())] += 1
    assert new[0, 0] == 0 and sorted(new.values()) == [1, 1, 2]


@pytest.mark.parametrize("kind", [IPPO, MAPPO])
def test_ppo_starts_from_ratio_one_on_all_of_d(kind):
    """With steps of no size the ratio stays where it started: nothing is clipped although theta moved in between."""
    kept = KeepsEverything()
    learner = kind(learning_rate=0.05, hidden=[], epochs=3)
    model = train(learner, MatrixGame(), 16, 3, kept, history="growing")
    stale = model.buffer._stored()
    moved = (stale.get(keys.COLLECTED_PARAMETERS) - stale.get(keys.PARAMETERS))[:, 0].abs().max()
    assert moved > 0.2  # beyond PPO's clip
    for group in learner.optimizer.param_groups:
        group["lr"] = 1e-12
    model.buffer.stored_batches, model.buffer.filled = 2, 16  # the last batch as the current one
    assert learner.update(model.buffer)["clip_fraction"].abs().max() == 0


# staleness


@pytest.mark.parametrize("history", [{"history_batches": 3}, {"history": "growing"}])
def test_staleness_is_the_kl_of_the_collecting_and_the_present_policy(history):
    kept = KeepsEverything()
    train(Reinforce(learning_rate=2.0), MatrixGame(), 6, 5, kept, **history)
    collected = [data.get(keys.PARAMETERS)[:, -1, 0, 0] for data in kept.seen]  # [R, A, N]
    assert kept.staleness[0].isnan().all()
    for now in range(1, 5):
        older = range(max(0, now - history.get("history_batches", 99) + 1), now)
        kl = [kl_divergence(*(Categorical(logits=collected[i]) for i in (old, now))).sum(-1) for old in older]
        torch.testing.assert_close(kept.staleness[now], torch.stack(kl).mean(0), atol=1e-6, rtol=1e-4)
    assert kept.staleness[-1].min() > 1e-3


def test_without_history_there_is_no_staleness():
    kept = KeepsEverything()
    train(Reinforce(), MatrixGame(), 4, 2, kept)
    assert kept.staleness == [None, None]
    assert keys.COLLECTED_PARAMETERS not in kept.seen[0].keys(True)


# memory


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("Gymnasium", "TorchRL", "VMAS")])
def test_bytes_per_step_are_those_of_a_real_collection(name):
    task, seeds = TASKS[name](), [0, 1, 2]
    behavior, learner = OnPolicy(), IPPO(hidden=[4])
    for part in (behavior, learner):
        part.build(task, 0, seeds)
    collection = Collection(TaskEnv(task, 0, seeds, 2), BehaviorActor(learner.policies, behavior), 8)
    buffer = Buffer(4, 5)
    buffer.extend(collection.collect())
    collection.close()
    assert buffer.bytes == 3 * 5 * 8 * step_bytes(task)


def small_memory(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    monkeypatch.setattr(data_module, "available_bytes", lambda: available)


def test_a_history_that_does_not_fit_names_its_bytes(monkeypatch):
    needed = 7 * 5 * 8 * step_bytes(MatrixGame())  # seeds, batches, steps
    data = MultiAgentData(MatrixGame(), 1, 1, 8, history="growing")
    data.iterations = 5
    small_memory(monkeypatch, 2 * needed)
    data.check_memory(7)
    small_memory(monkeypatch, 2 * needed - 1)
    with pytest.raises(ConfigError, match=f"{needed:,} bytes.*num_seeds.*history to fixed"):
        data.check_memory(7)
    with pytest.raises(ConfigError, match=r"history_batches"):
        MultiAgentData(MatrixGame(), 1, 1, 8, history_batches=6).check_memory(7)
    MultiAgentData(MatrixGame(), 1, 1, 8, history_batches=4).check_memory(7)


def test_available_memory_is_the_lower_of_machine_and_control_group(tmp_path):
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       16000 kB\nMemFree:    100 kB\nMemAvailable:    5000 kB\n")
    assert available_bytes(table, tmp_path) == 5000 * 1024
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(table, tmp_path) == 5000 * 1024
    (tmp_path / "memory.max").write_text("1000\n")
    assert available_bytes(table, tmp_path) == 700
    everything = available_bytes(tmp_path / "none", tmp_path)
    assert everything is None or everything > 2**28


# the command line

BAD = {
    "growing and a number": (["--data.history", "growing", "--data.history_batches", "3"], ["--data.history_batches"]),
    "neither": (["--data.history", "all"], ["--data.history", "growing"]),
    "too long": (
        ["--data.history", "growing", "--model.num_seeds", "100000", "--model.total_env_steps", "1000000000"],
        ["--data.history", "bytes", "--model.total_env_steps"],
    ),
    "too many": (["--data.history_batches", "1000000", "--model.num_seeds", "1000000"], ["--data.history_batches"]),
}


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_bad_history_is_one_line(tmp_path: Path, capsys: Any, options: list[str], words: list[str]) -> None:
    assert main(["fit", *SMALL["MatrixGame"], *options, "--runs_dir", str(tmp_path / "runs")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and all(word in lines[0] for word in words), lines
    assert not (tmp_path / "runs").exists()


def test_history_and_none_are_not_continued_as_each_other(fit: Callable[..., Path], capsys: Any) -> None:
    checkpoint = str(fit("x", "--data.history", "growing") / "checkpoints" / "last.ckpt")
    capsys.readouterr()
    assert main(["fit", "--ckpt_path", checkpoint, "--data.history", "fixed"]) == 2
    assert "--data.history" in capsys.readouterr().err


def test_a_finished_run_is_continued_with_its_whole_history(fit: Callable[..., Path]) -> None:
    """As if it had been that long from the start: nothing of D was dropped at the end."""
    options = ("--data.history", "growing", "--model.behavior", "TabularMAPROPS", "--model.learner", "Reinforce")
    whole = fit("whole", *options)
    short = fit("short", *options, "--model.total_env_steps", "24")
    checkpoint = str(short / "checkpoints" / "last.ckpt")
    assert main(["fit", "--ckpt_path", checkpoint, "--model.total_env_steps", "64"]) == 0
    a, b = read_table(whole / "metrics.csv"), read_table(short / "metrics.csv")
    for column in ("train/episode_return", "history/staleness", "behavior/kl", "target/policy_loss"):
        np.testing.assert_array_equal(a[column], b[column], err_msg=column)
    assert np.isnan(a["history/staleness"][0]) and (a["history/staleness"][1:] > 0).all()


def test_the_columns_of_a_history_are_documented(fit: Callable[..., Path]) -> None:
    from conftest import ROOT

    page = (ROOT / "docs" / "metrics.md").read_text()
    columns = set(read_table(fit("x", "--data.history_batches", "2") / "metrics.csv"))
    assert "history/staleness" in columns
    assert all(f"`{name.removesuffix('_se').removesuffix('_on_policy')}`" in page for name in columns)
