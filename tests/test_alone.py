"""A seed of many, repeated alone: the same random numbers; the same results, in torch up to rounding."""

from pathlib import Path

import pytest
import torch
from test_engine import engine_of, needs_kernels
from test_module import tabular, train

import lit_maprops as lm
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.behavior.structured import StructuredPolicy
from lit_maprops.envs import BoulderPush, MatrixGame, Task, TwoPeaks
from lit_maprops.module import LitMAPROPS
from lit_maprops.targets import LEARNERS, Reinforce

PAIRS = [
    pytest.param(
        behavior,
        learner,
        kind,
        # One pair of each sampler and of each learner in everyday's tests.
        marks=[] if learner == "MAPPO" or behavior == "MAPROPS" else [pytest.mark.slow],
        id=f"{behavior}-{learner}-{kind}",
    )
    for behavior, cls in BEHAVIORS.items()
    for learner in LEARNERS
    for kind in ("discrete", "continuous")
    if (cls.discrete if kind == "discrete" else cls.continuous)
]


def figures(model: LitMAPROPS, seed: int) -> dict[str, torch.Tensor]:
    """Parameters and metrics of one of the seeds."""
    rows = {name: value for name, value in model.row.items() if not name.startswith("time/")}
    own = {name: value for name, value in model.state_dict().items() if value.dim() and len(value) == model.num_seeds}
    return {name: value[seed] for name, value in (own | rows).items()}


@pytest.mark.every(3)
@pytest.mark.parametrize(("behavior", "learner", "kind"), PAIRS)
def test_a_seed_repeated_alone_is_the_same_up_to_rounding(behavior: str, learner: str, kind: str) -> None:
    models = []
    for seed_ids in ([6, 7, 8], [7]):
        options = {} if learner == "Reinforce" else {"epochs": 1, "minibatches": 2}
        task: Task = BoulderPush(max_steps=4, sensor_range=1) if kind == "discrete" else TwoPeaks(components=[2, 1])
        chosen = LEARNERS[learner](hidden=[8, 8], **options)
        models.append(train(BEHAVIORS[behavior](), chosen, task, (1, 4, 12), 2, seed_ids))
    together, alone = figures(models[0], 1), figures(models[1], 0)
    assert together.keys() == alone.keys() and len(together) > 5
    for name, value in together.items():
        # Adam may make much of a gradient that is rounding alone; what Delta does is in the metrics.
        if not name.startswith("behavior.net"):
            torch.testing.assert_close(alone[name], value, rtol=1e-3, atol=1e-5, equal_nan=True, msg=name)
    other = figures(models[0], 0)
    assert any(not torch.equal(other[name], value) for name, value in together.items())


@needs_kernels
def test_by_kernels_alone_a_seed_has_the_same_bits(tmp_path: Path) -> None:
    """With PROPS; tests/test_engine.py has MAPROPS."""
    settings = {"total_env_steps": 1024, "eval_episodes": 1, "sampling_error": None, "wandb": "disabled"}
    runs = []
    for first, seeds in ((0, 5), (3, 1)):
        place = {"runs_dir": tmp_path, "run_name": f"{seeds}", "num_seeds": seeds, "first_seed": first}
        runs.append(lm.fit(config="boulderpush", behavior=lm.PROPS(), engine="native", **settings, **place))
    assert set(engine_of(runs[0]).values()) == {"native"}
    together, alone = (
        torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in runs
    )
    nets = [name for name in together if name.endswith("net.flat")]
    assert len(nets) >= 3 and all(torch.equal(together[name][3:4], alone[name]) for name in nets)


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", [kind for kind in BEHAVIORS.values() if kind.discrete])
def test_parameters_of_a_matrix_game_have_the_same_bits(kind: type) -> None:
    structured = issubclass(kind, StructuredPolicy)
    models = [
        train(kind(hidden=[]) if structured else tabular(kind), Reinforce(), MatrixGame(), (1, 1, 8), 5, seed_ids)
        for seed_ids in ([6, 7, 8], [7])
    ]
    together, alone = figures(models[0], 1), figures(models[1], 0)
    for name, value in together.items():
        if name in models[0].row:  # means over steps, which round by themselves
            torch.testing.assert_close(alone[name], value, rtol=1e-6, atol=1e-7, equal_nan=True, msg=name)
        else:
            assert torch.equal(alone[name], value), name
