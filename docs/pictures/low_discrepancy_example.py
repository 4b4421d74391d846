"""The door of docs/low_discrepancy.md: two agents push, and stay as long as both do; what that biases, exactly."""

from fractions import Fraction

from lit_maprops.stacked.sobol import BITS, sobol_points

CYCLE = 4  # visits after which the pushes come again


def pushes(flips: tuple[int, int], order: tuple[int, int], count: int) -> list[bool]:
    """The example's state: whether both agents choose A, probability 1/2 each, at the first ``count`` visits.

    Args:
        flips: the first bit of either agent's shift; the others decide nothing.
        order: which of Sobol's coordinates either agent has.
        count: of visits.
    """
    halves = (sobol_points(2)[:count] >> (BITS - 1)).tolist()
    return [all(point[order[i]] == flips[i] for i in (0, 1)) for point in halves]


def mean_return(episodes: int, limit: int | None = None) -> Fraction:
    """Expected mean return of the example's first episodes, over all the ways in which two coins and two orders fall.

    Args:
        episodes: K.
        limit: of steps, after which an episode ends; not part of the state.
    """
    total = 0
    ways = [((a, b), order) for a in (0, 1) for b in (0, 1) for order in ((0, 1), (1, 0))]
    for flips, order in ways:
        push = iter(pushes(flips, order, 2 * CYCLE * (episodes + 1)))
        for _ in range(episodes):
            length = 0
            while (limit is None or length < limit) and next(push):
                length += 1
            total += length
    return Fraction(total, episodes * len(ways))
