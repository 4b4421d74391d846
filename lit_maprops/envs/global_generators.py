"""The global random generators of PyTorch, NumPy and Python, for packages that draw from them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def generator_state(device: torch.device) -> Tensor:
    """State of the device's global generator."""
    return torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device)


def all_generator_states() -> tuple:
    """States of the global generators of PyTorch on the CPU, NumPy and Python; comparable."""
    _, numbers, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), np.asarray(numbers).tobytes(), *rest, random.getstate()


def seed_all(seed: int) -> None:
    """Seed the global generators of PyTorch on the CPU, NumPy and Python."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the global generators as they were."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
