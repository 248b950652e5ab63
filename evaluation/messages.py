"""Messages next to results: a line each on stderr, in which nothing can steer a terminal."""

import sys
from collections.abc import Sequence

from alibench.evaluation.files import printable


def say(text: str) -> None:
    """Print a line."""
    print(f"alibench: {printable(text)}", file=sys.stderr, flush=True)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names in a sentence: the first few, and the number of others."""
    return ", ".join(names[:most]) + f" and {len(names) - most:,} more" * (len(names) > most)
