"""Shares, differences, returns and intervals as text."""

from collections.abc import Callable

import numpy as np

from lit_maprops.report.statistics import Interval


def signed_points(value: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * value:+.0f}".replace("-", "\N{MINUS SIGN}")


def three_digits(value: float) -> str:
    """A return, of whatever scale."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def signed_digits(value: float) -> str:
    """A difference of returns."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


def interval_text(interval: Interval, form: Callable[[float], str]) -> str:
    """``75% [51%, 90%]``, or that a single seed has no interval."""
    if np.isnan(interval.low):
        return f"{form(interval.value)} (no interval)"
    return f"{form(interval.value)} [{form(interval.low)}, {form(interval.high)}]"
