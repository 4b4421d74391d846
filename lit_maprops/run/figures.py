"""Figures and films of a run: the success curve (PNG) and episodes (GIF). Needs the extra ``media``."""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lit_maprops.metrics.reliability import mean_interval
from lit_maprops.system.files import replacing

LINE, BAND = "#0072B2", "#56B4E9"  # Okabe-Ito, distinguishable for color-blind readers
FRAME_MILLISECONDS = 200


def available() -> bool:
    """Whether the packages of the extra ``media`` are installed."""
    return all(importlib.util.find_spec(name) for name in ("matplotlib", "PIL"))


def success_curve(path: Path, env_steps: NDArray[np.integer], success: NDArray[np.floating], title: str) -> None:
    """Draw the greedy success rate of every seed (thin) and their mean with a 95% bootstrap interval.

    Args:
        path: PNG to write.
        env_steps: env steps per seed of each evaluation, ``[points]``.
        success: ``[points, seeds]``, shares.
        title: what ran.
    """
    # The object interface, not pyplot: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    marker = "o" if len(env_steps) == 1 else None
    for seed in range(success.shape[1]):
        axes.plot(env_steps, success[:, seed], color="0.6", lw=0.6, alpha=0.6, marker=marker)
    success = np.nan_to_num(success)  # a seed that ended in NaN, or in quarantine, succeeds nowhere
    low, high = mean_interval(success)
    axes.fill_between(env_steps, low, high, color=BAND, alpha=0.35, lw=0)
    axes.plot(env_steps, success.mean(1), color=LINE, lw=2.2, marker=marker)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("env steps per seed")
    axes.set_ylabel("success rate (greedy policies)")
    axes.set_title(title, fontsize=10)
    seeds = success.shape[1]
    note = f"thin: {seeds} seeds   bold: mean, shaded: 95% bootstrap interval"
    figure.supxlabel(note, fontsize=8, color="0.35")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    with replacing(path) as file:
        figure.savefig(file, format="png")


def film(path: Path, frames: Tensor) -> None:
    """Write ``frames`` ``[T, height, width, 3]`` uint8 as an endless GIF that rests on its last frame."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames.cpu().numpy()]
    durations = [FRAME_MILLISECONDS] * (len(images) - 1) + [5 * FRAME_MILLISECONDS]
    with replacing(path) as file:
        images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
