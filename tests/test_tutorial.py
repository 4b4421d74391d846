"""The tutorial runs in a real kernel, shows a progress bar, and its own sampler is better than on-policy sampling."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

TUTORIAL = ROOT / "docs/tutorial.ipynb"


def test_the_tutorial_is_stored_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(TUTORIAL, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(TUTORIAL, as_version=4)
    kernel = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    with kernel.setup_kernel(env=dict(os.environ)):
        for number, cell in enumerate(notebook.cells):
            kernel.execute_cell(cell, number)
        test = nbformat.v4.new_code_cell("print(difference.low > 0, even.folder.resolve())")
        notebook.cells.append(test)
        output = kernel.execute_cell(test, len(notebook.cells) - 1).outputs[0]["text"]
    assert output == f"True {tmp_path / 'runs' / 'carry_even'}\n"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    assert re.search(r"100%\|.* x 100 seeds", printed)  # the bar
    assert "--" not in printed
    shown = [output["data"].get("text/html", "") for output in outputs if output["output_type"] == "execute_result"]
    assert "of 100 seeds" in shown[0]
    assert sum("<table" in page for page in shown) == 3
