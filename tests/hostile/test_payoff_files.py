"""Payoffs from anyone, as a configuration file gives them: one line that names the flag."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hostile_helpers import cases, complaint, limited_memory, run
from hypothesis import given
from hypothesis import strategies as st

from lit_maprops.envs import MatrixGame
from lit_maprops.run.flags import with_flags
from lit_maprops.system.errors import ConfigError

NUMBERS = st.one_of(
    st.floats(),
    st.integers(-(10**40), 10**40),
    st.sampled_from([10**400, 1e39, -0.0, True, None, "x", "1", "", {}, [], 1j]),
)
NESTED = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=4), max_leaves=30)


@cases(600)
@given(payoff=st.one_of(st.lists(NESTED, max_size=4), st.text(max_size=8)), n_agents=st.integers(-2, 9))
def test_any_nested_list(payoff: Any, n_agents: int) -> None:
    """Built, and then finite and of the rank that was given; or refused under the name of a flag."""
    try:
        game = MatrixGame(payoff, n_agents)
    except ConfigError as error:
        assert "--data.env." in with_flags(error.marked)
        assert str(error).isprintable()
    else:
        assert game.payoff.isfinite().all()
        assert game.payoff.shape == (game.n_actions**game.n_agents, n_agents)


TEXTS = {
    "ragged": "[[1, 2], [3]]", "words": "[[a, b], [c, d]]", "numbers as words": "[['1', '2'], ['3', '4']]",
    "NaN": "[[.nan, 1], [1, 1]]",
    "infinite": "[[.inf, 1], [1, 1]]", "beyond single precision": "[[1.0e39, 1], [1, 1]]", "empty": "[]",
    "empty rows": "[[], []]",
    "one level": "[1, 2]", "four levels": "[[[[1]]]]", "complex": "[[1j, 1], [1, 1]]", "null": "null",
    "null inside": "[[null, 1], [1, 1]]",
    "keys": "{a: 1}", "a number": "3", "true": "true", "a path": "/etc/passwd", "an array of objects": "payoff.npy",
    "deep": "[" * 60 + "]" * 60,
    "digits": "[[" + "9" * 400 + ", 1], [1, 1]]", "aliases": "[&a [1, 2], *a, *a]",
    "a tag": "!!python/object/apply:os.system ['touch canary']",
    "not square": "[[1, 2, 3], [4, 5, 6]]", "control characters": '"\\e[31m\\n"', "long": "x" * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "game.yaml").write_text(f"data: {{env: {{class_path: MatrixGame, init_args: {{payoff: {text}}}}}}}\n")
    args = ["fit", "--config", str(ROOT / "conf/matrix_game.yaml"), "--config", "game.yaml", "--runs_dir", "runs"]
    with limited_memory():
        assert complaint(args, "game.yaml") is None
    assert run(args)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["game.yaml"]


def test_a_large_one_is_read(tmp_path: Path) -> None:
    """The limits are for hostile files: a game of 2**16 cells is none."""
    payoff: Any = [[0.0, 1.0], [1.0, 0.0]]
    for _ in range(14):
        payoff = [payoff, payoff]
    game = MatrixGame(json.loads(json.dumps(payoff)), 16)
    assert game.payoff.shape == (2**16, 16)
