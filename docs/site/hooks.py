"""What the documentation site adds to docs/: files from outside that pages link to, notebooks as pages, a table.

The pages are written for GitHub, where ``../conf/boulderpush.yaml`` leads to the file. The site has a copy of every
such file, so that its links work wherever it is served and show the version that the page speaks of.
"""

import ast
import json
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))  # MkDocs loads this file by its path
from notebook_page import as_page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<=\]\()((?:\.\./)+[^)\s#]+)")
COPIES = "source"
OPTIONS = "lit_maprops/system/trainer_options.py"
OPTIONS_PLACE = "<!-- table of trainer options -->"


def inside_repository(page: str, link: str) -> str | None:
    """The path from the repository's root of a link that leaves docs/; None if it stays inside."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") else path


def copy_of(path: str) -> str:
    """Where the site has a file. Browsers show text and download the rest; tables are for downloading."""
    return f"{COPIES}/{path}" if path.endswith((".csv", ".png")) else f"{COPIES}/{path}.txt"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make a page of every notebook, and take in what pages link to outside of docs/."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            content = as_page(json.loads(file.content_string))
            files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=content))
    for page in list(files.documentation_pages()):
        for link in LINK.findall(page.content_string):
            path = inside_repository(page.src_uri, link)
            if path is None or files.get_file_from_path(copy_of(path)):
                continue
            if not (ROOT / path).is_file():
                raise PluginError(f"{page.src_uri} links to {link}, which is no file of the repository")
            files.append(File.generated(config, copy_of(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of docs/ to the copies, and fill in the table of trainer options."""

    def inside_site(link: re.Match[str]) -> str:
        path = inside_repository(page.file.src_uri, link[0])
        if path is None:
            return link[0]
        return posixpath.relpath(copy_of(path), posixpath.dirname(page.file.src_uri) or ".")

    if OPTIONS_PLACE in markdown:
        markdown = markdown.replace(OPTIONS_PLACE, options_table((ROOT / OPTIONS).read_text()))
    return LINK.sub(inside_site, markdown).replace(".ipynb)", ".md)")


def options_table(source: str) -> str:
    """The arguments of Lightning's Trainer and what each means for a run, read from the table ``OPTIONS``."""
    tables = [node.value for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
    (table,) = (table for table in tables if isinstance(table, ast.Dict))
    lines = ["| argument of `Trainer` | what it means for a run |", "|---|---|"]
    for name, option in zip(table.keys, table.values, strict=True):
        assert isinstance(name, ast.Constant) and isinstance(option, ast.Call)
        meaning = ast.literal_eval(option.args[0])
        lines.append(f"| `{name.value}` | {meaning} |")
    return "\n".join(lines)
