"""``python -m lit_maprops``."""

import sys

try:
    from lit_maprops.cli.program import program
except KeyboardInterrupt:  # nothing has begun
    sys.exit(130)

sys.exit(program())
