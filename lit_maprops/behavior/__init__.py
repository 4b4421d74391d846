"""Behavior policies pi_phi. ``BEHAVIORS`` is the registry: what ``--model.behavior`` accepts."""

from lit_maprops.behavior.base import BehaviorPolicy, Choice, OnPolicy
from lit_maprops.behavior.ma_props import MAPROPS
from lit_maprops.behavior.props import PROPS
from lit_maprops.behavior.tabular import Greedy, TabularMAPROPS

BEHAVIORS: dict[str, type[BehaviorPolicy]] = {
    "OnPolicy": OnPolicy,
    "PROPS": PROPS,
    "MAPROPS": MAPROPS,
    "TabularMAPROPS": TabularMAPROPS,
    "Greedy": Greedy,
}

__all__ = ["BEHAVIORS", "MAPROPS", "PROPS", "BehaviorPolicy", "Choice", "Greedy", "OnPolicy", "TabularMAPROPS"]
