"""IPPO: PPO whose critics see what their agents see."""

from lit_maprops.targets.critics import IndependentCritic
from lit_maprops.targets.losses import UncheckedIPPOLoss
from lit_maprops.targets.ppo import PPO


class IPPO(PPO):
    """Independent PPO (de Witt et al. 2020): every agent's critic sees its own observation. Arguments as ``PPO``."""

    critic_class = IndependentCritic
    loss_class = UncheckedIPPOLoss
    known_to_kernel = True
