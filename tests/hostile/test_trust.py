"""Somebody else's run folder: its configuration runs no code of its own, and takes nothing from the machine."""

import inspect
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL
from hostile_helpers import FRESH, complaint, contents, run
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

import lit_maprops as lm
from lit_maprops.cli.main import main

CALLBACKS = "lightning.pytorch.callbacks"
EVIL = "evil_code"
KEYS = 6  # of a configuration's 150 or so that one run of the tests tries


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run with a callback of Lightning's that takes numbers and names alone."""
    folder = tmp_path_factory.mktemp("original")
    stopping = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "train/return"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        args = ["fit", *SMALL["MatrixGame"], "--model.total_env_steps", "16", "--runs_dir", str(folder)]
        assert main([*args, "--run_name", "a", *stopping, "--trainer.callbacks.strict", "false"]) == 0
    return contents(folder / "a")


@pytest.fixture
def checkpoint(original: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run again, beside a module whose import leaves a file ``trace``."""
    for file, content in original.items():
        path = tmp_path / "a" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / f"{EVIL}.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "a" / "checkpoints" / "last.ckpt"
    sys.modules.pop(EVIL, None)


def configuration(checkpoint: Path) -> dict[str, Any]:
    return yaml.safe_load((checkpoint.parents[1] / "config.yaml").read_text())


def change(checkpoint: Path, place: str, value: Any) -> None:
    """Write another value into the run's config.yaml."""
    content = configuration(checkpoint)
    *owners, name = place.split(".")
    inner = content
    for owner in owners:
        inner = inner[owner]
    inner[name] = value
    (checkpoint.parents[1] / "config.yaml").write_text(yaml.safe_dump(content))


def commands(checkpoint: Path) -> list[list[str]]:
    path = ["--ckpt_path", str(checkpoint)]
    few = ["--batches", "2", "--reference_batches", "2", "-o", "figures.json"]
    return [
        ["fit", *path, "--model.total_env_steps", "24"],
        ["validate", *path],
        ["test", *path],
        ["analyze", *path, *few],
        ["export", *path, "--output", "exported", "--format", "torch"],
    ]


def test_a_run_with_plain_callbacks_goes_on(checkpoint: Path) -> None:
    for args in commands(checkpoint)[:3]:
        assert run(args)[0] == 0


CALLING: dict[str, Any] = {
    "print": [{"class_path": f"{CALLBACKS}.LambdaCallback", "init_args": {"on_validation_start": "builtins.print"}}],
    "short name": [{"class_path": "LambdaCallback", "init_args": {"on_validation_start": "builtins.print"}}],
    "inside a plain one": [
        {"class_path": f"{CALLBACKS}.StochasticWeightAveraging", "init_args": {"swa_lrs": 0.1, "avg_fn": "os.system"}}
    ],
    "writes where it is told": [{"class_path": f"{CALLBACKS}.ModelCheckpoint", "init_args": {"dirpath": "elsewhere"}}],
}


@pytest.mark.parametrize("value", CALLING.values(), ids=CALLING)
def test_callbacks_that_call_or_write_are_named_by_the_user_alone(checkpoint: Path, value: Any) -> None:
    change(checkpoint, "trainer.callbacks", value)
    before = contents(checkpoint.parents[1])
    for args in commands(checkpoint)[:3]:
        code, _, err = run(args)
        assert code == 2 and "--trainer.callbacks is " in err and "only that file names" in err, err
    assert contents(checkpoint.parents[1]) == before and not Path("elsewhere").exists()


def test_trust_is_the_users_word(checkpoint: Path) -> None:
    change(checkpoint, "trainer.callbacks", CALLING["writes where it is told"])
    for args in commands(checkpoint)[:2]:
        assert run([*args, "--trust", "lightning"])[0] == 0
    assert Path("elsewhere").exists()
    change(checkpoint, "trainer.callbacks", None)
    change(checkpoint, "trust", "lightning")
    code, _, err = run(commands(checkpoint)[1])
    assert code == 2 and "--trust stands in a configuration" in err


@pytest.mark.parametrize(
    "name, words",
    [
        ("os", "Python's own"),
        ("no_such_package", "Python finds no such package"),
        ("a.b", "give the name of an import package"),
        ("", "give the name of an import package"),
    ],
)
def test_only_packages_are_trusted(checkpoint: Path, name: str, words: str) -> None:
    for args in commands(checkpoint):
        code, _, err = run([*args, f"--trust={name}"])
        assert code == 2 and "--trust is " in err and words in err and err.count("\n") == 1, err


def test_in_python_too(checkpoint: Path) -> None:
    change(checkpoint, "trainer.callbacks", CALLING["writes where it is told"])
    with pytest.raises(lm.ConfigError, match="if you trust it, give trust lightning"):
        lm.resume("a", total_env_steps=24)
    with pytest.raises(lm.ConfigError, match="trust is 'lightning': give a list"):
        lm.resume("a", total_env_steps=24, trust="lightning")
    assert lm.resume("a", total_env_steps=24, trust=["lightning"]).finished
    change(checkpoint, "trust", ["lightning"])
    with pytest.raises(lm.ConfigError, match="has trust, which is for arguments alone"):
        lm.resume("a", total_env_steps=32)


def places(content: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a configuration."""
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from places(value, f"{prefix}{key}.")


def test_no_key_imports_what_it_names(checkpoint: Path) -> None:
    """Which keys may hold a class or an import path need not be known: the same trap lies in each of them."""
    whole = (checkpoint.parents[1] / "config.yaml").read_text()
    written = list(places(configuration(checkpoint)))
    assert {"data.env.class_path", "model.behavior"} <= set(written)
    # A run's file need not hold the Trainer's arguments; somebody else's may.
    found = [*written, *(f"trainer.{name}" for name in inspect.signature(Trainer).parameters)]
    for place in random.Random(FRESH).sample(found, len(found) if FRESH else KEYS):
        for trap in (
            {"class_path": f"{EVIL}.Evil", "init_args": {}},
            [{"class_path": f"{EVIL}.Evil"}],
            f"{EVIL}.Evil",
            {"class_path": "PettingZoo", "init_args": {"name": EVIL}},
        ):
            change(checkpoint, place, trap)
            assert complaint(["validate", "--ckpt_path", str(checkpoint)], "config.yaml") is None, (place, trap)
            assert not Path("trace").exists() and EVIL not in sys.modules, (place, trap)
            (checkpoint.parents[1] / "config.yaml").write_text(whole)
    # What shows that the trap works: the user's own word is followed.
    change(checkpoint, "data.env", {"class_path": f"{EVIL}.Evil", "init_args": {}})
    run(["validate", "--ckpt_path", str(checkpoint), "--trust", EVIL])
    assert Path("trace").exists()


SECRET = "hidden0123456789"
SPELLED = [
    "${oc.env:WANDB_API_KEY}",
    "x${oc.env:WANDB_API_KEY,none}",
    "${oc.select:a,${oc.env:WANDB_API_KEY}}",
    "${oc.decode:'${oc.env:WANDB_API_KEY}'}",
    "${${model.spelled}:WANDB_API_KEY}",
]


@pytest.mark.parametrize("text", SPELLED)
def test_no_configuration_reads_the_environment(checkpoint: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    path = checkpoint.parents[1] / "config.yaml"
    before = contents(checkpoint.parents[2])
    code, out, err = run(["fit", *SMALL["MatrixGame"], "--run_name", text])
    assert code == 2 and "--run_name has" in err and SECRET not in out + err
    whole = path.read_text()
    path.write_text(whole.replace("runs_dir: ", f'runs_dir: "{text.replace("$", chr(92) + "x24")}" #'))
    code, out, err = run(["validate", "--ckpt_path", str(checkpoint)])
    assert code == 2 and "--runs_dir has" in err and SECRET not in out + err
    path.write_text(whole)
    assert contents(checkpoint.parents[2]) == before


def test_the_environment_is_there_for_others() -> None:
    """The resolver is that of the whole process: a program around us may use it."""
    run(["fit", *SMALL["MatrixGame"], "--run_name", "${oc.env:HOME}"])
    assert OmegaConf.create({"a": "${oc.env:NO_SUCH_VARIABLE,fallback}"}).a == "fallback"


def test_the_command_that_goes_on_trusts_what_the_stopped_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pasted as it is printed, in a program that has imported nothing yet."""
    own = ["--model.learner.network", "own_modules.Plain", "--trainer.callbacks", f"{EVIL}.Stop"]
    (tmp_path / f"{EVIL}.py").write_text(
        "from lightning.pytorch import Callback\n\n\n"
        "class Stop(Callback):\n"
        "    def on_train_batch_end(self, trainer, *args):\n"
        "        trainer.should_stop = True\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        args = ["fit", *SMALL["MatrixGame"], "--model.learner", "IPPO", "--wandb", "disabled", *own]
        assert main([*args, "--runs_dir", str(tmp_path), "--run_name", "own"]) == 0
        printed = capsys.readouterr().err.partition("continue with: python -m lit_maprops ")[2].splitlines()[0]
        assert printed.endswith(f"last.ckpt --trust {EVIL} --trust own_modules")
        sys.modules.pop(EVIL, None)
        assert run(printed.split()[:-4])[0] == 2  # without
        assert run(printed.split())[0] == 0
    sys.modules.pop(EVIL, None)
