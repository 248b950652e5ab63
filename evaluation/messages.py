"""What is said beside results: a line each on stderr, in which nothing that a file holds can steer a
terminal.
"""

import sys
from collections.abc import Sequence

from alibench.evaluation.files import printable


def say(text: str) -> None:
    """Print a line."""
    print(f"alibench: {printable(text)}", file=sys.stderr, flush=True)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names in a sentence: the first few of them, and how many more there are."""
    return ", ".join(names[:most]) + f" and {len(names) - most:,} more" * (len(names) > most)
