"""Figures and films of a run: the curve of success or of returns (PNG), episodes (GIF). Needs the extra ``media``."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_maprops.metrics.evaluate import Film
from lit_maprops.metrics.reliability import mean_interval
from lit_maprops.system.files import replacing

LINE, BAND = "#0072B2", "#56B4E9"  # Okabe-Ito, distinguishable for color-blind readers
FRAME_MILLISECONDS = 200
STILL_FRAMES = 5  # of a film in which nothing moves: one second
LEAST_WIDTH, CAPTION_PIXELS = 160, 20  # of a film


def available() -> bool:
    """Whether the packages of the extra ``media`` are installed."""
    return all(importlib.util.find_spec(name) for name in ("matplotlib", "PIL"))


def success_curve(path: Path, env_steps: NDArray[np.integer], success: NDArray[np.floating], title: str) -> None:
    """Draw the greedy success rate of every seed (thin) and their mean with a 95% bootstrap interval.

    Args:
        path: PNG to write.
        env_steps: env steps per seed of each evaluation, ``[points]``.
        success: ``[points, seeds]``, shares. NaN, of a seed that ended so or is in quarantine, succeeds nowhere.
        title: what ran.
    """
    everyone = np.nan_to_num(success)
    _curve(path, env_steps, success, everyone, title, "success rate (greedy policies)", (-0.03, 1.03))


def return_curve(path: Path, env_steps: NDArray[np.integer], returns: NDArray[np.floating], title: str) -> None:
    """Draw the greedy return of every seed, as ``success_curve`` does, where the task tells no success.

    Args:
        path: PNG to write.
        env_steps: env steps per seed of each evaluation, ``[points]``.
        returns: ``[points, seeds]`` (reward). The mean is of the seeds that have one in all evaluations.
        title: what ran.
    """
    sound = returns[:, np.isfinite(returns).all(0)]
    _curve(path, env_steps, returns, sound, title, "return (greedy policies)", None)


def _curve(
    path: Path,
    env_steps: NDArray[np.integer],
    shown: NDArray[np.floating],
    averaged: NDArray[np.floating],
    title: str,
    label: str,
    limits: tuple[float, float] | None,
) -> None:
    # The object interface, not pyplot: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    marker = "o" if len(env_steps) == 1 else None
    for seed in range(shown.shape[1]):
        axes.plot(env_steps, shown[:, seed], color="0.6", lw=0.6, alpha=0.6, marker=marker)
    if averaged.shape[1]:
        low, high = mean_interval(averaged)
        axes.fill_between(env_steps, low, high, color=BAND, alpha=0.35, lw=0)
        axes.plot(env_steps, averaged.mean(1), color=LINE, lw=2.2, marker=marker)
    axes.set_ylim(limits)
    axes.set_xlabel("env steps per seed")
    axes.set_ylabel(label)
    axes.set_title(title, fontsize=10)
    seeds = shown.shape[1]
    note = f"thin: {seeds} seeds   bold: mean, shaded: 95% bootstrap interval"
    figure.supxlabel(note, fontsize=8, color="0.35")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    with replacing(path) as file:
        figure.savefig(file, format="png")


def film(path: Path, film: Film) -> None:
    """Write an episode as an endless GIF that rests on its last frame; every frame says the seed and the step.

    Where nothing moves for longer than ``STILL_FRAMES``, the frames between are left out; the steps count on.
    """
    pictures = film.frames.cpu().numpy()
    last = len(pictures) - 1
    images = [_captioned(pictures[step], f"seed {film.seed}  step {step}/{last}") for step in moving(pictures)]
    durations = [FRAME_MILLISECONDS] * (len(images) - 1) + [5 * FRAME_MILLISECONDS]
    with replacing(path) as file:
        images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)


def moving(pictures: NDArray[np.uint8]) -> list[int]:
    """Numbers of the pictures ``[T, height, width, 3]`` to show: of equal ones in a row the first few and the last."""
    flat = pictures.reshape(len(pictures), -1)
    shown, still = [0], 1
    for step in range(1, len(flat)):
        still = still + 1 if (flat[step] == flat[step - 1]).all() else 1
        ends = step + 1 == len(flat) or (flat[step + 1] != flat[step]).any()
        if still < STILL_FRAMES or ends:
            shown.append(step)
    return shown


def _captioned(picture: NDArray[np.uint8], text: str) -> Any:
    """The picture, at least ``LEAST_WIDTH`` wide, above a line of text."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    times = -(-LEAST_WIDTH // image.width)
    image = image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (image.width, image.height + CAPTION_PIXELS), "white")
    canvas.paste(image, (0, 0))
    size = CAPTION_PIXELS - 6
    room = (image.width - 8) / ImageFont.load_default(size).getlength(text)  # below 1 with very large numbers
    font = ImageFont.load_default(min(size, int(size * room)))
    ImageDraw.Draw(canvas).text((4, image.height + 2), text, fill="black", font=font)
    return canvas
