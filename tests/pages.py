"""The pages for readers: what they tell them to type, and the files that they tell them to write."""

import re
import shlex
from pathlib import Path

from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def lines(page: Path) -> list[list[str]]:
    """The words of every line to type."""
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    return [words for words in map(shlex.split, text.splitlines()) if words]


def commands(page: Path) -> list[list[str]]:
    """The arguments of every ``python -m lit_maprops``."""
    return [words[3:] for words in lines(page) if words[:3] == ["python", "-m", "lit_maprops"]]


def modules(page: Path) -> dict[str, str]:
    """The files of Python that a page asks for, whose first line is their name."""
    named = (re.match(r"# (\w+\.py)\n", block) for block in blocks(page, "python"))
    return {name[1]: name.string for name in named if name}


def scripts(page: Path) -> list[str]:
    """Python that is not to be saved but run."""
    return [block for block in blocks(page, "python") if not re.match(r"# \w+\.py\n", block)]
