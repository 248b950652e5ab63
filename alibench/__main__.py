"""`python -m alibench`: the same as the command `alibench`."""

import sys

from alibench.benchmarks.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
