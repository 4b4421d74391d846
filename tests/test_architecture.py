"""The house: imports go downward only, rooms are small."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "lit_maprops"
FILES = sorted(PACKAGE.rglob("*.py"))

# Top to bottom; a room may import those of its own row and of every row below.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["analyze", "export", "report", "sweep"],
    ["run"],
    ["module"],
    ["state"],
    ["collect", "data"],
    ["samplers"],
    ["behavior", "metrics"],
    ["targets"],
    ["buffer"],
    ["envs"],
    ["distributions"],
    ["stacked"],
    ["keys", "system"],
    ["__init__"],
]
DEPTH = {room: depth for depth, row in enumerate(LAYERS) for room in row}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> set[str]:
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lit_maprops":
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("lit_maprops.")}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    room = room_of(path)
    upward = {other for other in imported_rooms(ast.parse(path.read_text())) if DEPTH[other] < DEPTH[room]}
    assert not upward, f"{room} imports {upward}"


def test_every_room_has_a_place() -> None:
    assert {room_of(path) for path in FILES} == set(DEPTH)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 50, f"{node.name} has {lines} lines"


def test_no_pickle_is_ever_loaded() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
