"""Checkpoints that are cut, flipped, hostile or not ours: one line, nothing written, nothing run."""

import collections
import copy
import os
import pickle
import random
import resource
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from hostile_helpers import CANARY, complaint, contents, run

from lit_maprops.cli.main import main
from lit_maprops.system.checkpoint import read_checkpoint
from lit_maprops.system.errors import ConfigError

COMMANDS = (["fit"], ["validate"], ["test"], ["analyze", "--batches", "2", "--reference_batches", "2"])
RUNS = {
    "a": ["--model.learner", "IPPO", "--model.learner.epochs", "1"],
    "history": ["--data.history_batches", "3"],
    "tabular": ["--model.behavior", "TabularMAPROPS"],
}


class Trap:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, bytes]]]:
    """The files of three runs."""
    folder = tmp_path_factory.mktemp("originals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        for name, options in RUNS.items():
            args = ["fit", *SMALL["MatrixGame"], "--model.total_env_steps", "24", "--runs_dir", str(folder)]
            assert main([*args, "--run_name", name, *options]) == 0
    yield {name: contents(folder / name) for name in RUNS}


@pytest.fixture
def place(originals: dict[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lay out a run again; returns its checkpoint."""
    monkeypatch.chdir(tmp_path)

    def lay_out(name: str = "a") -> Path:
        for file, content in originals[name].items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / name / "checkpoints" / "last.ckpt"

    return lay_out


def refused_by_all(checkpoint: Path) -> None:
    before = contents(checkpoint.parent.parent)
    for words in COMMANDS:
        code, out, err = run([*words, "--ckpt_path", str(checkpoint)])
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("lit_maprops: error: --ckpt_path")
    assert contents(checkpoint.parent.parent) == before
    assert not Path(CANARY).exists()


def test_the_good_ones_are_taken(place: Any) -> None:
    for name in RUNS:
        for words in COMMANDS:
            assert run([*words, "--ckpt_path", str(place(name))])[0] == 0


def test_truncated_anywhere(place: Any) -> None:
    checkpoint = place()
    content = checkpoint.read_bytes()
    lengths = [0, 1, 3, 4, 100, len(content) - 1, *random.Random(0).sample(range(len(content)), 60)]
    for length in lengths:
        checkpoint.write_bytes(content[:length])
        with pytest.raises(ConfigError, match="ckpt_path"):
            read_checkpoint(checkpoint)
    refused_by_all(checkpoint)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
    return a == b or a != a


def test_a_flipped_bit_is_noticed_or_changes_nothing(place: Any) -> None:
    """torch.load alone takes most of them: the second count says that this test can fail."""
    checkpoint = place()
    content = checkpoint.read_bytes()
    good, generator, silent, noticed = read_checkpoint(checkpoint), random.Random(0), 0, 0
    for _ in range(300):
        flipped = bytearray(content)
        flipped[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        checkpoint.write_bytes(flipped)
        try:
            assert equal(read_checkpoint(checkpoint), good)
        except ConfigError:
            noticed += 1
        else:
            continue
        try:
            silent += not equal(torch.load(checkpoint, weights_only=True), good)
        except Exception:
            continue
    assert noticed > 200
    assert silent > 150


def test_pickles_are_never_run(place: Any) -> None:
    checkpoint = place()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        checkpoint.write_bytes(pickle.dumps(Trap(), protocol))
        with pytest.raises(ConfigError, match="ckpt_path"):
            read_checkpoint(checkpoint)
    refused_by_all(checkpoint)
    good = torch.load(place(), weights_only=True)
    for hostile in (Trap(), good | {"lit_maprops": Trap()}, good | {"extra": [Trap()]}, {"state_dict": {"a": Trap()}}):
        torch.save(hostile, checkpoint)
        refused_by_all(checkpoint)


def test_nothing_is_called_that_a_checkpoint_of_ours_does_not_call(place: Any) -> None:
    """torch.load makes a ``bytearray`` of any size for whoever asks, and the file stays small."""
    checkpoint = place()
    good = torch.load(checkpoint, weights_only=True)
    before = peak_memory()
    for foreign in (bytearray(10), collections.Counter("ab"), torch.nn.Parameter(torch.zeros(1)), torch.float16):
        torch.save(good | {"extra": foreign}, checkpoint)
        if isinstance(foreign, (bytearray, collections.Counter)):
            refused_by_all(checkpoint)
        else:
            read_checkpoint(checkpoint)
    torch.save(good | {"extra": Sized()}, checkpoint)
    assert checkpoint.stat().st_size < 1_000_000
    refused_by_all(checkpoint)
    assert peak_memory() - before < 500_000_000


class Sized:
    """Unpickled, it is gigabytes of nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (6_500_000_000,)


def peak_memory() -> int:
    """The most bytes that this process has ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_other_formats(place: Any) -> None:
    checkpoint = place()
    good = torch.load(checkpoint, weights_only=True)
    torch.save(good, checkpoint, _use_new_zipfile_serialization=False)  # torch's old format has no checksums
    refused_by_all(checkpoint)
    for foreign in (
        {"state_dict": {}},
        [1, 2],
        torch.zeros(3),
        torch.nn.Linear(2, 2).state_dict(),
        collections.OrderedDict(),
        None,
    ):
        torch.save(foreign, checkpoint)
        refused_by_all(checkpoint)
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_DEFLATED) as archive:  # a bomb would be packed
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    refused_by_all(checkpoint)
    with zipfile.ZipFile(checkpoint, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
        archive.writestr("archive/version", "3")
    refused_by_all(checkpoint)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a nested checkpoint whose container can be written to."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


JUNK: list[Any] = [
    None, True, -1, 10**30, 1.5, float("nan"), "x", "", b"x", [], {}, [1], (1, 2), {"a": 1}, {1: {2: 3}},
    torch.zeros(()), torch.zeros(3),
    torch.zeros(2, 3, dtype=torch.int64), torch.zeros(0), torch.ones(2, 2).to_sparse(), torch.zeros(1).expand(10**12),
    torch.zeros(2, dtype=torch.cfloat),
]  # fmt: skip
UNREAD = {"loops", "identity"}  # the first is dropped; the second is compared where a run is continued


def mutated(good: dict[str, Any], generator: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """A checkpoint with one part gone, of another type or of another shape."""
    content = copy.deepcopy(good)
    path = generator.choice([path for path in places(good) if not UNREAD & set(map(str, path))])
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    value, kind = holder[path[-1]], generator.choice(["gone", "junk", "junk", "shape"])
    if kind == "gone":
        del holder[path[-1]]
    elif kind == "shape" and isinstance(value, torch.Tensor):
        other = value.double() if value.is_floating_point() else value.float()
        holder[path[-1]] = generator.choice(
            [value.unsqueeze(0), value.unsqueeze(-1), other, value.flatten()[:0], torch.cat([value.flatten()] * 2)]
        )
    else:
        holder[path[-1]] = generator.choice(JUNK)
    return content, path


@pytest.mark.parametrize(
    ("name", "times"), [("a", 12), *(pytest.param(name, 60, marks=pytest.mark.slow) for name in RUNS)]
)
def test_whatever_is_wrong_inside_is_named(place: Any, name: str, times: int) -> None:
    """The file's checksums are right here: what was saved is not what a run saves. Taken only if it changes nothing."""
    generator = random.Random(0)
    good = torch.load(place(name), weights_only=True)
    refused = 0
    for _ in range(times):
        checkpoint = place(name)
        content, path = mutated(good, generator)
        torch.save(content, checkpoint)
        before = contents(checkpoint.parent.parent)
        words = generator.choice([*COMMANDS, ["fit"]])
        wrong = complaint([*words, "--ckpt_path", str(checkpoint)])
        assert wrong is None, f"{words} {path}: {wrong}"
        after = contents(checkpoint.parent.parent)
        refused += after == before
        for file in set(after) - set(before):
            (checkpoint.parent.parent / file).unlink()
    assert refused > times * 2 / 3
