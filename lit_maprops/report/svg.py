"""Matplotlib figures as inline SVG that follows the page's theme and stays readable on a phone."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any
from xml.etree import ElementTree
from zlib import crc32

# Colors that stand for the page's CSS variables; nothing else uses these values.
INK, MUTED, GRID = "#fe00f0", "#fe00f1", "#fe00f2"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"}
# One look per sampler, told apart without color too; number 0 is on-policy.
LINES: list[Any] = ["--", "-", "-.", (0, (5, 1, 1, 1, 1, 1)), "-", "-.", (0, (6, 2)), "-"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
STYLES = len(MARKERS)
STAND_IN = "#fe00"  # how they all begin
VARIABLES |= {f"#fe000{number}": f"var(--s{number})" for number in range(STYLES)}
WIDTH = 4.0  # inches: at this width 9 pt stays above 10 px on a phone
FONT = re.compile(r"font: (?:\d+ )?([\d.]+)px [^;]*")
REFERRED = re.compile(r'(?:url\(#|href="#)([\w-]+)')
REFERENCE = re.compile(r"url\(#([\w-]+)\)|^#([\w-]+)$")
SVG = "{http://www.w3.org/2000/svg}"
RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lit_maprops",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: ``title`` what it shows, ``alt`` its content in words, ``caption`` how to read it."""

    title: str
    svg: str
    alt: str
    caption: str = ""
    key: tuple[tuple[str, int], ...] = ()  # names and styles of the samplers that need a key below the figure


def color(style: int) -> str:
    """The stand-in color of a style."""
    return f"#fe000{style}"


def draw(paint: Callable[[Any], None], height: float, alt: str) -> str:
    """Let ``paint`` fill the axes of a figure ``height`` inches high; returns an ``<svg>`` element."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # The object interface, not pyplot: no global state, no display.
    with rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's fonts draw the text, not ours
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        text = StringIO()
        # Not savefig, which draws everything twice: once for the layout, which drawing asks for by itself.
        canvas.print_svg(text, metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return _themed(text.getvalue(), alt)


def plain(label: str) -> str:
    """Keep matplotlib from reading a user's dollar signs as mathematics."""
    return label.replace("$", r"\$")


def shorten(label: str, most: int = 44) -> str:
    """Cut the middle out of a label that would not fit."""
    return label if len(label) <= most else f"{label[: most // 2]} ... {label[-(most // 2 - 5) :]}"


def _themed(text: str, alt: str) -> str:
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = str(element.tag).removeprefix(SVG)
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            element.set(name.rpartition("}")[2], _themed_value(value))
    # Several figures share one page: no id may be there twice, and only those referred to are needed.
    prefix = f"f{crc32((text + alt).encode()):x}"
    used = set(REFERRED.findall(text))
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", f"{prefix}-{identity}")
        for name, value in element.attrib.items():
            if "#" in value:
                element.set(name, REFERENCE.sub(lambda m: _refer(m, prefix), value))
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _refer(match: re.Match[str], prefix: str) -> str:
    return f"url(#{prefix}-{match[1]})" if match[1] else f"#{prefix}-{match[2]}"


def _themed_value(value: str) -> str:
    if STAND_IN in value:
        for stand_in, variable in VARIABLES.items():
            value = value.replace(stand_in, variable)
    # Attributes cannot hold var(), styles can; matplotlib writes colors of lines and text into styles.
    return FONT.sub(r"font-size: \1px", value) if "font: " in value else value
