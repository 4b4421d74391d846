"""From the arguments that a message names in angle brackets to the flags of the command line."""

import re

from lit_maprops.system.errors import ARGUMENT

# Who has an argument, to the flag of the one who has it.
OWNERS = {"behavior": "model.behavior", "learner": "model.learner", "env": "data.env"}
RENAMED = {"run_seed": "seed_everything"}


def with_flags(marked: str) -> str:
    """``<behavior.kl_cutoff>`` as ``--model.behavior.kl_cutoff``, and so on."""

    def flag(match: re.Match[str]) -> str:
        owner, name = match[1].removesuffix("."), match[2]
        return f"--{OWNERS.get(owner, owner)}.{name}" if owner else f"--{RENAMED.get(name, name)}"

    return ARGUMENT.sub(flag, marked)
