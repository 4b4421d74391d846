"""A notebook as a page of the site: its text, its code and what the code last printed, drew or returned."""

from typing import Any


def as_page(notebook: dict[str, Any]) -> str:
    """Markdown of a notebook in nbformat 4, in the order of its cells."""
    parts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append("".join(cell["source"]))
        elif cell["cell_type"] == "code" and cell["source"]:
            parts.append(_fenced("python", "".join(cell["source"])))
            parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fenced(language: str, text: str) -> str:
    return f"````{language}\n{text.rstrip()}\n````"


def _output(output: dict[str, Any]) -> str:
    """The richest form that a page can show; warnings and progress bars, on standard error, are left out."""
    if output["output_type"] == "stream":
        return _fenced("text", "".join(output["text"])) if output["name"] == "stdout" else ""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="figure" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    if "text/html" in data:
        return f'<div class="output">\n{"".join(data["text/html"])}\n</div>'
    return _fenced("text", "".join(data["text/plain"])) if "text/plain" in data else ""
