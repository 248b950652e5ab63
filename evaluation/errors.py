"""Bad input of the user's, in one line."""

import difflib
from collections.abc import Iterable

LONGEST = 1000  # characters of a message


class BadInput(Exception):
    """Something the user gave cannot be used; the message is one line with the remedy.

    A message may quote line breaks, signs that steer a terminal, or a megabyte: the signs are escaped, the
    middle is left out.
    """

    def __init__(self, message: str) -> None:
        # Both ends are kept: the first says what, the last the remedy.
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        short = len(line) <= LONGEST
        super().__init__(line if short else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}")


class CommandEnds(BaseException):
    """The command must end. Like KeyboardInterrupt not an Exception: no handler of errors catches it."""


def check_name(name: str, names: Iterable[str], what: str) -> None:
    """Raise BadInput for a name that is not in `names`, with the nearest of them and the whole list."""
    names = list(names)
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise BadInput(f"{what} '{name}'; {hint}there are: {', '.join(names) or 'none'}")
