"""The help of a run's options: ours first, Lightning's behind a flag of their own."""

import argparse
from typing import Any

from lit_maprops.run.option_values import ValueParser

TRAINER = "--help-trainer"
COMMANDS = {
    "fit": "Train, and write runs/<run_name>/.",
    "validate": "Evaluate a checkpoint's decentralized policies on fresh episodes.",
    "test": "Evaluate a checkpoint's decentralized policies on episodes that validate does not play.",
}
EXAMPLES = {"fit": "--config boulderpush"}
CHECKPOINT = "--ckpt_path runs/NAME/checkpoints/last.ckpt"
LINKED = "Linked arguments"  # what one option makes of another: nothing to type
WORDS = """words:
  seed              one independent training run; many go side by side
  target policy     what an agent learns and acts by (pi_theta); the learner updates it
  sampler           the behavior policy (pi_phi), which chooses the joint actions of training data
  D                 the data that the next target update learns from
  m, n              env steps between updates of the sampler, and between target updates
  target iteration  n env steps with the sampler's updates, then one target update"""
MORE = """Arguments of a class: {program} --model.behavior.help MAPROPS (or --model.learner.help, --data.env.help).
Those of Lightning's Trainer (devices, precision, limits, callbacks): {program} {trainer}"""


class RunParser(ValueParser):
    """A parser with a help that begins with what a run is made of.

    Args:
        kwargs: of Lightning's; ``command`` among them: ``fit``, ``validate`` or ``test``.
    """

    def __init__(self, *args: Any, command: str = "fit", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.program = f"python -m lit_maprops {command}"
        self.description = COMMANDS[command]
        example = EXAMPLES.get(command, CHECKPOINT)
        self.usage = f"{self.program} {example} [--OPTION VALUE ...]"
        self._of_trainer = False
        self.add_argument(TRAINER, action=TrainerHelp, help="show the options of Lightning's Trainer and exit")

    def format_help(self, *args: Any) -> str:
        """Our options and what the words in them mean, or those of Lightning's Trainer alone."""
        parser: Any = self  # argparse's groups are in no type of its own
        groups = parser._action_groups
        trainer = [group for group in groups if _is_of(group, "trainer")]
        ours = [group for group in groups if group not in trainer and group.title != LINKED]
        parser._action_groups = trainer if self._of_trainer else ours
        try:
            text = super().format_help(*args)
        finally:
            parser._action_groups = groups
        if self._of_trainer:
            return text
        return f"{text}\n{WORDS}\n\n{MORE.format(program=self.program, trainer=TRAINER)}\n"

    def print_trainer_help(self) -> None:
        """Print the options of Lightning's Trainer."""
        self._of_trainer = True
        try:
            self.print_help()
        finally:
            self._of_trainer = False


class TrainerHelp(argparse._HelpAction):
    """``--help-trainer``; a help of argparse, so that no configuration holds it."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        """Print it and exit."""
        assert isinstance(parser, RunParser)
        parser.print_trainer_help()
        parser.exit()


def _is_of(group: argparse._ArgumentGroup, key: str) -> bool:
    names = [action.dest for action in group._group_actions]
    return any(name == key or name.startswith(f"{key}.") for name in names)
