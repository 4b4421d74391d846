"""The leaderboard as a page that stands alone, and as Markdown."""

import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from lit_maprops.benchmark.comparisons import LEVEL, Judged, level_of
from lit_maprops.benchmark.tables import Leaderboard, Table, cell_text, difference_text
from lit_maprops.report.figures import MARKERS, color
from lit_maprops.report.svg import INK, MUTED, STYLES, Drawing, draw, plain, shorten


def methods(board: Leaderboard) -> list[str]:
    """How the numbers are made, in sentences."""
    shares = len(board.judged)
    compared = sum(one.difference is not None for one in board.judged)
    return [
        "A seed is one training run. It is solved when the success rate of its greedy policies in the last evaluation "
        "reaches the run's solved_threshold (0.8 in the configurations used). Where a task tells no success, the "
        "figure is the mean greedy return over seeds.",
        f"Intervals hold all at once (Bonferroni): each of the {shares} figures has level {level_of(shares):.3%}, each "
        f"of the {compared} differences to on-policy sampling {level_of(compared):.3%}, so that with {LEVEL:.0%} none "
        "of a kind misses the truth. Shares: Wilson's; differences of shares: a score interval (Miettinen and "
        "Nurminen's, with a continuity correction); returns: Student's t and Welch's, which a single seed does not "
        "have.",
        "Better, worse: the interval of the difference to OnPolicy with the same learner misses 0. Anything else is no "
        "difference shown, not equality.",
        "Mean solved shares are over the tasks that tell success and that OnPolicy has run with the same learner, too; "
        "tasks count alike, and those of different rows may differ: compare a row with on-policy's share beside it.",
        "Not run: time was up before its turn; nothing is known of it. Left out: cannot go together, see below.",
    ]


def replay(board: Leaderboard) -> str:
    """How to measure it again."""
    return (
        f"The list is lit_maprops/benchmark/{board.file.path.name} version {board.file.version}, on configurations of "
        "conf/; requirements.lock pins every package. Seeds are numbered from 0 on with run seed "
        f"{board.file.run_seed}: the same command with the same seeds gives the same runs."
    )


def as_markdown(board: Leaderboard) -> str:
    """The page for a repository."""
    parts = [f"# Leaderboard: {_cell(board.file.name)}", "", "[The same with pictures](leaderboard.html).", ""]
    parts += [f"**{_cell(text)}**\n" for text in board.warnings]
    parts += ["| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in board.facts), ""]
    parts += ["## Standings", "", *_table(board.standings), ""]
    for table in board.tables:
        parts += [f"## {_cell(table.title)}", "", *_table(table), ""]
    compared = [one for one in board.judged if one.difference is not None]
    if compared:
        parts += ["## Differences to on-policy sampling", "", *_table(_differences(compared)), ""]
    parts += ["## Tasks", "", *(f"- {name}: {_cell(task.about)}" for name, task in board.file.tasks.items()), ""]
    unmeasured = [*_left_out(board), *(f"{' '.join(one.name)} failed: {one.reason}" for one in board.failed)]
    parts += ["## Not measured", "", *(f"- {_cell(text)}" for text in unmeasured), ""] if unmeasured else []
    parts += ["## How the numbers are made", "", *(f"- {text}" for text in [*methods(board), replay(board)])]
    return "\n".join(parts) + "\n"


def as_html(board: Leaderboard) -> str:
    """The whole document: nothing outside of it is asked for."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files(__package__).joinpath("leaderboard.html").read_text(encoding="utf-8")
    compared = [one for one in board.judged if one.difference is not None]
    return environment.from_string(text).render(
        board=board,
        differences=_differences(compared) if compared else None,
        drawings=_drawings(board),
        left_out=_left_out(board),
        methods=[*methods(board), replay(board)],
    )


def _left_out(board: Leaderboard) -> list[str]:
    """One line per task and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in board.left_out:
        found.setdefault((one.task, one.reason), []).append(one.sampler or "all")
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (task, reason), samplers in found.items():
        merged.setdefault((reason, tuple(samplers)), []).append(task)
    lines = []
    for (reason, chosen), tasks in merged.items():
        what = ", ".join(chosen)
        lines.append(f"{', '.join(tasks)}{'' if what == 'all' else f'; {what}'}: {reason}")
    return lines


def _differences(compared: Sequence[Judged]) -> Table:
    heads = ("task", "learner", "sampler", "figure", "difference to on-policy", "reads")
    reads = ("no difference shown", "better", "worse")
    rows = []
    for one in compared:
        row = one.row
        name = f"{row.sampler} ({row.by})" if row.by else row.sampler
        verdict = one.difference.beats(0) if one.difference is not None else 0
        figure = cell_text(one).partition(": ")[0]
        rows.append([row.task, row.learner, name, figure, difference_text(one), reads[verdict]])
    return Table("Differences to on-policy sampling", heads, rows)


def _drawings(board: Leaderboard) -> list[Drawing]:
    """One dot plot per task that has a result."""
    found: dict[str, list[Judged]] = {}
    for one in board.judged:
        if not math.isnan(one.figure.value):
            found.setdefault(one.row.task, []).append(one)
    samplers = list(dict.fromkeys(one.row.sampler for one in board.judged))
    return [_drawing(task, found[task], samplers) for task in board.file.tasks if task in found]


def _drawing(task: str, judged: Sequence[Judged], samplers: Sequence[str]) -> Drawing:
    share = judged[0].row.solved is not None
    names = [f"{one.row.sampler}, {one.row.learner}{f' ({one.row.by})' if one.row.by else ''}" for one in judged]
    texts = [cell_text(one) for one in judged]

    def paint(axes: Any) -> None:
        for row, (one, name, text) in enumerate(zip(judged, names, texts, strict=True)):
            style = samplers.index(one.row.sampler) % STYLES
            if not math.isnan(one.figure.low):
                ends = [one.figure.low, one.figure.high]
                axes.plot(ends, [row, row], lw=3, solid_capstyle="butt", color=color(style), clip_on=False)
            axes.plot([one.figure.value], [row], marker=MARKERS[style], ms=7, color=color(style), clip_on=False)
            label: dict[str, Any] = {"va": "bottom", "fontsize": 8, "in_layout": False}
            label["transform"] = axes.get_yaxis_transform()
            axes.text(0, row - 0.25, plain(shorten(name, 36)), color=INK, **label)
            axes.text(1, row - 0.25, text.split("[")[0].split(",")[0], ha="right", color=MUTED, **label)
        axes.set_ylim(len(judged) - 0.5, -0.8)
        if share:
            axes.set_xlim(0, 1)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)

    alt = f"{task}. " + "; ".join(f"{name} {text}" for name, text in zip(names, texts, strict=True))
    caption = "Share of solved seeds" if share else "Mean greedy return"
    return Drawing(task, draw(paint, 0.5 + 0.42 * len(judged), alt), alt, f"{caption}, simultaneous 95% intervals.")


def _table(table: Table) -> list[str]:
    lines = [table.heads, ("---",) * len(table.heads), *table.rows]
    return ["| " + " | ".join(map(_cell, line)) + " |" for line in lines]


def _cell(text: str) -> str:
    """Text that Markdown leaves as it is, inside a table's cell too."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, "\\" + character) if character in text else text
    return text.replace("\n", " ")
