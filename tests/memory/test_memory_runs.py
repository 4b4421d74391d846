"""Every sampler with learners that remember: trains, resumes within episodes bit for bit, permutes, or refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from stepped import checkpoint_of, iterate, resume
from test_resume import differences

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.cli.main import main
from lit_maprops.data import MultiAgentData
from lit_maprops.engine import choose
from lit_maprops.envs import Foraging, MatrixGame, Task, TaskEnv, TMaze, TwoPeaks
from lit_maprops.module import LitMAPROPS
from lit_maprops.native.build import why_none
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import LEARNERS

native = pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")
N, ITERATIONS = 16, 3  # n, and target iterations of a run
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in BEHAVIORS},
    "stratified": ("OnPolicy", {"draws": "stratified"}),
    "MAPROPS, low discrepancy": ("MAPROPS", {"draws": "low_discrepancy"}),
    "MAPROPS, fewer states": ("MAPROPS", {"max_states": 4, "warm_start": True}),
    "MAPROPS, merged states": ("MAPROPS", {"merge_states": True}),
    "MAPROPS, auto": ("MAPROPS", {"kl_cutoff": "auto"}),
    "joint coordinate": ("LowDiscrepancy", {"coordinates": "joint"}),
    "ordered by value": ("LowDiscrepancy", {"order": "value"}),
}
# Those that count the visits of a state, as if pi_theta were the same in all of them.
REFUSED = {
    "Greedy": "behavior Greedy",
    "TabularMAPROPS": "behavior TabularMAPROPS",
    "MAPROPS, merged states": "merge_states",
    "MAPROPS, auto": "kl_cutoff auto",
}
SIZE = {"gru": 4, "lstm": 8}  # the kernel of target updates knows multiples of 8
CASES = [(sampler, "MAPPO", "gru") for sampler in SAMPLERS]
CASES += [(sampler, "IPPO", "lstm") for sampler in ("MAPROPS", "PROPS", "OnPolicy", "ordered by value")]


def prepared(
    sampler: str, learner: str, memory: str | None, seed_ids: list[int], kernels: bool = False, **others: Any
) -> LitMAPROPS:
    """A run that has not begun, with two environments per seed: target batches of 8 steps cut episodes of 7."""
    name, arguments = SAMPLERS[sampler]
    kind = BEHAVIORS[name]
    if issubclass(kind, AdjustedPolicy):
        small = {"hidden": [4], "learning_rate": 0.1, "epochs": 3, "clip_epsilon": 1.0, "kl_cutoff": 0.3}
        arguments = small | {"adam_epsilon": 1e-3} | arguments
    policy: dict[str, Any] = {"hidden": [4], "learning_rate": 0.05, "epochs": 2, "minibatches": 2}
    if memory is not None:
        policy |= {"memory": memory, "memory_size": SIZE[memory], "sequence_length": 4}
    task: Task = others.pop("task", None) or (TMaze(2, max_steps=7) if kind.discrete else TwoPeaks())
    data = {"num_envs": 2, "behavior_batch_size": 4, "target_batch_size": N} | others.pop("data", {})
    module = LitMAPROPS(
        kind(**arguments),
        LEARNERS[learner](**policy | others.pop("options", {})),
        num_seeds=len(seed_ids),
        total_env_steps=N * ITERATIONS,
        eval_interval=ITERATIONS,
        eval_episodes=3,
        **others,
    )
    module.seed_ids = seed_ids
    module.prepare(MultiAgentData(task, **data))
    if kernels:
        module.engines = choose("native", torch.device("cpu"), module.task, module.behavior, module.learner)
        assert module.engines.rollout is None and module.engines.targets is None
    elif memory == "lstm" and module.learner.why_not_native() is None:
        module.learner.use_kernel()
    return module


def resumed(saved: dict[str, Any], *made: Any, **others: Any) -> LitMAPROPS:
    return resume(prepared(*made, **others), saved)


@pytest.mark.every(5)
@pytest.mark.parametrize(("sampler", "learner", "memory"), CASES, ids=lambda name: name)
def test_every_sampler(sampler: str, learner: str, memory: str) -> None:
    if sampler in REFUSED:
        with pytest.raises(ConfigError, match=rf"^{REFUSED[sampler]} counts the visits[^\n]*memory[^\n]*$"):
            prepared(sampler, learner, memory, [0, 1, 2])
        return
    likelihood = {"sampling_error": "likelihood"} if sampler == "MAPROPS" else {}
    assert_resumes_and_permutes(sampler, learner, memory, **likelihood)


@native
@pytest.mark.every(2)
@pytest.mark.parametrize("learner", ["IPPO", "MAPPO", "HAPPO"])
@pytest.mark.parametrize(
    "sampler", ["OnPolicy", "MAPROPS", "PROPS", "LowDiscrepancy", "stratified", "MAPROPS, fewer states"]
)
def test_every_sampler_by_kernels(sampler: str, learner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollout, behavior and target updates; ``MAPROPS`` of the first kind plays and updates in one call."""
    monkeypatch.setattr("lit_maprops.module.steps_are_heard", lambda *given: False)
    monkeypatch.setattr(LitMAPROPS, "trainer", None)  # whose callbacks could listen
    memory = "gru" if learner == "IPPO" else "lstm"
    task = Foraging(max_steps=7, sight=1)
    assert_resumes_and_permutes(sampler, learner, memory, kernels=True, task=task, options={"memory_size": 8})


def assert_resumes_and_permutes(sampler: str, learner: str, memory: str, **others: Any) -> None:
    whole = prepared(sampler, learner, memory, [0, 1, 2], **others)
    whole.on_fit_start()
    rows = iterate(whole, 2)
    half = checkpoint_of(whole)
    if not whole.task.continuous_actions:  # its episodes are of one step
        carried = half["lit_maprops"]["collection"]["carried"]
        assert carried["agents/memory"].any() and carried["critic_memory"].any()  # within an episode
    rows += iterate(whole, ITERATIONS - 2)
    unknown = {name for name, value in rows[-1].items() if not value.isfinite().all()}
    assert unknown <= {"train/success_rate"}, unknown
    assert all(p.isfinite().all() for p in whole.parameters())

    again = resumed(half, sampler, learner, memory, [0, 1, 2], **others)
    rows_again = iterate(again, ITERATIONS - 2)
    assert differences(checkpoint_of(again), checkpoint_of(whole)) == []
    assert differences(rows_again, rows[2:]) == []

    order = [2, 0, 1]
    permuted = prepared(sampler, learner, memory, order, **others)
    permuted.on_fit_start()
    for row, expected in zip(iterate(permuted, ITERATIONS), rows, strict=True):
        for name, value in row.items():
            wanted = expected[name][order]
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, equal_nan=True, msg=lambda t, n=name: n + t)


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("learner", ["IPPO", "MAPPO"])
@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
def test_what_is_remembered_is_what_the_episode_was(memory: str, learner: str, share: bool) -> None:
    """The collected parameters, and the critic's values, are those of whole episodes played from their start."""
    module = prepared("OnPolicy", learner, memory, [0, 1], options={"share_parameters": share, "learning_rate": 1e-9})
    module.on_fit_start()
    batches = []
    policies, critic = module.learner.policies, module.learner.critic
    for _ in range(ITERATIONS):  # the learner moves nothing, so that all is of the same weights
        module._start_iteration()
        while not module.buffer.is_full:
            module._collect()
        batches.append(module.buffer.current().clone())
        module.buffer.next_batch()
    data = torch.cat(batches, 1)  # [R, T, E]
    steps, begun = data.shape[1], 0
    for env in range(2):
        now = data[:, :1, env].select(keys.MEMORY, keys.CRITIC_MEMORY).apply(torch.zeros_like)
        for step in range(steps):
            own = data[:, step : step + 1, env].select(keys.OBSERVATION, keys.STATE).clone()
            for name in (keys.MEMORY, keys.CRITIC_MEMORY):
                torch.testing.assert_close(now.get(name), data.get(name)[:, step : step + 1, env])
                own.set(name, now.get(name))
            found = policies.advance(own)
            critic.advance(own)
            torch.testing.assert_close(found, data.get(keys.PARAMETERS)[:, step : step + 1, env])
            following = data.get("next")[:, step : step + 1, env].select(keys.MEMORY, keys.CRITIC_MEMORY, keys.DONE)
            over = following.get(keys.DONE).unsqueeze(-1)
            for name in (keys.MEMORY, keys.CRITIC_MEMORY):
                after = own.get(("next", *(name if isinstance(name, tuple) else (name,))))
                torch.testing.assert_close(following.get(name), after)
                now.set(name, torch.where(over, 0.0, after))
            begun += int(over.sum())
    assert begun > 4


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("learner", ["IPPO", "MAPPO"])
def test_ratios_begin_at_one_and_values_at_those_of_the_collection(learner: str, memory: str) -> None:
    """Unrolled over sequences from what is stored, the weights of the collection give what it gave."""
    module = prepared("MAPROPS", learner, memory, [0, 1, 2], data={"target_batch_size": 32})
    module.on_fit_start()
    iterate(module, 1)  # episodes go on from the batch before
    module._start_iteration()
    while not module.buffer.is_full:
        module._collect()
    own = module.learner
    data = own._prepare(module.buffer.trajectories())
    assert data.get(keys.BEGINS).any()
    torch.testing.assert_close(own.policies.parameters_in(data), data.get(keys.PARAMETERS))
    torch.testing.assert_close(own.critic.values(data), data.get(keys.VALUE))


def test_kl_stops_are_those_of_each_seed() -> None:
    module = prepared("OnPolicy", "MAPPO", "gru", [0, 1, 2], options={"kl_stop": 0.1, "epochs": 9})
    module.on_fit_start()
    epochs = torch.stack([row["target/target_epochs"] for row in iterate(module, ITERATIONS)])
    assert (epochs < 9).any() and len(epochs.unique()) > 1


def test_evaluation_remembers() -> None:
    """Greedy episodes played by hand, one at a time."""
    module = prepared("OnPolicy", "MAPPO", "gru", [0, 1])
    torch.nn.init.normal_(module.learner.policies.net.flat, std=2.0, generator=torch.Generator().manual_seed(1))
    found = module.evaluate("evaluation", 8)["greedy"]
    env = TaskEnv(module.task, module.run_seed, [0, 1], 8, "evaluation 0 environment")
    current, over = env.reset(), torch.zeros(2, 8, dtype=torch.bool)
    success = torch.zeros(2, 8)
    net = module.learner.policies.net
    memory = net.start(8)
    while not over.all():
        seen = current.get(keys.OBSERVATION).transpose(1, 2).unsqueeze(2)  # [R, A, 1, E, O]
        output, after = net.unroll(seen, memory)
        memory = after.squeeze(2)
        action = output.squeeze(2).argmax(-1).transpose(1, 2)
        following = env.step(current.set(keys.ACTION, action)).get("next")
        success += following.get(keys.SUCCESS).squeeze(-1) & ~over
        over |= following.get(keys.DONE).squeeze(-1)
        current = following
    torch.testing.assert_close(found.success_rate, success.mean(1))


@native
def test_engines_say_why() -> None:
    size = "in torch (<learner.memory_size> is 4, and the kernel knows multiples of 8)"
    says = {
        "gru": f"engine: native for behavior updates; rollout {size}; target updates {size}",
        "lstm": "engine: native for rollout, behavior updates, target updates",
    }
    for memory, said in says.items():
        module = prepared("MAPROPS", "MAPPO", memory, [0], task=MatrixGame("figure1"), data={"target_batch_size": 8})
        line = choose("auto", torch.device("cpu"), module.task, module.behavior, module.learner).line()
        assert line == said
    alone = prepared("OnPolicy", "MAPPO", "gru", [0])
    parts = torch.device("cpu"), alone.task, alone.behavior, alone.learner
    reasons = "rollout: TMaze has no compiled rules; target updates: <learner.memory_size> is 4"
    assert choose("auto", *parts).line().startswith(f"engine: torch ({reasons}")
    with pytest.raises(ConfigError) as error:
        choose("native", *parts)
    assert error.value.marked.startswith(f"<model.engine> is native and no part has a kernel ({reasons}")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"options": {"sequence_length": 5}}, "sequence_length is 5 and a batch has 8 steps"),
        (
            {"options": {"minibatches": 5}},
            "minibatches is 5 and a target batch has 4 sequences of 4 env .*at most 4",
        ),
        ({"data": {"history_batches": 2}}, "memory is gru and D keeps older batches"),
        ({"data": {"history": "growing"}}, "memory is gru and D keeps older batches"),
        ({"sampling_error": "tabular"}, "sampling_error is tabular.*memory"),
    ],
)
def test_refusals(made: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{words}[^\n]*$"):
        prepared("OnPolicy", "MAPPO", "gru", [0], **made)


def test_more_minibatches_than_env_steps_are_refused() -> None:
    """They would be as many as there are env steps, whatever the option says."""
    prepared("OnPolicy", "MAPPO", None, [0], options={"minibatches": N})
    with pytest.raises(
        ConfigError, match=rf"^minibatches is 17 and a target batch has {N} env steps .*give at most {N}$"
    ):
        prepared("OnPolicy", "MAPPO", None, [0], options={"minibatches": N + 1})


@pytest.mark.parametrize(
    ("learner", "options", "words"),
    [
        ("Reinforce", {"memory": "gru"}, "memory is gru and Reinforce learns from single steps"),
        ("IPPO", {"memory_size": 8}, "memory_size is given without memory"),
        ("IPPO", {"sequence_length": 8}, "sequence_length is given without memory"),
        ("HAPPO", {"burn_in": 0}, "burn_in is given without memory"),
        ("MAPPO", {"memory": "gru", "burn_in": 16}, "burn_in is 16 and sequences have 16 steps"),
    ],
)
def test_options_without_effect_are_refused(learner: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{words}[^\n]*$"):
        LEARNERS[learner](**options)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("5", "rollout in torch (--model.learner.memory_size is 5, and"),
        pytest.param("8", "native for rollout, behavior updates, target updates\n", marks=native),
    ],
)
def test_whole_runs_from_the_command_line(
    size: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the middle and continued: the last checkpoint is the same; then ``analyze``."""
    options = [
        "--model.learner.memory",
        "gru",
        "--model.learner.memory_size",
        size,
        "--model.learner.sequence_length",
        "4",
    ]
    given = ["fit", *SMALL["BoulderPush"], *options, "--runs_dir", str(tmp_path)]
    assert main([*given, "--run_name", "whole"]) == 0
    assert said in capsys.readouterr().err
    assert main([*given, "--run_name", "half", "--model.total_env_steps", "96"]) == 0
    half = tmp_path / "half/checkpoints/last.ckpt"
    assert main(["fit", "--ckpt_path", str(half), "--model.total_env_steps", "192"]) == 0
    one, other = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "half")
    )
    parts = ("state_dict", "optimizer_states", "lit_maprops")
    assert differences(*({part: saved[part] for part in parts} for saved in (one, other))) == []
    capsys.readouterr()
    flags = ["--batches", "4", "--reference_batches", "8", "--output", str(tmp_path / "analysis.json")]
    assert main(["analyze", "--ckpt_path", str(half), *flags, "--samplers", "LowDiscrepancy"]) == 0
    code = main(["analyze", "--ckpt_path", str(half), *flags, "--samplers", "TabularMAPROPS"])
    assert code != 0 and "TabularMAPROPS counts the visits" in capsys.readouterr().err
