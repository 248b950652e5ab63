"""What is said beside results: a line each on stderr, in which nothing that a file holds can steer a terminal."""

import sys

from evaluation.files import printable


def say(text: str) -> None:
    """Print a line."""
    print(f"alibench: {printable(text)}", file=sys.stderr, flush=True)
