"""What a long run may not do: keep more with every iteration. docs/evidence/soak.md watches one for half an hour."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_maprops.module import LitMAPROPS

FIRST, LAST = 30, 90  # target iterations; by the first, caches are full


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc counts the open files")
def test_nothing_is_kept_from_one_iteration_to_the_next(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With checkpoints, evaluations and sampling error. Blocks are Python's own: a float takes one."""
    original, seen = LitMAPROPS.training_step, []

    def step(self: LitMAPROPS, batch: int, batch_idx: int) -> None:
        if self.iteration in (FIRST, LAST):
            gc.collect()
            tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
            seen.append((tensors, len(os.listdir("/proc/self/fd")), sys.getallocatedblocks()))
        original(self, batch, batch_idx)

    monkeypatch.setattr(LitMAPROPS, "training_step", step)
    steps = str(8 * (LAST + 1))
    options = ("--model.eval_interval", "4", "--model.sampling_error_interval", "4")
    fit("x", "--model.total_env_steps", steps, *options)
    tensors, files, blocks = np.diff(seen, axis=0)[0]
    assert tensors == 0
    assert files == 0
    assert blocks < 2 * (LAST - FIRST)  # a row of metrics.csv has about thirty numbers
