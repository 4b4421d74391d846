"""``autopsy`` as a user meets it, and its parts on other runs than figure1."""

import copy
import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL

from lit_maprops import keys
from lit_maprops.autopsy import ideal, replay
from lit_maprops.autopsy.branches import SEARCH, Share, branch_ids, shares
from lit_maprops.autopsy.case import Case, load
from lit_maprops.autopsy.findings import NOT, SAMPLING_ERROR, UNDECIDED, verdict
from lit_maprops.autopsy.joint_actions import joint_actions
from lit_maprops.autopsy.replay import Replay
from lit_maprops.autopsy.replica import replica
from lit_maprops.autopsy.search import Trail
from lit_maprops.behavior.low_discrepancy_draws import LowDiscrepancyDraws
from lit_maprops.cli.main import main
from lit_maprops.metrics.evaluate import _Player

Fit = Callable[..., Path]
FEW = ["--branches", "4", "--points", "2", "--times", "2"]


def files_of(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def weights(state: dict[str, Any]) -> torch.Tensor:
    return state["state_dict"]["learner.policies.net.flat"]


RUNS = {
    "BoulderPush, MAPROPS and MAPPO by kernels": ("BoulderPush", []),
    "by torch, random fixed starts": (
        "BoulderPush",
        ["--model.engine", "torch", "--model.behavior", "OnPolicy", "--data.env.fixed_start", "true"],
    ),
    "low discrepancy, IPPO": ("BoulderPush", ["--model.behavior", "LowDiscrepancy", "--model.learner", "IPPO"]),
    "a game with an adaptive sampler": ("MatrixGame", []),
}


@pytest.mark.every(2)
@pytest.mark.parametrize(("env", "options"), RUNS.values(), ids=RUNS)
def test_page_json_and_lines_agree_and_the_run_is_left_alone(
    fit: Fit, capsys: Any, env: str, options: list[str]
) -> None:
    """Whatever the run, a failed seed is replayed bit for bit."""
    folder = fit("x", *options, "--model.solved_threshold", "1.0", env=env)
    before, seed = files_of(folder), load(folder).failed[-1]
    capsys.readouterr()
    assert main(["autopsy", str(folder), "--seed", str(seed), *FEW]) == 0
    out = capsys.readouterr().out
    page = (folder / f"autopsy_seed_{seed}.html").read_text()
    found = json.loads((folder / f"autopsy_seed_{seed}.json").read_text())
    after = files_of(folder)
    assert {p: after[p] for p in before} == before and len(after) == len(before) + 2
    assert found["replayed_bit_for_bit"] and "Replayed bit for bit" in out and "Replayed bit for bit" in page
    assert found["verdict"] in out and found["verdict"] in page
    for side in ("before", "after", "ideal"):
        assert found[side]["branches"] == 4 and f"{found[side]['solved'] / 4:.0%} [" in out
    assert sum(action["in_batch"] for action in found["joint_actions"]) == load(folder).data.target_batch_size
    assert sum(action["expected"] for action in found["joint_actions"]) == pytest.approx(
        load(folder).data.target_batch_size, rel=1e-4
    )
    stands_alone(page)


def stands_alone(html: str) -> None:
    links = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) and "#fe00" not in html and html.count("<svg") == 3


def test_the_same_once_more_is_the_same(finished: Path) -> None:
    """Every random number is seeded."""
    names = ("first", "second")
    for name in names:
        assert main(["autopsy", str(finished), "--seed", "0", *FEW, "-o", str(finished / f"{name}.html")]) == 0
    for kind in ("html", "json"):
        first, second = ((finished / f"{name}.{kind}").read_text() for name in names)
        assert first == second


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    options = ["--model.solved_threshold", "1.0", "--model.behavior", "OnPolicy", "--wandb", "disabled"]
    assert main(["fit", *SMALL["BoulderPush"], *options, "--runs_dir", str(runs), "--run_name", "x"]) == 0
    return runs / "x"


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A run of the test's own."""
    return shutil.copytree(trained, tmp_path / "runs" / "x")


BAD = {
    "no seed": ([], "--seed is missing: failed: 0, 1"),
    "no number": (["--seed", "x"], "--seed"),
    "out of range": (["--seed", "2"], "--seed is 2: the run has the seeds 0 to 1; failed: 0, 1"),
    "one branch": (["--seed", "0", "--branches", "1"], "--branches is 1"),
    "no points": (["--seed", "0", "--points", "0"], "--points is 0"),
    "nothing ideal": (["--seed", "0", "--times", "0"], "--times is 0"),
    "nowhere": (["--seed", "0", "-o", "none/such.html"], "--output"),
    "over the run": (["--seed", "0", "-o", "{}/summary.json"], "--output"),
    "misspelt": (["--sead", "0"], "--sead"),
}


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_writes_nothing(finished: Path, capsys: Any, options: list[str], words: str) -> None:
    before = files_of(finished)
    refused(capsys, ["autopsy", str(finished), *(option.format(finished) for option in options)], words)
    assert files_of(finished) == before


def refused(capsys: Any, args: list[str], words: str) -> None:
    capsys.readouterr()
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1 and words in captured.err, captured.err


def test_a_seed_that_did_not_fail_is_refused(fit: Fit, capsys: Any) -> None:
    folder = fit("x", "--model.solved_threshold", "0.0")
    refused(capsys, ["autopsy", str(folder), "--seed", "1"], "did not fail, it ended with success")


DAMAGE = {
    "no run": ("config.yaml", "is no run's folder"),
    "no checkpoint": ("checkpoints/last.ckpt", "has no checkpoint"),
    "no evaluations": ("eval.csv", "does not hold the last evaluation"),
}


@pytest.mark.parametrize(("name", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_folder_that_lacks_something_is_refused(finished: Path, capsys: Any, name: str, words: str) -> None:
    (finished / name).unlink()
    refused(capsys, ["autopsy", str(finished), "--seed", "0"], words)


KINDS = {
    "continuous": ("TwoPeaks", [], "continuous actions"),
    "history": ("MatrixGame", ["--data.history_batches", "2"], "--data.history_batches"),
    "growing": ("MatrixGame", ["--data.history", "growing"], "--data.history"),
}


@pytest.mark.parametrize(("env", "options", "words"), KINDS.values(), ids=KINDS)
def test_runs_of_other_kinds_are_refused(fit: Fit, capsys: Any, env: str, options: list[str], words: str) -> None:
    folder = fit("x", *options, env=env)
    refused(capsys, ["autopsy", str(folder), "--seed", "0"], words)


def with_success(table: Path, value: str) -> None:
    """Greedy success rates of an eval.csv are ``value``."""
    rows = [line.split(",") for line in table.read_text().splitlines()]
    lines = [rows[0], *([*row[:2], value, *row[3:]] for row in rows[1:])]
    table.write_text("\n".join(map(",".join, lines)) + "\n")


def test_a_run_without_success_rates_is_refused(finished: Path, capsys: Any) -> None:
    with_success(finished / "eval.csv", "")
    refused(capsys, ["autopsy", str(finished), "--seed", "0"], "the task tells no success")


def test_seeds_judged_by_return_are_looked_into_likewise(fit: Fit, capsys: Any) -> None:
    """Of figure1's returns only the best joint action's reaches 0.9: the same seeds fail, and the same is found."""
    found = []
    for name, options in {"success": [], "return": ["--model.solved_on", "return"]}.items():
        own = ["--model.behavior", "OnPolicy", "--model.num_seeds", "16", "--model.solved_threshold", "0.9"]
        folder = fit(name, *own, *options)
        seed = load(folder).failed[0]
        assert main(["autopsy", str(folder), "--seed", str(seed), *FEW]) == 0
        found.append(json.loads((folder / f"autopsy_seed_{seed}.json").read_text()))
        assert f"greedy {name} of at least 0.9" in (folder / f"autopsy_seed_{seed}.html").read_text()
    told = [{key: value for key, value in one.items() if key != "run"} for one in found]
    assert told[0] == told[1]


def test_returns_may_have_to_be_above_1(fit: Fit) -> None:
    folder = fit("x", "--model.behavior", "OnPolicy", "--model.solved_on", "return", "--model.solved_threshold", "2")
    assert main(["autopsy", str(folder), "--seed", "0", *FEW]) == 0
    assert json.loads((folder / "autopsy_seed_0.json").read_text())["seed"] == 0


def test_an_unfinished_run_is_refused(finished: Path, capsys: Any) -> None:
    config = finished / "config.yaml"
    config.write_text(config.read_text().replace("total_env_steps: 192", "total_env_steps: 256"))
    refused(capsys, ["autopsy", str(finished), "--seed", "0"], "stands at 6 of 8 target iterations: finish it first")


def test_a_run_that_cannot_be_repeated_here_says_so(fit: Fit, capsys: Any) -> None:
    """Every joint action is a success, whoever gets the reward; another learning rate makes other weights."""
    folder = fit("x", "--model.behavior", "OnPolicy", "--data.env.payoff", "[[[1, 0], [0, 1]], [[0, 1], [1, 0]]]")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("learning_rate: 1.0", "learning_rate: 0.5"))
    with_success(folder / "eval.csv", "0")
    refused(capsys, ["autopsy", str(folder), "--seed", "0"], "does not fail when it is replayed here")


def test_checkpoints_that_were_kept_give_the_same_states(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of a run too long to keep all states in memory, they spare the way from the beginning."""
    options = ["--model.solved_threshold", "1.0", "--keep", "3", "--model.checkpoint_interval", "1"]
    folder = fit("x", *options, env="BoulderPush")
    case = load(folder)
    assert sorted(case.older) == [3, 4, 5] and case.iterations == 6
    whole = Replay(case, [1]).moments(range(7))
    monkeypatch.setattr(replay, "KEPT_BYTES", 0)
    played: list[int] = []
    original = replay.Replica.iterate
    monkeypatch.setattr(replay.Replica, "iterate", lambda self: (played.append(self.iteration), original(self))[1])
    parts = Replay(case, [1])
    assert parts.exact and played == [5]  # from the checkpoint before
    for k in (0, 3, 5, 6):
        (moment,) = parts.moments([k]).values()
        same = {
            name: torch.equal(v, whole[k].state["state_dict"][name]) for name, v in moment.state["state_dict"].items()
        }
        assert all(same.values())
        if k:
            assert moment.batch is not None and whole[k].batch is not None
            assert torch.equal(moment.batch.get(keys.ACTION), whole[k].batch.get(keys.ACTION))
    damaged = case.older[5]
    shutil.copy(case.older[5], tmp_path / "other.ckpt")
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="damaged"):
        Replay(case, [1])


def test_branches_begin_where_the_seed_stood_and_draw_other_numbers(finished: Path) -> None:
    case = load(finished)
    moment = Replay(case, [0, 1]).moments([3])[3]
    first, again = (shares(case, moment.state, [0, 1], SEARCH, 6) for _ in range(2))
    alone = shares(case, replay.sliced(moment.state, [1]), [1], SEARCH, 6)
    assert first == again and alone == first[1:]  # of a seed by itself, whatever is beside it


LOW = [
    "--data.env.payoff",
    "climbing",
    "--model.num_seeds",
    "1",
    "--model.learner.learning_rate",
    "1e-9",
    "--model.behavior",
]
LOW_DISCREPANCY = {
    "first visits in sequence": ["LowDiscrepancy", "--model.behavior.first_visits", "sequence"],
    "independent first visits": ["LowDiscrepancy"],
    "of an adaptive sampler": ["MAPROPS", "--model.behavior.draws", "low_discrepancy"],
}


@pytest.mark.every(2)
@pytest.mark.parametrize("engine", ["torch", "auto"])
@pytest.mark.parametrize("options", LOW_DISCREPANCY.values(), ids=LOW_DISCREPANCY)
def test_low_discrepancy_branches_draw_batches_of_their_own(fit: Fit, options: list[str], engine: str) -> None:
    """Nothing of the run's own next batch is left: its order of coordinates, where first visits begin, how many."""
    case = load(fit("x", *LOW, *options, "--model.engine", engine))
    moments = Replay(case, [0]).moments([2, 3])
    branches = range(32)
    model = replica(case, branch_ids([0], 2, SEARCH, branches), [0] * 32)
    model.branch_from(replay.sliced(moments[2].state, [0] * 32))
    draws = model.behavior.source
    assert isinstance(draws, LowDiscrepancyDraws)
    assert not draws.visits.used and not draws.met.any()
    assert len(draws.order.unique(dim=0)) == draws.order.shape[1] and len(draws.begin.unique(dim=0)) == 32
    model.iterate()
    batches = model.batch.get(keys.ACTION).flatten(1)
    own = moments[3].batch
    assert own is not None and len(batches.unique(dim=0)) > 16
    assert (batches == own.get(keys.ACTION).flatten(1)).all(1).sum() < 4


def test_ideal_updates_in_a_row_draw_other_numbers(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one stream of actions for all of them, a run of ideal updates would repeat one sampling error."""
    case, drawn = load(finished), []
    original = ideal.OnPolicy.build
    monkeypatch.setattr(
        ideal.OnPolicy,
        "build",
        lambda self, *args: (original(self, *args), drawn.append(copy.deepcopy(self.action_streams).uniform(4)))[0],
    )
    state = Replay(case, [1]).moments([2])[2].state
    drawn.clear()
    ideal.run_out(case, state, [1], 2)
    _, *updates = drawn  # the replica itself collects nothing
    assert len(torch.cat(updates).unique(dim=0)) == len(updates) == case.iterations - 2


def test_a_fixed_start_is_the_seeds_own(fit: Fit) -> None:
    """In training and evaluation alike, by kernels and by torch."""
    folder = fit("x", "--model.behavior", "OnPolicy", "--data.env.fixed_start", "true", env="BoulderPush")
    case = load(folder)
    own, other = replica(case, [0, 1], [0, 1]), replica(case, [2**128, 2**129], [1, 0])
    starts = [model.collection.env.fixed_start_noise for model in (own, other)]
    assert torch.equal(starts[0], starts[1].flip(0)) and not torch.equal(starts[0][0], starts[0][1])
    player = _Player(other.learner.policies, case.data.env, 0, other.seed_ids, 2, True, "x", None, other.start_ids)
    assert torch.equal(player.env.fixed_start_noise, starts[1])
    kernels, by = other.engines, []
    for engines in (kernels, None):
        other.engines = engines
        by.append(other.evaluate("x", 8)["stochastic"].episode_return)
    assert kernels is not None and kernels.rollout is None
    torch.testing.assert_close(*by)  # the same episodes, so the same starts


def test_an_ideal_batch_is_many_batches_from_where_the_seed_stood(finished: Path) -> None:
    case = load(finished)
    moments = Replay(case, [1]).moments([2, 3])
    model = ideal._at(case, moments[2].state, [1])
    batch, own = ideal._batch(model, 5), moments[3].batch
    assert own is not None and batch.shape == (1, own.shape[1], 5 * own.shape[2])
    state = own.get(keys.STATE)[:, 0].repeat_interleave(5, 1)
    assert torch.equal(batch.get(keys.STATE)[:, 0], state)  # every copy goes on in the episode under way
    z = [action.z for action in joint_actions(case.data.env, batch[0])]
    assert max(map(abs, z)) < 5
    redone = ideal.redone(case, moments[2].state, moments[3].state, [1], 5)
    assert not torch.equal(weights(redone), weights(moments[3].state))
    for part in ("collection", "behavior", "buffer"):
        assert redone["lit_maprops"][part] is moments[3].state["lit_maprops"][part]


def test_ideal_batches_of_one_step_games_are_even(fit: Fit) -> None:
    """PPO has no exact update: its 64 n draws are spread over the joint actions as their probabilities are."""
    case = load(fit("x", "--model.learner", "IPPO", "--model.behavior", "OnPolicy"))
    assert not ideal.is_exact(case)
    model = ideal._at(case, Replay(case, [0]).moments([1])[1].state, [0])
    for action in joint_actions(case.data.env, ideal._batch(model, 64)[0]):
        assert abs(action.in_batch - action.expected) < 8  # of 512; independent draws: a standard deviation of 10


def test_a_game_in_stages_has_a_drawn_ideal_batch(fit: Fit) -> None:
    """It is a matrix game by inheritance, and its first stage alone is not an update's batch."""
    case = load(fit("x", "--model.learner", "Reinforce", "--model.behavior", "OnPolicy", env="StagedGame"))
    assert not ideal.is_exact(case)
    moments = Replay(case, [0]).moments([1, 2])
    before, after = moments[1].state, moments[2].state
    few, many = (ideal.redone(case, before, after, [0], times) for times in (1, 8))
    assert not torch.equal(weights(few), weights(many))  # an exact one is the same however many are drawn


def test_joint_actions_are_counted_by_hand(finished: Path) -> None:
    case = load(finished)
    batch = Replay(case, [0]).moments([2])[2].batch
    assert batch is not None
    steps = [(p, a) for p, a in zip(batch[0].get(keys.PARAMETERS).flatten(0, 1).double().exp().tolist(),
                                    batch[0].get(keys.ACTION).flatten(0, 1).tolist(), strict=True)]  # fmt: skip
    found = {action.name: action for action in joint_actions(case.data.env, batch[0])}
    words = ("north", "south", "west", "east")
    assert len(found) == 16
    for a, b in itertools.product(range(4), range(4)):
        chances = [p[0][a] * p[1][b] for p, _ in steps]
        one = found[f"({words[a]}, {words[b]})"]
        assert one.in_batch == sum(action == [a, b] for _, action in steps)
        assert one.expected == pytest.approx(sum(chances))
        assert one.z == pytest.approx((one.in_batch - sum(chances)) / sum(p * (1 - p) for p in chances) ** 0.5)


def test_of_very_many_joint_actions_those_in_the_batch_count(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case: Case = load(finished)
    batch = Replay(case, [0]).moments([2])[2].batch
    assert batch is not None
    every = {one.name: one for one in joint_actions(case.data.env, batch[0])}
    monkeypatch.setattr("lit_maprops.autopsy.joint_actions.MOST_JOINT", 15)
    some = joint_actions(case.data.env, batch[0])
    assert {one.name for one in some} == {name for name, one in every.items() if one.in_batch}
    assert all(one == every[one.name] for one in some)


def test_the_verdict_follows_the_intervals() -> None:
    def told(after: int, ideal: int, level: float = 0.5) -> str:
        return verdict(level, Share(after, 64), Share(ideal, 64))

    assert told(2, 45) == SAMPLING_ERROR and told(40, 45) == UNDECIDED
    assert told(0, 20) == NOT and told(0, 20, 0.3) == SAMPLING_ERROR and told(0, 3, 0.1) == UNDECIDED
    assert told(0, 0, 0.1) == NOT


def test_the_search_brackets_the_last_fall() -> None:
    """Of a chance that falls, comes back and falls again, it is the second fall; the end needs no look."""
    trail = Trail(0, 60)
    for k, solved in {0: 20, 15: 4, 30: 18, 45: 2}.items():
        trail.looks[k] = Share(solved, 32)
    trail.narrow(60)
    assert (trail.low, trail.high, trail.level) == (30, 45, 0.5)
    assert trail.next_looks(1) == [37] and trail.next_looks(100) == list(range(31, 45))
    trail.looks[0] = Share(8, 32)
    assert trail.level == 0.125
    trail.looks = {0: Share(0, 32), 30: Share(0, 32)}
    trail.narrow(60)
    assert (trail.low, trail.high, trail.level) == (0, 30, 0.1)
