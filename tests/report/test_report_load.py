"""What is read, what is left out and why, and what may be pooled."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic import three_samplers, write_run

from lit_maprops.report import load, load_runs
from lit_maprops.report.analysis import by_setting
from lit_maprops.report.families import heat_maps
from lit_maprops.report.page import make_report
from lit_maprops.report.settings import short_names
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.flat_settings import flatten


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1, 0, 0.9], "MAPROPS")
    (run,), left_out = load_runs([tmp_path])
    assert not left_out and run.finished and run.solved == 2
    assert run.config["model.behavior"] == "MAPROPS" and run.config["model.behavior.kl_cutoff"] == 0.05
    np.testing.assert_allclose(run.success, [[0.5, 0, 0.45], [1, 0, 0.9]])
    assert run.env_steps.tolist() == [200, 400] and run.mean("sampling_error/joint_tv") == pytest.approx(0.1)


def test_flags_are_named_as_on_the_command_line() -> None:
    for path, name in (("lit_maprops.targets.IPPO", "IPPO"), ("IPPO", "IPPO"), ("x.y.IPPO", "x.y.IPPO")):
        nested = {"model": {"learner": {"class_path": path, "init_args": {"hidden": [64]}}, "n": None}}
        assert flatten(nested) == {"model.learner": name, "model.learner.hidden": "[64]", "model.n": None}


def test_a_run_given_twice_counts_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs" / "a", [1, 0])
    runs, left_out = load_runs([tmp_path, folder, tmp_path / "runs"])
    assert len(runs) == 1 and not left_out


def test_a_copied_run_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1, 0, 1])
    write_run(tmp_path / "b", [1, 0])
    write_run(tmp_path / "c", [1, 0], seed_everything=1)
    runs, left_out = load_runs([tmp_path])
    assert [run.name for run in runs] == ["a", "c"]
    assert "repeats seeds of a" in left_out[0].reason


def test_engines_make_no_other_setting(tmp_path: Path) -> None:
    """They compute the same up to rounding: the same seeds twice are repeats, others are pooled."""
    write_run(tmp_path / "a", [1, 0, 1], model__engine="native")
    write_run(tmp_path / "b", [1, 0], model__engine="torch")
    write_run(tmp_path / "c", [1, 0], model__engine="torch", seed_everything=1)
    write_run(tmp_path / "d", [0, 1], "MAPROPS", model__engine="auto")
    runs, left_out = load_runs([tmp_path])
    assert "repeats seeds of a" in left_out[0].reason and len(left_out) == 1
    (setting,) = by_setting(runs)
    assert sorted(len(group.runs) for group in setting.groups) == [1, 2]


def test_solved_on_success_is_the_default_where_success_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1, 0], model__solved_on="success")
    write_run(tmp_path / "b", [1, 0], model__solved_on=None, seed_everything=1)
    write_run(tmp_path / "c", [1, 0], seed_everything=2)  # of a version before
    write_run(tmp_path / "d", [1, 0], seed_everything=3, model__solved_on="return", model__solved_threshold=0.5)
    runs, _ = load_runs([tmp_path])
    assert [run.config["model.solved_on"] for run in runs] == [None, None, None, "return"]
    assert len({run.setting for run in runs}) == 2


BROKEN = {
    "eval.csv is truncated: its last": ("eval.csv", lambda text: text[: text.rindex("\n", 0, -8)] + "\n"),
    "eval.csv is truncated: it does": ("eval.csv", lambda text: "\n".join(text.splitlines()[:3]) + "\n"),
    "eval.csv is empty": ("eval.csv", lambda text: ""),
    "eval.csv has no column": ("eval.csv", lambda text: "a,b\n1,2\n"),
    "metrics.csv has no complete row": ("metrics.csv", lambda text: text.splitlines()[0] + "\n"),
    "config.yaml is no YAML": ("config.yaml", lambda text: "model: [1, {"),
    "config.yaml is empty or": ("config.yaml", lambda text: "- 1\n"),
    "config.yaml is no configuration": ("config.yaml", lambda text: "model:\n  num_seeds: 3\n"),
    "summary.json is no summary": ("summary.json", lambda text: text[:10]),
    "summary.json is no summary of a run: 'env": ("summary.json", lambda text: "{}"),
    "metrics.csv is no UTF-8": ("metrics.csv", None),
    "config.yaml is missing": ("config.yaml", "missing"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_run_is_named_with_its_reason(tmp_path: Path, reason: str) -> None:
    write_run(tmp_path / "good", [1, 0])
    folder = write_run(tmp_path / "broken", [1, 0], seed_everything=1)
    name, change = BROKEN[reason]
    path = folder / name
    if change is None:
        path.write_bytes(b"\xff\xfe" + path.read_bytes())
    elif change == "missing":
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    runs, left_out = load_runs([tmp_path])
    assert [run.name for run in runs] == ["good"]
    assert left_out[0].reason.startswith(reason) and left_out[0].path.endswith("broken")


def test_an_unfinished_run_keeps_its_complete_evaluations(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [1, 0], finished=False)
    text = (folder / "eval.csv").read_text()
    (folder / "eval.csv").write_text(text[: text.rindex("400,1") + 3])  # killed while writing
    (run,), _ = load_runs([tmp_path])
    assert not run.finished and run.env_steps.tolist() == [200]
    assert by_setting([run])[0].results == ()


@pytest.mark.parametrize(("total", "finished"), [(800, False), (500, False), (499, True), (None, True), ("x", True)])
def test_a_summary_short_of_the_last_whole_batch_is_of_an_earlier_end(
    tmp_path: Path, total: object, finished: bool
) -> None:
    """The summary is of 400 env steps, in batches of 100."""
    write_run(tmp_path / "a", [1, 0], model__total_env_steps=total)
    (run,), left_out = load_runs([tmp_path])
    assert run.finished == finished and not left_out


def test_a_foreign_folder_is_named_and_others_are_not_searched(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [1, 0])
    (folder / "wandb").mkdir()
    (folder / "wandb" / "config.yaml").write_text("x: 1\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("hello")
    runs, left_out = load_runs([tmp_path])
    assert len(runs) == 1 and [Path(item.path).name for item in left_out] == ["foreign"]


def test_a_wrong_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        load_runs([tmp_path / "nowhere"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        load_runs([tmp_path / "file"])


def test_nan_is_not_solved(tmp_path: Path) -> None:
    """A policy of NaN has no success rate; a loss that was infinite once says nothing about the policies."""
    write_run(tmp_path / "a", [1, float("nan"), 1], non_finite=[2])
    (run,), _ = load_runs([tmp_path])
    assert run.nan_seeds == (1,) and run.final.tolist() == [1, 0, 1] and run.solved == 2


def test_only_equal_tasks_and_learners_are_compared(tmp_path: Path) -> None:
    three_samplers(tmp_path / "a")
    for sampler in ("OnPolicy", "MAPROPS"):
        changes = {"model__learner__init_args": {"learning_rate": 0.1}, "seed_everything": 1}
        write_run(tmp_path / "b" / sampler, [1, 1], sampler, **changes)
    write_run(tmp_path / "more_seeds", [1, 1, 1], "MAPROPS", seed_everything=2, trainer__devices=2)
    first, second = by_setting(load_runs([tmp_path])[0])
    assert {first.seeds, second.seeds} == {15, 4}
    pooled = next(group for group in max(first, second, key=lambda s: s.seeds).groups if group.name == "MAPROPS")
    assert len(pooled.runs) == 2 and len(pooled.scores) == 7


def test_m_belongs_to_the_sampler_but_not_to_on_policy(tmp_path: Path) -> None:
    for m in (1, 10):
        for sampler in ("OnPolicy", "MAPROPS"):
            write_run(tmp_path / f"{sampler}{m}", [1, 0], sampler, data__behavior_batch_size=m, seed_everything=m)
    (setting,) = by_setting(load_runs([tmp_path])[0])
    names = [group.name for group in setting.groups]
    assert names == ["OnPolicy", "MAPROPS (behavior_batch_size=1)", "MAPROPS (behavior_batch_size=10)"]
    assert len(setting.groups[0].scores) == 4
    assert len({group.style for group in setting.groups}) == 3 and setting.groups[0].style == 0


def test_pooled_standard_error_is_that_of_stratified_sampling(tmp_path: Path) -> None:
    """Against the spread of simulated means of two runs with 3 seeds and 1."""
    for name, seeds, value, error in (("a", 3, 0.1, 0.02), ("b", 1, 0.3, 0.05)):
        options = {"joint_tv": value, "joint_tv_se": error, "seed_everything": seeds}
        write_run(tmp_path / name, [1.0] * seeds, "MAPROPS", **options)
    (setting,) = by_setting(load_runs([tmp_path])[0])
    (group,) = setting.groups
    _, values, error = group.error_curve("sampling_error/joint_tv")
    draws = np.random.default_rng(0).normal([0.1, 0.3], [0.02, 0.05], (200_000, 2)) @ [0.75, 0.25]
    np.testing.assert_allclose(values, 0.15)
    np.testing.assert_allclose(error, draws.std(), rtol=0.01)
    assert np.isnan(group.error_curve("sampling_error/agent_tv")[2]).all()


def test_heat_map_by_hand(tmp_path: Path) -> None:
    for i, (delta, epsilon, final) in enumerate([(0.1, 0.3, [1, 0]), (0.1, 1.0, [1, 1]), (0.5, 1.0, [0, 0])]):
        options = {"clip_epsilon": epsilon, "kl_cutoff": delta}
        write_run(tmp_path / str(i), final, "MAPROPS", joint_tv=i / 10, model__behavior__init_args=options)
    (setting,) = by_setting(load_runs([tmp_path])[0])
    (heat,) = heat_maps(setting, ["sampling_error/joint_tv"])
    assert heat.delta == [0.1, 0.5] and heat.epsilon == [0.3, 1.0]
    np.testing.assert_allclose(heat.share, [[0.5, 1], [np.nan, 0]])
    np.testing.assert_allclose(heat.errors["sampling_error/joint_tv"], [[0, 0.1], [np.nan, 0.2]])


def test_a_summary_that_is_not_ours_cannot_crash(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [1, 0])
    (folder / "summary.json").write_text(json.dumps({"env_steps": None, "seeds": 3}))
    shutil.copytree(folder, tmp_path / "b")
    (tmp_path / "b" / "summary.json").write_text("[1, 2]")
    runs, left_out = load_runs([tmp_path])
    assert not runs and len(left_out) == 2


def test_an_evaluation_table_that_asks_for_gigabytes_is_left_out(tmp_path: Path) -> None:
    """Distinct pairs of step and seed: the grid of all of them would have 60,000 x 60,000 cells."""
    folder = write_run(tmp_path / "a", [1, 0])
    header = (folder / "eval.csv").read_text().splitlines()[0]
    rows = [f"{i + 1},{i},1,1,0,0" for i in range(60_000)]
    (folder / "eval.csv").write_text("\n".join([header, *rows]) + "\n")
    runs, left_out = load_runs([tmp_path])
    assert not runs and "60,000 rows of 60,000 evaluations and 60,000 seeds" in left_out[0].reason


def test_a_configuration_without_end_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [1, 0])
    with (folder / "config.yaml").open("a") as file:
        file.writelines(f"key{i}: {i}\n" for i in range(20_000))
    runs, left_out = load_runs([tmp_path])
    assert not runs and "settings, a run has no more than 2,000" in left_out[0].reason


def test_of_a_very_long_run_some_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path / "a", [1, 0], rows=1000, joint_tv=0.25)
    whole = load.read_run(folder)
    size = (folder / "metrics.csv").stat().st_size
    monkeypatch.setattr(load, "MOST_BYTES", size // 7 + 1)
    run = load.read_run(folder)
    assert (whole.thinned, run.thinned) == (1, 7)
    assert run.metrics["iteration"].tolist() == [*range(1, 1001, 7), 1000]
    assert run.finished and run.mean("sampling_error/joint_tv") == pytest.approx(0.25)
    assert run.metrics["wall_seconds"][-1] == whole.metrics["wall_seconds"][-1]
    assert "one row in 7 is read" in make_report([tmp_path]).html
    monkeypatch.setattr(load, "MOST_METRICS_BYTES", size - 1)
    with pytest.raises(load.Unreadable, match=r"metrics\.csv has more than"):
        load.read_run(folder)


def test_names_of_many_differences_are_short_and_unique() -> None:
    keys = [frozenset({("model.behavior", "X"), *((f"o{i}", i * j % 97) for i in range(50))}) for j in range(40)]
    names = short_names(keys, ("model.behavior",))
    assert len(set(names.values())) == len(set(keys)) and max(map(len, names.values())) < 200
