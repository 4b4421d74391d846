"""Arguments are held to their types: in Python, on the command line, of every class; pydantic agrees on what fits."""

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from unittest import TestCase

import numpy as np
import pytest
from conftest import ROOT, SMALL
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypeAliasType

import lit_maprops as lm
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.cli.main import main
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import TASKS
from lit_maprops.envs.boulder_push.task import DIRECTIONS, SIZES
from lit_maprops.metrics.sampling_error import ESTIMATORS
from lit_maprops.module import LitMAPROPS
from lit_maprops.system import argument_types
from lit_maprops.system.argument_types import Range, check_value
from lit_maprops.system.arguments import Configurable, checked
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import LEARNERS

RANGED = {name: value for name, value in vars(argument_types).items() if isinstance(value, TypeAliasType)}
CLASSES: list[type] = [LitMAPROPS, MultiAgentData, *BEHAVIORS.values(), *LEARNERS.values(), *TASKS.values()]
ANY = [-(10**20), -1.5, -1, -1e-9, 0, 0.0, 1e-9, 0.5, 1, 1.0, 1 + 1e-9, 999_999, 1_000_000, 1_000_001, 10**9, 10**9 + 1,
       1e29, 1e30, 1e31, math.nan, math.inf, -math.inf, True, False, "1", "", None, [], [1], {}, 1j]  # fmt: skip


def fits(hint: Any, value: Any) -> bool:
    try:
        check_value("<x>", hint, value)
    except ConfigError as error:
        assert str(error).startswith("x is ") and "\n" not in str(error)
        return False
    return True


def of_pydantic(hint: Any) -> TypeAdapter[Any]:
    """The same type in pydantic's words."""
    kind, limits = get_args(hint.__value__)
    low, high = (None if math.isinf(bound) else bound for bound in (limits.low, limits.high))
    bounds: dict[str, Any] = {"gt": low, "lt": high} if limits.strict else {"ge": low, "le": high}
    return TypeAdapter(Annotated[kind, Field(strict=True, **bounds)], config=ConfigDict(strict=True))


@pytest.mark.parametrize("hint", RANGED.values(), ids=RANGED)
def test_what_fits_is_what_pydantic_takes(hint: Any) -> None:
    adapter = of_pydantic(hint)
    for value in ANY:
        try:
            adapter.validate_python(value)
            expected = True
        except ValidationError:
            expected = False
        assert fits(hint, value) == expected, value
    assert fits(hint, np.float64(1)) == (get_args(hint.__value__)[0] is float) and fits(hint, np.int64(1))


@pytest.mark.parametrize("hint", [bool, int, float, str, Literal["a", "b"], int | None, Sequence[int], list[float]])
def test_plain_types_too(hint: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(strict=True))
    for value in [*ANY, "a", "b", (1, 2), [1.5]]:
        try:
            adapter.validate_python(value)
            expected = True
        except ValidationError:
            expected = get_origin(hint) is list and isinstance(value, tuple)  # pydantic is stricter there
        assert fits(hint, value) == expected, value


def numbers(kind: type) -> Iterator[tuple[str, Any]]:
    """The numeric arguments of a class, those that it hands on included, with their types."""
    for owner in kind.__mro__:
        init = vars(owner).get("__init__")
        hints = get_type_hints(init, include_extras=True) if init and owner is not Configurable else {}
        for name, hint in hints.items():
            for part in get_args(hint) or [hint]:
                if part in (int, float) or isinstance(part, TypeAliasType):
                    yield name, part


# Whose range depends on other arguments, or that the parser fills in: the class itself checks them.
DEPENDENT = {"height", "width", "run_seed"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_number_has_a_range(kind: type) -> None:
    found = dict(numbers(kind))
    assert not {name for name, hint in found.items() if hint in (int, float)} - DEPENDENT
    for name, hint in found.items():
        if hint in (int, float) or name not in inspect.signature(kind).parameters:
            continue  # handed on: seen in the class that it is handed to
        base, limits = get_args(hint.__value__)
        step = 1 if base is int else 1e-6
        outside = [
            bound + sign * (0 if limits.strict else step) for bound, sign in ((limits.low, -1), (limits.high, 1))
        ]
        for value in [number for number in outside if abs(number) < 1e20]:
            given = (
                [base(value)] if get_origin(get_type_hints(kind.__init__)[name]) in (list, Sequence) else base(value)
            )
            others = {"behavior": None, "learner": None, "env": None, "name": "torchrl.envs.VmasEnv"}
            parameters = inspect.signature(kind).parameters
            with pytest.raises(ConfigError, match=rf"^{name} is .*: give a"):
                kind(**{other: value for other, value in others.items() if other in parameters} | {name: given})


def test_choices_are_those_of_the_tables() -> None:
    hints = get_type_hints(lm.BoulderPush.__init__)
    assert get_args(hints["size"]) == tuple(SIZES)
    assert get_args(get_args(hints["push_direction"])[0]) == tuple(DIRECTIONS)
    assert get_args(get_args(get_type_hints(LitMAPROPS.__init__)["sampling_error"])[0]) == tuple(ESTIMATORS)


LINES = {
    "--model.num_seeds 0": "--model.num_seeds is 0: give a value from 1 to 1,000,000",
    "--model.num_seeds 1.5": "--model.num_seeds is 1.5: give int",
    "--model.on_fault go": "--model.on_fault is 'go': choose one of stop, quarantine",
    "--model.sampling_error x": "--model.sampling_error is 'x': choose one of tabular, likelihood, energy or null",
    "--model.behavior.kl_cutoff -1": "--model.behavior.kl_cutoff is -1.0: give a value above 0",
    "--model.behavior.kl_cutoff atuo": "--model.behavior.kl_cutoff is atuo: give float or auto",
    "--model.behavior.kl_cutoff inf": "--model.behavior.kl_cutoff is inf: give a finite number or auto",
    "--model.learner.learning_rate nan": "--model.learner.learning_rate is nan: give a finite number",
    "--model.behavior.kl_cutoff .nan": "--model.behavior.kl_cutoff is nan: give a value above 0",
    "--model.behavior.max_states x": "--model.behavior.max_states is x: give int or null",
    "--model.behavior.trained_layers lst": "--model.behavior.trained_layers is 'lst': choose one of all, last",
    "--model.learner.hidden [0]": "--model.learner.hidden is 0: give a value from 1 to 1,000,000",
    "--model.learner.gamma 2": "--model.learner.gamma is 2.0: give a value from 0 to 1",
    "--model.learner.initial_std 7": "--model.learner.initial_std is 7.0: give a value between 0.05 and 2.0",
    "--data.env.size big": "--data.env.size is 'big': choose one of tiny, small, medium, large",
    "--data.num_envs 0": "--data.num_envs is 0: give a value from 1 to 1,000,000",
    "--seed_everything -1": "--seed_everything: -1 is not in bounds, numpy accepts from 0 to 4294967295",
    "--rank_timeout 0": "--rank_timeout is 0.0: give a value between 0 and 1,000,000,000",
}


@pytest.mark.parametrize("words", LINES)
def test_the_command_line_says_it_in_the_same_words(
    words: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *SMALL["BoulderPush"], "--runs_dir", str(tmp_path / "runs"), *words.split()]) == 2
    assert capsys.readouterr().err == f"lit_maprops: error: {LINES[words]}\n"
    assert not (tmp_path / "runs").exists()


def test_help_shows_the_types(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--model.behavior.help", "MAPROPS"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(type: PositiveFloat, default: 0.3)" in text
    assert (
        "(type: Union[PositiveFloat, Literal['auto']], default: 0.05)" in text
        and "(type: Sequence[Count], default: (64, 64))" in text
    )
    assert "--model.behavior.trained_layers {all,last}" in text


def test_a_class_of_somebody_else_is_checked_where_its_arguments_arrive() -> None:
    class Slow(lm.Reinforce):
        def __init__(self, pace: float = 0.01, rounds: Annotated[int, Range(1, 3)] = 1) -> None:
            super().__init__(learning_rate=pace)

    assert Slow(0.5).init_args == {"pace": 0.5}
    for make, line in (
        (lambda: Slow(-1.0), "learning_rate is -1.0: give a value between 0 and 1e+30"),
        (lambda: Slow("fast"), "pace is 'fast': give a float"),
        (lambda: Slow(rounds=4), "rounds is 4: give a value from 1 to 3"),
    ):
        with pytest.raises(ConfigError) as error:
            make()
        assert str(error.value) == line


def test_python_says_itself_what_is_no_call() -> None:
    for make in (lambda: lm.MAPROPS(kl_cutof=1), lambda: lm.BoulderPush(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)):
        with pytest.raises(TypeError, match="argument"):
            make()


def test_a_class_in_place_of_its_import_path_is_told_the_path() -> None:
    with pytest.raises(ConfigError, match=r"^name is the class Engine: give its import path as a text, 'os.Engine'$"):
        lm.PettingZoo(type("Engine", (), {"__module__": "os"}))
    with pytest.raises(ConfigError, match=r"^network is the class TestCase: .*, 'unittest.case.TestCase'$"):
        lm.MAPPO(network=TestCase)


def test_the_owner_is_marked_for_the_command_line() -> None:
    class Part:
        @checked("model")
        def __init__(self, size: argument_types.Count) -> None: ...

    with pytest.raises(ConfigError) as error:
        Part(0)
    assert error.value.marked.startswith("<model.size> is 0")


def test_the_page_lists_the_types() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text()
    for name, hint in RANGED.items():
        kind, limits = get_args(hint.__value__)
        assert f"| `{name}` | {kind.__name__} | {limits} |" in page
