"""MA-PROPS and the other behavior policies as a drop-in for any on-policy loop: tensors in, joint actions out."""

from lit_maprops.samplers.joint_sampler import Drawn, JointSampler
from lit_maprops.samplers.torchrl_policy import SampledPolicy

__all__ = ["Drawn", "JointSampler", "SampledPolicy"]
