"""What a long run may not do: keep more with every iteration. docs/evidence/soak.md watches one for half an hour."""

import gc
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from lit_maprops.module import LitMAPROPS
from lit_maprops.run.options import parsed
from studies.soak.growth import slope

# Target iterations, all at the same point between evaluations; by the first, most caches are all but full.
LOOKS = tuple(range(60, 361, 60))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc counts the open files")
def test_nothing_is_kept_from_one_iteration_to_the_next(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With checkpoints, evaluations and sampling error. Blocks are Python's own: a float takes one.

    What is kept grows in every span between looks, what is taken once (a cache, a module's warning) in some.
    """
    original, seen = LitMAPROPS.training_step, []

    def step(self: LitMAPROPS, batch: int, batch_idx: int) -> None:
        if self.iteration in LOOKS:
            gc.collect()
            tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
            seen.append((tensors, len(os.listdir("/proc/self/fd")), sys.getallocatedblocks()))
        original(self, batch, batch_idx)

    monkeypatch.setattr(LitMAPROPS, "training_step", step)
    steps = str(8 * (LOOKS[-1] + 1))
    options = ("--model.eval_interval", "3", "--model.sampling_error_interval", "3")
    fit("x", "--model.total_env_steps", steps, *options)
    tensors, files, blocks = np.diff(seen, axis=0).min(0)
    assert tensors <= 0
    assert files <= 0
    assert blocks < 2 * (LOOKS[1] - LOOKS[0])  # a row of metrics.csv has about thirty numbers


def test_nothing_keeps_what_the_options_built() -> None:
    """Of a notebook's runs one after the other only the newest may take memory; environments are the largest part."""

    def built() -> list[weakref.ref[object]]:
        cli = parsed(["--config", str(ROOT / "conf/matrix_game.yaml")])
        return [weakref.ref(one) for one in (cli.datamodule.env, cli.model, cli.parser)]

    for _ in range(2):
        left = built()
        gc.collect()
        assert [one() for one in left] == [None] * 3


def test_slope_of_a_straight_line() -> None:
    """In units of the values per hour; a fall is no leak."""
    hours = np.linspace(0.25, 0.5, 180)
    line = slope(hours, 700 + 12 * hours)
    assert line == pytest.approx((12, 12, 12))
    assert not line.within_noise
    assert slope(hours, 700 - 12 * hours).within_noise


@pytest.mark.parametrize(("leak", "low", "high"), [(0.0, 0.005, 0.06), (40.0, 0.9, 1.0)])
def test_slope_of_noise_with_memory(leak: float, low: float, high: float) -> None:
    """An autoregression's noise, in a quarter of an hour: 2.5% false alarms are right, and a leak of 10 MB is seen."""
    generator, hours, alarms = np.random.default_rng(0), np.linspace(0.25, 0.5, 180), 0
    for _ in range(400):
        noise = np.zeros(len(hours))
        for k in range(1, len(noise)):
            noise[k] = 0.7 * noise[k - 1] + generator.normal()
        alarms += not slope(hours, 700 + leak * hours + noise).within_noise
    assert low <= alarms / 400 <= high
