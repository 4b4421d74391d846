"""Behavior policies pi_phi. ``BEHAVIORS`` is the registry: the samplers that a run can have."""

from lit_maprops.behavior.autoregressive import Autoregressive
from lit_maprops.behavior.base import BehaviorPolicy, Choice, OnPolicy
from lit_maprops.behavior.coordination_graph import CoordinationGraph
from lit_maprops.behavior.gaussian_adjustment import GaussianAdjustment
from lit_maprops.behavior.low_discrepancy import LowDiscrepancy
from lit_maprops.behavior.ma_props import MAPROPS
from lit_maprops.behavior.props import PROPS
from lit_maprops.behavior.tabular import Greedy, TabularMAPROPS

BEHAVIORS: dict[str, type[BehaviorPolicy]] = {
    "OnPolicy": OnPolicy,
    "LowDiscrepancy": LowDiscrepancy,
    "PROPS": PROPS,
    "MAPROPS": MAPROPS,
    "Autoregressive": Autoregressive,
    "CoordinationGraph": CoordinationGraph,
    "GaussianAdjustment": GaussianAdjustment,
    "TabularMAPROPS": TabularMAPROPS,
    "Greedy": Greedy,
}

__all__ = [
    "BEHAVIORS",
    "MAPROPS",
    "PROPS",
    "Autoregressive",
    "BehaviorPolicy",
    "Choice",
    "CoordinationGraph",
    "GaussianAdjustment",
    "Greedy",
    "LowDiscrepancy",
    "OnPolicy",
    "TabularMAPROPS",
]
