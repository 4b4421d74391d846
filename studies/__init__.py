"""The studies behind docs/evidence: one folder each, with the script, the page's template and the raw table.

``python -m studies.samplers``, in the root of the clone, measures what is missing and writes docs/evidence/samplers.md.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "evidence"


def template_of(study: str) -> Path:
    """What the page is made of: its text, with a field for everything that is measured."""
    return ROOT / "studies" / study / "template.md"


def table_of(study: str) -> Path:
    """The raw figures behind the page."""
    return ROOT / "studies" / study / f"{study}.csv"


def page_of(study: str) -> Path:
    """What readers see."""
    return PAGES / f"{study}.md"


def picture_of(study: str) -> Path:
    """The page's picture."""
    return PAGES / f"{study}.png"
