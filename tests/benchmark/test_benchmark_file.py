"""The list of tasks: what ships, whose pairs run and whose cannot, and files that are none."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_maprops.benchmark.benchmark_file import SHIPPED, BenchmarkFile, read_benchmark_file
from lit_maprops.benchmark.cells import FIRST, SEEDS, Cell, as_sweep, cells_of
from lit_maprops.cli.main import main
from lit_maprops.sweep.processes import command_line
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.shipped import shipped

FILE = read_benchmark_file()


def all_cells(file: BenchmarkFile = FILE) -> list[Cell]:
    return cells_of(file, list(file.tasks), list(file.samplers), None)[0]


def small_fit(cell: Cell, folder: Path, *more: str) -> list[str]:
    """One target iteration of a single seed of a cell."""
    n = yaml.safe_load(shipped("conf")[cell.task.config].read_text())["data"]["target_batch_size"]
    flags = cell.block(0, 1) | {"model.total_env_steps": n, "model.eval_episodes": 1}
    words = command_line(as_sweep(FILE, 64), flags)
    return ["fit", *words[words.index("fit") + 1 :], f"--runs_dir={folder}", "--wandb=disabled", *more]


def test_about_twenty_tasks_with_all_that_was_promised() -> None:
    assert 18 <= len(FILE.tasks) <= 24
    expected = {"boulderpush": 4, "foraging": 4, "mpe": 2, "vmas": 3}
    assert {kind: sum(name.startswith(kind) for name in FILE.tasks) for kind in expected} == expected
    assert {"figure1", "climbing", "coordination_3", "coordination_10", "sparse_reacher"} <= set(FILE.tasks)
    for task in FILE.tasks.values():
        samplers = {cell.sampler.name for cell in all_cells() if cell.task == task}
        assert {"OnPolicy", "LowDiscrepancy", "PROPS"} <= samplers
        assert len({"MAPROPS", "GaussianAdjustment", "Autoregressive"} & samplers) == 1
        learner = yaml.safe_load(shipped("conf")[task.config].read_text())["model"]["learner"]["class_path"]
        assert task.learners == (("Reinforce",) if learner == "Reinforce" else ("MAPPO", "IPPO"))


def test_every_pair_runs_or_is_left_out_with_a_reason() -> None:
    cells, left_out = cells_of(FILE, list(FILE.tasks), list(FILE.samplers), None)
    kept = {(cell.task.name, cell.sampler.name) for cell in cells}
    without = {(one.task, one.sampler) for one in left_out}
    assert not kept & without and all(len(one.reason) > 10 for one in left_out)
    assert len(kept | without) == len(FILE.tasks) * len(FILE.samplers)


def test_what_needs_a_missing_package_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_maprops.benchmark.cells.find_spec", lambda name: None if name == "vmas" else object())
    cells, left_out = cells_of(FILE, list(FILE.tasks), list(FILE.samplers), None)
    assert {one.task for one in left_out if one.sampler is None} == {n for n in FILE.tasks if n.startswith("vmas")}
    kept = {cell.task.name for cell in cells}
    assert "vmas_balance" not in kept and "mpe_simple_spread" in kept
    assert all("vmas is not installed: pip install" in one.reason for one in left_out if one.sampler is None)
    assert as_sweep(FILE, 64).meaning == as_sweep(read_benchmark_file(), 64).meaning  # installed later, runs go on


# The pairs that another reason than the list's own words speaks of; the program must agree.
REFUSED = [
    ("figure1", "GaussianAdjustment"), ("two_peaks", "MAPROPS"), ("coordination_10", "MAPROPS"),
    ("coordination_10", "TabularMAPROPS"), ("vmas_balance", "TabularMAPROPS"), ("mpe_simple_spread", "TabularMAPROPS"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "sampler"), REFUSED)
def test_left_out_pairs_cannot_go_together(
    task: str, sampler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = FILE.tasks[task]
    cell = Cell(one, one.learners[0], FILE.samplers[sampler], 0, tuple(FILE.flags.items()))
    assert main(small_fit(cell, tmp_path)) == 2
    assert "error" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("cell", all_cells(), ids=lambda cell: "-".join(cell.name))
def test_cells_train(cell: Cell, tmp_path: Path) -> None:
    assert main(small_fit(cell, tmp_path)) == 0


def test_blocks_double_and_end_at_the_number_of_seeds() -> None:
    cell = all_cells()[0]
    done, sizes = 0, []
    while done < 200:
        flags = cell.block(done, 200)
        assert flags[FIRST] == done and next(iter(flags)) == "config"
        sizes.append(flags[SEEDS])
        done += flags[SEEDS]
    assert sizes == [32, 32, 64, 72]


def damaged(path: str, value: object) -> dict[str, Any]:
    """The shipped file with one value changed; "-" takes it away."""
    content = copy.deepcopy(yaml.safe_load(SHIPPED.read_text()))
    *parents, last = path.split("/")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    if value == "-":
        del place[last]
    return content


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("sedes", 3, "'sedes' (did you mean seeds?)"),
        ("seeds", 0, "seeds is 0"),
        ("version", True, "version is True"),
        ("name", "a/b", "name is 'a/b'"),
        ("tasks", {}, "tasks is {}"),
        ("tasks/figure1/confg", "x", "'confg' (did you mean config?)"),
        ("tasks/figure1/config", "matrix_gam", "did you mean matrix_game?"),
        ("tasks/figure1/block", "-", "lacks block"),
        ("tasks/figure1/block", 1.5, "block is 1.5"),
        ("tasks/figure1/seconds", -1, "seconds is -1"),
        ("tasks/figure1/metric", "sucess", "choose one of solved, return"),
        ("tasks/figure1/flags", {"seed_everything": 1}, "'seed_everything'"),
        ("tasks/figure1/flags", [1], "give flags and values"),
        ("tasks/figure1/learners", "MAPPO", "give a list of names"),
        ("tasks/figure1/left_out", {"MAPROP": "x"}, "MAPROP (did you mean MAPROPS?)"),
        ("samplers/MAPROPS/actions", "both", "choose one of discrete, continuous"),
        ("samplers/MAPROPS/action", "discrete", "did you mean actions?"),
    ],
)
def test_a_bad_file_is_one_line(path: str, value: object, part: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(damaged(path, value)))
    with pytest.raises(ConfigError) as error:
        read_benchmark_file(file)
    assert part in str(error.value) and "\n" not in str(error.value)


def test_the_page_says_how_many_cells_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "benchmark.md").read_text()
    assert f"there are {len(all_cells())}." in page
