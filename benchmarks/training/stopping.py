"""Ending on request: a training after its step, with a checkpoint; an evaluation at once, since it begins
again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """Work ended on request. Like KeyboardInterrupt it is no error, so that nothing on its way takes it for
    one.
    """


class Request:
    """Whether a process is asked to end; `take` is its signal handler."""

    def __init__(self) -> None:
        self.made = self._at_once = False

    def take(self, number: int, frame: FrameType | None) -> None:
        """Remember the request. Raises Stopped in work that may be left at any moment."""
        self.made = True
        if self._at_once:
            raise Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Do what may be left at any moment: whatever it writes is whole or not there. Raises Stopped on
        request.
        """
        self._at_once = True
        try:
            if self.made:
                raise Stopped
            yield
        finally:
            self._at_once = False
