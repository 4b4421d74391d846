"""Sweeps until decided on the page: the path, the intervals, what damaged journals do; and intervals of several."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from synthetic import write_run

from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.report import make_report
from lit_maprops.report.analysis import by_setting
from lit_maprops.report.decisions import decided_sweeps
from lit_maprops.report.load import load_runs
from lit_maprops.trials.decision import Design, path

BLOCK, LOOKS = 20, (20, 40, 60)
SOLVED = {"OnPolicy": [10, 9, 11], "MAPROPS": [19, 20], "PROPS": [11, 10, 12]}
DECISION = {"baseline": "OnPolicy", "max_seeds": 60, "block": BLOCK, "equal_within": 5, "alpha": 0.05}


def sweep_folder(folder: Path, **changes: Any) -> Path:
    """MAPROPS is decided after 40 seeds, PROPS is not."""
    runs = []
    for sampler, counts in SOLVED.items():
        for number, solved in enumerate(counts):
            entry = f"{len(runs):03d}-abcdef"
            final = [1.0] * solved + [0.0] * (BLOCK - solved)
            run = write_run(folder / entry, final, sampler, model__first_seed=BLOCK * number)
            lines = (run / "eval.csv").read_text().splitlines()
            rows = (line.split(",", 2) for line in lines[1:])
            shifted = [f"{steps},{int(seed) + BLOCK * number},{rest}" for steps, seed, rest in rows]
            (run / "eval.csv").write_text("\n".join([lines[0], *shifted, ""]))
            summary = json.loads((run / "summary.json").read_text()) | {"solved_share": solved / BLOCK}
            (run / "summary.json").write_text(json.dumps(summary))
            allotted = {"model.first_seed": BLOCK * number, "model.num_seeds": BLOCK}
            runs.append({"id": entry, "state": "finished", "parameters": {"model.behavior": sampler} | allotted})
    content = {
        "name": folder.name,
        "method": "grid",
        "until_decided": DECISION,
        "parameters": {"model.behavior": {"values": list(SOLVED)}},
        "command": ["lit_maprops", "${args}"],
    }
    (folder / "sweep.json").write_text(json.dumps({"sweep": content | changes, "runs": runs}))
    return folder


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_the_page_shows_the_path_of_each_decision(tmp_path: Path) -> None:
    design = Design(LOOKS, 2)
    base = np.cumsum(SOLVED["OnPolicy"]).tolist()
    better, unclear = (path(design, np.cumsum(SOLVED[name]).tolist(), base) for name in ("MAPROPS", "PROPS"))
    assert better[-1].verdict == "better" and len(better) == 2 and unclear[-1].verdict == "open" and len(unclear) == 3
    text = text_of(make_report([sweep_folder(tmp_path / "decide")]).html)
    assert "MAPROPS: decided: better than OnPolicy, +50 points" in text and "40 seeds of each." in text
    assert "PROPS: undecidable at this budget against OnPolicy, +5 points" in text
    assert "Looks after 20, 40, 60 seeds of each sampler." in text and "at most 5% of such sweeps" in text
    for title in ("MAPROPS minus OnPolicy, look by look", "PROPS minus OnPolicy, look by look"):
        assert title in text
    assert "Every look (5)" in text and f"{design.quantiles[0]:.3f}" in text


def test_differences_of_such_a_sweep_have_the_interval_of_their_last_look(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "decide")
    runs, _ = load_runs([folder])
    _, looks, left_out = decided_sweeps(runs)
    (setting,) = by_setting(runs, looks)
    found = {result.group.name: result.difference for result in setting.results if result.difference}
    last = Design(LOOKS, 2).look(1, 39, 19)
    assert (found["MAPROPS"].value, found["MAPROPS"].low, found["MAPROPS"].high) == last[1:4]
    assert not left_out
    # With seeds that are not of the sweep it is an ordinary comparison.
    write_run(tmp_path / "more", [1.0] * 10, "MAPROPS", seed_everything=5)
    runs, _ = load_runs([tmp_path])
    (setting,) = by_setting(runs, decided_sweeps(runs)[1])
    (more,) = (r.difference for r in setting.results if r.group.name == "MAPROPS")
    quantile = norm.ppf(1 - 0.025 / 2)
    low, high = score_interval([49], [50], [30], [60], quantile=quantile)
    assert (more.low, more.high) == pytest.approx((float(low), float(high)), abs=1e-9)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    "changes",
    [{"until_decided": 3}, {"until_decided": DECISION | {"alpha": "x"}}, {"parameters": 3}, {"command": None}],
)
def test_a_damaged_journal_is_named_and_the_runs_are_shown(tmp_path: Path, changes: dict[str, Any]) -> None:
    report = make_report([sweep_folder(tmp_path / "decide", **changes)])
    assert len(report.runs) == 8
    assert [item.path.rpartition("/")[2] for item in report.left_out] == ["sweep.json"]
    (tmp_path / "decide" / "sweep.json").write_text("{")
    assert "is no journal of a sweep" in text_of(make_report([tmp_path]).html)


def test_a_journal_leads_nowhere_else(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "decide")
    content = json.loads((folder / "sweep.json").read_text())
    content["runs"][0]["id"] = "../../elsewhere"
    (folder / "sweep.json").write_text(json.dumps(content))
    assert len(make_report([folder]).left_out) == 1


def test_a_journal_can_neither_fill_the_memory_nor_stop_the_page(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "decide")
    content = json.loads((folder / "sweep.json").read_text())
    many = {f"x{k}": {"values": list(range(100))} for k in range(20)}
    (folder / "sweep.json").write_text(json.dumps(content | {"sweep": content["sweep"] | {"parameters": many}}))
    (item,) = make_report([folder]).left_out
    assert "arms: give 2 to 100" in item.reason
    content["runs"][0]["parameters"]["model.first_seed"] = [1]
    (folder / "sweep.json").write_text(json.dumps(content))
    assert len(make_report([folder]).left_out) == 1


def test_a_sweep_of_another_kind_has_no_path(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "decide")
    content = json.loads((folder / "sweep.json").read_text())
    del content["sweep"]["until_decided"]
    (folder / "sweep.json").write_text(json.dumps(content))
    report = make_report([folder])
    assert not report.left_out and "Until decided" not in report.html


def test_intervals_of_differences_are_corrected_and_the_page_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0] * 10 + [0.0] * 20)
    write_run(tmp_path / "b", [1.0] * 20 + [0.0] * 10, "MAPROPS")
    text = text_of(make_report([tmp_path]).html)
    assert "corrected for" not in text.partition("How the numbers are made")[0]
    single = re.search(r"MAPROPS solved .*? \[(.*?), (.*?)\]", text)
    write_run(tmp_path / "c", [1.0] * 19 + [0.0] * 11, "PROPS")
    write_run(tmp_path / "d", [1.0] * 21 + [0.0] * 9, "Greedy")
    text = text_of(make_report([tmp_path]).html)
    several = re.search(r"MAPROPS solved .*? \[(.*?), (.*?)\]", text)
    assert "corrected for 3 comparisons" in text and "level 1 - 0.05 / K (Bonferroni)" in text
    low, high = score_interval([20], [30], [10], [30], quantile=norm.ppf(1 - 0.025 / 3))
    points = [f"{100 * float(end):+.0f}".replace("-", "\N{MINUS SIGN}") for end in (low, high)]
    assert list(several.groups()) == points != list(single.groups())
