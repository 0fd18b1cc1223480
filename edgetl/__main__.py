"""``python -m edgetl``: the command line."""

import sys

from edgetl.cli.main import main

sys.exit(main())
