"""``python -m lit_maprops``."""

import sys

from lit_maprops.cli import main

sys.exit(main())
