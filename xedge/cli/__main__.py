"""`python -m xedge.cli` is the `xedge` command."""

import sys

from xedge.cli.main import main

sys.exit(main())
