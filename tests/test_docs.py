"""The site's parts that do not need MkDocs: pictures, notebooks, and that the reference names all there is."""

import math
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from docs.pictures import numbers
from docs.pictures.__main__ import PICTURES, SHOWN_D, strong, weak
from lit_maprops.behavior import BEHAVIORS, MAPROPS, PROPS
from lit_maprops.envs import TASKS
from lit_maprops.targets import LEARNERS
from studies.cells import difference, share
from studies.low_discrepancy.regimes import BASE, CEILING, FRESH, PLANNED, REGIMES, ledgers

sys.path.insert(0, str(ROOT / "docs" / "site"))
from notebook_page import as_page

REFERENCE = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))


@pytest.mark.parametrize("name", [*TASKS, *BEHAVIORS, *LEARNERS])
def test_the_reference_has_everything_registered(name: str) -> None:
    assert re.search(rf"^::: [\w.]+\.{name}$", REFERENCE, flags=re.MULTILINE)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_what_the_script_draws(name: str) -> None:
    assert (ROOT / "docs" / "pictures" / f"{name}.svg").read_text() == PICTURES[name]().svg()


def test_counts_are_of_all_samples_and_can_be_right_for_agents_and_wrong_for_pairs() -> None:
    counts = numbers.counts_of(weak(PROPS), 8)
    assert (counts.sum((1, 2)) == 8).all()
    own_right = (counts.sum(1) == 4).all(1) & (counts.sum(2) == 4).all(1) & (counts != 2).any(-1).any(-1)
    shown = counts[own_right.nonzero()[0].item()]  # the seed in the picture
    assert shown.sum(0).tolist() == shown.sum(1).tolist() == [4, 4]
    assert numbers.total_variation(shown) == 0.25


def test_the_update_in_the_picture_pushes_down_what_d_holds() -> None:
    """Less for what D has too much of, more for what it lacks, and the KL of those very probabilities."""
    for made in (weak, strong):
        probabilities, kl = numbers.after_update(made(MAPROPS), SHOWN_D)
        assert sum(probabilities) == pytest.approx(1)
        assert probabilities[0] < probabilities[1] < 0.25 < probabilities[3]
        assert probabilities[1] == pytest.approx(probabilities[2])
        assert kl == pytest.approx(sum(0.25 * math.log(0.25 / p) for p in probabilities), rel=1e-4)


def test_solved_runs_are_those_of_the_page() -> None:
    found = {(one.setting, one.sampler): one[2:] for one in numbers.differences()}
    assert found["IPPO", "TabularMAPROPS"] == (10, 6, 13)  # of 1,024 seeds, not of the first 256
    assert found["8x8, MAPPO", "PROPS"] == (1, -7, 8)
    assert len(found) == 21  # three samplers in seven settings


def test_the_first_picture_is_of_what_the_readme_says() -> None:
    """And of runs such as a user has: the mean lies in its interval, a share of solved seeds is of whole seeds."""
    found = numbers.two_samplers()
    assert all(0 <= one.low <= one.mean <= one.high <= 1 for one in found)
    assert all((one.solved * one.seeds) == pytest.approx(round(one.solved * one.seeds)) for one in found)
    last = {one.sampler: one for one in found}
    readme = (ROOT / "README.md").read_text()
    solved, seeds = round(last["ma_props"].solved * last["ma_props"].seeds), last["ma_props"].seeds
    assert f"MA-PROPS solves {solved} of the {seeds} seeds" in readme and f"MA-PROPS solves {solved} of them" in readme
    assert f"on-policy sampling {last['on_policy'].solved:.0%} [" in readme
    assert f"{last['on_policy'].seeds} seeds, run seed 0" in readme


def test_the_readme_table_is_that_of_the_evidence() -> None:
    """Rows name regimes of docs/evidence/low_discrepancy.md; on 1,024 fresh seeds where there are such."""
    readme = (ROOT / "README.md").read_text()
    kept = ledgers()
    for name, adjusted in {
        "BoulderPush, IPPO": ("TabularMAPROPS", "MAPROPS"),
        "BoulderPush, MAPPO": ("TabularMAPROPS", "MAPROPS"),
        "coordination 10x5, close rewards": ("Autoregressive",),
        "TwoPeaks": ("GaussianAdjustment",),
        "Foraging, MAPPO": ("TabularMAPROPS", "MAPROPS"),
        "VMAS navigation": ("GaussianAdjustment",),
        "SparseReacher": ("GaussianAdjustment",),
    }.items():
        ledger = kept[REGIMES[name].error]
        part = FRESH if ledger.of(FRESH, name, BASE) else PLANNED
        base, ceiling = ledger.of(part, name, BASE), ledger.of(PLANNED, name, CEILING)
        bases = ledger.of(PLANNED, name, BASE)
        own = {sampler: ledger.of(part, name, sampler) for sampler in ("LowDiscrepancy", *adjusted)}
        assert base and ceiling and bases
        low, *rest = [difference(found, base) for found in own.values() if found]
        assert len(rest) == len(adjusted)
        others = ", ".join(f"{cell} (`{sampler}`)" for cell, sampler in zip(rest, adjusted, strict=True))
        row = f"{share(base)} of {base.seeds:,} | {difference(ceiling, bases)} | {low} | {others} |"
        assert f"| {row}" in readme, f"README.md: {name} | {row}"


def test_a_picture_is_taken_from_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "two_samplers.csv"
    monkeypatch.setattr(numbers, "TWO_SAMPLERS", table)
    for sampler, shares in (("on_policy", (0.0, 1.0)), ("ma_props", (1.0, 1.0))):
        (tmp_path / sampler).mkdir()
        rows = [f"8,{seed},{share},{share / 2},0,0" for seed, share in enumerate(shares)]
        head = "env_steps,seed,greedy_success_rate,stochastic_success_rate,greedy_return,stochastic_return"
        (tmp_path / sampler / "eval.csv").write_text("\n".join([head, *rows, ""]))
    numbers.read_runs(tmp_path)
    assert numbers.two_samplers() == [
        ("on_policy", 8, 2, 0.25, 0.0, 0.5, 0.5),
        ("ma_props", 8, 2, 0.5, 0.5, 0.5, 1.0),
    ]


def test_a_notebook_becomes_a_page() -> None:
    figure = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo=\n", "text/plain": ["<Figure>"]}}
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]},
        {"output_type": "stream", "name": "stderr", "text": ["a warning\n"]},
        {"output_type": "execute_result", "data": {"text/plain": ["0.5"]}},
        figure,
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
        {"cell_type": "code", "source": ["print(1)\n", "0.5"], "outputs": outputs},
    ]
    page = as_page({"cells": cells, "nbformat": 4})
    assert page.startswith("# Title\nWords.\n\n````python\nprint(1)\n0.5\n````\n\n````text\none\ntwo\n````")
    assert "0.5\n````\n\n<img alt=" in page and "base64,iVBORw0KGgo=" in page
    assert "warning" not in page and "<Figure>" not in page
