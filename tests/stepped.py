"""Runs stepped by hand, one target iteration after another, without a Trainer and without files."""

import copy
from typing import Any

import torch
from torch import Tensor

from lit_maprops.module import LitMAPROPS


def checkpoint_of(module: LitMAPROPS) -> dict[str, Any]:
    """What Lightning would write between two target iterations."""
    optimizers = [optimizer.state_dict() for optimizer in module.configure_optimizers()]
    saved: dict[str, Any] = {"state_dict": module.state_dict(), "optimizer_states": optimizers}
    module.on_save_checkpoint(saved)
    return copy.deepcopy(saved)


def resume(module: LitMAPROPS, saved: dict[str, Any]) -> LitMAPROPS:
    """Begin a prepared module at a checkpoint, in the order in which Lightning does."""
    around = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6", "callbacks": {}, "lr_schedulers": []}
    module.on_load_checkpoint(content := copy.deepcopy(saved) | around)
    module.load_state_dict(content["state_dict"])
    for optimizer, state in zip(module.configure_optimizers(), content["optimizer_states"], strict=True):
        optimizer.load_state_dict(state)
    module.on_fit_start()
    return module


def iterate(module: LitMAPROPS, iterations: int) -> list[dict[str, Tensor]]:
    """What every iteration measured, figures ``[R]`` by name; times left out."""
    rows = []
    for _ in range(iterations):
        module.training_step(0, 0)
        rows.append({name: value for name, value in module.row.items() if not name.startswith("time/")})
    return rows


def permuted(value: Any, order: list[int]) -> Any:
    """Nested tensors with seeds, their first dimension, in another order; those without dimensions stay."""
    if isinstance(value, Tensor):
        return value[torch.tensor(order)] if value.dim() else value
    return {name: permuted(one, order) for name, one in value.items()}
