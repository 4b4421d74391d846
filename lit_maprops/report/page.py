"""The page: everything the report shows, through one template with autoescape."""

import math
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lit_maprops.report import error_figures, figures
from lit_maprops.report.analysis import Setting, across, by_setting
from lit_maprops.report.beside import Beside, beside, check_shared, read_files
from lit_maprops.report.decisions import HEADS as DECISION_HEADS
from lit_maprops.report.decisions import Decided, decided_sweeps
from lit_maprops.report.films import films
from lit_maprops.report.find import LeftOut
from lit_maprops.report.headline import headline, nan_notes, sampled_notes
from lit_maprops.report.load import Run, load_runs
from lit_maprops.report.props_notes import props_notes
from lit_maprops.report.remarks import near_deterministic, remarks
from lit_maprops.report.return_figures import returns
from lit_maprops.report.seeds import seeds_of
from lit_maprops.report.settings import NAMES_OF_THE_RUN, SAMPLER, differing, environment, natural, show
from lit_maprops.report.svg import LINES, MARKERS, STYLES, Drawing
from lit_maprops.run.wandb_options import REPORT
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.extras import install
from lit_maprops.system.files import write_atomically
from lit_maprops.system.outputs import check_output

MOST_COLUMNS = 60  # of settings, in the table of runs
MOST_SETTINGS = 8  # with figures; every run is in the table
PACKAGES = ("jinja2", "matplotlib", "scipy")  # of the extra `report`
TITLE = "MA-PROPS reliability report"


@dataclass(frozen=True)
class Report:
    """A finished page; a notebook shows it as it is.

    Attributes:
        html: the whole document.
        runs: what it compares.
        left_out: folders that could not be used.
        outside: seeds of other packages' files.
    """

    html: str = field(repr=False)
    runs: list[Run] = field(repr=False)
    left_out: list[LeftOut]
    outside: int = 0

    @property
    def summary(self) -> str:
        """One line: what went in."""
        finished = sum(run.finished for run in self.runs)
        text = f"{finished} finished runs with {sum(len(run.seeds) for run in self.runs if run.finished)} seeds"
        text += f", {len(self.runs) - finished} unfinished" if finished < len(self.runs) else ""
        text += f", {self.outside} seeds of other packages" if self.outside else ""
        folders = f"{len(self.left_out)} folder{'s' * (len(self.left_out) > 1)}"
        return text + (f", {folders} left out" if self.left_out else "")

    def save(self, path: str | Path) -> None:
        """Write the page.

        Raises:
            ConfigError: there is no such folder, it is not writable, or the file belongs to a run.
            WriteError: the disk is full or gone.
        """
        check_output("<output>", Path(path))
        write_atomically(Path(path), self.html)

    def _repr_html_(self) -> str:
        from markupsafe import escape

        # A frame of its own: the page's styles and the notebook's must not meet.
        return f'<iframe srcdoc="{escape(self.html)}" style="width:100%;height:80vh;border:0" title="{TITLE}"></iframe>'


def check_packages(command: str = "report") -> None:
    """Refuse to draw a page without the extra ``report``.

    Raises:
        ConfigError: names the package that is missing.
    """
    for package in PACKAGES:
        if find_spec(package) is None:  # install looks through what is installed
            raise ConfigError(f"{command}: {package} is missing: {install('report')}")


def look() -> str:
    """What other pages take over to look like this one: styles, and the script that follows the reader's theme."""
    text = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    begin, end = text.index("<style>"), text.index("</script>")
    return text[begin:end] + "</script>"


def page_maker(artifacts: Sequence[str]) -> Callable[[Path], str] | None:
    """What makes the page of a run's folder; None if ``artifacts``, of the run's options, ask for none.

    Raises:
        ConfigError: a package of the extra ``report`` is missing.
    """
    if REPORT not in artifacts:
        return None
    check_packages()
    return lambda folder: make_report([folder]).html


def make_report(
    paths: Sequence[str | Path], made_on: str | None = None, aliases: Mapping[str, str] | None = None
) -> Report:
    """Read runs and lay out the page.

    Args:
        paths: run folders, folders that contain them, or files of marl-eval, of other packages' runs.
        made_on: the date shown; None: now. The only part that differs between equal inputs.
        aliases: ``environment/task`` in a file to the ``environment/task`` of the other inputs that is the same.

    Raises:
        ConfigError: no run could be read, a file is none of marl-eval's or shares no task with the other inputs, or a
            package of the extra ``report`` is missing.
    """
    check_packages()
    files_given = [Path(path) for path in paths if Path(path).is_file()]
    folders = [path for path in paths if not Path(path).is_file()]
    outside = read_files(files_given, aliases or {})
    runs, left_out = load_runs(folders)
    if folders and not runs:
        places = ", ".join(str(path) for path in paths)
        why = f" ({left_out[0].path}: {left_out[0].reason})" if left_out else ""
        raise ConfigError(f"report: no readable run in {places}{why}: give folders that `fit` wrote, such as runs")
    check_shared(outside, runs)
    decided, looks, unread = decided_sweeps(runs)
    left_out += unread
    settings = by_setting(runs, looks)
    others = beside(outside, settings)
    made_on = made_on or datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    html = _render(runs, left_out, settings, decided, others, made_on)
    return Report(html, runs, left_out, sum(section.seeds for section in others))


def _render(
    runs: list[Run],
    left_out: list[LeftOut],
    settings: list[Setting],
    decided: list[Decided],
    others: list[Beside],
    made_on: str,
) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown = settings[:MOST_SETTINGS]
    reels, film_notes = films(shown)
    varied, common = _configs(runs)
    hidden, varied = varied[MOST_COLUMNS:], varied[:MOST_COLUMNS]
    comparable = [setting for setting in shown if setting.results and not setting.by_return]
    pooled, (warnings, more_warnings) = across(comparable), remarks(runs)
    template = environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        title=_title(runs),
        warnings=warnings,
        more_warnings=more_warnings,
        near_deterministic=[text for text in map(near_deterministic, runs) if text][:MOST_SETTINGS],
        made_on=made_on,
        counts=Report("", runs, left_out, sum(section.seeds for section in others)).summary,
        others=others,
        sections=[_section(setting, reels.get(setting.name, [])) for setting in shown],
        hidden_settings=[setting.name for setting in settings[MOST_SETTINGS:]],
        decided=decided,
        decision_heads=DECISION_HEADS,
        slopes=error_figures.error_slopes(settings),
        across=figures.reliability(pooled, "all settings") if len(pooled) > 1 else [],
        across_numbers=figures.numbers(pooled),
        across_names=[setting.name for setting in comparable],
        unfinished=[run for run in runs if not run.finished],
        left_out=left_out,
        film_notes=film_notes,
        columns=varied,
        hidden_columns=hidden,
        thinned=[run for run in runs if run.thinned > 1],
        rows=_rows(runs, settings, varied),
        common=common,
        swatches=[_swatch(style) for style in range(STYLES)],
    )


def _title(runs: Sequence[Run]) -> str:
    played = {environment(run.config) for run in runs}
    return f"{TITLE}: {min(played)}" if len(played) == 1 else TITLE


def _section(setting: Setting, reel: list[Any]) -> dict[str, Any]:
    drawings: list[Drawing | None] = []
    if setting.results:
        merits = returns if setting.by_return else figures.reliability
        drawings = [figures.success_curves(setting), *merits(setting.results, setting.name)]
        drawings += error_figures.error_curves(setting)
        drawings += error_figures.first_visits(setting)
        drawings += error_figures.delta_epsilon_maps(setting)
        drawings.append(figures.cost(setting))
    head, _, details = setting.name.partition(" (")
    return {
        "name": setting.name,
        "head": head,
        "details": details.removesuffix(")"),
        "headline": headline(setting) if setting.results else ["No run with these settings has finished."],
        "notes": nan_notes(setting),
        "sampled": sampled_notes(setting),
        "props": props_notes(setting) if setting.results else [],
        "tells_solved": setting.tells_solved,
        "seeds": seeds_of(setting),
        "drawings": [drawing for drawing in drawings if drawing is not None],
        "numbers": figures.numbers(setting.results),
        "films": reel,
    }


def _swatch(style: int) -> dict[str, Any]:
    """How the page draws a style's line and marker in its keys."""
    dashes = {"--": "5 3", "-.": "7 2 1.5 2", "-": "none"}
    line = LINES[style]
    dash = dashes[line] if isinstance(line, str) else " ".join(str(2 * part) for part in line[1])
    return {"style": style, "dash": dash, "marker": MARKERS[style]}


def _configs(runs: Sequence[Run]) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Flags that differ between runs; the others with their value and, if not all runs have them, whose they are."""
    varied = [key for key in differing(run.config for run in runs) if key != SAMPLER]
    owners: dict[str, set[str]] = {}
    values: dict[str, Hashable] = {}
    for run in runs:
        for key, value in run.config.items():
            owners.setdefault(key, set()).add(show(run.config.get(SAMPLER)))
            values[key] = value
    everyone = {show(run.config.get(SAMPLER)) for run in runs}
    common = []
    for key in sorted(set(values) - set(varied) - NAMES_OF_THE_RUN - {SAMPLER}, key=natural):
        common.append((key, show(values[key]), "" if owners[key] == everyone else ", ".join(sorted(owners[key]))))
    return varied, common


def _rows(runs: Sequence[Run], settings: Sequence[Setting], varied: Sequence[str]) -> list[dict[str, Any]]:
    samplers = {(setting.key, group.key): group.name for setting in settings for group in setting.groups}
    names = {setting.key: setting.name for setting in settings}
    rows = []
    for run in sorted(runs, key=lambda run: natural(run.name)):
        state = "finished" if run.finished else f"unfinished at {run.env_steps[-1]:,.0f} env steps"
        errors = [run.mean(error_figures.PREFIX + measure) for measure in error_figures.JOINT]
        error = next((value for value in errors if not math.isnan(value)), math.nan)
        wall = run.metrics.get("wall_seconds", [math.nan])[-1]
        rows.append(
            {
                "cells": [
                    _cell(run.name, os.fspath(run.path)),
                    _cell(samplers[run.setting, run.sampler]),
                    _cell(names[run.setting]),
                    _cell(state),
                    _cell(len(run.seeds)),
                    _cell(run.solved if run.finished and run.criterion.tells_solved else math.nan),
                    _cell(round(float(run.final.mean()), 3) if run.finished and run.tells_success else math.nan),
                    _cell(float(f"{_mean_return(run):.4g}") if run.finished else math.nan),
                    _cell(float(f"{error:.3g}")),
                    _cell(float(f"{run.mean(error_figures.FIRST_VISITS):.3g}")),
                    _cell(round(float(wall), 1)),
                    *(_cell(run.config[key]) if key in run.config else _cell(math.nan) for key in varied),
                ]
            }
        )
    return rows


def _mean_return(run: Run) -> float:
    """Of the greedy policies over the seeds that have one; NaN if none has."""
    values = run.others["greedy_return"][-1]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _cell(value: Hashable, hint: str = "") -> dict[str, Any]:
    """Text of a table cell, and what to sort it by: ``number`` is empty for text and for what is missing."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    missing = isinstance(value, float) and math.isnan(value)
    return {
        "text": "\N{EN DASH}" if missing else show(value),
        "number": repr(float(str(value))) if is_number and not missing else "",
        "missing": missing,
        "hint": "".join(c for c in hint if c.isprintable()),
    }
