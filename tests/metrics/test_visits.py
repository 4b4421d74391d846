"""First visits and joint actions seen, against loops over tuples; no state is taken for another."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.metrics import visits
from lit_maprops.metrics.visits import number_rows, visit_figures
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.tables import read_table

SEEDS, OLD, STEPS, ENVS, AGENTS = 3, 2, 15, 4, 2
Contents = Callable[[Tensor], Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data_of(state: Tensor, contents: Contents, numbered: bool = False) -> TensorDict:
    """D ``[R, B]`` whose states ``[R, B]`` look as ``contents`` says."""
    action = torch.randint(3, (*state.shape, AGENTS), generator=generator(1))
    data = TensorDict({keys.STATE: contents(state)}, batch_size=state.shape).set(keys.ACTION, action)
    return data.set(keys.STATE_INDEX, state.unsqueeze(-1)) if numbered else data


def slow(data: TensorDictBase, new_steps: int, envs: int, numbered: bool) -> tuple[list[float], list[float]]:
    """Vector step by vector step, with Python's own equality."""
    shares, seen = [], []
    for seed in range(len(data)):
        contents = data.get(keys.STATE_INDEX if numbered else keys.STATE)[seed].tolist()
        states = [tuple(row) for row in contents]
        actions = [tuple(row) for row in data.get(keys.ACTION)[seed].tolist()]
        before: set[tuple] = set()
        first = []
        for start in range(0, len(states), envs):
            now = states[start : start + envs]
            first += [state not in before for state in now]
            before |= set(now)
        shares.append(sum(first[-new_steps:]) / new_steps)
        held = defaultdict(set)
        for state, action in zip(states, actions, strict=True):
            held[state].add(action)
        seen.append(sum(len(held[state]) for state in states) / len(states))
    return shares, seen


def pictures(state: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(state, 40).to(torch.uint8)


def small(state: Tensor) -> Tensor:
    return torch.stack([state // 7 - 3, state % 7 - 3], -1).to(torch.int8)


def floats(state: Tensor) -> Tensor:
    """Of which some differ in the last bit, and 0.0 may be -0.0."""
    table = torch.rand(20, 2, generator=generator(3)).repeat_interleave(2, 0)
    table[1::2] = torch.nextafter(table[1::2], torch.tensor(2.0))
    values = table[state]
    values[state == 5] = 0.0
    values[:, ::2][state[:, ::2] == 5] = -0.0
    return values


KINDS = {"pictures": pictures, "small": small, "floats": floats, "doubles": lambda s: floats(s).double()}


@pytest.mark.parametrize("collisions", [False, True])
@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "envs"), [(0, 1), (0, ENVS), (OLD, 1), (OLD, ENVS)])
def test_figures_are_those_of_a_loop(
    kind: str, numbered: bool, old: int, envs: int, collisions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if collisions:  # sums that tell nothing apart
        monkeypatch.setattr(visits, "_powers", lambda count: torch.zeros(count, dtype=torch.int64))
    new = STEPS * envs
    state = torch.randint(40, (SEEDS, (old + 1) * new), generator=generator())
    data = data_of(state, KINDS[kind], numbered)
    shares, seen = slow(data, new, envs, numbered)
    figures = visit_figures(data, new, envs, discrete=True)
    assert figures["first_visits"].tolist() == pytest.approx(shares)
    assert figures["joint_actions_seen"].tolist() == pytest.approx(seen)
    assert 0 < max(shares) < 1 < max(seen)
    assert visit_figures(data, new, envs, discrete=False).keys() == {"first_visits"}


def test_a_large_batch_is_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.randint(40, (SEEDS, 90), generator=generator())
    whole = visit_figures(data_of(state, pictures), 90, 1, discrete=True)
    monkeypatch.setattr(visits, "ROWS_AT_ONCE", 7)
    for name, value in visit_figures(data_of(state, pictures), 90, 1, discrete=True).items():
        assert torch.equal(value, whole[name])


def test_seeds_do_not_share_states() -> None:
    state = torch.zeros(2, 4, dtype=torch.int64)
    figures = visit_figures(data_of(state, pictures), 4, 1, discrete=True)
    assert figures["first_visits"].tolist() == [0.25, 0.25]


def test_a_vector_step_of_equal_states_is_one_of_first_visits() -> None:
    """Environments side by side cannot correct each other."""
    data = data_of(torch.zeros(1, 8, dtype=torch.int64), pictures)
    assert visit_figures(data, 8, 8, discrete=True)["first_visits"].tolist() == [1.0]
    assert visit_figures(data, 8, 4, discrete=True)["first_visits"].tolist() == [0.5]
    assert visit_figures(data, 4, 4, discrete=True)["first_visits"].tolist() == [0.0]  # an older batch was there


@pytest.mark.parametrize("collisions", [False, True])
def test_no_row_is_taken_for_another(collisions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of rows, over whole ranges of their types."""
    if collisions:
        monkeypatch.setattr(visits, "_powers", lambda count: torch.zeros(count, dtype=torch.int64))
    draw = generator(4)
    wide = torch.randint(-(2**63), 2**63 - 1, (30, 3), generator=draw)
    for rows in (wide, wide % 3, wide.float(), (wide % 2).bool(), torch.tensor([[0.0], [-0.0], [torch.nan]] * 10)):
        group = torch.randint(2, (len(rows),), generator=draw)
        rows, group = torch.cat([rows, rows.flip(0)]), torch.cat([group, group.flip(0)])
        count, number = number_rows(group, rows)
        pairs = zip(group.tolist(), rows.tolist(), strict=True)
        known = [(g, *("nan" if x != x else x for x in row)) for g, row in pairs]
        same = torch.tensor([[a == b for b in known] for a in known])
        assert torch.equal(number.unsqueeze(0) == number.unsqueeze(1), same)
        assert count == len(set(known)) and number.unique().tolist() == list(range(count))


ESTIMATORS = {
    "tabular": ["--model.sampling_error", "tabular", "--data.num_envs", "1", "--data.env.start", "[[1,3],[0,4],[3,4]]"],
    "likelihood": ["--model.sampling_error", "likelihood"],
    "history": ["--model.sampling_error", "tabular", "--data.history_batches", "3"],
    "without numbers": ["--model.sampling_error", "likelihood"],
}


@pytest.mark.parametrize("case", ESTIMATORS)
def test_a_run_logs_what_its_buffer_holds(fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    if case == "without numbers":
        monkeypatch.setattr("lit_maprops.envs.BoulderPush.state_index", lambda self, state: None)
    expected = []
    original = LitMAPROPS._sampling_error

    def measured(self: LitMAPROPS) -> dict[str, Tensor]:
        row = original(self)
        data, (_, steps, envs) = self.buffer, self.buffer.current().shape
        names = [name for name in (keys.STATE, keys.ACTION, keys.STATE_INDEX) if name in data.current().keys(True)]
        numbered = keys.STATE_INDEX in names
        shares, seen = slow(data.flat(*names), steps * envs, envs, numbered)
        assert numbered == (case != "without numbers")
        assert row["sampling_error/first_visits"].tolist() == pytest.approx(shares)
        assert row["sampling_error/joint_actions_seen"].tolist() == pytest.approx(seen)
        expected.append((sum(shares) / len(shares), sum(seen) / len(seen)))
        return row

    monkeypatch.setattr(LitMAPROPS, "_sampling_error", measured)
    options = [*ESTIMATORS[case], "--model.sampling_error_interval", "1"]
    folder = fit("x", *options, env="BoulderPush")
    table, summary = read_table(folder / "metrics.csv"), json.loads((folder / "summary.json").read_text())
    for column, own in zip(("first_visits", "joint_actions_seen"), zip(*expected, strict=True), strict=True):
        assert table[f"sampling_error/{column}"].tolist() == pytest.approx(own)
        assert summary[column] == pytest.approx(sum(own) / len(own))
    assert summary["joint_actions"] == 16 and len(expected) == 6


def test_continuous_actions_are_not_counted(fit: Callable[..., Path]) -> None:
    folder = fit("x", env="TwoPeaks")
    table, summary = read_table(folder / "metrics.csv"), json.loads((folder / "summary.json").read_text())
    assert table["sampling_error/first_visits"].tolist() == [1 / 8] * 8
    assert "sampling_error/joint_actions_seen" not in table
    assert summary["joint_actions"] is None and summary["joint_actions_seen"] is None
