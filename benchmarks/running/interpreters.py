"""How every interpreter of ours is started: so that it imports nothing from the folder it is started in.

Python puts that folder first on the path of `python -c`, by which multiprocessing starts processes, and of
`python -m`. It may be a stranger's, or hold a `struct.py` of the user's.
"""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SAFE = {"PYTHONSAFEPATH": "1"}  # as python -P; an interpreter passes it on to those that it starts


@contextmanager
def inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """Start interpreters meanwhile with SAFE and an environment."""
    new = {**environment, **SAFE}
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Start processes meanwhile that ignore Ctrl-C: it reaches them too, but the command ends its workers."""
    if threading.current_thread() is not threading.main_thread():
        # No other thread can change how signals are handled.
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
