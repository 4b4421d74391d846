"""The sequences of low-discrepancy draws as the rollout's kernel reads and continues them, ``sequences.hpp``."""

import ctypes

import torch

from lit_maprops.behavior.low_discrepancy_draws import LowDiscrepancyDraws
from lit_maprops.collect.native_call import Rollout
from lit_maprops.native.arrays import address
from lit_maprops.stacked.sobol import PERIOD


class _Sequences(ctypes.Structure):
    """``Sequences`` of sequences.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("columns", "content", "room", "used", "period", "nested", "in_sequence")),
        *((name, ctypes.c_void_p) for name in ("points", "order", "begin", "met")),
        *((name, ctypes.c_void_p) for name in ("state", "visit", "numbers", "contents")),
    ]


class NativeSequences:
    """Rows of D are entered in place.

    Args:
        draws: whose sequences they are.
        call: of the kernel; it is told where they lie.
    """

    def __init__(self, draws: LowDiscrepancyDraws, call: Rollout) -> None:
        self._draws, self._its = draws, _Sequences()
        its, visits = self._its, draws.visits
        its.columns, its.content, its.period = draws.points.shape[1], visits.content.shape[2], PERIOD
        its.nested, its.in_sequence = draws.nested, draws.in_sequence
        call.sequences = ctypes.addressof(its)

    def renew(self, rows: int) -> None:
        """Before a call that enters ``rows`` rows of every seed."""
        draws, visits, its = self._draws, self._draws.visits, self._its
        visits.reserve(rows)
        draws.order, draws.met = draws.order.contiguous(), draws.met.contiguous()
        its.used, its.room = visits.used, visits.state.shape[1]
        its.points, its.begin = address(draws.points, torch.int32), address(draws.begin, torch.int32)
        its.order, its.met = address(draws.order, torch.int64), address(draws.met, torch.int64)
        its.state, its.visit = address(visits.state, torch.int64), address(visits.visit, torch.int64)
        its.numbers, its.contents = address(visits.numbers, torch.int32), address(visits.content, torch.float32)

    def done(self, rows: int) -> None:
        """After it."""
        self._draws.visits.used += rows
