"""Films say whose they are and where they are, and do not stand still; the last words of a run."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence

from lit_maprops.metrics.evaluate import Film
from lit_maprops.run import figures
from lit_maprops.run.last_words import MOST_SEEDS, last_words


def gray(*levels: int) -> np.ndarray:
    return np.stack([np.full((16, 16, 3), level, dtype=np.uint8) for level in levels])


def test_of_equal_pictures_the_first_few_and_the_last_are_shown() -> None:
    assert figures.moving(gray(1)) == [0]
    assert figures.moving(gray(1, 2, 3)) == [0, 1, 2]
    assert figures.moving(gray(*[1, 2] * 10)) == list(range(20))  # moves all the time
    assert figures.moving(gray(1, *[2] * 49)) == [0, 1, 2, 3, 4, 49]
    assert figures.moving(gray(*[1] * 30, *[2] * 30)) == [0, 1, 2, 3, 29, 30, 31, 32, 33, 59]


def read(path: Path) -> list[tuple[np.ndarray, int]]:
    """Frames of a film, and how long each is shown (ms)."""
    with Image.open(path) as film:
        frames = ImageSequence.Iterator(film)
        return [(np.asarray(frame.convert("RGB")).astype(int), frame.info["duration"]) for frame in frames]


def test_a_film_does_not_freeze_and_says_seed_and_step(tmp_path: Path) -> None:
    """50 steps in which nothing happens after the third: ten seconds before."""
    films = {}
    for seed in (3, 4):
        frames = torch.from_numpy(gray(50, 100, 150, *[200] * 48))
        figures.film(tmp_path / "x.gif", Film(seed, frames))
        films[seed] = read(tmp_path / "x.gif")
    shown = films[3]
    assert sum(duration for _, duration in shown) < 3_000 and len(shown) == 3 + figures.STILL_FRAMES
    pictures = [frame[: -figures.CAPTION_PIXELS] for frame, _ in shown]
    captions = [frame[-figures.CAPTION_PIXELS :] for frame, _ in shown]
    assert [round(picture.mean()) for picture in pictures] == [50, 100, 150, 200, 200, 200, 200, 200]
    assert all((a != b).any() for k, a in enumerate(captions) for b in captions[:k])  # the steps count on
    assert all((a != b[-figures.CAPTION_PIXELS :]).any() for a, (b, _) in zip(captions, films[4], strict=True))
    assert all(caption[:, -2:].min() > 250 for caption in captions)  # the text fits


def summary(greedy: list[float], sampled: list[float], **fields: Any) -> dict[str, Any]:
    solved = sum(rate >= 0.8 for rate in greedy) / len(greedy)
    return {
        "tells_success": True, "solved_on": "success", "seeds": list(range(5, 5 + len(greedy))), "success_rate": greedy,
        "success_rate_stochastic": sampled, "solved_share": solved, "solved_share_ci95": (0.1, 0.9),
        "solved_threshold": 0.8, "mean_success_rate": float(np.mean(greedy)),
        "mean_success_rate_stochastic": float(np.mean(sampled)),
    } | fields  # fmt: skip


def test_the_last_words_show_greedy_and_sampled_success_and_what_counts() -> None:
    of_seeds, last = last_words(summary([0.35, 1.0], [1.0, 0.9]), 20)
    assert of_seeds == "success of each seed, greedy/sampled: 5: 0.35/1.00, 6: 1.00/0.90"
    assert last == (
        "solved 50% of 2 seeds [95% 10% to 90%] (greedy success of at least 0.8 in 20 episodes), mean success 68% "
        "(sampled 95%)"
    )


def test_success_short_of_all_does_not_read_as_all() -> None:
    of_seeds, last = last_words(summary([0.996, 0.001], [1.0, 0.9998], solved_share=199 / 200), 1000)
    assert of_seeds.endswith(": 5: 0.996/1.00, 6: 0.001/0.9998")
    assert last.startswith("solved 99.5% of ") and last.endswith("mean success 50% (sampled 99.99%)")
    assert last_words(summary([0.695] * 20, [0.995] * 20), 200)[-1].endswith("mean success 70% (sampled 99.5%)")


def test_of_many_seeds_those_are_listed_that_only_sampled_actions_solve() -> None:
    many = MOST_SEEDS + 4
    assert len(last_words(summary([1.0] * many, [1.0] * many), 20)) == 1
    of_seeds, _ = last_words(summary([0.1, 0.2] + [1.0] * many, [0.8, 0.1] + [1.0] * many), 20)
    assert of_seeds == "1 seed is solved by sampled actions only, greedy/sampled: 5: 0.10/0.80"
    of_seeds, _ = last_words(summary([0.0] * many, [1.0] * many), 20)
    assert of_seeds.startswith(f"{many} seeds are solved by") and of_seeds.endswith(", and 4 more in summary.json")


def test_one_seed_has_no_interval() -> None:
    nan = float("nan")
    returns = {"tells_success": False, "episode_return": [1234.5], "episode_return_stochastic": [nan]}
    returns |= {"config": {"model": {"solved_threshold": None}}}
    returns |= {"mean_return": 1234.5, "mean_return_ci95": [nan, nan], "solved_on": "return", "solved_threshold": None}
    of_seeds, last = last_words(summary([0.0], [0.0]) | returns, 7)
    assert of_seeds == "return of each seed, greedy/sampled: 5: 1234/nan"
    assert last == (
        "this task has no success, so returns count: mean return 1234 of 1 seed, greedy, in 7 episodes (a share of "
        "solved seeds needs <model.solved_on> return and <model.solved_threshold>)"
    )
