"""``python -m lit_maprops``."""

import sys

from lit_maprops.cli.main import main

sys.exit(main())
