"""Ending on request: a training after its step, with a checkpoint; an evaluation at once, to begin again."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """Work ended on request. Like KeyboardInterrupt not an Exception, so that no handler swallows it."""


class Request:
    """A request to end this process; `take` is a signal handler."""

    def __init__(self) -> None:
        self.made = self._at_once = False

    def take(self, number: int, frame: FrameType | None) -> None:
        """Remember the request. Raises Stopped in work that may be left at any moment."""
        self.made = True
        if self._at_once:
            raise Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Stopped on request at any moment meanwhile: for work that writes whole files or none."""
        self._at_once = True
        try:
            if self.made:
                raise Stopped
            yield
        finally:
            self._at_once = False
