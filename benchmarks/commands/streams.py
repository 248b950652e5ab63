"""What a command prints on: a closed stream is as good as os.devnull, one that cannot be written ends it."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from alibench.evaluation.errors import CommandEnds

STREAMS = ("stdout", "stderr")  # descriptors 1 and 2
PIPE = 141  # what shells expect of a command whose reader went away: 128 + SIGPIPE


class Unwritable(CommandEnds):
    """A standard stream cannot be written; `code` is the exit code."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"{name} cannot be written ({error.strerror}): make room, or send it elsewhere")
        self.code = PIPE if isinstance(error, BrokenPipeError) else 2

    def report(self) -> int:
        """Print it where that can be, unless the reader went away, as it does on purpose; return the code."""
        if self.code != PIPE:
            with suppress(OSError):
                # past Python's buffers, which would be written once more at its end
                os.write(2, f"alibench: {self}\n".encode())
        return self.code


class _Sink(io.FileIO):
    """The bytes of a stream. It outlives whoever closes the stream, and fails once when it cannot write."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.stream = name
        self.lost: Unwritable | None = None

    def write(self, data: Any) -> int:
        """Write all, or nothing more after a failure. Raises Unwritable."""
        left = memoryview(data)
        try:
            while left and not self.lost:
                left = left[super().write(left) :]
        except OSError as error:
            self.lost = Unwritable(self.stream, error)
            raise self.lost from None
        return len(data)

    def close(self) -> None:
        """Stay open: a library or a model of the user's may close a stream of ours."""


def fill() -> None:
    """Put os.devnull where a standard stream is closed, so that no file opened later takes its place."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    for name in STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 it stays open


@contextmanager
def watched() -> Iterator[None]:
    """Raise Unwritable, at the end at the latest, if a stream of this process cannot be written."""
    # The streams with a note of the first failure in each.
    fill()
    before, sinks = (sys.stdout, sys.stderr), list[_Sink]()
    for number, name in enumerate(STREAMS, 1):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # not one that a test or a notebook put there
            stream.flush()
            sinks.append(_Sink(name, number))
            look: dict[str, Any] = {
                key: getattr(stream, key) for key in ("encoding", "errors", "line_buffering", "write_through")
            }
            setattr(sys, name, io.TextIOWrapper(sinks[-1], **look))
    opened = [getattr(sys, sink.stream) for sink in sinks]

    # What is still in them is written at the end, and may fail then.
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in opened:
            with suppress(Unwritable):
                stream.flush()
        if lost := next((sink.lost for sink in sinks if sink.lost), None):
            raise lost
