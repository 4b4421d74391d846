"""The house: imports go downward and in no circle, files are small, flags are spelled where they belong."""

import ast
import re
import tokenize
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "lit_maprops"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
TREES = {path: ast.parse(path.read_text()) for path in FILES}

# Top to bottom; whatever stands in a row may import its own row and every row below.
LAYERS = [
    ["__init__"],
    ["__main__"],
    ["api", "cli"],
    ["planning"],
    ["analyze", "autopsy", "benchmark", "export", "report", "sweep"],
    ["run"],
    ["module"],
    ["engine", "state"],
    ["collect", "data"],
    ["samplers", "trials"],
    ["behavior", "metrics"],
    ["targets"],
    ["buffer"],
    ["envs"],
    ["native"],
    ["distributions"],
    ["stacked"],
    ["keys", "system"],
]
# The same inside rooms that have rooms. Two folders of a row are strangers: neither imports the other.
INSIDE = {
    "behavior": [
        ["__init__"],
        [
            "autoregressive",
            "coordination_graph",
            "gaussian_adjustment",
            "low_discrepancy",
            "ma_props",
            "props",
            "tabular",
        ],
        ["enumerated", "structured"],
        ["adjusted", "watched"],
        ["algorithm2", "base", "message_passing", "whitened"],
        ["low_discrepancy_draws", "ordered_draws"],
        ["draws", "stratified", "visits"],
        ["same_state"],
        ["update"],
    ],
    "envs": [
        ["__init__"],
        ["gymnasium", "torchrl"],
        ["boulder_push", "foraging", "games", "jaxmarl", "overcooked", "pettingzoo", "rware", "vmas"],
        ["global_draws", "remembering"],
        ["task_env"],
        ["watched"],
        ["declared", "pictures"],
        ["base", "ends", "faults", "global_generators", "one_hot"],
    ],
}

MOST_LINES, MOST_BODY_LINES = 300, 50
# Files of more lines, and the one thought that each of them is.
LONGER = {"module.py": "a run's settings, Algorithm 1 and its figures, as a LightningModule"}

# Files outside cli/ and run/ whose strings hold flags, and why.
SPELL_FLAGS = {
    "analyze/subject.py": "parses the configuration of a run as the command line does",
    "module.py": "documents which flag an argument of every class's is",
    "sweep/processes.py": "builds the command line of a run",
    "sweep/slurm.py": "builds the command lines of SLURM's programs",
}
FLAG = re.compile(r"(?<![\w-])--[a-z]\w")
STYLESHEET = re.compile(r"var\(--\w*")  # variables of CSS look like flags


def depths(layers: list[list[str]]) -> dict[str, int]:
    return {name: depth for depth, row in enumerate(layers) for name in row}


def file_of(dotted: str) -> Path | None:
    """The file of the package that a module's name stands for."""
    path = ROOT / dotted.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file in TREES), None)


def imported(path: Path) -> set[Path]:
    """The files of the package that a file imports anywhere in it, for type checking only included."""
    found: set[Path | None] = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {file_of(f"{node.module}.{alias.name}") or file_of(str(node.module)) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
    return {file for file in found if file is not None}


def part(path: Path, level: int) -> str:
    """The room of a file (level 0), or what it is inside of that room (level 1)."""
    return path.relative_to(PACKAGE).parts[level].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_downward(path: Path) -> None:
    depth, room = depths(LAYERS), part(path, 0)
    upward = {other for other in (part(file, 0) for file in imported(path)) if depth[other] < depth[room]}
    assert not upward, f"{room} imports {upward}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if part(path, 0) in INSIDE], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_downward_inside_rooms(path: Path) -> None:
    room, own = part(path, 0), part(path, 1)
    depth = depths(INSIDE[room])
    for other in {part(file, 1) for file in imported(path) if part(file, 0) == room} - {own}:
        assert depth[own] <= depth[other], f"{room}: {own} imports {other}"
        strangers = depth[own] == depth[other] and all((PACKAGE / room / name).is_dir() for name in (own, other))
        assert not strangers, f"{room}: {own} imports {other}, its neighbor"


def test_every_room_has_a_place() -> None:
    assert {part(path, 0) for path in FILES} == set(depths(LAYERS))
    for room, layers in INSIDE.items():
        assert {part(path, 1) for path in FILES if part(path, 0) == room} == set(depths(layers))


def test_no_imports_go_in_a_circle() -> None:
    """Files that import no file which is left are taken away until none is left; those on a circle stay."""
    left = {path: imported(path) - {path} for path in FILES}
    while ready := {path for path, needs in left.items() if not needs & left.keys()}:
        left = {path: needs for path, needs in left.items() if path not in ready}
    assert not left, f"a circle among {sorted(str(path.relative_to(PACKAGE)) for path in left)}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_and_functions_are_small(path: Path) -> None:
    name, lines = str(path.relative_to(PACKAGE)), len(path.read_text().splitlines())
    assert (lines > MOST_LINES) == (name in LONGER), f"{name} has {lines} lines"
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= MOST_BODY_LINES, f"{node.name} has {lines} lines"


def test_flags_are_spelled_by_the_command_line_only() -> None:
    """Other rooms name an argument, ``<behavior.kl_cutoff>``: in Python there are no flags."""
    spell = set()
    for path in FILES:
        strings = (node.value for node in ast.walk(TREES[path]) if isinstance(node, ast.Constant))
        if any(FLAG.search(STYLESHEET.sub("", text)) for text in strings if isinstance(text, str)):
            spell.add(str(path.relative_to(PACKAGE)))
    outside = {name for name in spell if not name.startswith(("cli/", "run/"))}
    assert outside == set(SPELL_FLAGS), "flags outside cli/ and run/, or an exception that is none any more"


def test_ignored_types_say_which_error_and_narrow_nothing() -> None:
    for path in FILES:
        with tokenize.open(path) as file:
            comments = [t for t in tokenize.generate_tokens(file.readline) if t.type == tokenize.COMMENT]
        for comment in comments:
            if "type: ignore" in comment.string:
                code = re.search(r"type: ignore\[([\w-]+)\]", comment.string)
                where = f"{path}:{comment.start[0]}"
                assert code, f"{where} ignores every error"
                assert code[1] != "assignment", f"{where} gives a name a type that its owner does not know"


def test_nobody_asks_what_its_own_parts_are() -> None:
    """A part does what differs between its kinds, or is chosen at build."""
    asks = re.compile(r"(isinstance|issubclass|hasattr)\((type\()?self\..*|type\(self\.[\w.]+\) (is|==|in)\b.*")
    found = {str(path.relative_to(PACKAGE)): asks.search(ast.unparse(tree)) for path, tree in TREES.items()}
    assert not {name: match[0] for name, match in found.items() if match}


def test_no_pickle_is_ever_loaded() -> None:
    for path in FILES:
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Without packages pytest imports by the file's name alone: a second one of that name is not collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not [name for name in names if names.count(name) > 1]
