"""Target policies pi_theta and their learners. ``LEARNERS`` is the registry: the learners that a run can have."""

from lit_maprops.targets.learner import Learner
from lit_maprops.targets.policies import TargetPolicies
from lit_maprops.targets.ppo import IPPO, MAPPO
from lit_maprops.targets.reinforce import Reinforce

LEARNERS: dict[str, type[Learner]] = {"IPPO": IPPO, "MAPPO": MAPPO, "Reinforce": Reinforce}

__all__ = ["IPPO", "LEARNERS", "MAPPO", "Learner", "Reinforce", "TargetPolicies"]
