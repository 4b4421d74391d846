"""``python -m lit_maprops``."""

import sys

from lit_maprops.cli.program import program

sys.exit(program())
